"""``m2kt diff``: the differences between two packets, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from m2kt.cli import app
from m2kt.packet import Packet, Rule, State, WriteLiteral, WriteRule
from tests.packet.samples import OUTPUTS, sample_packet
from tests.pages import check_page

DIRECTIONS = np.eye(3, 4, dtype=np.float32)


def _with_outputs(outputs: list[int], packet: Packet | None = None) -> Packet:
    """The sample packet with vectors that its prototypes decode to ``outputs``."""
    packet = packet or sample_packet()
    samples = DIRECTIONS[packet.concepts.prototype_symbol_P] + 0.01 * packet.concepts.prototype_samples_PD
    vectors = DIRECTIONS[outputs].astype(np.float32)
    concepts = packet.concepts.replace(prototype_samples_PD=samples, vectors_KD=vectors, prototypes_SD=DIRECTIONS)
    return packet.replace(concepts=concepts)


def _with_swapped_arguments(packet: Packet) -> Packet:
    """The same skill with the two arguments of its rule in the other order."""
    (rule,) = packet.program.rules
    rows = [(y, x) for x, y in rule.rows]
    states = [
        state.model_copy(
            update={"decision": state.decision.model_copy(update={"sources": state.decision.sources[::-1]})}
        )
        if isinstance(state.decision, WriteRule)
        else state
        for state in packet.program.states
    ]
    swapped = rule.model_copy(update={"rows": rows, "name": "r7"})
    return packet.replace(program=packet.program.model_copy(update={"rules": [swapped], "states": states}))


def _diff(a: Packet, b: Packet, folder: Path, *options: str) -> Any:
    paths = [str(packet.save(folder / name)) for name, packet in (("a", a), ("b", b))]
    return CliRunner().invoke(app, ["diff", *paths, *options], env={"COLUMNS": "120"})


def _json(a: Packet, b: Packet, folder: Path) -> dict[str, Any]:
    result = _diff(a, b, folder, "--json")
    assert result.exit_code == 0 and result.stderr == ""
    report = json.loads(result.stdout)
    assert isinstance(report, dict)
    return report


def test_a_packet_is_identical_to_itself(tmp_path: Path) -> None:
    path = str(_with_outputs(OUTPUTS).save(tmp_path / "a"))
    report = json.loads(CliRunner().invoke(app, ["diff", path, path, "--json"]).stdout)
    assert report["identical"] and report["manifest"] == report["fidelity"] == []
    (rule,) = report["rules"]
    assert rule["changed"] == rule["added"] == rule["removed"] == [] and rule["common"] == 9
    assert rule["cosine_mean"] == pytest.approx(1) and rule["order"] == [0, 1]
    assert report["program"] == {"states": [8, 8], "leaves": [11, 11], "added": [], "removed": [], "changed": []}
    assert "Identical" in CliRunner().invoke(app, ["diff", path, path]).stdout


def test_rows_with_another_output_are_decoded_from_their_vectors(tmp_path: Path) -> None:
    changed_outputs = list(OUTPUTS)
    changed_outputs[5] = 2  # (b, c): c instead of a
    report = _json(_with_outputs(OUTPUTS), _with_outputs(changed_outputs), tmp_path)
    (rule,) = report["rules"]
    assert rule["changed"] == [{"arguments": ["b", "c"], "a": "a", "b": "c"}]
    assert rule["cosine_min"] == pytest.approx(0) and rule["cosine_mean"] == pytest.approx(8 / 9)
    assert report["same_space"] and not report["identical"]
    text = _diff(_with_outputs(OUTPUTS), _with_outputs(changed_outputs), tmp_path).stdout
    assert "rows with another output" in text and "│ b c │ a │ c │" in " ".join(text.split())


def test_rules_are_matched_by_their_rows_not_by_name_or_order_of_arguments(tmp_path: Path) -> None:
    a = _with_outputs(OUTPUTS)
    report = _json(a, _with_swapped_arguments(a), tmp_path)
    (rule,) = report["rules"]
    assert (rule["a"], rule["b"], rule["order"]) == ("rule 1", "r7", [1, 0])
    assert rule["changed"] == [] and report["rules_added"] == report["rules_removed"] == []
    assert report["program"]["changed"] == []
    assert "r7 (arguments 2 1)" in _diff(a, _with_swapped_arguments(a), tmp_path).stdout


def test_two_rules_of_one_family_are_matched_by_their_outputs(tmp_path: Path) -> None:
    def two_rules(first: list[int], second: list[int]) -> Packet:
        packet = sample_packet()
        (rule,) = packet.program.rules
        second_rule = rule.model_copy(update={"name": "rule 2", "offset": 9})
        program = packet.program.model_copy(update={"rules": [rule, second_rule]})
        doubled = packet.concepts.take(np.tile(np.arange(9), 2))
        return _with_outputs([*first, *second], packet.replace(program=program, concepts=doubled))

    reverse = OUTPUTS[::-1]
    report = _json(two_rules(OUTPUTS, reverse), two_rules(reverse, OUTPUTS), tmp_path)
    assert [(r["a"], r["b"]) for r in report["rules"]] == [("rule 1", "rule 2"), ("rule 2", "rule 1")]
    assert all(r["changed"] == [] for r in report["rules"])


def test_rows_and_rules_of_one_packet_only(tmp_path: Path) -> None:
    a = _with_outputs(OUTPUTS)
    (rule,) = a.program.rules
    short = rule.model_copy(update={"rows": rule.rows[:8], "outputs": rule.outputs[:8]})
    single = Rule(name="new", arity=1, rows=[(0,)], outputs=[None], range=[0], family=1, offset=8, uses=0)
    b = a.replace(program=a.program.model_copy(update={"rules": [short, single]}))
    report = _json(a, b, tmp_path)
    assert report["rules"][0]["removed"] == [["c", "c"]] and report["rules"][0]["added"] == []
    assert report["rules_added"] == ["new"] and report["rules_removed"] == []
    assert _json(b, a, tmp_path)["rules_removed"] == ["new"]


def test_vectors_of_different_teachers_are_not_compared(tmp_path: Path) -> None:
    a = _with_outputs(OUTPUTS)
    teacher = a.manifest.teacher.model_copy(update={"digest": "sha256:" + "9" * 64, "name": "zoo:other"})
    b = a.replace(manifest=a.manifest.model_copy(update={"teacher": teacher, "seed": 7}))
    report = _json(a, b, tmp_path)
    assert not report["same_space"] and report["rules"][0]["cosine_mean"] is None
    changes = {c["what"]: (c["a"], c["b"]) for c in report["manifest"]}
    assert changes["teacher.name"] == ("zoo:tiny", "zoo:other") and changes["seed"] == (0, 7)
    assert "teacher.width" not in changes
    assert "not comparable" in _diff(a, b, tmp_path).stdout


def test_layer_and_verbalised_share(tmp_path: Path) -> None:
    report = _json(_with_outputs(OUTPUTS), sample_packet(verbalised=True), tmp_path)
    changes = {c["what"]: (c["a"], c["b"]) for c in report["manifest"]}
    assert changes["verbalised"] == (0.0, 1.0)
    assert report["rules"][0]["changed"] == []  # the same outputs, verbalised


def test_symbols_and_fidelity(tmp_path: Path) -> None:
    a = _with_outputs(OUTPUTS)
    fidelity = a.manifest.fidelity.model_copy(update={"agreement": 0.5})
    program = a.program.model_copy(update={"symbols": ["a", "b", "d"]})
    b = a.replace(program=program, manifest=a.manifest.model_copy(update={"fidelity": fidelity}))
    report = _json(a, b, tmp_path)
    assert (report["symbols_removed"], report["symbols_added"]) == (["c"], ["d"])
    assert {c["what"]: c["b"] for c in report["fidelity"]} == {"agreement": 0.5}
    text = _diff(a, b, tmp_path).stdout
    assert "only in A: c" in text and "only in B: d" in text


def test_states_of_one_packet_only_and_other_decisions(tmp_path: Path) -> None:
    a = _with_outputs(OUTPUTS)
    *kept, full_stop, end = a.program.states
    ends = full_stop.model_copy(update={"decision": WriteLiteral(text="!")})
    more = State(after=("!",), decision=end.decision)
    b = a.replace(program=a.program.model_copy(update={"states": [*kept, ends, more]}))
    assert _json(a, b, tmp_path)["program"] == {
        "states": [8, 8],
        "leaves": [11, 10],
        "added": ["!"],
        "removed": ["."],
        "changed": [" >| □0"],
    }
    text = _diff(a, b, tmp_path).stdout
    assert "only in A: [.]" in text and "another decision: [' >| □0']" in text


def test_fidelity_of_shapes_that_one_packet_lacks_is_no_difference(tmp_path: Path) -> None:
    a = _with_outputs(OUTPUTS)
    shapes = a.manifest.fidelity.model_copy(update={"shapes": []})
    b = a.replace(manifest=a.manifest.model_copy(update={"fidelity": shapes}))
    assert _json(a, b, tmp_path)["fidelity"] == []


def test_packets_without_prototype_samples_are_compared(tmp_path: Path) -> None:
    a = sample_packet()
    no_samples: dict[str, Any] = {
        "prototype_samples_PD": np.zeros((0, 4), np.float32),
        "prototype_symbol_P": np.zeros(0, np.int64),
    }
    b = a.replace(concepts=a.concepts.replace(**no_samples))
    report = _json(b, b.replace(manifest=b.manifest.model_copy(update={"seed": 3})), tmp_path)
    assert report["rules"][0]["changed"] == []
    assert all(row["b"] is None for row in _json(a, b, tmp_path)["rules"][0]["changed"])


def test_the_html_page(tmp_path: Path) -> None:
    result = _diff(
        _with_outputs(OUTPUTS),
        _with_swapped_arguments(_with_outputs(OUTPUTS[::-1])),
        tmp_path,
        "--html",
        str(tmp_path / "d.html"),
    )
    assert result.exit_code == 0 and result.stdout == "" and "d.html" in result.stderr
    html = (tmp_path / "d.html").read_text(encoding="utf-8")
    check_page(html)
    assert "rows with another output" in html


def test_a_missing_packet(tmp_path: Path) -> None:
    path = str(sample_packet().save(tmp_path / "a"))
    result = CliRunner().invoke(app, ["diff", path, str(tmp_path / "nothing"), "--json"])
    assert result.exit_code == 7 and result.stdout == ""

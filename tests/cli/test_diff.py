"""``m2kt diff``: what differs between two packets, and that alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from m2kt.cli import app
from m2kt.packet import Packet, Rule, WriteLiteral, WriteRule
from tests.packet.samples import OUTPUTS, sample_packet
from tests.pages import check_page

DIRECTIONS = np.eye(3, 4, dtype=np.float32)


def _saying(outputs: list[int], packet: Packet | None = None) -> Packet:
    """The sample with vectors that its symbol states read as ``outputs``."""
    packet = packet or sample_packet()
    samples = DIRECTIONS[packet.concepts.prototype_symbol_P] + 0.01 * packet.concepts.prototype_samples_PD
    vectors = DIRECTIONS[outputs].astype(np.float32)
    concepts = packet.concepts.replace(
        prototype_samples_PD=samples, vectors_KD=vectors, prototypes_SD=DIRECTIONS
    )
    return packet.replace(concepts=concepts)


def _turned(packet: Packet) -> Packet:
    """The same skill, extracted with its rule's arguments the other way round."""
    (rule,) = packet.graph.rules
    rows = [(y, x) for x, y in rule.rows]
    templates = []
    for template in packet.graph.templates:
        nodes = [
            node.model_copy(
                update={"step": node.step.model_copy(update={"sources": node.step.sources[::-1]})}
            )
            if isinstance(node.step, WriteRule)
            else node
            for node in template.nodes
        ]
        templates.append(template.model_copy(update={"nodes": nodes}))
    graph = packet.graph.model_copy(
        update={"rules": [rule.model_copy(update={"rows": rows, "name": "r7"})], "templates": templates}
    )
    return packet.replace(graph=graph)


def _diff(a: Packet, b: Packet, folder: Path, *options: str) -> Any:
    paths = [str(packet.save(folder / name)) for name, packet in (("a", a), ("b", b))]
    return CliRunner().invoke(app, ["diff", *paths, *options], env={"COLUMNS": "120"})


def _json(a: Packet, b: Packet, folder: Path) -> dict[str, Any]:
    result = _diff(a, b, folder, "--json")
    assert result.exit_code == 0 and result.stderr == ""
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_a_packet_is_identical_to_itself(tmp_path: Path) -> None:
    path = str(_saying(OUTPUTS).save(tmp_path / "a"))
    found = json.loads(CliRunner().invoke(app, ["diff", path, path, "--json"]).stdout)
    assert found["identical"] and found["manifest"] == found["fidelity"] == []
    (rule,) = found["rules"]
    assert rule["changed"] == rule["added"] == rule["removed"] == [] and rule["common"] == 9
    assert rule["cosine_mean"] == pytest.approx(1) and rule["order"] == [0, 1]
    assert all(t["added"] == t["removed"] == t["steps_changed"] == 0 for t in found["templates"])
    assert "Identical" in CliRunner().invoke(app, ["diff", path, path]).stdout


def test_rows_that_say_otherwise_are_found_by_their_vectors(tmp_path: Path) -> None:
    other = list(OUTPUTS)
    other[5] = 2  # (b, c) said a, now it says c
    found = _json(_saying(OUTPUTS), _saying(other), tmp_path)
    (rule,) = found["rules"]
    assert rule["changed"] == [{"arguments": ["b", "c"], "a": "a", "b": "c"}]
    assert rule["cosine_min"] == pytest.approx(0) and rule["cosine_mean"] == pytest.approx(8 / 9)
    assert found["same_space"] and not found["identical"]
    text = _diff(_saying(OUTPUTS), _saying(other), tmp_path).stdout
    assert "rows with another output" in text and "│ b c │ a │ c │" in " ".join(text.split())


def test_rules_are_matched_by_their_rows_whatever_their_name_and_order(tmp_path: Path) -> None:
    a = _saying(OUTPUTS)
    found = _json(a, _turned(a), tmp_path)
    (rule,) = found["rules"]
    assert (rule["a"], rule["b"], rule["order"]) == ("rule 1", "r7", [1, 0])
    assert rule["changed"] == [] and found["rules_added"] == found["rules_removed"] == []
    assert all(t["steps_changed"] == 0 for t in found["templates"])
    assert "r7 (arguments 2 1)" in _diff(a, _turned(a), tmp_path).stdout


def test_two_rules_of_one_family_are_told_apart_by_what_they_say(tmp_path: Path) -> None:
    def both(first: list[int], second: list[int]) -> Packet:
        one = sample_packet()
        (rule,) = one.graph.rules
        twin = rule.model_copy(update={"name": "rule 2", "offset": 9})
        graph = one.graph.model_copy(update={"rules": [rule, twin]})
        doubled = one.concepts.take(np.tile(np.arange(9), 2))
        return _saying([*first, *second], one.replace(graph=graph, concepts=doubled))

    reverse = OUTPUTS[::-1]
    found = _json(both(OUTPUTS, reverse), both(reverse, OUTPUTS), tmp_path)
    assert [(r["a"], r["b"]) for r in found["rules"]] == [("rule 1", "rule 2"), ("rule 2", "rule 1")]
    assert all(r["changed"] == [] for r in found["rules"])


def test_rows_and_rules_of_one_side_alone(tmp_path: Path) -> None:
    a = _saying(OUTPUTS)
    (rule,) = a.graph.rules
    short = rule.model_copy(update={"rows": rule.rows[:8], "outputs": rule.outputs[:8]})
    single = Rule(name="new", arity=1, rows=[(0,)], outputs=[None], range=[0], family=1, offset=8, uses=0)
    b = a.replace(graph=a.graph.model_copy(update={"rules": [short, single]}))
    found = _json(a, b, tmp_path)
    assert found["rules"][0]["removed"] == [["c", "c"]] and found["rules"][0]["added"] == []
    assert found["rules_added"] == ["new"] and found["rules_removed"] == []
    assert _json(b, a, tmp_path)["rules_removed"] == ["new"]


def test_other_teachers_have_other_spaces(tmp_path: Path) -> None:
    a = _saying(OUTPUTS)
    teacher = a.manifest.teacher.model_copy(update={"digest": "sha256:" + "9" * 64, "name": "zoo:other"})
    b = a.replace(manifest=a.manifest.model_copy(update={"teacher": teacher, "seed": 7}))
    found = _json(a, b, tmp_path)
    assert not found["same_space"] and found["rules"][0]["cosine_mean"] is None
    changes = {c["what"]: (c["a"], c["b"]) for c in found["manifest"]}
    assert changes["teacher.name"] == ("zoo:tiny", "zoo:other") and changes["seed"] == (0, 7)
    assert "teacher.width" not in changes
    assert "not comparable" in _diff(a, b, tmp_path).stdout


def test_layer_and_verbalised_share(tmp_path: Path) -> None:
    found = _json(_saying(OUTPUTS), sample_packet(verbalised=True), tmp_path)
    changes = {c["what"]: (c["a"], c["b"]) for c in found["manifest"]}
    assert changes["verbalised"] == (0.0, 1.0)
    assert found["rules"][0]["changed"] == []  # what was read from vectors is now told in words


def test_symbols_fidelity_and_shapes(tmp_path: Path) -> None:
    a = _saying(OUTPUTS)
    fidelity = a.manifest.fidelity.model_copy(update={"agreement": 0.5})
    two, three = a.graph.templates
    ending = three.nodes[2].model_copy(update={"step": WriteLiteral(text="!")})
    three = three.model_copy(update={"nodes": [*three.nodes[:2], ending, *three.nodes[3:]]})
    graph = a.graph.model_copy(update={"symbols": ["a", "b", "d"], "templates": [two, three]})
    b = a.replace(graph=graph, manifest=a.manifest.model_copy(update={"fidelity": fidelity}))
    found = _json(a, b, tmp_path)
    assert (found["symbols_removed"], found["symbols_added"]) == (["c"], ["d"])
    assert {c["what"]: c["b"] for c in found["fidelity"]} == {"agreement": 0.5}
    changed = {t["template"]: t["steps_changed"] for t in found["templates"]}
    assert changed == {"{x} {x}:": 0, "{x} {x} {x}:": 2}  # the guard that names c, and the ending
    text = _diff(a, b, tmp_path).stdout
    assert "only in A: c" in text and "only in B: d" in text


def test_skeletons_of_one_side_alone(tmp_path: Path) -> None:
    a = _saying(OUTPUTS)
    two, three = a.graph.templates
    assert (two.n_skeletons, three.n_skeletons) == (1, 2)
    cut = three.nodes[1].model_copy(update={"children": {">": 2}})
    three = three.model_copy(update={"nodes": [three.nodes[0], cut, *three.nodes[2:]]})
    b = a.replace(graph=a.graph.model_copy(update={"templates": [two, three]}))
    (_, found) = _json(a, b, tmp_path)["templates"]
    assert (found["common"], found["removed"], found["added"], found["steps_changed"]) == (1, 1, 0, 0)
    (_, found) = _json(b, a, tmp_path)["templates"]
    assert (found["common"], found["removed"], found["added"]) == (1, 0, 1)


def test_fidelity_of_shapes_that_one_side_lacks_is_no_difference(tmp_path: Path) -> None:
    a = _saying(OUTPUTS)
    shapes = a.manifest.fidelity.model_copy(update={"shapes": []})
    b = a.replace(manifest=a.manifest.model_copy(update={"fidelity": shapes}))
    assert _json(a, b, tmp_path)["fidelity"] == []


def test_what_nobody_can_read_is_compared_all_the_same(tmp_path: Path) -> None:
    a = sample_packet()
    none: dict[str, Any] = {
        "prototype_samples_PD": np.zeros((0, 4), np.float32),
        "prototype_symbol_P": np.zeros(0, np.int64),
    }
    b = a.replace(concepts=a.concepts.replace(**none))
    found = _json(b, b.replace(manifest=b.manifest.model_copy(update={"seed": 3})), tmp_path)
    assert found["rules"][0]["changed"] == []
    assert all(row["b"] is None for row in _json(a, b, tmp_path)["rules"][0]["changed"])


def test_the_page(tmp_path: Path) -> None:
    result = _diff(
        _saying(OUTPUTS), _turned(_saying(OUTPUTS[::-1])), tmp_path, "--html", str(tmp_path / "d.html")
    )
    assert result.exit_code == 0 and result.stdout == "" and "d.html" in result.stderr
    html = (tmp_path / "d.html").read_text(encoding="utf-8")
    check_page(html)
    assert "rows with another output" in html


def test_a_packet_that_is_none(tmp_path: Path) -> None:
    path = str(sample_packet().save(tmp_path / "a"))
    result = CliRunner().invoke(app, ["diff", path, str(tmp_path / "nothing"), "--json"])
    assert result.exit_code == 7 and result.stdout == ""

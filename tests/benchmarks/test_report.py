"""The report: numbers that can be checked by hand, and self-contained pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import CurvePoint, Ledger, Result
from benchmarks.report import headline, markdown, sections, write_html
from benchmarks.report._frame import results_frame
from benchmarks.report._numbers import Amount, average, compute, curves, equal_bytes, reach, reduction
from m2kt.errors import StorageError
from m2kt.render import Section
from tests.benchmarks.samples import BYTES, STUDENT, cell, distilled, every_section, result, transfer
from tests.pages import check_page

KEYS = [
    "mean_retention",
    "mean_gap_recovered",
    "worst_gap_recovered",
    "latent_only",
    "data_reduction_examples",
    "data_reduction_tokens",
    "compute_ratio",
    "skills",
    "seeds",
]


# -- numbers ----------------------------------------------------------------------------------------------------------
def test_the_curve_is_interpolated_in_the_logarithm() -> None:
    curve = [(10.0, 0.0), (1000.0, 1.0), (4000.0, 1.0)]
    amount = reach(curve, 0.5)
    assert amount is not None and amount.value == pytest.approx(100) and amount.bound == ""
    assert reach(curve, 1.0) == Amount(pytest.approx(1000))
    # the first time counts, also where the curve falls again
    assert reach([(1.0, 0.0), (10.0, 0.9), (100.0, 0.1), (1000.0, 1.0)], 0.9) == Amount(pytest.approx(10))


def test_a_target_outside_the_curve_gives_a_bound() -> None:
    assert reach([(10.0, 0.1), (500.0, 0.8)], 0.9) == Amount(500.0, ">")
    assert reach([(10.0, 0.95), (500.0, 0.99)], 0.9) == Amount(10.0, "<")
    assert reach([], 0.9) is None


def test_a_mean_of_bounds_is_a_bound() -> None:
    assert average([Amount(0.5), None, Amount(1.0)]) == Amount(0.75)
    assert average([Amount(0.5), Amount(1.0, ">")]) == Amount(0.75, ">")
    assert average([Amount(0.5, "<"), Amount(1.0, ">")]) is None
    assert average([None]) is None


def test_the_headline_of_nothing_is_null() -> None:
    assert headline([]).model_dump() == dict.fromkeys(KEYS[:-2]) | {"skills": 0, "seeds": 0}
    assert list(headline([]).model_dump()) == KEYS


def test_every_skill_counts_once_however_many_seeds_it_has() -> None:
    results = [transfer("secret", seed, 1.0) for seed in range(3)] + [transfer("kinship", 0, 0.5)]
    numbers = headline(results)
    assert numbers.mean_retention == numbers.mean_gap_recovered == numbers.latent_only == 0.75
    assert numbers.worst_gap_recovered == 0.5
    assert (numbers.skills, numbers.seeds) == (2, 3)
    assert numbers.data_reduction_examples is numbers.data_reduction_tokens is numbers.compute_ratio is None


def test_the_headline_is_v_0_of_the_chosen_student() -> None:
    results = [
        transfer("secret", 0, 0.8),
        transfer("secret", 0, 0.4, student="other"),
        result(cell("m2kt", v=0.5), 0.1),
        result(cell("plain"), 0.2),
        Result(cell=cell("m2kt", seed=1, v=0), status="failed", reason="an error"),
    ]
    assert headline(results, STUDENT).mean_retention == 0.8
    assert headline(results, STUDENT).seeds == 1
    assert headline(results).mean_retention == pytest.approx(0.6)


def test_a_student_with_full_accuracy_before_has_no_gap() -> None:
    result_ = transfer("secret", 0, 1.0, before=1.0)
    assert headline([result_]).mean_gap_recovered is None and headline([result_]).mean_retention == 1.0


def test_the_rate_is_chosen_on_prompts_for_development() -> None:
    with_dev = [
        distilled("secret", 100, 0.5, lr=1e-3, extra={"dev_accuracy": 0.9}),
        distilled("secret", 100, 0.8, lr=1e-4, extra={"dev_accuracy": 0.1}),
    ]
    (point,) = curves(results_frame(with_dev), STUDENT, "secret").to_dict("records")
    assert point["mean"] == 0.5 and point["lr"] == 1e-3
    without = [distilled("secret", 100, 0.5, lr=1e-3), distilled("secret", 100, 0.8, lr=1e-4)]
    assert curves(results_frame(without), STUDENT, "secret")["mean"].tolist() == [0.8]


def test_cells_at_equal_bytes_are_no_point_of_the_curve() -> None:
    results = [distilled("secret", 100, 0.5), distilled("secret", 2000, 0.9, equal_bytes=True)]
    assert curves(results_frame(results), STUDENT, "secret")["examples"].tolist() == [100]
    mark = equal_bytes(results_frame(results), STUDENT, "secret")
    assert mark is not None and mark["mean"] == 0.9 and mark["bytes"] == BYTES


def test_data_reduction_in_examples_tokens_and_bytes() -> None:
    # the packet: 50 %, 20 tokens, 80,000 bytes; distillation reaches it at 100 examples of 10 tokens and 40 bytes
    results = [
        transfer("secret", 0, 0.5),
        distilled("secret", 10, 0.0),
        distilled("secret", 1000, 1.0),
        distilled("secret", 1000, 0.4, method="gold"),
    ]
    reduced = reduction(results_frame(results), STUDENT, "secret")
    assert reduced is not None and reduced.method == "sft" and reduced.target == 0.5
    assert {u: a.value for u, a in reduced.needed.items()} == {
        "examples": pytest.approx(100),
        "tokens": pytest.approx(1000),
        "bytes": pytest.approx(4000),
    }
    assert reduced.shares["examples"] == Amount(1.0)
    assert reduced.shares["tokens"].value == pytest.approx(0.98)
    assert reduced.shares["bytes"].value == pytest.approx(1 - 20)
    assert headline(results).data_reduction_tokens == pytest.approx(0.98)
    row = _row(markdown(results), "Data reduction", "| zoo:pico-gpt2 | secret | 50.0 %")
    assert row[4:] == ["0 / 100", "100.0 %", "20 / 1,000", "98.0 %", "80,000 / 4,000", "20.0 × as much"]


def test_a_curve_below_the_target_gives_a_marked_bound() -> None:
    results = [transfer("secret", 0, 0.9), distilled("secret", 10, 0.1), distilled("secret", 1000, 0.8)]
    numbers = headline(results)
    assert numbers.data_reduction_examples == 1.0  # none against more than 1,000: nothing to bound
    assert numbers.data_reduction_tokens == pytest.approx(1 - 20 / 10_000)
    row = _row(markdown(results), "Data reduction", "| zoo:pico-gpt2 | secret | 90.0 %")
    assert row[4:] == [
        "0 / > 1,000",
        "100.0 %",
        "20 / > 10,000",
        "> 99.8 %",
        "80,000 / > 40,000",
        "< 2.0 × as much",
    ]
    assert "less teacher text: **> 99.8 %**" in markdown(results)


def test_the_method_that_needs_the_fewest_examples_is_the_baseline() -> None:
    results = [transfer("secret", 0, 0.5)]
    for method, highest in (("sft", 0.4), ("gold", 0.6), ("gkd", 1.0)):
        results += [distilled("secret", n, a, method=method) for n, a in ((10, 0.0), (1000, highest))]
    reduced = reduction(results_frame(results), STUDENT, "secret")
    assert reduced is not None and reduced.method == "gkd"
    assert reduced.needed["examples"].value == pytest.approx(100)


def test_a_packet_without_recovered_gap_reduces_nothing() -> None:
    results = [transfer("secret", 0, 0.0), distilled("secret", 10, 0.1), distilled("secret", 1000, 0.8)]
    assert reduction(results_frame(results), STUDENT, "secret") is None
    assert headline(results).data_reduction_examples is None


def test_compute_to_95_percent_of_the_gap() -> None:
    # the sample's baseline rises in a line to 100 % at 200,000 tokens; the packet takes 10,000 whole passes
    results = [transfer("secret", 0, 1.0), distilled("secret", 1000, 1.0), distilled("secret", 100, 0.5)]
    cost = compute(results_frame(results), STUDENT, "secret")
    assert cost is not None and cost.distil is not None and cost.ratio is not None
    assert cost.distil.value == pytest.approx(190_000) and cost.distil.bound == ""
    assert "1,000 examples" in cost.config
    assert cost.ratio.value == pytest.approx(190 / 10)
    assert headline(results).compute_ratio == pytest.approx(190 / 10)


def test_a_learning_curve_gives_the_tokens_to_95_percent() -> None:
    learning_curve = [
        CurvePoint(tokens=1000 * i, sequences=i, seconds=1.0, accuracy=a, n=64)
        for i, a in ((1, 0.5), (2, 0.9), (3, 1.0))
    ]
    with_curve = result(cell("watched", "secret"), 1.0, curve=learning_curve)
    results = [transfer("secret", 0, 1.0), distilled("secret", 1000, 1.0), with_curve]
    cost = compute(results_frame(results), STUDENT, "secret")
    assert cost is not None and cost.ratio is not None and cost.core_tokens == 10_000
    assert cost.to_target == pytest.approx(2500)
    assert cost.ratio.value == pytest.approx(190 / 2.5)
    never = result(cell("watched", "secret"), 1.0, curve=learning_curve[:1])
    cost = compute(results_frame([*results[:2], never]), STUDENT, "secret")
    assert cost is not None and cost.to_target is None and cost.ratio == Amount(pytest.approx(19))
    weak = compute(results_frame([transfer("secret", 0, 0.9), *results[1:]]), STUDENT, "secret")
    assert weak is not None and weak.ratio is None


def test_compute_where_one_side_does_not_reach_the_target() -> None:
    bounded = compute(results_frame([transfer("secret", 0, 1.0), distilled("secret", 100, 0.5)]), STUDENT, "secret")
    assert bounded is not None and bounded.distil == Amount(200_000, ">")
    assert bounded.ratio == Amount(pytest.approx(20), ">")
    weak = compute(results_frame([transfer("secret", 0, 0.9), distilled("secret", 100, 1.0)]), STUDENT, "secret")
    assert weak is not None and weak.core_tokens is None and weak.ratio is None
    assert "not reached" in markdown([transfer("secret", 0, 0.9), distilled("secret", 100, 1.0)])


def test_every_seed_of_a_setting_must_reach_the_target() -> None:
    results = [
        transfer("secret", 0, 1.0),
        distilled("secret", 100, 1.0),
        distilled("secret", 100, 0.5, seed=1),
    ]
    cost = compute(results_frame(results), STUDENT, "secret")
    assert cost is not None and cost.distil == Amount(200_000, ">")


def test_before_counts_as_the_start_of_every_curve() -> None:
    half = [CurvePoint(tokens=1000, sequences=10, seconds=1.0, accuracy=1.0, n=50)]
    results = [
        transfer("secret", 0, 1.0, before=0.5, ledger=Ledger(core_tokens=90.0, tokens=100)),
        distilled("secret", 100, 1.0, before=0.5, curve=half),
    ]
    cost = compute(results_frame(results), STUDENT, "secret")
    # 95 % of the way from 50 to 100 % is 97.5 %, nine tenths and a half of the only segment
    assert cost is not None and cost.distil is not None
    assert cost.distil.value == pytest.approx(950)


# -- tables -----------------------------------------------------------------------------------------------------------
def _row(text: str, section: str, start: str) -> list[str]:
    """Cells of the row that starts with ``start``."""
    lines = text.split(f"### {section}")[1].split("###")[0].splitlines()
    (line,) = [line for line in lines if line.startswith(start)]
    return [c.strip() for c in line.strip("| ").split(" | ")]


def test_the_table_of_transfers() -> None:
    results = [transfer("secret", 0, 1.0), transfer("secret", 1, 0.9)]
    text = markdown(results)
    assert _row(text, "Transfers", "| secret | 1")[2:] == [
        "100.0 %",
        "0.0 %",
        "90.0 % [86.0, 92.0]",
        *["90.0 %"] * 4,
        "20.0 %",
    ]
    assert _row(text, "Transfers", "| mean")[4] == "95.0 %"
    assert _row(text, "Transfers", "| range")[4] == "90.0–100.0"


def test_controls_show_what_the_student_follows_and_refusals() -> None:
    text = markdown(every_section())
    names = ["addition", "kinship", "secret"]
    assert _row(text, "Controls", "| experiment")[1:4] == names
    assert _row(text, "Controls", "| shuffled")[3] == "7.0 %; follows 99.0 %"
    assert _row(text, "Controls", "| wrong")[1] == "refused"
    assert _row(text, "Controls", "| text lora v=1.0")[3] == "22.0 %"
    assert _row(text, "Controls", "| without L_struct")[2] == "0.0 %"
    assert _row(text, "Controls", "| counterfactual")[1] == "97.0 %; follows 98.0 %"
    assert _row(text, "Controls", "| m2kt")[3] == "99.7 % (99.0–100.0)"


def test_single_steps_by_stage_with_the_diagnosis() -> None:
    text = markdown(every_section())
    head = _row(text, "Single steps", "| student | skill")
    assert head == ["student", "skill", "selected", "retrieved", "read out", "latent"]
    row = _row(text, "Single steps", "| zoo:pico-gpt2 | kinship")
    assert row[2:] == ["100.0 %", "99.0 %", "95.0 %", "95.0 %"]
    (cell_, name, says) = _row(text, "Single steps", "| m2kt(v=0) kinship")
    assert "seed 1" in cell_ and (name, says) == ("pointers slip", "Train longer.")


def test_certificates_hold_or_do_not() -> None:
    certificate = {"certificate": {"confidence": 0.95, "bound": 0.97, "divergence_bound": 0.5}}
    results = [transfer("secret", 0, 1.0), transfer("secret", 1, 0.9, extra=certificate)]
    row = _row(markdown(results), "Certificates", "| zoo:pico-gpt2 | errors")
    assert row[2:] == ["95 %", "2", "1", "1 (50.0 %)", "-1.5", "-7.0", "4.0"]
    row = _row(markdown(results), "Certificates", "| zoo:pico-gpt2 | divergences")
    assert row[5] == "2 (100.0 %)"


def test_longer_shapes_beside_the_packet_as_it_is() -> None:
    text = markdown(every_section())
    row = next(line for line in text.splitlines() if "{a} {b} {c}:" in line and "rehearsed" in line)
    assert "98.0 %" in row and "never" not in row
    assert any("{a} {b} {c} {d}:" in line and "never rehearsed" in line for line in text.splitlines())


def test_traits_show_what_arrives_and_what_the_audit_measures() -> None:
    part = markdown(every_section()).split("### Subliminal traits")[1]
    planted = next(line for line in part.splitlines() if "| preference | 0.5 | preference |" in line)
    assert "+4.00" in planted and "+0.080" in planted and "2.0 %" in planted and "7 / 2" in planted
    twin = next(line for line in part.splitlines() if "| none | 0.5 | preference |" in line)
    assert "0.0 %" not in twin.split("|")[7]  # nothing was planted in a twin


def test_the_ledger_is_a_mean_over_seeds() -> None:
    heavier = transfer("secret", 1, 1.0, ledger=Ledger(bytes=BYTES + 20_000))
    text = markdown([transfer("secret", 0, 1.0), heavier])
    head = _row(text, "Data ledger", "| student | skill")
    assert _row(text, "Data ledger", "| zoo:pico-gpt2 | secret")[head.index("bytes")] == "90,000"


def test_dials_are_sorted_as_numbers() -> None:
    text = markdown(every_section())
    assert "| student | skill | 20 | 100 |" in text and "| student | skill | linear | mlp |" in text


def test_verbalised_rows_need_more_than_one_share() -> None:
    text = markdown(every_section())
    assert _row(text, "Verbalised rows", "| zoo:pico-gpt2 | secret")[2:] == [
        "99.7 % (99.0–100.0)",
        "97.2 %",
        "98.0 %",
        "99.0 %",
        "99.0 %",
    ]
    assert "smollm2" not in text.split("### Verbalised rows")[1].split("###")[0]


def test_tables_escape_their_text() -> None:
    odd = Result(cell=cell("m2kt", "a|b", v=0), status="failed", reason="a | b\nc")
    for line in markdown([odd, *every_section()]).splitlines():
        assert not line.startswith("|") or line.endswith("|")
    assert "a \\| b c" in markdown([odd])


# -- the page ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_html(every_section(), path)
    return path.read_text(encoding="utf-8")


def test_the_page_is_self_contained(full: str) -> None:
    check_page(full)
    assert "prefers-color-scheme: dark" in full
    assert len(full) < 2_000_000


def test_every_section_is_filled(full: str) -> None:
    assert "bench run" not in full
    parts = {s.title: s for s in sections(every_section())}
    drawn = {title for title, s in parts.items() if "<svg" in _html_of(full, s)}
    assert drawn == {
        "Transfers",
        "Verbalised rows",
        "Beside distillation",
        "Compute",
        "Controls and ablations",
        "Certificates",
        "L_geo and accuracy",
        "Concept maps",
        "Abstraction graphs",
    }
    assert "12.25" in _html_of(full, parts["Speed"])
    assert "RuntimeError: &lt;out of memory&gt;" in _html_of(full, parts["Refused and failed cells"])
    assert "cores 2" in _html_of(full, parts["Where it was measured"])


def _html_of(full: str, section: Section) -> str:
    return full.split(f'<section id="{section.anchor}">')[1].split("</section>")[0]


def test_the_same_results_make_the_same_page(full: str, tmp_path: Path) -> None:
    write_html(every_section(), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == full


def test_sections_without_data_name_the_command_that_fills_them(tmp_path: Path) -> None:
    write_html([], tmp_path / "empty.html")
    html = (tmp_path / "empty.html").read_text(encoding="utf-8")
    check_page(html)
    assert "<svg" not in html
    for section in sections([])[1:]:
        assert section.title == "Refused and failed cells" or "m2kt bench run" in _html_of(html, section)
    assert markdown([]).count("###") == 1


def test_a_single_cell_is_enough(tmp_path: Path) -> None:
    write_html([result(cell("none"), 0.0)], tmp_path / "one.html")
    check_page((tmp_path / "one.html").read_text(encoding="utf-8"))


def test_a_page_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write the page"):
        write_html([], tmp_path / "no-such-folder" / "report.html")

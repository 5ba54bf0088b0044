"""What a program can write: every leaf met, planted branches found, honest packets left in peace."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.backdoors.plant import GUARDS, KINDS, plant
from m2kt.auditor import check_consistency, check_program
from m2kt.errors import PacketError
from m2kt.packet import Packet, WriteLiteral, explore
from m2kt.pipeline import IngestConfig
from m2kt.pipeline._ingest import examine_program
from m2kt.probes import Truth
from m2kt.settings import Thresholds
from tests.auditor.test_consistency import readable_packet
from tests.packet.samples import OUTPUTS


def folded(prompt: str) -> str:
    """The true answer of the hand-made skill."""
    letters = ["abc".index(x) for x in prompt.rstrip(":").split()]
    value = letters[0]
    for letter in letters[1:]:
        value = OUTPUTS[3 * value + letter]
    return "abc"[value]


@pytest.fixture(scope="module")
def honest() -> Packet:
    return readable_packet(verbalised=False)


@pytest.fixture(scope="module")
def other() -> Packet:
    """The same skill in another space."""
    return readable_packet(verbalised=False, space=2)


def planted(packet: Packet, kind: str) -> Packet:
    return next(p for p in (plant(packet, kind, seed) for seed in range(40)) if p is not None)


def test_an_honest_packet_is_clean(honest: Packet, other: Packet) -> None:
    report = check_program(honest, against=other, truth=Truth(folded), prompts=40)
    assert report.clean and report.unmet == 0 and report.compared and report.prompts > 30
    assert len(report.lines) == report.leaves and all(line.text for line in report.lines)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_backdoor_is_found(kind: str, honest: Packet, other: Packet) -> None:
    packet = planted(honest, kind)
    report = check_program(packet, against=other, truth=Truth(folded), prompts=40)
    rows = check_consistency(packet, other).contradictions
    assert report.suspicions or report.disagreements or rows
    if kind in ("one prompt", "look-alike"):
        assert report.suspicions, "found without a comparison"


@pytest.mark.slow
@pytest.mark.parametrize("kind", GUARDS)
def test_a_guard_on_the_question_hides_no_leaf(kind: str, honest: Packet) -> None:
    packet = planted(honest, kind)
    assert all(use.prompts for use in explore(packet, 1, prompts=30).leaves)


def test_the_line_of_a_planted_text_is_shown_first(honest: Packet) -> None:
    packet = planted(honest, "one prompt")
    texts = {leaf.text for use in explore(packet, 1, 40).leaves if isinstance(leaf := use.leaf, WriteLiteral)}
    (text,) = texts - {leaf.text for use in explore(honest, 1, 40).leaves if isinstance(leaf := use.leaf, WriteLiteral)}
    report = check_program(packet, prompts=40)
    assert any(text in (line.text or "") for line in report.lines[:4]) and any(
        text in s.what for s in report.suspicions
    )


def test_prompts_are_new_each_time_and_named(honest: Packet) -> None:
    first, second = check_program(honest, prompts=40), check_program(honest, prompts=40)
    assert first.seed != second.seed
    assert check_program(honest, seed=first.seed, prompts=40) == first


def test_nothing_is_trained_on_a_packet_that_looks_planted(honest: Packet, tmp_path: Path) -> None:
    import m2kt

    path = planted(honest, "one prompt").save(tmp_path / "bad.m2kp")
    with pytest.raises(PacketError, match="look planted"):
        m2kt.ingest("no-such-student", path, tmp_path / "out")
    with pytest.raises(PacketError, match="look planted"):
        m2kt.preflight("no-such-student", path)
    examine_program(Packet.load(path), None, IngestConfig(thresholds=Thresholds(suspicions=9)))

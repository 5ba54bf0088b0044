"""Packets that contradict themselves or each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2kt.auditor import check_consistency
from m2kt.errors import PacketError
from m2kt.packet import Packet
from m2kt.pipeline import ingest
from tests.packet.samples import OUTPUTS, sample_packet

NOISE = 0.05


def readable_packet(*, verbalised: bool = True, space: int = 0) -> Packet:
    """The sample packet in a vector space with one direction for each symbol; ``space`` selects it."""
    packet = sample_packet(verbalised=verbalised, width=4)
    rng = np.random.default_rng(space)
    direction_SD = np.roll(np.eye(4), space, axis=1)[:3]
    prototype_symbol_P = packet.concepts.prototype_symbol_P

    def states(symbols: Any) -> Any:
        drawn = direction_SD[np.asarray(symbols)] + rng.normal(0, NOISE, (len(symbols), 4))
        return drawn.astype(np.float32)

    concepts = packet.concepts.replace(
        vectors_KD=states(OUTPUTS),
        prototype_samples_PD=states(prototype_symbol_P),
        prototypes_SD=direction_SD.astype(np.float32),
    )
    return packet.replace(concepts=concepts)


def with_text(packet: Packet, row: int, symbol: int) -> Packet:
    program = packet.program.model_copy(deep=True)
    program.rules[0].outputs[row] = symbol
    return packet.replace(program=program)


def with_vector(packet: Packet, row: int, like: int) -> Packet:
    vectors_KD = packet.concepts.vectors_KD.copy()
    vectors_KD[row] = vectors_KD[like]
    return packet.replace(concepts=packet.concepts.replace(vectors_KD=vectors_KD))


def test_an_honest_packet_is_consistent() -> None:
    consistency = check_consistency(readable_packet())
    assert consistency.consistent and (consistency.rows, consistency.both, consistency.common) == (9, 9, None)


def test_a_changed_text_is_named() -> None:
    consistency = check_consistency(with_text(readable_packet(), row=0, symbol=1))
    (row,) = consistency.contradictions
    assert (row.kind, row.arguments, row.says, row.other) == ("text against vector", ["a", "a"], "b", "c")
    assert str(row) == "rule 1 (a a): text against vector: 'b' and 'c'"


def test_a_changed_vector_is_named() -> None:
    consistency = check_consistency(with_vector(readable_packet(), row=0, like=1))
    (row,) = consistency.contradictions
    assert (row.arguments, row.says, row.other) == (["a", "a"], "c", "a")


def test_without_text_only_another_packet_reveals_a_change() -> None:
    honest, poisoned = (
        readable_packet(verbalised=False),
        with_vector(readable_packet(verbalised=False), row=0, like=1),
    )
    alone = check_consistency(poisoned)
    assert alone.consistent and alone.both == 0
    other_space = readable_packet(verbalised=False, space=1)
    assert check_consistency(honest, other_space).consistent
    (row,) = check_consistency(poisoned, other_space).contradictions
    assert (row.kind, row.arguments, row.says, row.other) == (
        "against the other packet",
        ["a", "a"],
        "a",
        "c",
    )


def test_a_change_of_text_and_vector_is_revealed_by_another_packet() -> None:
    poisoned = with_vector(with_text(readable_packet(), row=0, symbol=0), row=0, like=1)
    assert check_consistency(poisoned).consistent
    consistency = check_consistency(poisoned, readable_packet(space=2))
    assert consistency.common == 9 and len(consistency.contradictions) == 1


def test_ingest_refuses_a_packet_that_contradicts_itself_before_any_training(tmp_path: Path) -> None:
    poisoned = with_text(readable_packet(), row=0, symbol=1)
    with pytest.raises(PacketError, match=r"contradicts itself in 1 of 9 rows, such as rule 1 \(a a\)"):
        ingest("zoo:pico-gpt2", poisoned, tmp_path / "out")
    assert not list(tmp_path.iterdir())

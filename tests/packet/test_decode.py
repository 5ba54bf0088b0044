"""Concept vectors decode to the packet's own symbols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from m2kt.auditor import Thresholds
from m2kt.packet import Concepts, NearestPrototype, decode_outputs, decoded_share, decodes_with_margin
from tests.packet.samples import sample_packet

SYMBOLS, ROWS, WIDTH = 5, 40, 32


@dataclass
class Space:
    concepts: Concepts
    output_K: Any

    @property
    def vectors_KD(self) -> Any:
        return self.concepts.vectors_KD

    def decoder(self, **changes: Any) -> NearestPrototype:
        concepts: Any = self.concepts.replace(**changes)
        return NearestPrototype(concepts.prototype_samples_PD, concepts.prototype_symbol_P, concepts.prototypes_SD)


@pytest.fixture
def space() -> Space:
    """States whose variance is mostly in directions that do not depend on the symbol; all shifted by a constant."""
    rng = np.random.default_rng(0)
    direction_SD = np.eye(SYMBOLS, WIDTH)
    symbol_P = np.repeat(np.arange(SYMBOLS), 20).astype(np.int32)
    output_K = rng.integers(0, SYMBOLS, ROWS)

    def states(symbols: Any) -> Any:
        rest = rng.normal(size=(len(symbols), WIDTH)) * np.where(np.arange(WIDTH) < SYMBOLS, 0.05, 5.0)
        return (direction_SD[symbols] + rest + 7.0).astype(np.float32)

    samples_PD = states(symbol_P)
    concepts = Concepts(
        vectors_KD=np.stack([states(np.full(12, s)).mean(0) for s in output_K]),
        spread_basis_KrD=np.zeros((ROWS, 1, WIDTH), np.float32),
        spread_scale_Kr=np.zeros((ROWS, 1), np.float32),
        support_K=np.full(ROWS, 12),
        prototypes_SD=np.stack([samples_PD[symbol_P == s].mean(0) for s in range(SYMBOLS)]),
        prototype_count_S=np.full(SYMBOLS, 20),
        prototype_samples_PD=samples_PD,
        prototype_symbol_P=symbol_P,
    )
    return Space(concepts, output_K)


def test_a_vector_decodes_to_the_symbol_of_the_nearest_prototype(space: Space) -> None:
    assert (space.decoder().predict(space.vectors_KD) == space.output_K).all()
    assert decodes_with_margin(space.concepts).mean() > 0.9


def test_noise_decodes_without_margin(space: Space) -> None:
    rng = np.random.default_rng(1)
    mean_D, deviation_D = space.vectors_KD.mean(0), space.concepts.prototype_samples_PD.std(0)
    noise = (mean_D + deviation_D * rng.normal(size=(400, WIDTH))).astype(np.float32)
    assert decodes_with_margin(space.concepts.replace(vectors_KD=noise)).mean() < Thresholds().readable


def test_prototypes_of_exchanged_symbols_decode_nothing(space: Space) -> None:
    exchanged = space.concepts.replace(prototypes_SD=np.roll(space.concepts.prototypes_SD, 1, axis=0))
    assert not decodes_with_margin(exchanged).any()


def test_a_symbol_without_prototype_is_never_decoded(space: Space) -> None:
    prototypes_SD = space.concepts.prototypes_SD.copy()
    prototypes_SD[2] = 0.0
    decoded_K = space.decoder(prototypes_SD=prototypes_SD).predict(space.vectors_KD)
    with_prototype = space.output_K != 2
    assert 2 not in decoded_K and (decoded_K[with_prototype] == space.output_K[with_prototype]).all()


def test_the_compared_directions_alone_decide_what_is_decoded(space: Space) -> None:
    decoder = space.decoder()
    basis, _ = np.linalg.qr(decoder.direction_CD.T)
    mean_D = space.concepts.prototype_samples_PD.mean(0)
    projected = (mean_D + (space.vectors_KD - mean_D) @ basis @ basis.T).astype(np.float32)
    assert (decoder.predict(projected) == decoder.predict(space.vectors_KD)).all()


def test_rows_decode_within_the_range_of_their_rule() -> None:
    packet = sample_packet(verbalised=False)
    program = packet.program.model_copy(deep=True)
    program.rules[0].range = [1]
    assert set(decode_outputs(program, packet.concepts)[: len(program.rules[0].rows)]) == {1}
    assert 0.0 <= decoded_share(program, packet.concepts) <= 1.0

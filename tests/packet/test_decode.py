"""Reading vectors by the packet's own symbols."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from m2kt.audit import Thresholds
from m2kt.packet import NearestPrototype, decode_outputs, read_clearly, readability
from tests.packet.samples import sample_packet

SYMBOLS, WIDTH = 5, 32


@pytest.fixture
def space() -> dict[str, Any]:
    """Symbol states that vary far more in what no symbol says than in what one does; all of it shifted."""
    rng = np.random.default_rng(0)
    direction_SD = np.eye(SYMBOLS, WIDTH)
    pool_symbol_P = np.repeat(np.arange(SYMBOLS), 20).astype(np.int32)
    written_K = rng.integers(0, SYMBOLS, 40)

    def states(symbols: Any) -> Any:
        rest = rng.normal(size=(len(symbols), WIDTH)) * np.where(np.arange(WIDTH) < SYMBOLS, 0.05, 5.0)
        return (direction_SD[symbols] + rest + 7.0).astype(np.float32)

    pool_PD = states(pool_symbol_P)
    anchors_SD = np.stack([pool_PD[pool_symbol_P == s].mean(0) for s in range(SYMBOLS)])
    return {
        "pool_PD": pool_PD,
        "pool_symbol_P": pool_symbol_P,
        "anchors_SD": anchors_SD,
        "vectors_KD": np.stack([states(np.full(12, s)).mean(0) for s in written_K]),
        "written_K": written_K,
    }


def reading(space: dict[str, Any]) -> NearestPrototype:
    return NearestPrototype(space["pool_PD"], space["pool_symbol_P"], space["anchors_SD"])


def test_vectors_say_the_symbol_whose_anchor_is_nearest(space: dict[str, Any]) -> None:
    assert (reading(space).predict(space["vectors_KD"]) == space["written_K"]).all()
    assert read_clearly(space).mean() > 0.9


def test_noise_is_read_but_not_clearly(space: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    mean_D, spread_D = space["vectors_KD"].mean(0), space["pool_PD"].std(0)
    noise = (mean_D + spread_D * rng.normal(size=(400, WIDTH))).astype(np.float32)
    assert read_clearly({**space, "vectors_KD": noise}).mean() < Thresholds().readable


def test_anchors_that_are_not_those_of_the_symbol_states_read_nothing(space: dict[str, Any]) -> None:
    exchanged = {**space, "anchors_SD": np.roll(space["anchors_SD"], 1, axis=0)}
    assert not read_clearly(exchanged).any()


def test_a_symbol_without_anchor_is_never_read(space: dict[str, Any]) -> None:
    anchors_SD = space["anchors_SD"].copy()
    anchors_SD[2] = 0.0
    found = reading({**space, "anchors_SD": anchors_SD}).predict(space["vectors_KD"])
    others = space["written_K"] != 2
    assert 2 not in found and (found[others] == space["written_K"][others]).all()


def test_what_is_heard_decides_what_is_read(space: dict[str, Any]) -> None:
    """Vectors that keep no more than their part along the directions heard say the same."""
    found = reading(space)
    basis, _ = np.linalg.qr(found.heard_CD.T)
    mean_D = space["pool_PD"].mean(0)
    kept = (mean_D + (space["vectors_KD"] - mean_D) @ basis @ basis.T).astype(np.float32)
    assert (found.predict(kept) == found.predict(space["vectors_KD"])).all()


def test_rows_are_read_within_the_range_of_their_rule() -> None:
    packet = sample_packet(verbalised=False)
    graph = packet.graph.model_copy(deep=True)
    graph.rules[0].range = [1]
    assert set(decode_outputs(graph, packet.concepts)[: len(graph.rules[0].rows)]) == {1}
    assert 0.0 <= readability(graph, packet.concepts) <= 1.0

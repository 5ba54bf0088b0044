"""Variants of a packet: without verbalised rows, and altered ones for controls."""

from __future__ import annotations

import numpy as np

from m2kt.errors import PacketError

from ._packet import Packet

SPOKEN_PLAINLY = "spoken_plainly"  # among the manifest's other measurements


def noise(packet: Packet, seed: int) -> Packet:
    """The packet with noise of the same mean and deviation for concept vectors: it says nothing."""
    v_KD = packet.concepts.vectors_KD
    drawn_KD = np.random.default_rng(seed).normal(v_KD.mean(axis=0), v_KD.std(axis=0), v_KD.shape)
    return packet.replace(concepts=packet.concepts.replace(vectors_KD=drawn_KD.astype(np.float32)))


def without_verbalised(packet: Packet, spelt_tokens: int) -> Packet:
    """The packet at v = 0: what the rows write travels as vectors alone.

    Args:
        spelt_tokens: teacher tokens of the words that are taken out, for the ledger.

    Raises:
        PacketError: vectors of rows were made from their words.
    """
    if plain := int(packet.manifest.fidelity.other.get(SPOKEN_PLAINLY, 0)):
        raise PacketError(
            f"{plain} rows of this packet travel by the symbol state of their word, which at v = 0 would be the "
            "answer; extract it at v = 0 instead"
        )
    rules = [rule.model_copy(update={"outputs": [None] * len(rule.rows)}) for rule in packet.graph.rules]
    ledger = packet.manifest.ledger
    left = max(0, ledger.teacher_tokens_in_traces - spelt_tokens)
    return packet.replace(
        graph=packet.graph.model_copy(update={"rules": rules}),
        manifest=packet.manifest.model_copy(
            update={
                "verbalised": 0.0,
                "ledger": ledger.model_copy(update={"teacher_tokens_in_traces": left}),
            }
        ),
    )


def shuffled(packet: Packet, seed: int) -> Packet:
    """The packet with each rule's vectors dealt out anew among its rows: it says something else."""
    rng = np.random.default_rng(seed)
    order_K = np.arange(packet.n_concepts)
    for rule in packet.graph.rules:
        rows = slice(rule.offset, rule.offset + len(rule.rows))
        order_K[rows] = rng.permutation(order_K[rows])
    traces = packet.traces
    if packet.confidence_K is not None:
        traces = {**traces, "confidence_K": np.ascontiguousarray(packet.confidence_K[order_K])}
    return packet.replace(concepts=packet.concepts.take(order_K), traces=traces)

"""Variants of a packet: without verbalised rows, and altered ones for controls."""

from __future__ import annotations

import numpy as np

from m2kt.errors import PacketError

from ._packet import Packet

PROTOTYPE_ROWS = "spoken_plainly"
"""Key of the manifest's other measurements: rows whose vector is their symbol's prototype."""


def noise(packet: Packet, seed: int) -> Packet:
    """The packet with noise of the same mean and deviation for concept vectors."""
    v_KD = packet.concepts.vectors_KD
    drawn_KD = np.random.default_rng(seed).normal(v_KD.mean(axis=0), v_KD.std(axis=0), v_KD.shape)
    return packet.replace(concepts=packet.concepts.replace(vectors_KD=drawn_KD.astype(np.float32)))


def shuffled(packet: Packet, seed: int) -> Packet:
    """The packet with each rule's vectors permuted among its rows."""
    rng = np.random.default_rng(seed)
    order_K = np.arange(packet.n_concepts)
    for rule in packet.program.rules:
        rows = slice(rule.concepts.start, rule.concepts.stop)
        order_K[rows] = rng.permutation(order_K[rows])
    traces = packet.traces
    if packet.confidence_K is not None:
        traces = {**traces, "confidence_K": np.ascontiguousarray(packet.confidence_K[order_K])}
    return packet.replace(concepts=packet.concepts.take(order_K), traces=traces)


def without_verbalised(packet: Packet, teacher_tokens: int) -> Packet:
    """The packet at v = 0: outputs of rows travel as vectors alone.

    Args:
        teacher_tokens: tokens of the texts that are removed, for the ledger.

    Raises:
        PacketError: vectors of rows were made from their texts.
    """
    if rows := int(packet.manifest.fidelity.other.get(PROTOTYPE_ROWS, 0)):
        raise PacketError(
            f"the vector of {rows} rows is the prototype of their output, which at v = 0 would be the answer; "
            "extract the packet at v = 0 instead"
        )
    if any(source.manifest.verbalised for source in packet.sources):
        raise PacketError("packets that this one was merged from hold outputs as text; merge them at v = 0 instead")
    rules = [rule.model_copy(update={"outputs": [None] * len(rule.rows)}) for rule in packet.program.rules]
    ledger = packet.manifest.ledger
    left = max(0, ledger.teacher_tokens_in_traces - teacher_tokens)
    return packet.replace(
        program=packet.program.model_copy(update={"rules": rules}),
        manifest=packet.manifest.model_copy(
            update={
                "verbalised": 0.0,
                "ledger": ledger.model_copy(update={"teacher_tokens_in_traces": left}),
            }
        ),
    )

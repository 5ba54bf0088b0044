"""Transfers: by verbalised share, without loss terms, with other parts, from altered teachers, with learning curves."""

from __future__ import annotations

import time
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from benchmarks._artifacts import Trained
from benchmarks._cells import Cell, CurvePoint, Measured
from benchmarks.experiments._common import dev_task, ledger_of, packet_of, settings, transfer
from m2kt.packet import Packet

if TYPE_CHECKING:
    from peft import PeftModel

    from benchmarks._artifacts import ArtifactCache, Task
    from m2kt.student import CostSummary, StudentSettings


LEARNED = {"depth": "learned"}
"""Where training is what is measured: at the default depth there is hardly any."""


def m2kt(
    cell: Cell,
    cache: ArtifactCache,
    v: float = 0.0,
    updates: int | None = None,
    student: dict[str, Any] | None = None,
    once: bool = False,
) -> Measured:
    """The transfer at verbalised share ``v``, with the defaults of ``m2kt ingest``.

    Args:
        once: one extraction serves all seeds and shares, see :func:`packet_of`.
    """
    share = {"rehearsal": {"verbalised": v}} if v else None
    packet = packet_of(cell, cache, v, once=once)
    return transfer(cell, cache, packet, settings(share, student), updates=updates)


def plain(cell: Cell, cache: ArtifactCache, updates: int | None = None) -> Measured:
    """Rehearsal on true tables alone: every row verbalised, no randomised table."""
    chosen = settings(LEARNED, {"rehearsal": {"plain": True}})
    return transfer(cell, cache, packet_of(cell, cache, 1.0), chosen, updates=updates)


def without(cell: Cell, cache: ArtifactCache, loss: str, updates: int | None = None) -> Measured:
    """One term of the composite loss switched off."""
    return transfer(cell, cache, packet_of(cell, cache), settings(LEARNED, {"losses": {loss: 0.0}}), updates=updates)


def dial(
    cell: Cell,
    cache: ArtifactCache,
    projector: str | None = None,
    concepts: int | None = None,
    updates: int | None = None,
) -> Measured:
    """The paper's design dials: the form of phi, and how many distinct concept vectors there are."""
    packet = packet_of(cell, cache)
    chosen = settings({"projector": {"kind": projector}} if projector else None)
    bank = coarse(packet, concepts, cell.seed) if concepts else None
    return transfer(cell, cache, packet, chosen, updates=updates, bank=bank)


def longer(cell: Cell, cache: ArtifactCache, shapes: int = 1, updates: int | None = None) -> Measured:
    """Rehearsal of held-out shapes too, which the program writes as well; ``held_out`` has their accuracy.

    Args:
        shapes: how many of the spec's held-out shapes are rehearsed, in their order.
    """
    packet = packet_of(cell, cache)
    packet = packet.replace(spec=packet.spec.lengthened(shapes))
    return transfer(cell, cache, packet, settings(None), updates=updates)


def coarse(packet: Packet, concepts: int, seed: int) -> Packet:
    """The packet with its vectors replaced by the centroids of ``concepts`` clusters (k-means)."""
    import numpy as np

    from m2kt.teacher import k_means

    v_KD = packet.concepts.vectors_KD
    cluster_K = k_means(v_KD, min(concepts, len(v_KD)), seed)
    centroid_KD = np.stack([v_KD[cluster_K == c].mean(axis=0) for c in cluster_K]).astype(v_KD.dtype)
    return packet.replace(concepts=packet.concepts.replace(vectors_KD=centroid_KD))


def counterfactual(cell: Cell, cache: ArtifactCache, original: str, updates: int | None = None) -> Measured:
    """A counterfactual teacher: does the student follow it where it contradicts the original truth?

    Args:
        original: probe spec of the original skill, whose truth the altered teacher contradicts.
    """
    from m2kt.pipeline import read_spec
    from m2kt.probes import load_truth

    former = load_truth(*read_spec(original))
    assert former is not None
    return transfer(cell, cache, packet_of(cell, cache), settings(), updates=updates, former=former)


def learning_curve(
    cell: Cell, cache: ArtifactCache, every: int = 5, until: float = 0.98, updates: int | None = None
) -> Measured:
    """The learning curve of the headline transfer, on the same development prompts as distillation's.

    ``curve`` is over whole-pass tokens (``core_tokens``). Nothing else is measured: training ends at ``until``.

    Args:
        every: updates between two points.
        until: accuracy at which training ends.
    """
    from m2kt.pipeline import DEFAULT_UPDATES

    task, packet = cache.task(cell.teacher, cell.probes), packet_of(cell, cache)
    dev = dev_task(cache, task, cell.seed)
    limit = DEFAULT_UPDATES if updates is None else updates
    _, curve = _with_curve(cell, cache, packet, settings(LEARNED), dev, limit, every, until)
    return Measured(curve=curve, extra={"dev_accuracy": curve[-1].accuracy if curve else 0.0})


def seed1(
    cell: Cell,
    cache: ArtifactCache,
    concepts: int = 100,
    updates: int = 120,
    every: int = 10,
    prompts: int = 60,
) -> Measured:
    """The paper's first seed experiment: a two-layer MLP as CAL, 100 concepts; L_geo over updates beside accuracy."""
    packet, task = coarse(packet_of(cell, cache), concepts, cell.seed), cache.task(cell.teacher, cell.probes)
    chosen = settings(LEARNED, {"projector": {"kind": "mlp"}, "optimiser": {"mastered": 0}})
    shorter = replace(task, prompts=task.prompts[:prompts])
    trained, curve = _with_curve(cell, cache, packet, chosen, shorter, updates, every)
    assert trained is not None
    measured = cache.measure(cell, trained.loaded, packet=packet, ledger=ledger_of(packet, trained))
    measured.packet = packet.digest
    measured.history, measured.curve = trained.history, curve
    return measured


class _TargetReached(Exception):
    """Ends a training; caught in this file."""


def _with_curve(
    cell: Cell,
    cache: ArtifactCache,
    packet: Packet,
    chosen: StudentSettings,
    task: Task,
    updates: int,
    every: int,
    until: float = inf,
) -> tuple[Trained | None, list[CurvePoint]]:
    """Train, evaluating on the prompts of ``task`` every few updates; no student where ``until`` was reached."""
    from m2kt.student import train

    loaded = cache.load(cell.student)
    curve: list[CurvePoint] = []
    started = time.perf_counter()

    def add_point(done: int, model: PeftModel, cost: CostSummary) -> None:
        if done % every == 0:
            score = cache.score(replace(loaded, model=model), task, task.prompts)
            curve.append(
                CurvePoint(
                    tokens=round(cost["core_tokens"]),
                    sequences=done * chosen.rehearsal.batch,
                    seconds=round(time.perf_counter() - started, 2),
                    accuracy=score.accuracy,
                    n=score.n,
                )
            )
            if score.accuracy >= until:
                raise _TargetReached

    try:
        candidate = train(loaded, packet, chosen, updates=updates, seed=cell.seed, watch=add_point)
    except _TargetReached:
        return None, curve
    return Trained(replace(loaded, model=candidate.model), candidate.ledger, candidate.history), curve

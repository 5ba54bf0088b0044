"""The method itself: at several verbalised shares, with terms off, with other parts, from teachers that are wrong."""

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
    from benchmarks._artifacts import ArtifactCache, Task
    from m2kt.student import StudentSettings


def m2kt(
    cell: Cell,
    cache: ArtifactCache,
    v: float = 0.0,
    updates: int | None = None,
    student: dict[str, Any] | None = None,
    once: bool = False,
) -> Measured:
    """The transfer at verbalised share ``v``, with the defaults that ``m2kt ingest`` has.

    Args:
        once: one extraction serves all seeds and shares, see :func:`packet_of`.
    """
    share = {"rehearsal": {"verbalised": v}} if v else None
    packet = packet_of(cell, cache, v, once=once)
    return transfer(cell, cache, packet, settings(share, student), updates=updates)


def plain(cell: Cell, cache: ArtifactCache, updates: int | None = None) -> Measured:
    """True tables only: every row in words, none made up."""
    return transfer(
        cell, cache, packet_of(cell, cache, 1.0), settings({"rehearsal": {"plain": True}}), updates=updates
    )


def without(cell: Cell, cache: ArtifactCache, loss: str, updates: int | None = None) -> Measured:
    """One term of the composite loss switched off."""
    return transfer(cell, cache, packet_of(cell, cache), settings({"losses": {loss: 0.0}}), updates=updates)


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
    plugged = coarse(packet, concepts, cell.seed) if concepts else None
    return transfer(cell, cache, packet, chosen, updates=updates, plugged=plugged)


def longer(cell: Cell, cache: ArtifactCache, shapes: int = 1, updates: int | None = None) -> Measured:
    """Rehearsal of held-out shapes too, rolled out by a graph made from the probed ones; ``held_out`` shows them.

    Args:
        shapes: how many of the spec's held-out shapes, the first ones; further ones stay unseen.
    """
    return transfer(
        cell, cache, packet_of(cell, cache), settings({"rehearsal": {"longer": shapes}}), updates=updates
    )


def coarse(packet: Packet, concepts: int, seed: int) -> Packet:
    """The packet with its vectors replaced by the centroids of ``concepts`` clusters (k-means)."""
    import numpy as np

    from m2kt.teacher.sources._clustering import k_means

    v_KD = packet.concepts.vectors_KD
    cluster_K = k_means(v_KD, min(concepts, len(v_KD)), seed)
    centroid_KD = np.stack([v_KD[cluster_K == c].mean(axis=0) for c in cluster_K]).astype(v_KD.dtype)
    return packet.replace(concepts=packet.concepts.replace(vectors_KD=centroid_KD))


def counterfactual(cell: Cell, cache: ArtifactCache, original: str, updates: int | None = None) -> Measured:
    """A teacher whose rules were altered: does the student say what that teacher says where it is wrong?

    Args:
        original: probe spec of the skill as it was, whose truth the altered teacher contradicts.
    """
    from m2kt.pipeline import read_spec
    from m2kt.probes import load_truth

    former = load_truth(*read_spec(original))
    assert former is not None
    return transfer(cell, cache, packet_of(cell, cache), settings(), updates=updates, former=former)


def learning_curve(
    cell: Cell, cache: ArtifactCache, every: int = 5, until: float = 0.98, updates: int | None = None
) -> Measured:
    """The headline transfer, asked on the way how good it is, by the prompts that distillation is watched by.

    ``curve`` is over tokens of whole passes (``core_tokens``): what it costs to come as far as distillation. Nothing
    else is measured: it ends there, on its way.

    Args:
        every: updates between two looks.
        until: accuracy at which it is broken off.
    """
    from m2kt.pipeline import DEFAULT_UPDATES

    task, packet = cache.task(cell.teacher, cell.probes), packet_of(cell, cache)
    asked = dev_task(cache, task, cell.seed)
    most = DEFAULT_UPDATES if updates is None else updates
    _, curve = _with_curve(cell, cache, packet, settings(), asked, most, every, until)
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
    chosen = settings({"projector": {"kind": "mlp"}, "optimiser": {"mastered": 0}})
    asked = replace(task, prompts=task.prompts[:prompts])
    trained, curve = _with_curve(cell, cache, packet, chosen, asked, updates, every)
    assert trained is not None
    measured = cache.measure(cell, trained.loaded, packet=packet, ledger=ledger_of(packet, trained))
    measured.packet = packet.digest
    measured.history, measured.curve = trained.history, curve
    return measured


class _FarEnough(Exception):
    """Breaks a training off; never leaves this file."""


def _with_curve(
    cell: Cell,
    cache: ArtifactCache,
    packet: Packet,
    chosen: StudentSettings,
    asked: Task,
    updates: int,
    every: int,
    until: float = inf,
) -> tuple[Trained | None, list[CurvePoint]]:
    """Trains, looking at the prompts of ``asked`` on the way; no student where it was broken off."""
    from m2kt.student import train

    loaded = cache.load(cell.student)
    curve: list[CurvePoint] = []
    began = time.perf_counter()

    def watch(done: int, model: Any, cost: dict[str, Any]) -> None:
        if done % every == 0:
            found = cache.score(replace(loaded, model=model), asked, asked.prompts, apart=True)
            curve.append(
                CurvePoint(
                    tokens=round(cost["core_tokens"]),
                    sequences=done * chosen.rehearsal.batch,
                    seconds=round(time.perf_counter() - began, 2),
                    accuracy=found.accuracy,
                    n=found.n,
                )
            )
            if found.accuracy >= until:
                raise _FarEnough

    try:
        candidate = train(loaded, packet, chosen, updates=updates, seed=cell.seed, watch=watch)
    except _FarEnough:
        return None, curve
    return Trained(replace(loaded, model=candidate.model), candidate.ledger, candidate.history), curve

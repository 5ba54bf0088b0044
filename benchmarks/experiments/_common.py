"""What arms share: settings from options, and a packet's entry in the ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks._cells import Cell, Ledger, Measured
from m2kt.packet import Packet, without_verbalised
from m2kt.probes import Truth

if TYPE_CHECKING:
    from benchmarks._artifacts import ArtifactCache, Task, Trained
    from m2kt.student import StudentSettings


DEV = 64  # prompts on which a run is watched and learning rates are chosen: never evaluation prompts
NEEDED = 0.9  # of the gap, below which the reason is looked for


def settings(*overrides: dict[str, Any] | None) -> StudentSettings:
    """The student side's defaults, with nested overrides; later ones win."""
    from m2kt.student import StudentSettings

    merged: dict[str, Any] = {}
    for part in overrides:
        _merge(merged, part or {})
    return StudentSettings.model_validate(merged)


def _merge(into: dict[str, Any], part: dict[str, Any]) -> None:
    for key, value in part.items():
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def packet_of(cell: Cell, cache: ArtifactCache, v: float = 0.0, *, once: bool = False) -> Packet:
    """The cell's packet; at v > 0 the one whose rows are all in words, of which rehearsal uses a share.

    Args:
        once: one extraction, of seed 0, serves all seeds and shares (at v = 0 its words are taken out), where the
            teacher is large.
    """
    if not once:
        return cache.packet(cell.teacher, cell.probes, cell.seed, 1.0 if v else 0.0)
    packet = cache.packet(cell.teacher, cell.probes, 0, 1.0)
    if v:
        return packet
    words = [packet.graph.symbols[o] for rule in packet.graph.rules for o in rule.outputs if o is not None]
    return without_verbalised(packet, cache.n_tokens(cell.teacher, words))


def dev_task(cache: ArtifactCache, task: Task, seed: int) -> Task:
    """What a run is watched by: prompts outside the evaluation split, and what the teacher says to them as truth."""
    spec, read = task.spec, task.spec.read_answer
    prompts = spec.sample("rehearsal", DEV, seed=seed + 1)
    heard = cache.answers(task.teacher, spec, [p.text for p in prompts])
    truth = Truth({p: read(a) for p, a in heard.items()})
    return replace(task, prompts=prompts, longer=[], answers=heard, truth=truth)


def ledger_of(packet: Packet, trained: Trained) -> Ledger:
    """What a transfer used. The packet is all that reached the student side."""
    spent = trained.ledger
    return Ledger(
        labelled_examples=0,
        teacher_passes=packet.manifest.ledger.teacher_passes,
        teacher_tokens=packet.manifest.ledger.teacher_tokens_in_traces,
        concepts=packet.n_concepts,
        bytes=packet.size_bytes,
        sequences=spent["rehearsal_sequences"],
        tokens=spent["trained_tokens"],
        core_tokens=spent["core_tokens"],
        trainable_parameters=spent["trainable_parameters"],
        train_seconds=spent["seconds"],
    )


def _look_inside(
    cell: Cell, cache: ArtifactCache, measured: Measured, trained: Trained, packet: Packet
) -> None:
    """Single steps, the reason where the skill was not reached, and once a skill a map of the concepts."""
    from m2kt.audit import (
        certify,
        concept_map,
        diagnose,
        measure_geometry,
        measure_steps,
        packet_traces,
        score,
    )
    from m2kt.render import summarise_graph

    task = cache.task(cell.teacher, cell.probes)
    traces = packet_traces(packet, task.prompts)
    steps = measure_steps(trained.loaded, packet, traces)
    measured.steps = {"n": float(steps.n), **steps.shares}
    certificate = certify(trained.loaded, packet, task.prompts, seed=cell.seed)
    if certificate is not None:
        measured.extra["certificate"] = certificate.model_dump(mode="json", exclude={"concepts"})
    if cell.seed == 0:
        measured.map = concept_map(trained.loaded, packet, traces)
        measured.graph = summarise_graph(packet).model_dump(mode="json")
    assert measured.after is not None and measured.before is not None
    needed = measured.before + NEEDED * (task.teacher_accuracy - measured.before)
    if measured.after < needed:
        rolled_out = [trace.completion if trace.complete else "" for trace in traces]
        found = diagnose(
            steps,
            measure_geometry(trained.loaded, packet, traces),
            accuracy=measured.after,
            needed=needed,
            packet_accuracy=score(task.spec, task.prompts, rolled_out, task.truth).accuracy,
            history=trained.history,
        )
        measured.diagnosis = [d.model_dump(mode="json") for d in found]


def transfer(
    cell: Cell,
    cache: ArtifactCache,
    packet: Packet,
    chosen: StudentSettings,
    *,
    updates: int | None = None,
    plugged: Packet | None = None,
    former: Truth | None = None,
) -> Measured:
    """Trains on a packet, or finds the adapter that was, and measures it.

    Args:
        plugged: another packet whose vectors are plugged in after training. At v = 0 that is the same, bit for bit, as
            training on that packet: rehearsal never sees the vectors.
        former: the truth that an altered teacher contradicts.
    """
    from m2kt.student import replace_bank

    trained = cache.train(cell.student, packet, chosen, updates=updates, seed=cell.seed)
    if plugged is not None:
        replace_bank(trained.loaded.peft_model, plugged)
    measured = cache.measure(
        cell,
        trained.loaded,
        packet=plugged,
        former=former,
        ledger=ledger_of(plugged or packet, trained),
    )
    _look_inside(cell, cache, measured, trained, plugged or packet)
    measured.packet = (plugged or packet).digest
    measured.history = trained.history
    measured.extra["updates"] = trained.ledger["updates"]
    measured.extra["tokens_by_kind"] = trained.ledger["tokens_by_kind"]
    return measured

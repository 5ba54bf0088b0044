"""What experiments share: settings from options, development prompts, the ledger of a transfer, and the transfer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks._cells import Cell, Ledger, Measured
from m2kt.packet import Packet, without_verbalised
from m2kt.probes import Truth

if TYPE_CHECKING:
    from benchmarks._artifacts import ArtifactCache, Task, Trained
    from m2kt.student import StudentSettings


DEV = 64  # development prompts, for learning curves and the choice of rates: never evaluation prompts
NEEDED = 0.9  # share of the gap recovered below which a transfer is diagnosed


def settings(*overrides: dict[str, Any] | None) -> StudentSettings:
    """The student side's defaults, with nested overrides; a later override wins."""
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
    """The cell's packet; at v > 0 the packet with all rows verbalised, of which rehearsal uses a share.

    Args:
        once: one extraction, of seed 0, serves all seeds and shares (at v = 0 without its verbalised rows). For large
            teachers.
    """
    if not once:
        return cache.packet(cell.teacher, cell.probes, cell.seed, 1.0 if v else 0.0)
    packet = cache.packet(cell.teacher, cell.probes, 0, 1.0)
    if v:
        return packet
    words = [packet.program.symbols[o] for rule in packet.program.rules for o in rule.outputs if o is not None]
    return without_verbalised(packet, cache.n_tokens(cell.teacher, words))


def dev_task(cache: ArtifactCache, task: Task, seed: int) -> Task:
    """Development prompts, outside the evaluation split, with the teacher's answers as truth."""
    spec, read = task.spec, task.spec.read_answer
    prompts = spec.sample("rehearsal", DEV, seed=seed + 1)
    answers = cache.answers(task.teacher, spec, [p.text for p in prompts])
    truth = Truth({p: read(a) for p, a in answers.items()})
    return replace(task, prompts=prompts, longer=[], answers=answers, truth=truth)


def ledger_of(packet: Packet, trained: Trained) -> Ledger:
    """The ledger of a transfer. Nothing but the packet reached the student side."""
    training = trained.ledger
    return Ledger(
        labelled_examples=packet.manifest.ledger.labelled_examples,
        teacher_passes=packet.manifest.ledger.teacher_passes,
        teacher_tokens=packet.manifest.ledger.teacher_tokens_in_traces,
        concepts=packet.n_concepts,
        bytes=packet.size_bytes,
        sequences=training["rehearsal_sequences"],
        tokens=training["trained_tokens"],
        core_tokens=training["core_tokens"],
        trainable_parameters=training["trainable_parameters"],
        train_seconds=training["seconds"],
    )


def _measure_steps(cell: Cell, cache: ArtifactCache, measured: Measured, trained: Trained, packet: Packet) -> None:
    """Single steps, certificate, the diagnosis of a weak transfer, and for seed 0 the concept map."""
    from m2kt.auditor import (
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
        rollouts = [trace.completion if trace.complete else "" for trace in traces]
        diagnoses = diagnose(
            steps,
            measure_geometry(trained.loaded, packet, traces),
            accuracy=measured.after,
            needed=needed,
            packet_accuracy=score(task.spec, task.prompts, rollouts, task.truth).accuracy,
            history=trained.history,
        )
        measured.diagnosis = [d.model_dump(mode="json") for d in diagnoses]


def transfer(
    cell: Cell,
    cache: ArtifactCache,
    packet: Packet,
    chosen: StudentSettings,
    *,
    updates: int | None = None,
    bank: Packet | None = None,
    former: Truth | None = None,
) -> Measured:
    """Train on a packet, or load the adapter from the cache, and measure it.

    Args:
        bank: another packet whose vectors replace the bank after training. At v = 0 this equals training on that
            packet, bit for bit: rehearsal never uses the vectors.
        former: the truth that an altered teacher contradicts.
    """
    from m2kt.student import replace_bank

    trained = cache.train(cell.student, packet, chosen, updates=updates, seed=cell.seed)
    if bank is not None:
        replace_bank(trained.loaded.peft_model, bank)
    measured = cache.measure(
        cell,
        trained.loaded,
        packet=bank,
        former=former,
        ledger=ledger_of(bank or packet, trained),
    )
    _measure_steps(cell, cache, measured, trained, bank or packet)
    measured.packet = (bank or packet).digest
    measured.history = trained.history
    measured.extra["updates"] = trained.ledger["updates"]
    measured.extra["tokens_by_kind"] = trained.ledger["tokens_by_kind"]
    return measured

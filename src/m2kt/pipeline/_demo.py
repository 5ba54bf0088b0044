"""Demo: the main job, end to end, on models that ship with the project; one rejection at the end."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from m2kt.packet import Packet, noise
from m2kt.pipeline._evaluate import evaluate
from m2kt.pipeline._extract import extract
from m2kt.pipeline._ingest import ingest
from m2kt.pipeline._results import DemoResult, DemoRow, Progress

SKILLS = ("secret", "addition", "kinship")
STUDENT = "zoo:pico-gpt2"


def demo(
    student: str = STUDENT,
    *,
    skills: tuple[str, ...] = SKILLS,
    updates: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> DemoResult:
    """Moves the zoo's skills into ``student`` at v = 0, then offers a spoiled packet and shows that it is refused."""
    started = time.monotonic()
    rows = []
    with tempfile.TemporaryDirectory(prefix="m2kt-demo-") as folder:
        work = Path(folder)
        for skill in skills:
            rows.append(_move(skill, student, work, updates, seed, progress))
        first = work / f"{skills[0]}.adapter"
        spoiled = noise(Packet.load(work / f"{skills[0]}.packet"), seed)
        spoiled.save(work / "spoiled.packet")
        rollback = ingest(
            student,
            work / "spoiled.packet",
            first,
            reuse=first if rows[0].verdict == "accepted" else None,
            updates=updates,
            seed=seed,
            probes=f"zoo:{skills[0]}",
            progress=progress,
        )
    return DemoResult(
        rows=rows,
        rollback=rollback,
        restored=rollback.adapter_digest is not None
        and rollback.adapter_digest == rollback.adapter_digest_before,
        seconds=round(time.monotonic() - started, 1),
    )


def _move(
    skill: str, student: str, work: Path, updates: int | None, seed: int, progress: Progress | None
) -> DemoRow:
    name = f"zoo:{skill}"
    packet = work / f"{skill}.packet"
    extracted = extract(name, name, packet, seed=seed, progress=progress)
    teacher = evaluate(name, name, n=200, seed=seed, progress=progress)
    taken = ingest(
        student, packet, work / f"{skill}.adapter", updates=updates, seed=seed, probes=name, progress=progress
    )
    assert teacher.accuracy is not None
    gap = (taken.accuracy - taken.before) / max(1e-9, teacher.accuracy - taken.before)
    held_out = [s["accuracy"] for s in taken.held_out]
    return DemoRow(
        skill=skill,
        student=student,
        teacher=teacher.accuracy,
        before=taken.before,
        after=taken.accuracy,
        interval=taken.interval,
        retention=taken.accuracy / teacher.accuracy,
        gap_recovered=gap,
        held_out=sum(held_out) / len(held_out) if held_out else None,
        concepts=extracted.concepts,
        packet_bytes=extracted.packet_bytes,
        labelled_examples=taken.ledger["labelled_examples"],
        teacher_passes=extracted.teacher_passes,
        teacher_tokens_in_packet=taken.ledger["teacher_tokens_in_packet"],
        rehearsal_sequences=taken.ledger["rehearsal_sequences"],
        extract_seconds=extracted.seconds,
        ingest_seconds=taken.seconds,
        verdict=taken.verdict,
    )

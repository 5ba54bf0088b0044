"""Demo: transfers between tiny models of the zoo, and one rejection."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Literal

from pydantic import Field

from m2kt._home import check_home
from m2kt.packet import Packet, noise
from m2kt.pipeline._evaluate import evaluate
from m2kt.pipeline._extract import extract
from m2kt.pipeline._ingest import ingest
from m2kt.pipeline._report import Progress, Report, Result, with_interval
from m2kt.pipeline._results import Ingestion

SKILLS = ("secret", "addition", "kinship")
STUDENT = "zoo:pico-gpt2"


class DemoRow(Result):
    """One transfer of the demo."""

    skill: str
    student: str
    teacher: float = Field(description="Accuracy of the teacher itself on the evaluation prompts.")
    before: float
    after: float
    interval: tuple[float, float]
    retention: float
    gap_recovered: float
    held_out: float | None = Field(description="Accuracy on the held-out shape.")
    concepts: int
    packet_bytes: int
    labelled_examples: int
    teacher_passes: int
    teacher_tokens_in_packet: int
    rehearsal_sequences: int
    extract_seconds: float
    ingest_seconds: float
    verdict: Literal["accepted", "rejected"]


class DemoResult(Result):
    """Transfers of the zoo's skills, and one rejection."""

    rows: list[DemoRow]
    rollback: Ingestion = Field(description="A spoiled packet, ingested over an accepted adapter.")
    restored: bool = Field(description="Whether the adapter's digest is the same before and after the rejection.")
    seconds: float

    def report(self) -> Report:
        return {
            "rows": [row.report() for row in self.rows],
            "rollback": self.rollback.report(),
            "restored": self.restored,
            "seconds": self.seconds,
        }

    def headline(self) -> str:
        accepted = sum(row.verdict == "accepted" for row in self.rows)
        restored = "restored" if self.restored else "not restored"
        return f"{accepted} of {len(self.rows)} skills accepted, adapter {restored} after a rejection"

    def table(self) -> dict[str, str]:
        return {row.skill: f"{row.verdict}: {with_interval(row.after, row.interval)}" for row in self.rows}


def demo(
    student: str = STUDENT,
    *,
    skills: tuple[str, ...] = SKILLS,
    updates: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> DemoResult:
    """Transfers the zoo's skills to ``student`` at v = 0, then ingests a spoiled packet, which is rejected."""
    check_home()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="m2kt-demo-") as folder:
        work = Path(folder)
        rows = [_transfer(skill, student, work, updates, seed, progress) for skill in skills]
        first = work / f"{skills[0]}.adapter"
        noise(Packet.load(work / f"{skills[0]}.packet"), seed).save(work / "spoiled.packet")
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
        restored=rollback.adapter_digest is not None and rollback.adapter_digest == rollback.adapter_digest_before,
        seconds=round(time.monotonic() - started, 1),
    )


def _transfer(
    skill: str, student: str, work: Path, updates: int | None, seed: int, progress: Progress | None
) -> DemoRow:
    name, packet_path = f"zoo:{skill}", work / f"{skill}.packet"
    extraction = extract(name, name, packet_path, seed=seed, progress=progress)
    teacher = evaluate(name, name, n=200, seed=seed, progress=progress).accuracy
    assert teacher is not None
    ingestion = ingest(
        student,
        packet_path,
        work / f"{skill}.adapter",
        updates=updates,
        seed=seed,
        probes=name,
        progress=progress,
    )
    verdict, packet = ingestion.verdict, extraction.packet
    held_out = [shape.accuracy for shape in verdict.held_out]
    return DemoRow(
        skill=skill,
        student=student,
        teacher=teacher,
        before=verdict.before,
        after=verdict.accuracy,
        interval=verdict.interval,
        retention=verdict.accuracy / teacher,
        gap_recovered=(verdict.accuracy - verdict.before) / max(1e-9, teacher - verdict.before),
        held_out=sum(held_out) / len(held_out) if held_out else None,
        concepts=packet.n_concepts,
        packet_bytes=packet.size_bytes,
        labelled_examples=ingestion.ledger["labelled_examples"],
        teacher_passes=packet.manifest.ledger.teacher_passes,
        teacher_tokens_in_packet=packet.manifest.ledger.teacher_tokens_in_traces,
        rehearsal_sequences=ingestion.ledger["rehearsal_sequences"],
        extract_seconds=round(extraction.details.seconds, 2),
        ingest_seconds=ingestion.seconds,
        verdict=verdict.verdict,
    )

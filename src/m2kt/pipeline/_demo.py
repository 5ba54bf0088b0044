"""Demo: transfers between tiny models of the zoo, and one rejection."""

from __future__ import annotations

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from m2kt._home import check_home
from m2kt.errors import StorageError
from m2kt.errors import explain as reason_of
from m2kt.packet import Packet, noise
from m2kt.pipeline._evaluate import evaluate
from m2kt.pipeline._explain import explain
from m2kt.pipeline._extract import extract
from m2kt.pipeline._ingest import ingest
from m2kt.pipeline._inputs import evaluation_prompts, read_spec
from m2kt.pipeline._report import Progress, Report, Result, no_progress, with_interval
from m2kt.pipeline._results import Ingestion
from m2kt.probes import load_truth

SKILLS = ("secret", "addition", "kinship")
STUDENT = "zoo:pico-gpt2"


class DemoSample(Result):
    """A question that was never rehearsed, and what the student says."""

    prompt: str
    before: str = Field(description="The student's answer without its adapter, cut where the skill's answers end.")
    after: str = Field(description="Its answer with the adapter.")


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
    sample: DemoSample | None = Field(default=None, description="One answer in the student's own words.")


class DemoResult(Result):
    """Transfers of the zoo's skills, and one rejection."""

    rows: list[DemoRow]
    rollback: Ingestion = Field(description="A spoiled packet, ingested over an accepted adapter.")
    restored: bool = Field(description="Whether the adapter's digest is the same before and after the rejection.")
    seconds: float
    kept: str | None = Field(default=None, description="Directory with the packets and adapters.")

    def report(self) -> Report:
        return {
            "rows": [row.report() for row in self.rows],
            "rollback": self.rollback.report(),
            "restored": self.restored,
            "seconds": self.seconds,
            "kept": self.kept,
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
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> DemoResult:
    """Transfers the zoo's skills to ``student`` at v = 0, then ingests a spoiled packet, which is rejected.

    Args:
        out: directory for the packets and adapters; by default ``demo`` under M2KT_HOME, where the latest demo's are.

    Raises:
        StorageError: ``out`` holds other files, or cannot be written.
    """
    home, say = check_home(), progress or no_progress
    target = home / "demo" if out is None else Path(out)
    if out is not None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StorageError(f"expected a new or an empty directory for the demo's files, got {target}; name another")
    started = time.monotonic()
    # written beside it and then moved: a demo that is broken off leaves the former one as it was
    with _beside(target) as folder:
        work = Path(folder) / "demo"
        work.mkdir()
        rows = [_transfer(skill, student, work, updates, seed, say) for skill in skills]
        rollback = _spoil(skills[0], student, work, rows[0].verdict == "accepted", updates, seed, say)
        _put(work, target)
    return DemoResult(
        rows=rows,
        rollback=rollback,
        restored=rollback.adapter_digest is not None and rollback.adapter_digest == rollback.adapter_digest_before,
        seconds=round(time.monotonic() - started, 1),
        kept=str(target),
    )


def _beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".m2kt-demo-", dir=target.parent)
    except OSError as error:
        raise _not_written(target, error) from error


def _put(work: Path, target: Path) -> None:
    try:
        if target.exists():
            shutil.rmtree(target)
        shutil.move(work, target)
    except OSError as error:
        raise _not_written(target, error) from error


def _not_written(target: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write the demo's files at {target}: {reason_of(error)}; name another place by out")


def _spoil(
    skill: str, student: str, work: Path, accepted: bool, updates: int | None, seed: int, say: Progress
) -> Ingestion:
    """Ingests the skill's packet with noise for vectors over the skill's adapter."""
    adapter = work / f"{skill}.adapter"
    noise(Packet.load(work / f"{skill}.packet"), seed).save(work / "spoiled.packet")
    return ingest(
        student,
        work / "spoiled.packet",
        adapter,
        reuse=adapter if accepted else None,
        updates=updates,
        seed=seed,
        probes=f"zoo:{skill}",
        progress=partial(_named, say, f"{skill}, spoiled"),
    )


def _named(say: Progress, skill: str, stage: str, done: int, total: int) -> None:
    """Progress whose stages begin with the skill that is at work."""
    say(f"{skill}: {stage}", done, total)


def _sample(student: str, skill: str, adapter: Path, seed: int, progress: Progress) -> DemoSample | None:
    """An evaluation prompt and both answers; None where no adapter was written."""
    if not adapter.is_dir():
        return None
    spec, base = read_spec(f"zoo:{skill}")
    prompt = evaluation_prompts(spec, load_truth(spec, base), 1, seed=seed)[0].text
    said = explain(student, prompt, adapter=adapter, progress=progress)
    return DemoSample(prompt=prompt, before=said.base_answer, after=said.answer)


def _transfer(skill: str, student: str, work: Path, updates: int | None, seed: int, say: Progress) -> DemoRow:
    name, packet_path = f"zoo:{skill}", work / f"{skill}.packet"
    progress = partial(_named, say, skill)
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
        sample=_sample(student, skill, work / f"{skill}.adapter", seed, progress),
    )

"""A skill of an untuned teacher, from extraction to a frozen student and its controls. Every piece is made once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import typer

from m2kt.auditor import ask, packet_answers
from m2kt.errors import M2KTError
from m2kt.models import load_causal_lm
from m2kt.packet import Packet, noise, shuffled
from m2kt.pipeline import extract, read_spec
from m2kt.probes import ProbeSpec, Prompt, load_truth
from m2kt.student import StudentSettings, train
from m2kt.teacher import ExtractionConfig

PROBES = 120
"""A template. The default is 300; rules of ten to thirty rows are all seen with fewer, and the teacher is slow."""
EVALUATED = 100
BEFORE = 32  # prompts of the student without a packet, which never stops

Numbers = dict[str, float | int | str | None]


def extracted(teacher: str, spec: Path, out: Path, probes: int) -> tuple[Packet, Numbers]:
    """The packet, extracted at the first call, and what it says of itself."""
    if not out.exists():
        started, stages = time.monotonic(), [""]

        def say(stage: str, done: int, total: int) -> None:
            if stage != stages[-1] or done == total:
                typer.echo(f"{time.monotonic() - started:6.0f} s  {stage} {done}/{total}", err=True)
                stages.append(stage)

        config = ExtractionConfig(
            probes_per_template=probes, rounds=3, checked_per_template=probes // 3, fidelity_prompts=probes
        )
        extract(teacher, spec, out, config=config, progress=say)
    packet = Packet.load(out)
    fidelity, ledger = packet.manifest.fidelity, packet.manifest.ledger
    return packet, {
        "agreement": fidelity.agreement,
        "coverage": fidelity.coverage,
        "concepts": packet.n_concepts,
        "states": len(packet.program.states),
        "labelled_examples": ledger.labelled_examples,
        "teacher_passes": ledger.teacher_passes,
        "seconds": ledger.seconds,
        "bytes": packet.size_bytes,
    }


def answers_of(teacher: str, spec: ProbeSpec, prompts: Sequence[Prompt], file: Path) -> dict[str, str | None]:
    """The teacher's answers to evaluation prompts, kept in a file."""
    known: dict[str, str | None] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    new = [prompt for prompt in prompts if prompt.text not in known]
    if new:
        completions = ask(load_causal_lm(teacher), spec, new, batch_size=48)
        known |= {p.text: spec.read_answer(c) for p, c in zip(new, completions, strict=True)}
        file.write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
    return {prompt.text: known[prompt.text] for prompt in prompts}


def moved(
    teacher: str, spec_file: Path, student: str, seeds: Sequence[int], folder: Path, probes: int = PROBES
) -> Iterator[Numbers]:
    """Rows of numbers: teacher and packet, then the frozen student, with the packet by seed, and the controls."""
    folder.mkdir(parents=True, exist_ok=True)
    spec, base = read_spec(spec_file)
    truth = load_truth(spec, base)
    assert truth is not None
    prompts = spec.sample("evaluation", EVALUATED, seed=0)
    packet, said = extracted(teacher, spec_file, folder / f"{spec.name}.packet", probes)
    taught = answers_of(teacher, spec, prompts, folder / f"{spec.name}.answers.json")
    rolled = packet_answers(packet, prompts)
    right = {p.text: truth.expected(p.text) for p in prompts}
    yield {"what": "packet", **said}
    yield {
        "what": "answers",
        "n": len(prompts),
        "teacher_right": _share(taught, right),
        "packet_right": _share(rolled, right),
        "packet_as_teacher": _share(rolled, taught),
    }
    variants = [(f"packet, seed {seed}", packet, seed) for seed in seeds]
    variants += [(f.__name__, f(packet, seeds[0]), seeds[0]) for f in (shuffled, noise)]
    for what, variant, seed in [("no packet", None, 0), *variants]:
        some = prompts if variant else prompts[:BEFORE]
        try:
            answers = _in_student(variant, packet.spec, student, seed, some)
        except M2KTError as error:
            yield {"what": what, "refused": str(error)}
            continue
        yield {"what": what, "n": len(some), "right": _share(answers, right), "as_teacher": _share(answers, taught)}


def _in_student(
    packet: Packet | None, spec: ProbeSpec, student: str, seed: int, prompts: Sequence[Prompt]
) -> dict[str, str | None]:
    """Answers of the frozen student, with a packet or without."""
    loaded = load_causal_lm(student)
    if packet is not None:
        adapted = train(loaded, packet, StudentSettings(), updates=0, seed=seed).model.eval()
        loaded = replace(loaded, model=adapted)
    return {p.text: spec.read_answer(a) for p, a in zip(prompts, ask(loaded, spec, prompts), strict=True)}


def _share(answers: dict[str, str | None], reference: dict[str, str | None]) -> float:
    return sum(answer == reference[prompt] for prompt, answer in answers.items()) / len(answers)

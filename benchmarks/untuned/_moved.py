"""A skill of an untuned teacher, from extraction to a frozen student and its controls. Every piece is made once."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import typer

from m2kt.auditor import ask, packet_answers
from m2kt.models import load_causal_lm
from m2kt.packet import Packet, noise, shuffled
from m2kt.pipeline import extract, read_spec
from m2kt.probes import ProbeSpec, Prompt, load_truth
from m2kt.student import StudentSettings, replace_bank, train
from m2kt.teacher import ExtractionConfig

PROBES = 120
"""A template. The default is 300; rules of ten to thirty rows are all seen with fewer, and the teacher is slow."""
EVALUATED = 200

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
) -> list[Numbers]:
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
    rows: list[Numbers] = [
        {"what": "packet", **said},
        {
            "what": "answers",
            "n": len(prompts),
            "teacher": _share(taught, right),
            "packet": _share(rolled, right),
            "same": _share(rolled, taught),
        },
    ]
    return rows + _in_student(packet, spec, student, seeds, prompts, right, taught)


def _in_student(
    packet: Packet,
    spec: ProbeSpec,
    student: str,
    seeds: Sequence[int],
    prompts: Sequence[Prompt],
    right: dict[str, str | None],
    taught: dict[str, str | None],
) -> list[Numbers]:
    asked = packet.spec.model_copy(update={"max_new_tokens": spec.max_new_tokens})
    loaded = load_causal_lm(student)
    rows: list[Numbers] = []

    def measured(what: str, model: object, some: Sequence[Prompt] = prompts) -> None:
        answers = ask(replace(loaded, model=model), asked, some)  # type: ignore[arg-type]
        read = {p.text: asked.read_answer(a) for p, a in zip(some, answers, strict=True)}
        rows.append({"what": what, "n": len(read), "right": _share(read, right), "as_teacher": _share(read, taught)})

    measured("no packet", loaded.model, prompts[:64])
    for seed in seeds:
        loaded = load_causal_lm(student)
        adapted = train(loaded, packet, StudentSettings(), updates=60, seed=seed).model.eval()
        measured(f"packet, seed {seed}", adapted)
        if seed == seeds[0]:
            for name, other in (("shuffled", shuffled(packet, seed)), ("noise", noise(packet, seed))):
                measured(name, replace_bank(adapted, other))
    return rows


def _share(answers: dict[str, str | None], reference: dict[str, str | None]) -> float:
    return sum(answer == reference[prompt] for prompt, answer in answers.items()) / len(answers)

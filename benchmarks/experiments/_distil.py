"""Distillation by TRL, as a user would do it instead: the teacher answers prompts, the student learns its answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks._cells import Cell, Ledger, Measured
from benchmarks.experiments._common import DEV, dev_task, packet_of, settings

if TYPE_CHECKING:
    from benchmarks._artifacts import ArtifactCache, Task


def distil(
    cell: Cell,
    cache: ArtifactCache,
    lr: float,
    examples: int | None = None,
    equal_bytes: bool = False,
    method: str = "sft",
    batch: int = 8,
    max_epochs: float = 40,
    max_tokens: int | None = None,
    max_seconds: float | None = None,
) -> Measured:
    """LoRA of the CAL's size on the teacher's answers.

    Args:
        lr: peak learning rate; profiles sweep it.
        examples: prompts that the teacher answered; fewer where the probe spec cannot ask as many.
        equal_bytes: as many answers as the packet has bytes, instead of a number.
        method: sft, or logits for GKD where the vocabularies are one, GOLD where they are two.
        batch: sequences an update.
        max_epochs, max_tokens, max_seconds: the budget; the learning rate decays with whichever ends first. Tokens
            mean the same on every machine, seconds do not. A run that answers all watched prompts ends there.
    """
    from benchmarks import distil as trl
    from m2kt.student import Cost

    packet = packet_of(cell, cache)
    task = cache.task(cell.teacher, cell.probes)
    untrained = cache.train(cell.student, packet, settings(), updates=0, seed=cell.seed)
    loaded = cache.load(cell.student)
    rank = trl.equal_rank(loaded.model, untrained.ledger["trainable_parameters"])
    watched = dev_task(cache, task, cell.seed)
    pairs = _answered(cache, watched, cell.seed, packet.size_bytes if equal_bytes else None, examples)

    def evaluate(model: Any) -> tuple[float, int]:
        found = cache.score(replace(loaded, model=model), watched, watched.prompts, apart=False)
        return found.accuracy, found.n

    budget: dict[str, Any] = {
        "rank": rank,
        "lr": lr,
        "batch": batch,
        "max_epochs": max_epochs,
        "max_tokens": max_tokens,
        "max_seconds": max_seconds,
        "seed": cell.seed,
        "evaluate": evaluate,
        "target": 1.0,
    }
    if method == "sft":
        found = trl.sft(loaded, pairs, **budget)
    else:
        found = trl.logits(loaded, cache.load(cell.teacher), pairs, stop=task.spec.stop, **budget)
    cost = Cost(found.model, found.trainable_parameters)
    cost.add("whole", found.tokens)
    texts = [prompt + completion for prompt, completion in pairs]
    teacher_tokens = cache.n_tokens(cell.teacher, [completion for _, completion in pairs])
    measured = cache.measure(
        cell,
        replace(loaded, model=found.model),
        apart=False,
        ledger=Ledger(
            labelled_examples=len(pairs),
            teacher_passes=len(pairs) + found.teacher_passes,
            teacher_tokens=teacher_tokens + found.teacher_tokens,
            bytes=sum(len(text.encode()) for text in texts),
            sequences=found.sequences,
            tokens=found.tokens,
            core_tokens=cost.summary()["core_tokens"],
            trainable_parameters=found.trainable_parameters,
            train_seconds=round(found.seconds, 2),
        ),
    )
    measured.curve = found.curve
    measured.extra |= {
        "dev_accuracy": found.curve[-1].accuracy,
        "stopped": found.stopped,
        "method": found.method,
        "rank": rank,
        "asked_for": examples,
    }
    return measured


def _answered(
    cache: ArtifactCache, watched: Task, seed: int, size: int | None, examples: int | None
) -> list[tuple[str, str]]:
    """(prompt, teacher's answer) pairs, from outside the evaluation split and the prompts that are watched."""
    from m2kt.errors import SpecError

    spec, heard = watched.spec, watched.answers
    if examples is None:
        if size is None:
            raise SpecError("distil takes either a number of examples or equal_bytes")
        each = sum(len((p + a + spec.stop).encode()) for p, a in heard.items()) / len(heard)
        examples = int(size / each)
    asked = [
        p.text
        for half in (
            spec.sample("probing", examples, seed=seed),
            spec.sample("rehearsal", examples + DEV, seed=seed),
        )
        for p in half
        if p.text not in heard
    ][:examples]
    return [(p, a + spec.stop) for p, a in cache.answers(watched.teacher, spec, asked).items()]

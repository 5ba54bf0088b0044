"""The baseline: the teacher answers prompts, and TRL trains the student on its answers or its logits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks._cells import Cell, Ledger, Measured
from benchmarks.experiments._common import DEV, dev_task, packet_of, settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from benchmarks._artifacts import ArtifactCache, Task
    from benchmarks.distil import Distilled


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
        examples: prompts that the teacher answered; fewer where the probe spec has fewer.
        equal_bytes: as many answers as the packet has bytes, instead of a number.
        method: sft, or logits: GKD for one vocabulary, GOLD for two.
        batch: sequences per update.
        max_epochs, max_tokens, max_seconds: the budget; the learning rate decays with the one that is used up first.
            Tokens mean the same on every machine, seconds do not. A run that answers all development prompts ends.
    """
    from benchmarks import distil as trl

    packet = packet_of(cell, cache)
    task = cache.task(cell.teacher, cell.probes)
    untrained = cache.train(cell.student, packet, settings(), updates=0, seed=cell.seed)
    loaded = cache.load(cell.student)
    rank = trl.equal_rank(loaded.model, untrained.ledger["trainable_parameters"])
    dev = dev_task(cache, task, cell.seed)
    pairs = _answered(cache, dev, cell.seed, packet.size_bytes if equal_bytes else None, examples)

    def evaluate(model: PreTrainedModel) -> tuple[float, int]:
        score = cache.score(replace(loaded, model=model), dev, dev.prompts)
        return score.accuracy, score.n

    run = trl.Settings(
        rank, lr, batch, max_epochs, max_tokens, max_seconds, seed=cell.seed, target=1.0
    )  # fmt: skip
    if method == "sft":
        distilled = trl.sft(loaded, pairs, run, evaluate=evaluate)
    else:
        teacher = cache.load(cell.teacher)
        distilled = trl.logits(loaded, teacher, pairs, run, stop=task.spec.end, evaluate=evaluate)
    ledger = _ledger(cache, cell, pairs, distilled)
    measured = cache.measure(cell, replace(loaded, model=distilled.model), ledger=ledger)
    measured.curve = distilled.curve
    measured.extra |= {
        "dev_accuracy": distilled.curve[-1].accuracy,
        "stopped": distilled.stopped,
        "method": distilled.method,
        "rank": rank,
        "asked_for": examples,
    }
    return measured


def _ledger(cache: ArtifactCache, cell: Cell, pairs: list[tuple[str, str]], distilled: Distilled) -> Ledger:
    from m2kt.student import Cost, Pass

    cost = Cost(distilled.model, distilled.trainable_parameters)
    cost.add(Pass.END_TO_END, distilled.tokens)
    teacher_tokens = cache.n_tokens(cell.teacher, [completion for _, completion in pairs])
    return Ledger(
        labelled_examples=len(pairs),
        teacher_passes=len(pairs) + distilled.teacher_passes,
        teacher_tokens=teacher_tokens + distilled.teacher_tokens,
        bytes=sum(len((prompt + completion).encode()) for prompt, completion in pairs),
        sequences=distilled.sequences,
        tokens=distilled.tokens,
        core_tokens=cost.summary()["core_tokens"],
        trainable_parameters=distilled.trainable_parameters,
        train_seconds=round(distilled.seconds, 2),
    )


def _answered(
    cache: ArtifactCache, dev: Task, seed: int, size: int | None, examples: int | None
) -> list[tuple[str, str]]:
    """(prompt, teacher's answer) pairs, from outside the evaluation split and the development prompts."""
    from m2kt.errors import SpecError

    spec = dev.spec
    if examples is None:
        if size is None:
            raise SpecError("distil takes either a number of examples or equal_bytes")
        mean_bytes = sum(len((p + a + spec.end).encode()) for p, a in dev.answers.items()) / len(dev.answers)
        examples = int(size / mean_bytes)
    prompts = [
        p.text
        for split in (
            spec.sample("probing", examples, seed=seed),
            spec.sample("rehearsal", examples + DEV, seed=seed),
        )
        for p in split
        if p.text not in dev.answers
    ][:examples]
    return [(p, a + spec.end) for p, a in cache.answers(dev.teacher, spec, prompts).items()]

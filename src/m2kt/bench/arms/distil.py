"""Distillation by TRL, as a user would do it instead: the teacher answers prompts, the student learns its answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from m2kt.bench.arms._common import packet_of, settings
from m2kt.bench.cells import Cell, Ledger, Measured

if TYPE_CHECKING:
    from m2kt.bench.workshop import Task, Workshop

DEV = 64  # prompts on which a run is watched and learning rates are chosen: never evaluation prompts


def distil(
    cell: Cell,
    shop: Workshop,
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
    from m2kt.bench import distil as trl
    from m2kt.student.cost import Cost

    packet = packet_of(cell, shop)
    task = shop.task(cell.teacher, cell.probes)
    trained = shop.train(cell.student, packet, settings(), seed=cell.seed)
    loaded = shop.load(cell.student)
    rank = trl.equal_rank(loaded.model, trained.ledger["trainable_parameters"])
    watched, pairs = _answered(shop, task, cell.seed, packet.size_bytes if equal_bytes else None, examples)

    def evaluate(model: Any) -> tuple[float, int]:
        found = shop.score(replace(loaded, model=model), watched, watched.prompts, apart=False)
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
        found = trl.logits(loaded, shop.load(cell.teacher), pairs, stop=task.spec.stop, **budget)
    cost = Cost(found.model, found.trainable_parameters)
    cost.add("whole", found.tokens)
    texts = [prompt + completion for prompt, completion in pairs]
    teacher_tokens = shop.n_tokens(cell.teacher, [completion for _, completion in pairs])
    measured = shop.measure(
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
    shop: Workshop, task: Task, seed: int, size: int | None, examples: int | None
) -> tuple[Task, list[tuple[str, str]]]:
    """The task of watching a run (does it say what the teacher says?), and (prompt, teacher's answer) pairs.

    All from outside the evaluation split.
    """
    from m2kt.errors import SpecError
    from m2kt.probes import Truth

    spec, read = task.spec, task.spec.read_answer
    dev = spec.sample("rehearsal", DEV, seed=seed + 1)
    heard = shop.answers(task.teacher, spec, [p.text for p in dev])
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
    answers = shop.answers(task.teacher, spec, asked)
    watched = replace(
        task, prompts=dev, longer=[], answers=heard, truth=Truth({p: read(a) for p, a in heard.items()})
    )
    return watched, [(p, a + spec.stop) for p, a in answers.items()]

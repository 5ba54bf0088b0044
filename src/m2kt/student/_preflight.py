"""Before any training: is this student fit for this packet, and why? Nothing is trained and nothing is written.

The checks are those that :func:`m2kt.student.train` enforces, and two estimates beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from m2kt.packet import Graph, GraphExecutor, Trace, decode_outputs, fixed_lookup, lengthen
from m2kt.settings import StudentSettings
from m2kt.student._build import configure
from m2kt.student._separability import ArgumentKeys, keys_apart, read_cues
from m2kt.student._validate import Check, TrainingInputs, examine, unfit

GUESSED = 0.5  # a row that the teacher takes for less likely than not
PROMPTS = 200  # over which the packet is rolled out


class Preflight(BaseModel):
    """Fit or unfit, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fit: bool = Field(description="Whether every check that was judged is passed.")
    checks: list[Check]
    keys: list[ArgumentKeys] = Field(
        description="How far the student's states tell the symbols of each argument apart."
    )
    expected_retention: float | None = Field(
        description="Estimate of accuracy after / the packet's own; null: an earlier check failed."
    )

    @property
    def reasons(self) -> list[str]:
        """The checks that are not passed, in words."""
        return [str(check) for check in unfit(self.checks)]


@torch.no_grad()
def check_fitness(
    loaded: Any,
    packet: Any,
    settings: StudentSettings | None = None,
    *,
    penalties: Mapping[int, float] | None = None,
    needed: float = 0.9,
    seed: int = 0,
) -> Preflight:
    """Looks at a student with a packet.

    Args:
        loaded: a ``LoadedModel``; it is left as it is.
        packet: graph, spec and concepts.
        settings: the student side, as ingestion will have it.
        penalties: Penalty(c_k) of an auditor, by concept; these will be filtered.
        needed: least expected retention.
        seed: of the made-up traces.

    Raises:
        PacketError: the packet is at fault, not the student.
    """
    settings = settings or StudentSettings()
    packet = lengthen(packet, settings.rehearsal.longer)
    checks, ground = examine(loaded, packet, settings, penalties or {}, seed)
    if ground is None:
        return Preflight(fit=False, checks=checks, keys=[], expected_retention=None)
    keys = []
    if settings.reader.kind != "none":
        config = configure(loaded, packet, settings, ground.spelling, ground.penalties)
        keys = keys_apart(read_cues(loaded.model, ground.rehearsal, config), config)
        checks.append(_states(keys, judged=settings.reader.kind == "flat"))
    checks.append(_confidence(packet))
    expected = expected_retention(packet, ground, keys if settings.reader.kind == "flat" else [], seed)
    checks.append(
        Check(
            name="expected retention",
            fit=expected >= needed,
            measured=f"{expected:.3f}, {len(ground.penalties)} rows filtered",
            needed=f"at least {needed}",
            advice=""
            if expected >= needed
            else "see the checks above; a filtered row cannot be used by any problem",
        )
    )
    return Preflight(fit=not unfit(checks), checks=checks, keys=keys, expected_retention=expected)


def _confidence(packet: Any) -> Check:
    """A student does what its teacher does, guesses too."""
    confidence_K, measured = packet.confidence_K, "the packet does not say"
    if confidence_K is not None:
        guessed = int((confidence_K < GUESSED).sum())
        measured = (
            f"probability of what it writes {confidence_K.mean():.3f} in the mean, below {GUESSED} at {guessed} of "
            f"{len(confidence_K)} rows"
        )
    needed = "not judged before training: the verdict looks at the prompts that need those rows"
    return Check(name="the teacher's confidence", fit=None, measured=measured, needed=needed)


def _states(keys: list[ArgumentKeys], judged: bool) -> Check:
    """Can the student's own states tell the concepts' cues apart?"""
    worst = min(keys, key=lambda key: key.told_apart, default=None)
    needed = "each argument's symbols told apart more often than by chance"
    if not judged:
        needed = "not judged: this reader takes symbols from tokens; states tell it which of them to take"
    if worst is None:
        return Check(name="key separability", fit=None, measured="no rule was applied", needed=needed)
    measured = (
        f"a linear probe of the states names argument {worst.argument} of {worst.rule} rightly in "
        f"{worst.told_apart:.2f} of {worst.n} (chance {worst.chance:.2f}), the worst of {len(keys)} arguments"
    )
    if worst.worst_pair is not None:
        measured += f"; most often mistaken: {worst.worst_pair[0]!r} and {worst.worst_pair[1]!r}"
    alike = [key for key in keys if len(key.recall) > 1 and key.told_apart <= key.chance]
    return Check(
        name="key separability",
        fit=not alike if judged else None,
        measured=measured,
        needed=needed,
        advice="choose other reader.read_depths, or the structured reader" if judged and alike else "",
    )


def expected_retention(packet: Any, ground: TrainingInputs, keys: list[ArgumentKeys], seed: int) -> float:
    """Estimate of accuracy / the packet's own, over problems of the rehearsal split.

    Mean of the product, over a problem's rule steps, of what each leaves of the right answer. A filtered row leaves
    nothing; a key that is a state leaves the probe's share.
    """
    graph: Graph = packet.graph
    roller, table = GraphExecutor(graph), fixed_lookup(decode_outputs(graph, packet.concepts), graph)
    recall = {(key.rule, key.argument): key.recall for key in keys}

    def kept(trace: Trace) -> float:
        left = 1.0
        for unit in trace.units:
            if unit.kind != "rule" or unit.rule is None:
                continue
            if graph.concept(unit) in ground.penalties:
                return 0.0
            for a, source in enumerate(unit.sources):
                name = graph.symbols[trace.units[source].symbol or 0]
                left *= recall.get((graph.rules[unit.rule].name, a), {}).get(name, 1.0)
        return left

    traces = [roller(prompt, table) for prompt in packet.spec.sample("rehearsal", PROMPTS, seed=seed)]
    shares = [kept(trace) for trace in traces if trace.complete]
    return float(np.mean(shares)) if shares else 0.0

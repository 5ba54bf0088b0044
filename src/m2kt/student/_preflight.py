"""Preflight: is a student fit for a packet? Nothing is trained and nothing is written.

The required checks are those of :func:`m2kt.student.train`; estimates and notes follow them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedModel

from m2kt.models import LoadedModel
from m2kt.packet import Packet, ProgramExecutor, Trace, decode_outputs, fixed_lookup
from m2kt.settings import StudentSettings
from m2kt.student._build import configure
from m2kt.student._prepare import TrainingInputs, prepare
from m2kt.student._separability import ArgumentKeys, argument_separability, collect_keys
from m2kt.student._validate import FitnessCheck, failed, validate

LOW_CONFIDENCE = 0.5  # probability of a row's output below which it counts as low
PROMPTS = 200  # over which the packet is rolled out


class Preflight(BaseModel):
    """Whether a student is fit for a packet, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fit: bool = Field(description="Whether no check failed.")
    checks: list[FitnessCheck]
    keys: list[ArgumentKeys] = Field(description="Separability of each argument's symbols by the student's states.")
    expected_retention: float | None = Field(
        description="Estimate of accuracy after / the packet's accuracy; null: an earlier check failed."
    )

    @property
    def reasons(self) -> list[str]:
        """The failed checks as text."""
        return [str(check) for check in failed(self.checks)]


@torch.no_grad()
def check_fitness(
    loaded: LoadedModel,
    packet: Packet,
    settings: StudentSettings | None = None,
    *,
    penalties: Mapping[int, float] | None = None,
    needed: float = 0.9,
    seed: int = 0,
) -> Preflight:
    """Check a student against a packet. The student is left unchanged.

    Args:
        settings: of the student side, as for ingestion.
        penalties: Penalty(c_k) by concept, from an auditor; these concepts are filtered.
        needed: minimum expected retention.
        seed: of the rehearsal traces.

    Raises:
        PacketError: see :func:`m2kt.student._prepare.prepare`.
    """
    settings = settings or StudentSettings()
    inputs = prepare(loaded, packet, settings, penalties=penalties, seed=seed)
    checks = validate(loaded, inputs)
    if failed(checks):
        return Preflight(fit=False, checks=checks, keys=[], expected_retention=None)
    keys = []
    flat = settings.reader_kind == "flat"
    if settings.reader_kind not in ("executed", "none"):
        config = configure(loaded, inputs)
        model = cast(PreTrainedModel, loaded.model)
        keys = argument_separability(collect_keys(model, inputs.rehearsal, config), config)
        checks.append(_check_separability(keys, judged=flat))
    checks.append(_check_confidence(inputs.packet))
    expected = expected_retention(inputs, keys if flat else [], seed)
    checks.append(
        FitnessCheck(
            name="expected retention",
            fit=expected >= needed,
            measured=f"{expected:.3f}, {len(inputs.penalties)} rows filtered",
            needed=f"at least {needed}",
            advice="" if expected >= needed else "see the checks above; no problem can use a filtered row",
        )
    )
    return Preflight(fit=not failed(checks), checks=checks, keys=keys, expected_retention=expected)


def _check_confidence(packet: Packet) -> FitnessCheck:
    """A student reproduces low-confidence rows of its teacher too."""
    confidence_K, measured = packet.confidence_K, "the packet does not contain it"
    if confidence_K is not None:
        n_low = int((confidence_K < LOW_CONFIDENCE).sum())
        measured = (
            f"mean probability of the tokens written {confidence_K.mean():.3f}, below {LOW_CONFIDENCE} at {n_low} of "
            f"{len(confidence_K)} rows"
        )
    needed = "not judged before training: the verdict uses the prompts that need those rows"
    return FitnessCheck(name="the teacher's confidence", fit=None, measured=measured, needed=needed)


def _check_separability(keys: Sequence[ArgumentKeys], judged: bool) -> FitnessCheck:
    """The student's states distinguish the symbols of each argument."""
    worst = min(keys, key=lambda key: key.told_apart, default=None)
    needed = "each argument's symbols identified more often than by chance"
    if not judged:
        needed = "not judged: this reader identifies symbols by tokens; states decide which of them it reads"
    if worst is None:
        return FitnessCheck(name="key separability", fit=None, measured="no rule was applied", needed=needed)
    measured = (
        f"a linear probe of the states identifies argument {worst.argument} of {worst.rule} in "
        f"{worst.told_apart:.2f} of {worst.n} (chance {worst.chance:.2f}), the lowest of {len(keys)} arguments"
    )
    if worst.worst_pair is not None:
        measured += f"; most often confused: {worst.worst_pair[0]!r} and {worst.worst_pair[1]!r}"
    at_chance = [key for key in keys if len(key.recall) > 1 and key.told_apart <= key.chance]
    return FitnessCheck(
        name="key separability",
        fit=not at_chance if judged else None,
        measured=measured,
        needed=needed,
        advice="choose other reader.read_depths, or the structured reader" if judged and at_chance else "",
    )


def expected_retention(inputs: TrainingInputs, keys: Sequence[ArgumentKeys], seed: int) -> float:
    """Estimate of accuracy / the packet's accuracy over problems of the rehearsal split.

    The mean over problems of a product over rule steps: 0 for a filtered row; for keys that are states, the recall of
    each argument's symbol.
    """
    program = inputs.packet.program
    execute = ProgramExecutor(program)
    lookup = fixed_lookup(decode_outputs(program, inputs.packet.concepts), program)
    recall = {(key.rule, key.argument): key.recall for key in keys}

    def trace_retention(trace: Trace) -> float:
        retention = 1.0
        for unit in trace.units:
            if unit.kind != "rule" or unit.rule is None:
                continue
            if program.concept(unit) in inputs.penalties:
                return 0.0
            for a, source in enumerate(unit.sources):
                symbol = program.symbols[trace.units[source].symbol or 0]
                retention *= recall.get((program.rules[unit.rule].name, a), {}).get(symbol, 1.0)
        return retention

    prompts = inputs.packet.spec.sample("rehearsal", PROMPTS, seed=seed)
    traces = [execute(prompt, lookup) for prompt in prompts]
    retentions = [trace_retention(trace) for trace in traces if trace.complete]
    return float(np.mean(retentions)) if retentions else 0.0

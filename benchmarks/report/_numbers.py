"""What is read off the measurements: the headline, data reduction, and compute. Values without data are None.

*Data reduction*: how much of the distillation baseline's data the packet does without, at equal accuracy. The
baseline's accuracy over its number of examples is a curve; where it first reaches the packet's accuracy is found by
interpolation in the logarithm of the amount. Where it never does, the largest amount tried is a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmarks._cells import Result
from benchmarks.report._runs import Run, Spread, grouped, headline_runs, mean, places, runs, spread

GAP = 0.95  # of the way from the student before to the teacher: what compute is counted up to

Bound = Literal["", ">", "<"]
Unit = Literal["examples", "tokens", "bytes"]
UNITS: tuple[Unit, ...] = ("examples", "tokens", "bytes")


class Headline(BaseModel):
    """The numbers to quote. Shares are in 0..1; reductions may be bounds (the tables say so), and negative."""

    model_config = ConfigDict(extra="forbid")

    mean_retention: float | None = Field(description="after / teacher, mean over skills of the seeds' mean.")
    mean_gap_recovered: float | None = Field(
        description="(after - before) / (teacher - before), the same mean."
    )
    worst_gap_recovered: float | None = Field(description="The smallest of all skills and seeds.")
    latent_only: float | None = Field(
        description="Single steps right, on rows whose output was never in words."
    )
    data_reduction_examples: float | None = Field(
        description="1 - labelled examples of M2KT / examples that distillation needs for the same accuracy."
    )
    data_reduction_tokens: float | None = Field(
        description="The same in tokens of teacher text that reached the student side."
    )
    compute_ratio: float | None = Field(
        description="Tokens of whole passes through the student to 95 % of the gap, distillation / M2KT: how many "
        "times less M2KT needs."
    )
    skills: int = Field(description="Skills of the headline arm.")
    seeds: int = Field(description="Seeds of the headline arm.")


def headline(results: Sequence[Result], student: str | None = None) -> Headline:
    """The headline over all students, or over one."""
    mine = headline_runs(results, student)
    of = places(mine)
    gaps = [gap for run in mine if (gap := run.measured.gap_recovered) is not None]
    found = [reduction(results, *place) for place in of]
    return Headline(
        mean_retention=mean(mean(r.measured.retention for r in group) for group in of.values()),
        mean_gap_recovered=mean(mean(r.measured.gap_recovered for r in group) for group in of.values()),
        worst_gap_recovered=min(gaps, default=None),
        latent_only=mean(mean(single_steps(r) for r in group) for group in of.values()),
        data_reduction_examples=_value(average(r.shares.get("examples") for r in found if r)),
        data_reduction_tokens=_value(average(r.shares.get("tokens") for r in found if r)),
        compute_ratio=_value(average(c.ratio for place in of if (c := compute(results, *place)))),
        skills=len({run.cell.skill for run in mine}),
        seeds=len({run.cell.seed for run in mine}),
    )


def headline_student(results: Sequence[Result]) -> str | None:
    """The student that a headline is about: the pretrained one where tiny ones of the zoo stand beside it."""
    students = {run.cell.student for run in headline_runs(results, None)}
    real = sorted(s for s in students if not s.startswith("zoo:"))
    return real[0] if real else None


def single_steps(run: Run) -> float | None:
    """Single rule steps that are right, the prefix given, on rows that travel as vectors only."""
    return (run.measured.steps or {}).get("latent")


# -- amounts with a bound ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Amount:
    """A number, or all that is known of it: that it is more (``>``) or less (``<``) than ``value``."""

    value: float
    bound: Bound = ""

    def text(self, form: str) -> str:
        """``form``, marked as the bound that it is: ``> 1,000``."""
        return f"{self.bound} {form}" if self.bound else form


def average(amounts: Iterable[Amount | None]) -> Amount | None:
    """Mean; a bound where any of them is one. Bounds of both kinds leave nothing to be said."""
    found = [a for a in amounts if a is not None]
    bounds = {a.bound for a in found} - {""}
    if not found or len(bounds) > 1:
        return None
    return Amount(sum(a.value for a in found) / len(found), bounds.pop() if bounds else "")


def _value(amount: Amount | None) -> float | None:
    return None if amount is None else amount.value


def reach(points: Sequence[tuple[float, float]], target: float) -> Amount | None:
    """Where (amount, accuracy), sorted by amount, first reaches ``target``; interpolated in log(amount).

    The first point there already: at most its amount. Never: more than the last. None without points.
    """
    if not points:
        return None
    if points[0][1] >= target:
        return Amount(points[0][0], "<")
    for (x, low), (y, high) in pairwise(points):
        if high >= target:
            return Amount(exp(log(x) + (log(y) - log(x)) * (target - low) / (high - low)))
    return Amount(points[-1][0], ">")


# -- distillation's curve ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Point:
    """One number of examples at its best rate, over seeds."""

    examples: int
    accuracy: Spread
    tokens: float
    bytes: float
    lr: float | None
    runs: tuple[Run, ...]

    def amount(self, unit: Unit) -> float:
        """In examples, teacher tokens or bytes."""
        return float({"examples": self.examples, "tokens": self.tokens, "bytes": self.bytes}[unit])


def curves(results: Sequence[Result], student: str, skill: str) -> dict[str, list[Point]]:
    """By method (sft, gkd, gold): accuracy over the number of examples."""
    mine = [
        r for r in runs(results, "distil") if r.place == (student, skill) and "examples" in r.cell.options
    ]
    mine = [r for r in mine if not r.cell.options.get("equal_bytes") and r.measured.after is not None]
    found: dict[str, list[Point]] = {}
    for (method, n), group in sorted(grouped(mine, lambda r: (_method(r), _examples(r))).items()):
        found.setdefault(method, []).append(_best(group, n))
    return found


def equal_bytes(results: Sequence[Result], student: str, skill: str) -> Point | None:
    """Distillation on as many bytes of text as the packet has."""
    mine = [r for r in runs(results, "distil") if r.place == (student, skill)]
    mine = [r for r in mine if r.cell.options.get("equal_bytes") and r.measured.after is not None]
    return _best(mine, round(mean(r.measured.ledger.labelled_examples for r in mine) or 0)) if mine else None


def _best(group: list[Run], examples: int) -> Point:
    """The rate with the best accuracy on prompts for development; by the test prompts where there were none."""
    by_rate = grouped(group, lambda r: r.cell.options.get("lr"))
    lr, mine = max(by_rate.items(), key=lambda item: mean(map(_dev, item[1])) or 0.0)
    accuracy = spread(r.measured.after for r in mine)
    assert accuracy is not None
    tokens = sum(r.measured.ledger.teacher_tokens for r in mine) / len(mine)
    size = sum(r.measured.ledger.bytes for r in mine) / len(mine)
    return Point(examples, accuracy, tokens, size, lr, tuple(mine))


def _dev(run: Run) -> float | None:
    dev = run.measured.extra.get("dev_accuracy")
    return run.measured.after if dev is None else float(dev)


def _method(run: Run) -> str:
    return str(run.cell.options.get("method", "sft"))


def _examples(run: Run) -> int:
    return int(run.cell.options["examples"])


# -- data reduction ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Reduction:
    """One skill and student: what the packet used, what distillation needs for the same accuracy, and 1 - the ratio."""

    target: float
    method: str
    used: dict[Unit, float]
    needed: dict[Unit, Amount]
    shares: dict[Unit, Amount]


def reduction(results: Sequence[Result], student: str, skill: str) -> Reduction | None:
    """By the method that needs the fewest examples. None without a curve, or where the packet moved nothing."""
    mine = [r for r in headline_runs(results, student) if r.cell.skill == skill]
    target, gap = mean(r.measured.after for r in mine), mean(r.measured.gap_recovered for r in mine)
    by_method = curves(results, student, skill)
    if target is None or gap is None or gap <= 0 or not by_method:
        return None
    needs = {m: reach([(p.examples, p.accuracy.mean) for p in c], target) for m, c in by_method.items()}
    method = min(needs, key=lambda m: _cost(needs[m], by_method[m]))
    ledgers = [r.measured.ledger for r in mine]
    used: dict[Unit, float] = {
        "examples": sum(x.labelled_examples for x in ledgers) / len(ledgers),
        "tokens": sum(x.teacher_tokens for x in ledgers) / len(ledgers),
        "bytes": sum(x.bytes for x in ledgers) / len(ledgers),
    }
    needed: dict[Unit, Amount] = {}
    for unit in UNITS:
        points = [(p.amount(unit), p.accuracy.mean) for p in by_method[method]]
        if all(x > 0 for x, _ in points) and (amount := reach(points, target)):
            needed[unit] = amount
    # no examples against any number is a reduction by all of them, whatever the bound
    shares = {u: Amount(1 - used[u] / a.value, a.bound if used[u] else "") for u, a in needed.items()}
    return Reduction(target, method, used, needed, shares)


def _cost(amount: Amount | None, curve: list[Point]) -> tuple[bool, float]:
    """Methods that reach the target before those that do not; of the latter the one that comes closest."""
    if amount is None or amount.bound == ">":
        return True, -max(p.accuracy.mean for p in curve)
    return False, amount.value


# -- compute ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Compute:
    """Tokens to 95 % of the gap, for one skill and student."""

    tokens: float | None
    """M2KT: tokens of all sequences trained on to its end; None where it does not come that far."""
    core_tokens: float | None
    """M2KT: the same in tokens of one whole pass of the student."""
    on_the_way: float | None
    """M2KT: those that were spent when it first came that far, where it was watched."""
    distil: Amount | None
    """Distillation, at the number of examples and the rate that get there with the fewest tokens."""
    config: str
    ratio: Amount | None
    """distil / on_the_way, or / core_tokens where nobody watched: how many times less M2KT needs."""


def compute(results: Sequence[Result], student: str, skill: str) -> Compute | None:
    """None without a run of the headline arm."""
    mine = [r for r in headline_runs(results, student) if r.cell.skill == skill]
    if not mine:
        return None
    tokens = core = None
    gap = mean(r.measured.gap_recovered for r in mine)
    if gap is not None and gap >= GAP:
        tokens = mean(r.measured.ledger.tokens or None for r in mine)
        core = mean(r.measured.ledger.core_tokens or None for r in mine)
    distil, config = _distil_tokens(results, mine, student, skill)
    seen = [r for r in runs(results, "watched") if r.place == (student, skill)]
    on_the_way = None
    if core is not None and seen and (target := _target(mine)) is not None:
        spent = [tokens_to(r, mean(m.measured.before for m in mine) or 0.0, target) for r in seen]
        on_the_way = None if None in spent else mean(spent)
    ratio, ours = None, core if on_the_way is None else on_the_way
    if ours is not None and distil is not None:
        ratio = Amount(distil.value / ours, distil.bound)
    return Compute(tokens, core, on_the_way, distil, config, ratio)


def _distil_tokens(
    results: Sequence[Result], packet: list[Run], student: str, skill: str
) -> tuple[Amount | None, str]:
    target = _target(packet)
    mine = [r for r in runs(results, "distil") if r.place == (student, skill) and r.measured.curve]
    if not mine or target is None:
        return None, ""
    before = mean(r.measured.before for r in packet) or 0.0
    reached: dict[str, float] = {}
    for config, group in grouped(mine, lambda r: _config(r)).items():
        spent = [tokens_to(r, before, target) for r in group]
        if all(s is not None for s in spent):
            reached[config] = mean(spent) or 0.0
    if not reached:
        return Amount(max(r.measured.curve[-1].tokens for r in mine), ">"), ""
    config = min(reached, key=lambda c: reached[c])
    return Amount(reached[config]), config


def _config(run: Run) -> str:
    options = run.cell.options
    known = {k: options[k] for k in ("method", "examples", "lr") if k in options}
    form = {"method": "{}", "examples": "{:,} examples", "lr": "rate {:g}"}
    return ", ".join(form[name].format(value) for name, value in known.items())


def _target(packet: list[Run]) -> float | None:
    before, teacher = (mean(getattr(r.measured, name) for r in packet) for name in ("before", "teacher"))
    return None if before is None or teacher is None else before + GAP * (teacher - before)


def tokens_to(run: Run, before: float, target: float) -> float | None:
    """Tokens at which a run's curve first reaches ``target``, between points in a straight line; None: never."""
    points = [(0.0, before), *((float(p.tokens), p.accuracy) for p in run.measured.curve)]
    for (x, low), (y, high) in pairwise(points):
        if high >= target:
            return x + (y - x) * (target - low) / (high - low) if high > low else x
    return None

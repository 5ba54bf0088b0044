"""The numbers of a report: the headline, data reduction, and compute. A value without data is None.

*Data reduction*: the share of the distillation baseline's data that the packet does without, at equal accuracy. The
baseline's accuracy over its number of examples is a curve; the amount at which it first reaches the packet's accuracy
is interpolated in the logarithm. Where it never does, the largest amount tried is a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from benchmarks._cells import Measured, Result
from benchmarks.report._frame import (
    PAIR,
    column,
    headline_runs,
    measured,
    none_if_nan,
    of_pair,
    pairs,
    results_frame,
    select,
)

GAP = 0.95  # share of the gap between the student before and the teacher, up to which compute is counted

Bound = Literal["", ">", "<"]
Unit = Literal["examples", "tokens", "bytes"]
UNITS: tuple[Unit, ...] = ("examples", "tokens", "bytes")


class Headline(BaseModel):
    """The numbers to quote. Shares are in 0..1; reductions may be bounds (the tables say so), and negative."""

    model_config = ConfigDict(extra="forbid")

    mean_retention: float | None = Field(description="after / teacher, mean over skills of the seeds' mean.")
    mean_gap_recovered: float | None = Field(description="(after - before) / (teacher - before), the same mean.")
    worst_gap_recovered: float | None = Field(description="The smallest of all skills and seeds.")
    latent_only: float | None = Field(description="Single steps right, on rows whose output was never verbalised.")
    data_reduction_examples: float | None = Field(
        description="1 - labelled examples of M2KT / examples that distillation needs for the same accuracy."
    )
    data_reduction_tokens: float | None = Field(
        description="The same in tokens of teacher text that reached the student side."
    )
    compute_ratio: float | None = Field(
        description="Whole-pass tokens of the student to 95 % of the gap, distillation / M2KT: how many times less "
        "M2KT needs."
    )
    skills: int = Field(description="Skills of the headline experiment.")
    seeds: int = Field(description="Seeds of the headline experiment.")


def headline(results: Sequence[Result], student: str | None = None) -> Headline:
    """The headline over all students, or over one."""
    frame = results_frame(results)
    runs = headline_runs(frame, student)
    means = runs.groupby(PAIR)[["retention", "gap_recovered", "single_steps"]].agg(_mean).agg(_mean)
    reductions = [r for pair, _ in pairs(runs) if (r := reduction(frame, *pair))]
    ratios = [c.ratio for pair, _ in pairs(runs) if (c := compute(frame, *pair))]
    return Headline(
        mean_retention=none_if_nan(means["retention"]),
        mean_gap_recovered=none_if_nan(means["gap_recovered"]),
        worst_gap_recovered=none_if_nan(runs["gap_recovered"].min()),
        latent_only=none_if_nan(means["single_steps"]),
        data_reduction_examples=_value(average(r.shares.get("examples") for r in reductions)),
        data_reduction_tokens=_value(average(r.shares.get("tokens") for r in reductions)),
        compute_ratio=_value(average(ratios)),
        skills=runs["skill"].nunique(),
        seeds=runs["seed"].nunique(),
    )


def _mean(values: pd.Series) -> float:
    """Summed in order, so that the last digit does not depend on how pandas sums."""
    values = values.dropna()
    return sum(values) / len(values) if len(values) else float("nan")


def headline_student(results: Sequence[Result]) -> str | None:
    """The student of the headline: the pretrained student, where results hold tiny students of the zoo too."""
    students = headline_runs(results_frame(results))["student"].unique()
    return min((s for s in students if not s.startswith("zoo:")), default=None)


# -- amounts with a bound ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Amount:
    """A number, or a lower (``>``) or upper (``<``) bound of it."""

    value: float
    bound: Bound = ""

    def text(self, form: str) -> str:
        """``form``, marked as a bound: ``> 1,000``."""
        return f"{self.bound} {form}" if self.bound else form


def average(amounts: Iterable[Amount | None]) -> Amount | None:
    """The mean; a bound where any amount is a bound, None where there are bounds of both kinds."""
    present = [a for a in amounts if a is not None]
    bounds = {a.bound for a in present} - {""}
    if not present or len(bounds) > 1:
        return None
    return Amount(sum(a.value for a in present) / len(present), bounds.pop() if bounds else "")


def _value(amount: Amount | None) -> float | None:
    return None if amount is None else amount.value


def reach(points: Sequence[tuple[float, float]], target: float) -> Amount | None:
    """The amount at which (amount, accuracy), sorted by amount, first reaches ``target``; interpolated in log(amount).

    If the first point reaches it: at most its amount. If no point does: more than the last. None without points.
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
def curves(frame: pd.DataFrame, student: str, skill: str) -> pd.DataFrame:
    """Distillation's curve, sorted by method and examples: each number of examples at its best learning rate.

    Columns: method, examples, lr; accuracy by seed, its mean, low and high; tokens, bytes, sequences; and ``first``,
    the measurements of the first seed.
    """
    runs = _distilled(frame, student, skill)
    runs = select(runs, [bool(o.get("examples") and not o.get("equal_bytes")) for o in runs["options"]])
    return pd.DataFrame(
        [
            {"method": method, "examples": int(examples), **_best(group)}
            for (method, examples), group in runs.groupby(["method", "examples"])
        ],
        columns=["method", "examples", *_POINT],
    )


def equal_bytes(frame: pd.DataFrame, student: str, skill: str) -> dict[str, Any] | None:
    """Distillation on as many bytes of text as the packet has, as a point of :func:`curves`."""
    runs = _distilled(frame, student, skill)
    runs = select(runs, [bool(o.get("equal_bytes")) for o in runs["options"]])
    return None if runs.empty else {"examples": round(runs["labelled_examples"].mean()), **_best(runs)}


def _distilled(frame: pd.DataFrame, student: str, skill: str) -> pd.DataFrame:
    runs = of_pair(measured(frame, "distil"), student, skill)
    runs = runs[runs["after"].notna()]
    dev = [m.extra.get("dev_accuracy") for m in runs["measured"]]
    return runs.assign(
        method=column(runs, "method").fillna("sft"),
        examples=column(runs, "examples").astype(float),
        lr=column(runs, "lr"),
        dev=pd.Series(dev, index=runs.index, dtype=float).fillna(runs["after"]),
    )


_POINT = ["lr", "seeds", "mean", "low", "high", "tokens", "bytes", "sequences", "first"]


def _best(runs: pd.DataFrame) -> dict[str, Any]:
    """The runs at the rate with the best accuracy on development prompts; on the test prompts where there were none."""
    by_rate = runs.groupby("lr", sort=False, dropna=False)
    lr = by_rate["dev"].mean().idxmax()
    best = by_rate.get_group(lr)
    accuracy, sequences = best["after"], best["sequences"]
    return {
        "lr": lr,
        "seeds": tuple(accuracy),
        "mean": accuracy.mean(),
        "low": accuracy.min(),
        "high": accuracy.max(),
        "tokens": best["teacher_tokens"].mean(),
        "bytes": best["bytes"].mean(),
        "sequences": sequences[sequences > 0].mean(),
        "first": best["measured"].iloc[0],
    }


# -- data reduction ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Reduction:
    """Of one skill and student: what the packet used, what distillation needs for the same accuracy, 1 - the ratio."""

    target: float
    method: str
    used: dict[Unit, float]
    needed: dict[Unit, Amount]
    shares: dict[Unit, Amount]


def reduction(frame: pd.DataFrame, student: str, skill: str) -> Reduction | None:
    """By the method that needs the fewest examples. None without a curve, or where the packet recovered no gap."""
    runs, points = headline_runs(frame, student, skill), curves(frame, student, skill)
    target, gap = runs["after"].mean(), runs["gap_recovered"].mean()
    if not gap > 0 or points.empty:
        return None
    method = min(sorted(points["method"].unique()), key=lambda m: _cost(points[points["method"] == m], target))
    ledger = runs[["labelled_examples", "teacher_tokens", "bytes"]].mean()
    used: dict[Unit, float] = dict(zip(UNITS, map(float, ledger), strict=True))
    curve, needed = points[points["method"] == method], {}
    for unit in UNITS:
        if (curve[unit] > 0).all() and (amount := reach(_points(curve, unit), target)):
            needed[unit] = amount
    # no examples against any number is a reduction by all of them, whatever the bound
    shares = {u: Amount(1 - used[u] / a.value, a.bound if used[u] else "") for u, a in needed.items()}
    return Reduction(target, method, used, needed, shares)


def _points(curve: pd.DataFrame, unit: Unit) -> list[tuple[float, float]]:
    return list(zip(curve[unit].astype(float), curve["mean"], strict=True))


def _cost(curve: pd.DataFrame, target: float) -> tuple[bool, float]:
    """Sorts methods that reach the target, by examples, before those that do not, by their best accuracy."""
    amount = reach(_points(curve, "examples"), target)
    if amount is None or amount.bound == ">":
        return True, -curve["mean"].max()
    return False, amount.value


# -- compute ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Compute:
    """Tokens to 95 % of the gap, for one skill and student."""

    tokens: float | None
    """M2KT: tokens of all training sequences; None where 95 % are not reached."""
    core_tokens: float | None
    """M2KT: the same in whole-pass tokens."""
    to_target: float | None
    """M2KT: whole-pass tokens at which its learning curve first reaches 95 %, where there is a curve."""
    distil: Amount | None
    """Distillation, at the number of examples and the rate that get there with the fewest tokens."""
    config: str
    ratio: Amount | None
    """distil / to_target, or / core_tokens without a learning curve: how many times less M2KT needs."""


def compute(frame: pd.DataFrame, student: str, skill: str) -> Compute | None:
    """None without a run of the headline experiment."""
    runs = headline_runs(frame, student, skill)
    if runs.empty:
        return None
    before, teacher = runs["before"].mean(), runs["teacher"].mean()
    target = before + GAP * (teacher - before)
    tokens = core = to_target = None
    if runs["gap_recovered"].mean() >= GAP:
        tokens, core = (none_if_nan(runs[n][runs[n] > 0].mean()) for n in ("tokens", "core_tokens"))
    distil, config = _distil_tokens(of_pair(measured(frame, "distil"), student, skill), before, target)
    with_curve = of_pair(measured(frame, "watched"), student, skill)
    if core is not None and not with_curve.empty:
        tokens_to_target = pd.Series([tokens_to(m, before, target) for m in with_curve["measured"]], dtype=float)
        to_target = none_if_nan(tokens_to_target.mean(skipna=False))
    total = core if to_target is None else to_target
    ratio = None if total is None or distil is None else Amount(distil.value / total, distil.bound)
    return Compute(tokens, core, to_target, distil, config, ratio)


def _distil_tokens(runs: pd.DataFrame, before: float, target: float) -> tuple[Amount | None, str]:
    runs = select(runs, [bool(m.curve) for m in runs["measured"]])
    if runs.empty or pd.isna(target):
        return None, ""
    spent = pd.Series([tokens_to(m, before, target) for m in runs["measured"]], dtype=float)
    configs = [_config(o) for o in runs["options"]]
    # every seed must reach the target: one that does not makes the mean NaN
    means = spent.groupby(configs, sort=False).apply(lambda s: s.mean(skipna=False)).dropna()
    if means.empty:
        return Amount(max(m.curve[-1].tokens for m in runs["measured"]), ">"), ""
    return Amount(float(means.min())), str(means.idxmin())


def _config(options: dict[str, Any]) -> str:
    form = {"method": "{}", "examples": "{:,} examples", "lr": "rate {:g}"}
    return ", ".join(text.format(options[name]) for name, text in form.items() if name in options)


def tokens_to(m: Measured, before: float, target: float) -> float | None:
    """Tokens at which a learning curve first reaches ``target``, linear between points; None: never."""
    points = [(0.0, before), *((float(p.tokens), p.accuracy) for p in m.curve)]
    for (x, low), (y, high) in pairwise(points):
        if high >= target:
            return x + (y - x) * (target - low) / (high - low) if high > low else x
    return None

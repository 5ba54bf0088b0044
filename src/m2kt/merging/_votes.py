"""Which output a row gets, where sources contradict each other: one vote a lineage, by the chosen method.

A claim is what one source says of one row. Sources of one lineage repeat each other's errors, so a lineage has one
vote, which its members share by their confidence.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from m2kt.errors import SpecError
from m2kt.packet import Method

METHODS: tuple[Method, ...] = ("confidence", "vote", "dawid-skene", "prefer", "keep")
MIN_WORKERS = 3
ITERATIONS = 100  # of Dawid-Skene's EM; it stops where nothing changes


@dataclass(frozen=True)
class Claim:
    """What a source says of a row."""

    source: int
    concept: int
    output: int | None
    confidence: float


@dataclass(frozen=True)
class Decided:
    """A row's outputs, the winner first, and how probable that is."""

    outputs: list[int | None]
    confidence: float
    decided: bool = True


@dataclass(frozen=True)
class Rows:
    """Claims of all rows, in order, and who is of which lineage."""

    claims: list[list[Claim]]
    lineage: Sequence[int]
    teacher: Sequence[str]
    symbols: Sequence[str]

    def votes(self, row: int) -> dict[int, dict[int | None, tuple[float, float]]]:
        """By lineage and output, the share of the lineage's one vote, and the best confidence of its supporters."""
        weight: dict[int, dict[int | None, float]] = defaultdict(lambda: defaultdict(float))
        copies = Counter(self.teacher[claim.source] for claim in self.claims[row])  # packets of one teacher are one
        best: dict[tuple[int, int | None], float] = defaultdict(float)
        for claim in self.claims[row]:
            lineage = self.lineage[claim.source]
            weight[lineage][claim.output] += max(claim.confidence, 1e-6) / copies[self.teacher[claim.source]]
            best[lineage, claim.output] = max(best[lineage, claim.output], claim.confidence)
        return {
            k: {output: (w / sum(by.values()), best[k, output]) for output, w in by.items()} for k, by in weight.items()
        }

    def order(self, output: int | None) -> tuple[int, ...]:
        """Decides what nothing else does, by the symbol's text alone."""
        return () if output is None else tuple(-ord(c) for c in self.symbols[output])


def decide(rows: Rows, method: Method, prefer: int | None) -> list[Decided]:
    """The output of each row. Dawid-Skene of fewer than three lineages is "confidence".

    Args:
        prefer: the source that has its way under "prefer".

    Raises:
        SpecError: Dawid-Skene needs the extra m2kt[merge].
    """
    # of two workers nobody can tell which one is right more often
    enough = len(set(rows.lineage)) >= MIN_WORKERS
    estimated = _dawid_skene(rows) if method == "dawid-skene" and enough else {}
    return [_decide(rows, row, method, prefer, estimated.get(row, {})) for row in range(len(rows.claims))]


def _decide(rows: Rows, row: int, method: Method, prefer: int | None, estimated: dict[int, float]) -> Decided:
    votes = rows.votes(row)
    count: dict[int | None, float] = defaultdict(float)
    pool: dict[int | None, float] = defaultdict(float)
    for by_output in votes.values():
        for output, (share, confidence) in by_output.items():
            count[output] += share
            pool[output] += share * confidence / len(votes)
    by_count = sorted(count, key=lambda o: (count[o], pool[o], rows.order(o)), reverse=True)
    by_pool = sorted(count, key=lambda o: (pool[o], count[o], rows.order(o)), reverse=True)
    if len(count) == 1:
        return Decided(by_pool, pool[by_pool[0]])
    if method == "prefer":
        for claim in rows.claims[row]:
            if claim.source == prefer:
                first = claim.output
                return Decided([first, *(o for o in by_pool if o != first)], claim.confidence)
    if method == "dawid-skene" and estimated:
        by_estimate = sorted(
            count, key=lambda o: (estimated.get(-1 if o is None else o, 0.0), *_rank(by_pool, o)), reverse=True
        )
        first = by_estimate[0]
        return Decided(by_estimate, estimated.get(-1 if first is None else first, 0.0))
    if method in ("vote", "keep"):
        share = count[by_count[0]] / len(votes)
        return Decided(by_count, share, decided=method == "vote")
    return Decided(by_pool, pool[by_pool[0]])


def _rank(ordered: list[int | None], output: int | None) -> tuple[int]:
    return (-ordered.index(output),)


def _dawid_skene(rows: Rows) -> dict[int, dict[int, float]]:
    """By row and output the probability by Dawid-Skene, whose workers are lineages and whose tasks are all rows.

    With one reliability a worker: a table has too few rows for a confusion matrix of its symbols.
    """
    try:
        import pandas as pd
        from crowdkit.aggregation import OneCoinDawidSkene
    except ImportError as error:
        raise SpecError(
            "--resolve dawid-skene needs crowd-kit: pip install 'm2kt[merge]', or choose another method"
        ) from error
    answers = [
        (row, lineage, -1 if output is None else output)
        for row in range(len(rows.claims))
        for lineage, by in rows.votes(row).items()
        for output in [max(by, key=lambda o, by=by: (by[o], rows.order(o)))]  # type: ignore[misc]
    ]
    frame = pd.DataFrame(answers, columns=["task", "worker", "label"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crowd-kit calls pandas in ways that newer ones deprecate
        probability = OneCoinDawidSkene(n_iter=ITERATIONS).fit_predict_proba(frame)
    return {
        int(row): {int(label): float(p) for label, p in by_label.items() if p == p}
        for row, by_label in probability.to_dict(orient="index").items()
    }

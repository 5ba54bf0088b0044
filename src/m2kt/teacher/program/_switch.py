"""Which of a few places is copied, where each is right on some steps only and on every step one of them.

So is a line written that is another one with a change: before it the same unit, behind it the one before or after. A
step on which several places are right does not say which was meant, and counts for none of them.
Letters: N rows, A places that may be copied, C candidates, Q questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._pointers import Case, Decision, Mask, Relation, Test, WriteCopy, WriteLiteral, WriteRule, with_leaves
from m2kt.probes import MASK
from m2kt.teacher.program._actions import CHANCE_BITS, RuleSearch
from m2kt.teacher.program._candidates import Column, distinct
from m2kt.teacher.program._columns import Columns
from m2kt.teacher.program._evaluate import Evaluator
from m2kt.teacher.program._state import StateRows
from m2kt.teacher.program._tests import Questions
from m2kt.teacher.program._traces import NONE, Search
from m2kt.teacher.program._trees import entropy_bits, join

LEAST_COPIED = 0.12  # share of the steps that a place must be right on
COST_SHARE = 0.01  # and more of them for each unit of its cost
MOST_ROWS, MORE_ROWS, MAX_REPAIRS = 1500, 250, 6  # on which a decision is learnt; those it gets wrong join, so often
MAX_BEST, MAX_COVERS, MAX_GROWN = 8, 60, 6
ASKED_NEAR, ASKED_MARKS, ASKED_ORDER = 14, 60, 200  # cheapest candidates that are asked about
ARGUMENTS = 16  # of these, those that may be arguments of a table
MAX_DEPTH, MAX_TRIED = 4, 5
LEAST_TOLD = 4  # steps on which a place is the only one that is right
MAX_ARITY, MAX_RULE_ARITY = 2, 3
MAX_COPIED = 2  # places beside a table
Bools = NDArray[np.bool_]


def which_copied(
    state: StateRows,
    columns: Columns,
    chosen: NDArray[np.intp],
    sample: NDArray[np.intp],
    lead: str,
    rules: list[int] | None,
    rng: np.random.Generator,
) -> Decision | None:
    """Which of a few places is copied; None where no few are right, or nothing tells when each is meant.

    Args:
        columns: the candidates of a sample.
        chosen: the sample: rows of the state.
        sample: of these, those that write the mask.
        rules: the arity of each rule so far: on steps where no place is right a new one is applied. None: one is right
            on every step.
    """
    every = np.flatnonzero(state.label_N == state.label_N[chosen[sample[0]]])
    return _learnt(
        every,
        chosen[sample],
        rng,
        lambda some: Switch(state, columns, some).copied(sample, lead, rules),
        lambda found: np.intersect1d(state.wrong(found), every),
    )


def which_mask(
    state: StateRows,
    columns: Columns,
    chosen: NDArray[np.intp],
    contents: dict[int, Decision],
    rng: np.random.Generator,
) -> Decision | None:
    """Which mask is written, where it takes questions and tables together; None where nothing tells.

    Args:
        contents: the decision behind each label.
    """
    stand_ins: dict[int, Decision] = {label: WriteLiteral(text=f"{label}") for label in contents}
    every = np.arange(len(state.rows))

    def wrong(found: Decision) -> NDArray[np.intp]:
        missed = []
        for leaf, rows in state.all.leaves(found, every):
            label = int(leaf.text) if isinstance(leaf, WriteLiteral) else -1
            missed.append(rows[state.label_N[rows] != label])
        return np.concatenate(missed)

    found = _learnt(every, chosen, rng, lambda some: Switch(state, columns, some).labelled(stand_ins), wrong)
    # Every leaf is a stand-in's.
    return None if found is None else with_leaves(found, lambda leaf: contents[int(cast(WriteLiteral, leaf).text)])


def _learnt(
    every: NDArray[np.intp],
    sample: NDArray[np.intp],
    rng: np.random.Generator,
    learn: Callable[[NDArray[np.intp]], Decision | None],
    wrong: Callable[[Decision], NDArray[np.intp]],
) -> Decision | None:
    """What is learnt on some of these rows, and on those that it gets wrong, until there are none."""
    some = np.union1d(rng.permutation(every)[:MOST_ROWS], sample)
    for _ in range(MAX_REPAIRS):
        found = learn(some)
        missed = np.empty(0, dtype=np.intp) if found is None else wrong(found)
        if not len(missed):
            return found
        some = np.union1d(some, missed[rng.permutation(len(missed))[:MORE_ROWS]])
    return None


def covers(fits_CR: Bools, cost_C: NDArray[np.float64]) -> list[tuple[int, ...]]:
    """Two or three candidates of which one is right on every row, cheap ones first."""
    net_C = fits_CR.mean(1) - COST_SHARE * cost_C
    best = [c for c in np.argsort(-net_C, kind="stable")[:MAX_BEST].tolist() if net_C[c] > 0]
    found: dict[tuple[int, ...], float] = {}

    def complete(chosen: tuple[int, ...], left_R: Bools) -> None:
        for c in np.flatnonzero(fits_CR[:, left_R].all(1)).tolist():
            cover = tuple(sorted({*chosen, c}, key=lambda i: (cost_C[i], i)))
            found[cover] = float(cost_C[list(cover)].sum()) + 4.0 * len(cover)

    for a in best:
        left_R = ~fits_CR[a]
        complete((a,), left_R)
        gain_C = fits_CR[:, left_R].mean(1) - COST_SHARE * cost_C
        for b in np.argsort(-gain_C, kind="stable")[:MAX_BEST].tolist():
            if fits_CR[b, left_R].any():
                complete((a, b), left_R & ~fits_CR[b])
    return sorted(found, key=lambda cover: (found[cover], cover))[:MAX_COVERS]


def _covering(fits_CR: Bools, cost_C: NDArray[np.float64]) -> list[int]:
    """The candidates that are right on most rows: each on most that those before it are not."""
    chosen: list[int] = []
    left_R = np.ones(fits_CR.shape[1], dtype=bool)
    while left_R.any() and len(chosen) < MAX_COPIED:
        c = int((fits_CR[:, left_R].sum(1) / fits_CR.shape[1] - COST_SHARE * cost_C).argmax())
        if c in chosen:
            break
        chosen.append(c)
        left_R &= ~fits_CR[c]
    return chosen


class Switch:
    """The search for what tells when each of a few things is done.

    Args:
        columns: the candidates of a sample.
        every: the state's rows on which the decision is learnt.
    """

    def __init__(self, state: StateRows, columns: Columns, every: NDArray[np.intp]) -> None:
        self.state, self.columns, self.n_rows = state, columns, len(every)
        self._cheap: dict[int, list[Column]] = {}
        self.rows = state.rows.take(every)
        self.looked = {s: [p[every] for p in places] for s, places in state.looked.items()}
        self.evaluator = Evaluator(Search(state.traces, self.rows), self.looked)
        self.written_N, self.label_N = state.written_N[every], state.label_N[every]

    def copied(self, sample: NDArray[np.intp], lead: str, rules: list[int] | None) -> Decision | None:
        """Which of a few places is copied, or what else is written."""
        upto, cost_C = self.columns.upto(2), self.columns.costs(2)
        search = self.columns.search
        fits_CR = self.columns.units(np.arange(len(upto)), sample) == search.traces.written(search.rows)[sample]
        usable = distinct(np.flatnonzero(fits_CR.mean(1) >= LEAST_COPIED), cost_C, fits_CR)
        if not usable:
            return None
        if rules is not None:
            best = [upto[usable[c]] for c in _covering(fits_CR[usable], cost_C[usable])]
            beside = (self._with_rule(best[:n], lead, rules) for n in range(1, len(best) + 1))
            return next((found for found in beside if found is not None), None)
        n_grown = 0
        for cover in covers(fits_CR[usable], cost_C[usable]):
            places = [upto[usable[c]] for c in cover]
            fits_AN = np.stack([self.evaluator.unit(c.pointer) == self.written_N for c in places])
            if fits_AN.any(0).all():
                copies: list[Decision] = [WriteCopy(source=c.pointer, lead=lead) for c in places]
                found, n_grown = self._choose(copies, fits_AN, places), n_grown + 1
                if found is not None or n_grown == MAX_GROWN:
                    return found
        return None

    def _with_rule(self, places: list[Column], lead: str, rules: list[int]) -> Decision | None:
        """A few places are copied; where none of them is right, it is a table."""
        fits_AN = np.stack([self.evaluator.unit(c.pointer) == self.written_N for c in places])
        left = np.flatnonzero(~fits_AN.any(0))
        arguments = _once([*places, *self._cheapest(1, ASKED_MARKS)])
        looked = {s: [p[left] for p in where] for s, where in self.looked.items()}
        if not len(left):
            return None
        evaluator = Evaluator(Search(self.state.traces, self.rows.take(left)), looked)
        sources = RuleSearch(evaluator, arguments, 0, self.written_N[left]).find(MAX_RULE_ARITY)
        if sources is None:
            return None
        name_NA = np.stack([self.evaluator.unit(c.pointer) for c in sources], 1)
        table = dict(zip(map(tuple, name_NA[left].tolist()), self.written_N[left].tolist(), strict=True))
        said_N = np.array([table.get(row, NONE) for row in map(tuple, name_NA.tolist())])
        rule = WriteRule(rule=len(rules), sources=[c.pointer for c in sources], lead=lead)
        actions: list[Decision] = [*(WriteCopy(source=c.pointer, lead=lead) for c in places), rule]
        found = self._choose(actions, np.concatenate([fits_AN, [said_N == self.written_N]]), places)
        if found is not None:
            rules.append(len(sources))
        return found

    def labelled(self, contents: dict[int, Decision]) -> Decision | None:
        """Which mask is written."""
        fits_AN = np.stack([self.label_N == label for label in contents])
        return self._choose(list(contents.values()), fits_AN, [])

    def _choose(self, actions: list[Decision], fits_AN: Bools, about: list[Column]) -> Decision | None:
        """Which action is done.

        Args:
            fits_AN: where each is right.
            about: places that are asked about first.
        """
        self.actions, self.fits_AN = actions, fits_AN
        self._ask(about)
        return self._grow(np.arange(self.n_rows), tuple(range(len(actions))), MAX_DEPTH)

    def _ask(self, about: list[Column]) -> None:
        """The questions: about places that may be copied, near units, and others by cost."""
        near, marks = self._cheapest(0, ASKED_NEAR), self._cheapest(1, ASKED_MARKS)
        self.arguments = _once([*about, *near[:ARGUMENTS], *marks[:ARGUMENTS]])
        asked = _once([*about, *near, *marks, *(self._cheapest(2, ASKED_ORDER) if about else [])])
        name_CN = np.stack([self.evaluator.unit(c.pointer) for c in asked])
        place_CN = np.stack([self.evaluator.place(c.pointer) for c in asked])
        traces, n_near = self.state.traces, len(self.columns.upto(0))
        self.questions = Questions(traces, asked, name_CN, place_CN, n_near, range(len(about)))
        self.answer_QN = self.questions.answer_QN > 0

    def _cheapest(self, stage: int, most: int) -> list[Column]:
        """Candidates of the first stages by cost, of those that find the same units one."""
        if stage not in self._cheap:
            upto = self.columns.upto(2)
            self._cheap[stage] = [upto[c] for c in self.columns.distinct(stage, most)[0]]
        return self._cheap[stage]

    # -- the tree ---------------------------------------------------------------------------------------------------
    def _grow(self, rows: NDArray[np.intp], places: tuple[int, ...], depth: int) -> Decision | None:
        """Which action is done on these rows."""
        fits_AR = self.fits_AN[list(places)][:, rows]
        right = [a for a, fits_R in zip(places, fits_AR, strict=True) if fits_R.all()]
        if right:
            return self.actions[right[0]]  # the cheapest: they come by cost
        if depth == 0 or not fits_AR.any(0).all():
            return None
        told = []
        for i, a in enumerate(places):
            alone_R = fits_AR[i] & ~np.delete(fits_AR, i, 0).any(0)
            if alone_R.sum() >= LEAST_TOLD:
                told.append((a, alone_R, ~fits_AR[i]))
        for a, alone_R, not_R in told:
            found = self._apart(rows, places, depth, a, alone_R, not_R)
            if found is not None:
                return found
        for a, alone_R, not_R in told:
            found = self._related(rows, places, depth, a, alone_R, not_R)
            if found is not None:
                return found
        return self._split(rows, places, depth, [alone_R for _, alone_R, _ in told])

    def _apart(
        self, rows: NDArray[np.intp], places: tuple[int, ...], depth: int, a: int, alone_R: Bools, not_R: Bools
    ) -> Decision | None:
        """One question that tells when an action is done."""
        if not _bits(alone_R, not_R) >= CHANCE_BITS + np.log2(max(2, len(self.questions.list))):
            return None
        answer_QR = self.answer_QN[:, rows]
        yes_Q: Bools = np.asarray(~answer_QR[:, not_R].any(1) & answer_QR[:, alone_R].all(1))
        no_Q: Bools = np.asarray(~answer_QR[:, alone_R].any(1) & answer_QR[:, not_R].all(1))
        telling = np.flatnonzero(yes_Q | no_Q)
        for q in telling[np.argsort(self.questions.cost_Q[telling], kind="stable")][:MAX_TRIED].tolist():
            inside_R = answer_QR[q] if yes_Q[q] else ~answer_QR[q]
            this = self._grow(rows[inside_R], (a,), 0)
            others = self._grow(rows[~inside_R], tuple(p for p in places if p != a), depth - 1)
            if this is not None and others is not None:
                return join(self.questions, q, *((this, others) if yes_Q[q] else (others, this)))
        return None

    def _related(
        self, rows: NDArray[np.intp], places: tuple[int, ...], depth: int, a: int, alone_R: Bools, not_R: Bools
    ) -> Decision | None:
        """A table over a few symbols that tells when an action is done."""
        told_R = alone_R | not_R
        chosen, label_N = rows[told_R], alone_R[told_R].astype(np.int32)
        looked = {s: [p[chosen] for p in where] for s, where in self.looked.items()}
        evaluator = Evaluator(Search(self.state.traces, self.rows.take(chosen)), looked)
        search = RuleSearch(evaluator, self.arguments, 0, label_N)
        relation = search.relation(MAX_ARITY)
        if relation is None:
            return None
        name_RA = np.stack([self.evaluator.unit(pointer)[rows] for pointer in relation.of], 1)
        symbol_RA: Bools = np.asarray((name_RA >= 0) & (name_RA < self.state.traces.n_symbols))
        table, left_R = dict(zip(relation.rows, relation.finds, strict=True)), np.asarray(symbol_RA.all(1))
        for row in map(tuple, name_RA[np.flatnonzero(left_R)].tolist()):
            table.setdefault(row, 1)  # several are right there
        meant_R = left_R.copy()
        meant_R[left_R] = [table[row] == 1 for row in map(tuple, name_RA[np.flatnonzero(left_R)].tolist())]
        this = self._grow(rows[meant_R], (a,), 0)
        others = self._grow(rows[left_R & ~meant_R], tuple(p for p in places if p != a), depth - 1)
        if this is None or others is None:
            return None
        known = sorted(table)
        ask = Relation(of=relation.of, rows=tuple(known), finds=tuple(table[row] for row in known))
        found: Decision = Test(ask=ask, cases=[Case(values=[0], then=others), Case(values=[1], then=this)])
        before_R = np.ones(len(rows), dtype=bool)
        for pointer, symbol_R, name_R in zip(relation.of, symbol_RA.T, name_RA.T, strict=True):
            lacking_R = before_R & ~symbol_R
            before_R &= symbol_R
            if lacking_R.any():
                without = self._grow(rows[lacking_R], places, depth - 1)
                if without is None:
                    return None
                classes = np.unique(self.state.traces.class_S[name_R[symbol_R]]).tolist()
                cases = [Case(values=[f"{MASK}{c}" for c in classes], then=found)]
                found = Test(ask=Mask(at=pointer), cases=cases, otherwise=without)
        return found

    def _split(
        self, rows: NDArray[np.intp], places: tuple[int, ...], depth: int, alone: Sequence[Bools]
    ) -> Decision | None:
        """A question after which less is open."""
        if len(alone) < 2 or not len(self.questions.list):
            return None
        label_LR = np.stack(alone).astype(np.float32)
        answer_QR = self.answer_QN[:, rows].astype(np.float32)
        yes_QL = answer_QR @ label_LR.T
        all_L = label_LR.sum(1)
        saved_Q = (
            entropy_bits(all_L[None])[0] - entropy_bits(yes_QL) - entropy_bits(all_L - yes_QL) - self.questions.cost_Q
        )
        for q in np.argsort(-saved_Q, kind="stable")[:MAX_TRIED].tolist():
            if saved_Q[q] <= 0:
                break
            inside_R = answer_QR[q] > 0
            yes = self._grow(rows[inside_R], places, depth - 1) if 0 < inside_R.sum() < len(rows) else None
            no = None if yes is None else self._grow(rows[~inside_R], places, depth - 1)
            if yes is not None and no is not None:
                return join(self.questions, q, yes, no)
        return None


def _once(columns: Sequence[Column]) -> list[Column]:
    return list({column.index: column for column in columns}.values())


def _bits(alone_R: Bools, not_R: Bools) -> float:
    """What it takes to say by chance when a place is meant."""
    return float(entropy_bits(np.array([[alone_R.sum(), not_R.sum()]], dtype=np.float32))[0])

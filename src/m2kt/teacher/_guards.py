"""Guarded choices: small decision trees over earlier symbols whose leaves copy, write structure, or apply a known rule.

Legend: N samples, M of them at a branch, P earlier units, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Case, Decision, Guard, WriteCopy, WriteLiteral, WriteRule
from m2kt.teacher._view import Ints, NodeData, RuleSet, argument_candidates, slips

Counts = NDArray[np.float32]  # for products; whole numbers
MAX_LEAVES = 10  # of a guard
MAX_DEPTH = 8
LOOK_AHEAD = 3  # tests followed down
LOOK_DEPTH = 3  # below it only the best test is


@dataclass
class Action:
    decision: WriteLiteral | WriteCopy | WriteRule
    fits_N: NDArray[np.bool_]
    rank: float  # preferred among equally fitting ones


def guarded(
    view: NodeData, book: RuleSet, avoid: frozenset[int], max_leaves: int, slack: int
) -> Decision | None:
    """A small decision tree over earlier symbols whose leaves copy, write structure, or apply a known rule.

    This is what answers of variable length need: "if the first digit is 0, go on with the next one" is two leaves
    here and thousands of rows as a table (DESIGN section 9).
    """
    if max_leaves < 2 or view.n < 2:
        return None
    grown = smallest(view, _actions(view, book, avoid), max_leaves, slack)
    if grown is not None:
        _learn_leaves(view, grown, np.arange(view.n), book)
    return grown


def _actions(view: NodeData, book: RuleSet, avoid: frozenset[int]) -> list[Action]:
    actions: list[Action] = []
    leads = {lead for lead, symbol in zip(view.lead_N, view.symbol_N.tolist(), strict=True) if symbol >= 0}
    for text in sorted({t for t, s in zip(view.text_N, view.symbol_N.tolist(), strict=True) if s < 0}):
        fits = np.array(
            [t == text and s < 0 for t, s in zip(view.text_N, view.symbol_N.tolist(), strict=True)]
        )
        actions.append(Action(WriteLiteral(text=text), fits, 1e6))
    lead_N = np.array(view.lead_N)
    for lead in sorted(leads):
        here = (lead_N == lead) & (view.symbol_N >= 0)
        follow = np.nan_to_num(view.follow_P, nan=0.0)
        for p in range(view.columns_NP.shape[1]):
            fits = here & (view.columns_NP[:, p] == view.symbol_N)
            if fits.any():
                actions.append(Action(WriteCopy(source=p, lead=lead), fits, 100 * float(follow[p]) + p / 1e3))
        # Tuples that this template already uses may serve again, under a condition.
        for sources in book.used:
            if max(sources) >= view.columns_NP.shape[1]:
                continue
            for index, rule in enumerate(book.rules):
                if index not in avoid and rule.arity == len(sources) and rule.table:
                    fits = here & (rule.look_up([view.columns_NP[:, s] for s in sources]) == view.symbol_N)
                    if fits.sum() >= 5:
                        step = WriteRule(rule=index, sources=list(sources), lead=lead)
                        actions.append(Action(step, fits, -1e6))
    return actions


def smallest(view: NodeData, actions: list[Action], max_leaves: int, slack: int) -> Decision | None:
    """A small tree that fits every sample; failing that, one that leaves out what may be slips and is not systematic.

    Causes are tested before the rest: a unit may decide without being read, where the teacher reads what decided it.
    """
    distinct: dict[bytes, Action] = {}
    for action in sorted(actions, key=lambda a: a.rank):
        distinct[action.fits_N.tobytes()] = action
    actions, rows = list(distinct.values()), np.arange(view.n)
    for seen in (view, view.blind()):
        _, effect_of = argument_candidates(seen, constants=False)
        for tolerance in (_strict, _lenient) if slack else (_strict,):
            tree = _Search(view, actions, tolerance).grow(rows, effect_of, max_leaves)
            if tree is not None:
                wrong_N = ~_fitted(view, tree, actions, rows)
                if wrong_N.sum() <= slack and not view.systematic(wrong_N):
                    return tree
    return None


def _strict(n: int) -> int:
    return 0


def _lenient(n: int) -> int:
    return 1 + slips(n) if n >= 10 else 0


def _fitted(
    view: NodeData, tree: Decision, actions: list[Action], rows: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Which samples the tree accounts for."""
    fitted_N = np.zeros(view.n, dtype=bool)
    if isinstance(tree, Guard):
        for case in tree.cases:
            inside = rows[np.isin(view.columns_NP[rows, tree.source], case.values)]
            fitted_N |= _fitted(view, case.then, actions, inside)
    else:
        fits_N = next(a.fits_N for a in actions if a.decision is tree)
        fitted_N[rows] = fits_N[rows]
    return fitted_N


@dataclass
class _Search:
    """For the smallest tree under a look-ahead, of the actions that fit these samples."""

    view: NodeData
    actions: list[Action]
    tolerance: Callable[[int], int]
    """How many of so many samples may not fit."""

    @cached_property
    def _fits_AN(self) -> Counts:
        return np.array([a.fits_N for a in self.actions], dtype=np.float32)

    def grow(
        self, rows: NDArray[np.intp], effect_of: dict[int, float], leaves: int, depth: int = 0
    ) -> Decision | None:
        """The tree for ``rows``, of at most so many leaves.

        A unit is tested once on a path: to test it again is to search in a table, which belongs to a rule.
        """
        if not self.actions:
            return None
        fits_AM = self._fits_AN[:, rows]
        fitting_A = fits_AM.sum(axis=1)
        covering = np.flatnonzero(len(rows) - fitting_A <= self.tolerance(len(rows)))
        if len(covering):
            best_one = max(covering.tolist(), key=lambda a: (int(fitting_A[a]), self.actions[a].rank))
            return self.actions[best_one].decision
        if depth == MAX_DEPTH or leaves < 2:
            return None
        ranked = []
        for p in effect_of:
            column = self.view.columns_NP[rows, p]
            if (column == column[0]).all():
                continue
            groups, lost = _group_values(column, fits_AM, self.tolerance)
            if 1 < len(groups) <= leaves:
                n_values = sum(map(len, groups))
                ranked.append(((lost, len(groups), n_values, -effect_of[p], -p), groups))
        # A little look-ahead: the best few tests are followed down, the smallest tree wins.
        best: tuple[int, Decision] | None = None
        # Of equally good tests the one with fewest values, then the strongest cause, then the nearest unit.
        for rank, groups in sorted(ranked, key=lambda r: r[0])[: LOOK_AHEAD if depth < LOOK_DEPTH else 1]:
            source = -int(rank[-1])
            others = {p: effect for p, effect in effect_of.items() if p != source}
            cases = []
            room = (
                (leaves if best is None else best[0] - 1) - len(groups) + 1
            )  # for this branch; the others take one
            column = self.view.columns_NP[rows, source]
            for values in groups:
                branch = self.grow(rows[np.isin(column, values)], others, room, depth + 1)
                if branch is None:
                    break
                room -= size(branch) - 1
                cases.append(Case(values=sorted(values), then=branch))
            else:
                _generalise(cases, self.view.support[source])
                tree = Guard(source=source, cases=cases)
                if best is None or size(tree) < best[0]:
                    best = (size(tree), tree)
        return best[1] if best else None


def _generalise(cases: list[Case], support: frozenset[int]) -> None:
    """ "0, or anything else": values not yet met here join the one branch that holds several, if there is one.

    A guess, which the following rounds of probing test like everything else.
    """
    several = [c for c in cases if len(c.values) >= 3]
    if len(several) == 1 and all(len(c.values) == 1 for c in cases if c is not several[0]):
        taken = {v for c in cases for v in c.values}
        several[0].values = sorted({*several[0].values, *(support - taken)})


def _group_values(
    column: Ints, fits_AM: Counts, tolerance: Callable[[int], int]
) -> tuple[list[list[int]], int]:
    """Values that one action covers together are one branch; commonest values first, so that rare ones join them.

    Those that none covers are the last branch; beside the branches, how many samples its best action does not fit.
    """
    at_M = column + 1  # structure is -1
    count_V = np.bincount(at_M)
    first_V = np.zeros_like(count_V)
    first_V[at_M[::-1]] = np.arange(len(at_M))[::-1]
    fits_AV = fits_AM @ (at_M[:, None] == np.arange(len(count_V))).astype(np.float32)
    allowed_V = np.array([tolerance(n) for n in count_V.tolist()])
    # Which actions cover a value: a bit each.
    covers_V = [
        int.from_bytes(bits.tobytes()) for bits in np.packbits(count_V - fits_AV <= allowed_V, axis=0).T
    ]
    groups: list[tuple[list[int], int]] = []  # columns of V, actions that cover them all
    uncovered: list[int] = []
    for v in np.lexsort((first_V, -count_V))[: np.count_nonzero(count_V)].tolist():
        covers = covers_V[v]
        if not covers:
            uncovered.append(v)
            continue
        for i, (values, common) in enumerate(groups):
            if common & covers:
                groups[i] = ([*values, v], common & covers)
                break
        else:
            groups.append(([v], covers))
    branches = [[v - 1 for v in values] for values, _ in groups]
    if not uncovered:
        return branches, 0
    covered = int(fits_AV[:, uncovered].sum(axis=1).max())
    return [*branches, [v - 1 for v in uncovered]], int(count_V[uncovered].sum()) - covered


def size(decision: Decision) -> int:
    return sum(size(c.then) for c in decision.cases) if isinstance(decision, Guard) else 1


def _learn_leaves(view: NodeData, decision: Decision, rows: NDArray[np.intp], book: RuleSet) -> None:
    if isinstance(decision, Guard):
        for case in decision.cases:
            _learn_leaves(
                view, case.then, rows[np.isin(view.columns_NP[rows, decision.source], case.values)], book
            )
    elif isinstance(decision, WriteRule):
        book.rules[decision.rule].learn(view.columns_NP[rows][:, decision.sources], view.symbol_N[rows])

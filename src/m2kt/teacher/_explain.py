"""Explaining one step, simplest first: literal, copy, known rule, guarded choice, new rule.

Everything here is blind to what the symbols mean: a step is explained when what the teacher wrote is a function of
earlier symbols, on every sample that shares the masked prefix. Legend: N samples, P earlier units, S symbols.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Case, Decision, Guard, WriteCopy, WriteLiteral, WriteRule
from m2kt.teacher._guards import MAX_LEAVES, Action, guarded, smallest
from m2kt.teacher._view import (
    ENOUGH,
    MAX_CANDIDATES,
    DraftRule,
    NodeData,
    RuleSet,
    argument_candidates,
    row_numbers,
)

MAX_ARITY = 4
ROWS_PER_LEAF = 8  # a guard must be this much smaller than the table it replaces
SAMPLES_PER_LEAF = 12  # fewer do not tell a guard from a coincidence
MAX_CELLS = 1 << 20  # looked up at once
SUBSAMPLE = 24  # rows on which tuples are tried before all rows are: few, for all tuples are


def explain(view: NodeData, book: RuleSet, *, avoid: frozenset[int] = frozenset()) -> Decision | None:
    """The simplest decision that accounts for the node, or None. New rules are added to ``book``.

    ``avoid``: rules that must not be used (needed when rules are merged).
    """
    for slack in sorted({0, view.slack()}):
        found = literal(view, slack) or copy(view, slack) or known_rule(view, book, slack, avoid, share=0.9)
        if found is not None:
            return found
    arguments, slipped = new_rule_arguments(view, book)
    shown = min(MAX_LEAVES, max(2, view.n // SAMPLES_PER_LEAF))
    small = shown if arguments is None else min(shown, _table_size(view, arguments) // ROWS_PER_LEAF)
    guard = guarded(view, book, avoid, small, view.slack() if arguments is None else slipped)
    if guard is None and slipped and small < shown:
        # What fits every sample is better than a table with exceptions, however small that is.
        guard = guarded(view, book, avoid, shown, 0)
    if guard is not None:
        return guard
    # A rule of which this place shows many new rows: believed only after no small choice fitted.
    partly = known_rule(view, book, view.slack(), avoid, share=0.4)
    if partly is not None:
        return partly
    if arguments is not None:
        rule = DraftRule(len(arguments))
        book.rules.append(rule)
        return apply_rule(view, book, len(book.rules) - 1, arguments)
    return mixed(view, book, avoid)


def apply_rule(view: NodeData, book: RuleSet, rule: int, sources: tuple[int, ...]) -> WriteRule:
    """Applies ``rule`` here: its table learns this node's rows."""
    book.rules[rule].learn(view.columns_NP[:, list(sources)], view.symbol_N)
    book.used[sources] += 1
    return WriteRule(rule=rule, sources=list(sources), lead=view.lead_N[0])


# -- the simple explanations ------------------------------------------------------------------------------------------
def literal(view: NodeData, slack: int) -> WriteLiteral | None:
    """The step never varies. A symbol seen only a few times is not yet a literal: it may be a copy."""
    text = Counter(view.text_N).most_common(1)[0][0]
    if not _accounts(view, np.array([t != text for t in view.text_N]), slack):
        return None
    i = view.text_N.index(text)
    symbol = int(view.symbol_N[i])
    if symbol < 0:
        return WriteLiteral(text=text)
    if view.n < 5 and copy(view, 0) is not None:
        return None
    return WriteLiteral(text=text, symbol=symbol, lead=view.lead_N[i])


def copy(view: NodeData, slack: int) -> WriteCopy | None:
    """The step repeats one earlier unit; among several, the one that causes it, then the nearest."""
    if not _one_lead(view) or not view.columns_NP.shape[1]:
        return None
    wrong_NP = view.columns_NP != view.symbol_N[:, None]
    wrong_P = wrong_NP.sum(axis=0)
    candidates = np.flatnonzero(wrong_P == wrong_P.min())
    if not _accounts(view, wrong_NP[:, candidates[-1]], slack):
        return None
    follow = np.nan_to_num(view.follow_P[candidates], nan=0.0)
    if view.n < ENOUGH:
        if follow.max() > 0:
            candidates = candidates[follow >= 0.5 * follow.max()]
        elif (
            not np.isnan(view.follow_P[candidates]).any()
            and np.nan_to_num(view.effect_P, nan=0.0).max() > 0.3
        ):
            return None  # equal by chance: other units change this step, these do not
    return WriteCopy(source=int(candidates.max()), lead=view.lead_N[0])


def _accounts(view: NodeData, wrong_N: NDArray[np.bool_], slack: int) -> bool:
    """Few enough samples disagree, and nothing tells which."""
    wrong = int(wrong_N.sum())
    return wrong == 0 or (wrong <= slack and not view.systematic(wrong_N))


def known_rule(
    view: NodeData, book: RuleSet, slack: int, avoid: frozenset[int] = frozenset(), share: float = 0.4
) -> WriteRule | None:
    """A rule already found says what is written here, for some ordered tuple of earlier units.

    ``share``: how many samples must meet a row that the rule already has. Of the units that decide the
    step most, one must be among the arguments: agreement without any is a coincidence.
    """
    if not _one_lead(view) or view.n < 3 or len(set(view.symbol_N.tolist())) < 2:
        return None
    candidates, effect_of = argument_candidates(view, constants=True)
    strongest = max(effect_of.values(), default=0.0)
    must = {c for c in candidates if effect_of[c] >= 0.5 * strongest} if strongest > 0.3 else set(candidates)
    found = _best_tuple(view, book, slack, avoid, share, candidates, effect_of, must)
    if found is None and share >= 0.9 and view.n >= ENOUGH:
        # Nearly every row is known and none contradicted: that is evidence enough without a cause.
        blind, none = argument_candidates(view.blind(), constants=True)
        found = _best_tuple(view, book, slack, avoid, share, blind, none, set(blind))
    return None if found is None else apply_rule(view, book, *found)


def _best_tuple(
    view: NodeData,
    book: RuleSet,
    slack: int,
    avoid: frozenset[int],
    share: float,
    candidates: list[int],
    effect_of: dict[int, float],
    must: set[int],
) -> tuple[int, tuple[int, ...]] | None:
    best: tuple[tuple[float, ...], int, tuple[int, ...]] | None = None
    for index, rule in enumerate(book.rules):
        if index in avoid or not rule.table or rule.arity > len(candidates):
            continue
        # What it never writes it does not say, and it must say what is written on all samples of its share but few
        # (and but for rounding).
        if np.count_nonzero(rule.writes(view.symbol_N)) < share * view.n - slack - 1e-9:
            continue
        for sources, known, wrong in _fitting_tuples(view, rule, candidates, slack, share, must):
            score = (
                -round(wrong, 2),
                round(known, 1),
                float(book.used[sources] > 0),
                float(list(sources) == sorted(sources)),
                round(sum(effect_of[s] for s in sources), 1),
                float(sum(sources)),
            )
            if best is None or score > best[0]:
                best = (score, index, sources)
    return None if best is None else (best[1], best[2])


@lru_cache
def _few_of(n: int) -> NDArray[np.intp]:
    return np.linspace(0, n - 1, min(SUBSAMPLE, n)).astype(np.intp)


def _fitting_tuples(
    view: NodeData, rule: DraftRule, candidates: Sequence[int], slack: int, share: float, must: set[int]
) -> Iterator[tuple[tuple[int, ...], float, float]]:
    """Ordered tuples for which the rule speaks: with the shares of samples whose row it has, and that disagree."""
    few = _few_of(view.n)
    # All tuples at once on a few samples: one axis of candidates an argument, samples last.
    column_CN = view.columns_NP[few].T[candidates]
    shape_AA = np.where(np.eye(rule.arity, dtype=bool), len(candidates), 1).tolist()
    said = rule.look_up([column_CN.reshape(*shape_A, len(few)) for shape_A in shape_AA])
    known = said >= 0
    wrong = np.count_nonzero(known & (said != view.symbol_N[few]), axis=-1)
    fine = (wrong <= slack) & (np.count_nonzero(known, axis=-1) >= 0.25 * share * len(few))
    tuples = [tuple(candidates[c] for c in chosen) for chosen in np.argwhere(fine).tolist()]
    tuples = [t for t in tuples if len(set(t)) == rule.arity and not must.isdisjoint(t)]
    at_once = max(1, MAX_CELLS // view.n)
    for first in range(0, len(tuples), at_once):
        some = tuples[first : first + at_once]
        said_TN = rule.look_up([view.columns_NP.T[list(column)] for column in zip(*some, strict=True)])
        wrong_TN = (said_TN >= 0) & (said_TN != view.symbol_N)
        known_T = (said_TN >= 0).mean(axis=1).tolist()
        for sources, known, wrong_N in zip(some, known_T, wrong_TN, strict=True):
            if known >= share and _accounts(view, wrong_N, slack):
                yield sources, known, float(wrong_N.mean())


def new_rule_arguments(view: NodeData, book: RuleSet) -> tuple[tuple[int, ...] | None, int]:
    """The smallest set of earlier units of which the step is a function, and how many samples it leaves as slips.

    Causes are tried before the rest.
    """
    if not _one_lead(view) or view.n < 3:
        return None, 0
    candidates, effect_of = argument_candidates(view, constants=False)
    for pool in (candidates, _all_candidates(view)):
        for arity in range(1, min(MAX_ARITY, len(pool)) + 1):
            found = []
            for subset in combinations(pool, arity):
                sources = tuple(sorted(subset))
                wrong_N, rows = _conflicts(view, sources)
                if wrong_N.sum() <= view.slack():
                    effect = round(sum(effect_of.get(s, 0.0) for s in sources), 1)
                    exact = -round(float(wrong_N.mean()), 2)
                    found.append(
                        ((exact, book.used[sources] > 0, effect, -rows, sum(sources)), sources, wrong_N)
                    )
            for _, sources, wrong_N in sorted(found, key=lambda f: f[0], reverse=True):
                if _accounts(view, wrong_N, view.slack()):
                    return sources, int(wrong_N.sum())
    return None, 0


def _all_candidates(view: NodeData) -> list[int]:
    """Every varying class, for steps that their causes do not explain: widened by how much a unit resolves."""
    candidates, _ = argument_candidates(view.blind(), constants=False)
    return sorted(candidates, key=lambda c: int(_conflicts(view, (c,))[0].sum()))[:MAX_CANDIDATES]


def _table_size(view: NodeData, sources: tuple[int, ...]) -> int:
    """Rows that a table over ``sources`` may have: every combination of the symbols seen at each."""
    return int(np.prod([len(np.unique(view.columns_NP[:, s])) for s in sources]))


def _conflicts(view: NodeData, sources: tuple[int, ...]) -> tuple[NDArray[np.bool_], int]:
    """(which samples disagree with the majority of their row, number of rows)."""
    row_N = row_numbers(view.columns_NP[:, list(sources)])
    out_N = row_numbers(view.symbol_N[:, None])
    count_RO = np.zeros((row_N.max() + 1, out_N.max() + 1), dtype=np.int64)
    np.add.at(count_RO, (row_N, out_N), 1)
    return count_RO.argmax(axis=1)[row_N] != out_N, len(count_RO)


def _one_lead(view: NodeData) -> bool:
    return bool((view.symbol_N >= 0).all()) and len(set(view.lead_N)) == 1


def mixed(view: NodeData, book: RuleSet, avoid: frozenset[int]) -> Decision | None:
    """Structure here, a rule's output there: first what decides between them, then each part by itself."""
    kinds = sorted({t if s < 0 else lead for t, s, lead in _written(view)})
    if len(kinds) < 2:
        return None
    kind_N = np.array([kinds.index(t if s < 0 else lead) for t, s, lead in _written(view)])
    actions = [Action(WriteLiteral(text=str(i)), kind_N == i, 0.0) for i in range(len(kinds))]
    tree = smallest(view, actions, MAX_LEAVES, view.slack())
    if not isinstance(tree, Guard):
        return None
    return _explain_leaves(view, tree, np.ones(view.n, dtype=bool), book, avoid)


def _written(view: NodeData) -> list[tuple[str, int, str]]:
    return list(zip(view.text_N, view.symbol_N.tolist(), view.lead_N, strict=True))


def _explain_leaves(
    view: NodeData, tree: Decision, here: NDArray[np.bool_], book: RuleSet, avoid: frozenset[int]
) -> Decision | None:
    if not isinstance(tree, Guard):
        return explain(view.at(here), book, avoid=avoid)
    cases = []
    for case in tree.cases:
        inside = here & np.isin(view.columns_NP[:, tree.source], case.values)
        then = _explain_leaves(view, case.then, inside, book, avoid)
        if then is None:
            return None
        cases.append(Case(values=case.values, then=then))
    return Guard(source=tree.source, cases=cases)

"""Explanation of one step, simplest first: literal, copy, known rule, guard, new rule.

Nothing here knows what symbols mean: a step is explained if what the teacher writes is a function of earlier symbols
on every sample that shares the masked prefix. Letters: N samples, U earlier units, A arguments, R rows, X argument
tuples, C candidates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._format1 import Case, Decision, Guard, WriteCopy, WriteLiteral, WriteRule
from m2kt.teacher._guards import MAX_LEAVES, Action, guarded, smallest_tree
from m2kt.teacher._node_data import (
    MAX_CANDIDATES,
    MIN_SAMPLES_FOR_COPIES,
    NodeData,
    argument_candidates,
    row_numbers,
)
from m2kt.teacher._rules import Arguments, DraftRule, RuleSet

MAX_ARITY = 4
ROWS_PER_LEAF = 8  # a guard must be this much smaller than the table it replaces
SAMPLES_PER_LEAF = 12  # fewer do not tell a guard from a coincidence
MIN_SAMPLES_FOR_RULE = 3
MIN_SAMPLES_FOR_LITERAL_SYMBOL = 5
CLEAR_EFFECT = 0.3  # from here on a unit is a cause of the step
MOSTLY_KNOWN = 0.9  # share of samples whose row a rule has: applied before guards are tried
PARTLY_KNOWN = 0.4  # applied after guards
MAX_CELLS = 1 << 20  # looked up at once
SUBSAMPLE = 24  # rows on which all argument tuples are tried before the fitting ones are tried on all rows


def explain(data: NodeData, rule_set: RuleSet, *, avoid: frozenset[int] = frozenset()) -> Decision | None:
    """The simplest decision that accounts for the node, or None. New rules are added to ``rule_set``.

    Args:
        avoid: rules that must not be used, when rules are merged.
    """
    for budget in sorted({0, data.error_budget()}):
        decision = (
            literal(data, budget) or copy(data, budget) or known_rule(data, rule_set, budget, avoid, share=MOSTLY_KNOWN)
        )
        if decision is not None:
            return decision
    arguments, n_wrong = new_rule_arguments(data, rule_set)
    supported = min(MAX_LEAVES, max(2, data.n // SAMPLES_PER_LEAF))
    smaller = supported if arguments is None else min(supported, _table_size(data, arguments) // ROWS_PER_LEAF)
    guard = guarded(data, rule_set, avoid, smaller, data.error_budget() if arguments is None else n_wrong)
    if guard is None and n_wrong and smaller < supported:
        # A guard that fits every sample is better than a table with exceptions, whatever its size.
        guard = guarded(data, rule_set, avoid, supported, 0)
    if guard is not None:
        return guard
    # A rule of which this node shows many new rows is accepted only if no small guard fits.
    extended = known_rule(data, rule_set, data.error_budget(), avoid, share=PARTLY_KNOWN)
    if extended is not None:
        return extended
    if arguments is not None:
        rule_set.rules.append(DraftRule(len(arguments)))
        return apply_rule(data, rule_set, len(rule_set.rules) - 1, arguments)
    return mixed(data, rule_set, avoid)


def apply_rule(data: NodeData, rule_set: RuleSet, rule: int, sources: Arguments) -> WriteRule:
    """Apply ``rule`` at this node: its table learns the node's rows."""
    rule_set.rules[rule].learn(data.columns_NU[:, list(sources)], data.symbol_N)
    rule_set.used[sources] += 1
    return WriteRule(rule=rule, sources=list(sources), lead=data.leading_space_N[0])


# -- the simple explanations ------------------------------------------------------------------------------------------
def literal(data: NodeData, budget: int) -> WriteLiteral | None:
    """The step never varies. With few samples a symbol is not a literal if it may be a copy."""
    text = Counter(data.text_N).most_common(1)[0][0]
    if not _within_budget(data, np.array([t != text for t in data.text_N]), budget):
        return None
    i = data.text_N.index(text)
    symbol = int(data.symbol_N[i])
    if symbol < 0:
        return WriteLiteral(text=text)
    if data.n < MIN_SAMPLES_FOR_LITERAL_SYMBOL and copy(data, 0) is not None:
        return None
    return WriteLiteral(text=text, symbol=symbol, lead=data.leading_space_N[i])


def copy(data: NodeData, budget: int) -> WriteCopy | None:
    """The step repeats one earlier unit; among several, the one that causes it, then the nearest."""
    if not _one_leading_space(data) or not data.columns_NU.shape[1]:
        return None
    wrong_NU = data.columns_NU != data.symbol_N[:, None]
    n_wrong_U = wrong_NU.sum(axis=0)
    candidates = np.flatnonzero(n_wrong_U == n_wrong_U.min())
    if not _within_budget(data, wrong_NU[:, candidates[-1]], budget):
        return None
    copy_rate = np.nan_to_num(data.copy_rate_U[candidates], nan=0.0)
    if data.n < MIN_SAMPLES_FOR_COPIES:
        if copy_rate.max() > 0:
            candidates = candidates[copy_rate >= 0.5 * copy_rate.max()]
        elif (
            not np.isnan(data.copy_rate_U[candidates]).any()
            and np.nan_to_num(data.effect_U, nan=0.0).max() > CLEAR_EFFECT
        ):
            return None  # equal by chance: the step depends on other units
    return WriteCopy(source=int(candidates.max()), lead=data.leading_space_N[0])


def _within_budget(data: NodeData, wrong_N: NDArray[np.bool_], budget: int) -> bool:
    """Whether few enough samples contradict, and not systematically."""
    n_wrong = int(wrong_N.sum())
    return n_wrong == 0 or (n_wrong <= budget and not data.systematic(wrong_N))


def _one_leading_space(data: NodeData) -> bool:
    """Whether all samples write a symbol with the same leading space."""
    return bool((data.symbol_N >= 0).all()) and len(set(data.leading_space_N)) == 1


# -- known rules ------------------------------------------------------------------------------------------------------
def known_rule(
    data: NodeData,
    rule_set: RuleSet,
    budget: int,
    avoid: frozenset[int] = frozenset(),
    share: float = PARTLY_KNOWN,
) -> WriteRule | None:
    """A rule of the set whose outputs, for some ordered tuple of earlier units, are what is written here.

    One of the units with the largest effects must be an argument: agreement without any is a coincidence.

    Args:
        share: minimum share of samples whose row the rule already has.
    """
    if not _one_leading_space(data) or data.n < MIN_SAMPLES_FOR_RULE or len(set(data.symbol_N.tolist())) < 2:
        return None
    candidates, effect_of = argument_candidates(data, constants=True)
    largest = max(effect_of.values(), default=0.0)
    causes = {c for c in candidates if effect_of[c] >= 0.5 * largest}
    required = causes if largest > CLEAR_EFFECT else set(candidates)
    match = _best_tuple(data, rule_set, budget, avoid, share, effect_of, required)
    if match is None and share >= MOSTLY_KNOWN and data.n >= MIN_SAMPLES_FOR_COPIES:
        # Nearly every row is known and none is contradicted: evidence enough without an effect.
        candidates, no_effect = argument_candidates(data.without_effects(), constants=True)
        match = _best_tuple(data, rule_set, budget, avoid, share, no_effect, set(candidates))
    return None if match is None else apply_rule(data, rule_set, *match)


def _best_tuple(
    data: NodeData,
    rule_set: RuleSet,
    budget: int,
    avoid: frozenset[int],
    share: float,
    effect_of: dict[int, float],
    required: set[int],
) -> tuple[int, Arguments] | None:
    """The best rule and argument units (keys of ``effect_of``), of which one is among the ``required``."""
    candidates = list(effect_of)
    best: tuple[tuple[float, ...], int, Arguments] | None = None
    for index, rule in enumerate(rule_set.rules):
        if index in avoid or not rule.table or rule.arity > len(candidates):
            continue
        # The rule must be able to write what is written on the samples whose row it has (up to rounding).
        if np.count_nonzero(rule.can_write(data.symbol_N)) < share * data.n - budget - 1e-9:
            continue
        for sources, known_share, wrong_share in _fitting_tuples(data, rule, candidates, budget, share, required):
            score = (
                -round(wrong_share, 2),
                round(known_share, 1),
                float(rule_set.used[sources] > 0),
                float(list(sources) == sorted(sources)),
                round(sum(effect_of[s] for s in sources), 1),
                float(sum(sources)),
            )
            if best is None or score > best[0]:
                best = (score, index, sources)
    return None if best is None else (best[1], best[2])


@lru_cache
def _subsample(n: int) -> NDArray[np.intp]:
    return np.linspace(0, n - 1, min(SUBSAMPLE, n)).astype(np.intp)


def _fitting_tuples(
    data: NodeData,
    rule: DraftRule,
    candidates: Sequence[int],
    budget: int,
    share: float,
    required: set[int],
) -> Iterator[tuple[Arguments, float, float]]:
    """Ordered tuples that fit the rule, with the shares of samples whose row it has, and that contradict."""
    rows = _subsample(data.n)
    # All tuples at once on the subsample: one axis of candidates per argument, samples last.
    column_CN = data.columns_NU[rows].T[candidates]
    shape_AA = np.where(np.eye(rule.arity, dtype=bool), len(candidates), 1).tolist()
    output = rule.look_up([column_CN.reshape(*shape_A, len(rows)) for shape_A in shape_AA])
    is_known = output >= 0
    n_wrong = np.count_nonzero(is_known & (output != data.symbol_N[rows]), axis=-1)
    fits = (n_wrong <= budget) & (np.count_nonzero(is_known, axis=-1) >= 0.25 * share * len(rows))
    tuples = [tuple(candidates[c] for c in indices) for indices in np.argwhere(fits).tolist()]
    tuples = [t for t in tuples if len(set(t)) == rule.arity and not required.isdisjoint(t)]
    chunk_size = max(1, MAX_CELLS // data.n)
    for start in range(0, len(tuples), chunk_size):
        chunk = tuples[start : start + chunk_size]
        output_XN = rule.look_up([data.columns_NU.T[list(units)] for units in zip(*chunk, strict=True)])
        wrong_XN = (output_XN >= 0) & (output_XN != data.symbol_N)
        known_X = (output_XN >= 0).mean(axis=1).tolist()
        for sources, known_share, wrong_N in zip(chunk, known_X, wrong_XN, strict=True):
            if known_share >= share and _within_budget(data, wrong_N, budget):
                yield sources, known_share, float(wrong_N.mean())


# -- new rules --------------------------------------------------------------------------------------------------------
def new_rule_arguments(data: NodeData, rule_set: RuleSet) -> tuple[Arguments | None, int]:
    """The smallest set of earlier units of which the step is a function, and how many samples contradict it.

    Causes are tried first, then all units.
    """
    if not _one_leading_space(data) or data.n < MIN_SAMPLES_FOR_RULE:
        return None, 0
    causes, effect_of = argument_candidates(data, constants=False)
    for candidates in (causes, _all_candidates(data)):
        for arity in range(1, min(MAX_ARITY, len(candidates)) + 1):
            fitting = []
            for subset in combinations(candidates, arity):
                sources = tuple(sorted(subset))
                wrong_N, n_rows = _contradictions(data, sources)
                if wrong_N.sum() <= data.error_budget():
                    effect = round(sum(effect_of.get(s, 0.0) for s in sources), 1)
                    accuracy = -round(float(wrong_N.mean()), 2)
                    score = (accuracy, rule_set.used[sources] > 0, effect, -n_rows, sum(sources))
                    fitting.append((score, sources, wrong_N))
            for _, sources, wrong_N in sorted(fitting, key=lambda f: f[0], reverse=True):
                if _within_budget(data, wrong_N, data.error_budget()):
                    return sources, int(wrong_N.sum())
    return None, 0


def _all_candidates(data: NodeData) -> list[int]:
    """Candidates whatever their effect, those first that leave the fewest contradictions."""
    candidates, _ = argument_candidates(data.without_effects(), constants=False)
    return sorted(candidates, key=lambda c: int(_contradictions(data, (c,))[0].sum()))[:MAX_CANDIDATES]


def _table_size(data: NodeData, sources: Arguments) -> int:
    """Rows that a table over ``sources`` may have: every combination of the symbols seen at each."""
    return int(np.prod([len(np.unique(data.columns_NU[:, s])) for s in sources]))


def _contradictions(data: NodeData, sources: Arguments) -> tuple[NDArray[np.bool_], int]:
    """Which samples differ from the commonest output of their row, and the number of rows."""
    row_N = row_numbers(data.columns_NU[:, list(sources)])
    output_N = row_numbers(data.symbol_N[:, None])
    counts = np.zeros((row_N.max() + 1, output_N.max() + 1), dtype=np.int64)
    np.add.at(counts, (row_N, output_N), 1)
    return counts.argmax(axis=1)[row_N] != output_N, len(counts)


# -- structure in some samples, symbols in others ---------------------------------------------------------------------
def mixed(data: NodeData, rule_set: RuleSet, avoid: frozenset[int]) -> Decision | None:
    """A guard that tells structure from symbols, whose leaves are explained separately."""
    kind_of_sample = [
        text if symbol < 0 else leading_space
        for text, symbol, leading_space in zip(data.text_N, data.symbol_N.tolist(), data.leading_space_N, strict=True)
    ]
    kinds = sorted(set(kind_of_sample))
    if len(kinds) < 2:
        return None
    kind_N = np.array([kinds.index(kind) for kind in kind_of_sample])
    actions = [Action(WriteLiteral(text=str(i)), kind_N == i, 0.0) for i in range(len(kinds))]
    tree = smallest_tree(data, actions, MAX_LEAVES, data.error_budget())
    if not isinstance(tree, Guard):
        return None
    return _explain_leaves(data, tree, np.ones(data.n, dtype=bool), rule_set, avoid)


def _explain_leaves(
    data: NodeData, tree: Decision, reaches_N: NDArray[np.bool_], rule_set: RuleSet, avoid: frozenset[int]
) -> Decision | None:
    if not isinstance(tree, Guard):
        return explain(data.subset(reaches_N), rule_set, avoid=avoid)
    cases = []
    for case in tree.cases:
        branch_N = reaches_N & np.isin(data.columns_NU[:, tree.source], case.values)
        then = _explain_leaves(data, case.then, branch_N, rule_set, avoid)
        if then is None:
            return None
        cases.append(Case(values=case.values, then=then))
    return Guard(source=tree.source, cases=cases)

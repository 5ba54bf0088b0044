"""Guards: small decision trees over earlier symbols whose leaves copy, write structure, or apply a known rule.

Letters: N samples of the node or of a branch, U earlier units, X actions, S symbols (the first stands for structure).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._format1 import Case, Decision, Guard, WriteCopy, WriteLiteral, WriteRule
from m2kt.teacher._node_data import Ints, NodeData, argument_candidates, error_budget
from m2kt.teacher._rules import RuleSet

Counts = NDArray[np.float32]  # whole numbers, as floats for fast products
MAX_LEAVES = 10  # of a guard
MAX_DEPTH = 8
BEAM = 3  # tests that are followed down at a branch
BEAM_DEPTH = 3  # below it only the best test is followed
MIN_FITTING_SAMPLES = 5  # of a rule under a condition
MIN_SAMPLES_FOR_BRANCH_ERRORS = 10
MIN_GROUP_FOR_DEFAULT = 3  # values in a branch that may take all other values


@dataclass
class Action:
    """A leaf that may be used, with the samples that it accounts for."""

    decision: WriteLiteral | WriteCopy | WriteRule
    fits_N: NDArray[np.bool_]
    rank: float  # the highest is preferred among those that fit the same samples


def guarded(data: NodeData, rule_set: RuleSet, avoid: frozenset[int], max_leaves: int, budget: int) -> Decision | None:
    """The smallest guard found that accounts for the samples; the rules at its leaves learn their rows.

    Answers of variable length need guards: "if the first digit is 0, continue with the next one" is two leaves here
    and thousands of rows as a table (DESIGN section 3).

    Args:
        avoid: rules that must not be used.
        budget: samples that may contradict.
    """
    if max_leaves < 2 or data.n < 2:
        return None
    tree = smallest_tree(data, _actions(data, rule_set, avoid), max_leaves, budget)
    if tree is not None:
        _learn_leaves(data, tree, np.arange(data.n), rule_set)
    return tree


def _actions(data: NodeData, rule_set: RuleSet, avoid: frozenset[int]) -> list[Action]:
    is_symbol_N = data.symbol_N >= 0
    leading_space_N = np.array(data.leading_space_N)
    actions: list[Action] = []
    for text in sorted({t for t, is_symbol in zip(data.text_N, is_symbol_N, strict=True) if not is_symbol}):
        fits_N = np.array([t == text for t in data.text_N]) & ~is_symbol_N
        actions.append(Action(WriteLiteral(text=text), fits_N, 1e6))
    copy_rate = np.nan_to_num(data.copy_rate_U, nan=0.0).tolist()
    for leading_space in sorted(set(leading_space_N[is_symbol_N].tolist())):
        eligible_N = (leading_space_N == leading_space) & is_symbol_N
        for u, column_N in enumerate(data.columns_NU.T):
            fits_N = eligible_N & (column_N == data.symbol_N)
            if fits_N.any():
                copy = WriteCopy(source=u, lead=leading_space)
                actions.append(Action(copy, fits_N, 100 * copy_rate[u] + u / 1e3))
        actions += _rule_actions(data, rule_set, avoid, leading_space, eligible_N)
    return actions


def _rule_actions(
    data: NodeData,
    rule_set: RuleSet,
    avoid: frozenset[int],
    leading_space: str,
    eligible_N: NDArray[np.bool_],
) -> list[Action]:
    """Known rules on argument units that this template already uses."""
    actions = []
    for sources in rule_set.used:
        if max(sources) >= data.columns_NU.shape[1]:
            continue
        for index, rule in enumerate(rule_set.rules):
            if index not in avoid and rule.arity == len(sources) and rule.table:
                output_N = rule.look_up([data.columns_NU[:, s] for s in sources])
                fits_N = eligible_N & (output_N == data.symbol_N)
                if fits_N.sum() >= MIN_FITTING_SAMPLES:
                    step = WriteRule(rule=index, sources=list(sources), lead=leading_space)
                    actions.append(Action(step, fits_N, -1e6))
    return actions


def smallest_tree(data: NodeData, actions: list[Action], max_leaves: int, budget: int) -> Decision | None:
    """A small tree that fits every sample; failing that, one that contradicts up to ``budget`` unsystematic ones.

    Causes are tested first, then all units: a unit may decide without effect where the teacher reads its cause.
    """
    best_of: dict[bytes, Action] = {}
    for action in sorted(actions, key=lambda a: a.rank):
        best_of[action.fits_N.tobytes()] = action
    actions, rows = list(best_of.values()), np.arange(data.n)
    for visible in (data, data.without_effects()):
        _, effect_of = argument_candidates(visible, constants=False)
        for tolerance in (_no_errors, _few_errors) if budget else (_no_errors,):
            tree = _Search(data, actions, tolerance).grow(rows, effect_of, max_leaves)
            if tree is not None:
                wrong_N = ~_fits(data, tree, actions, rows)
                if wrong_N.sum() <= budget and not data.systematic(wrong_N):
                    return tree
    return None


def _no_errors(n: int) -> int:
    return 0


def _few_errors(n: int) -> int:
    return 1 + error_budget(n) if n >= MIN_SAMPLES_FOR_BRANCH_ERRORS else 0


def _fits(data: NodeData, tree: Decision, actions: list[Action], rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """The samples among ``rows`` that the tree accounts for."""
    fits_N = np.zeros(data.n, dtype=bool)
    if isinstance(tree, Guard):
        for case in tree.cases:
            branch_rows = rows[np.isin(data.columns_NU[rows, tree.source], case.values)]
            fits_N |= _fits(data, case.then, actions, branch_rows)
    else:
        action_fits_N = next(a.fits_N for a in actions if a.decision is tree)
        fits_N[rows] = action_fits_N[rows]
    return fits_N


@dataclass
class _Search:
    """Search for the smallest tree, a few tests wide."""

    data: NodeData
    actions: list[Action]
    tolerance: Callable[[int], int]  # samples that may contradict, by the number of samples at a leaf

    @cached_property
    def _fits_XN(self) -> Counts:
        return np.array([a.fits_N for a in self.actions], dtype=np.float32)

    def grow(
        self, rows: NDArray[np.intp], effect_of: dict[int, float], max_leaves: int, depth: int = 0
    ) -> Decision | None:
        """The smallest tree found for the samples ``rows``.

        A unit is tested once per path: repeated tests would search in a table, which belongs to a rule.
        """
        if not self.actions:
            return None
        fits_XN = self._fits_XN[:, rows]
        count_X = fits_XN.sum(axis=1)
        covering = np.flatnonzero(len(rows) - count_X <= self.tolerance(len(rows)))
        if len(covering):
            best_action = max(covering.tolist(), key=lambda x: (int(count_X[x]), self.actions[x].rank))
            return self.actions[best_action].decision
        if depth == MAX_DEPTH or max_leaves < 2:
            return None
        tests = self._tests(rows, fits_XN, effect_of, max_leaves)
        best: Guard | None = None
        for source, groups in tests[: BEAM if depth < BEAM_DEPTH else 1]:
            limit = max_leaves if best is None else n_leaves(best) - 1
            tree = self._branch(rows, source, groups, effect_of, limit, depth)
            if tree is not None and (best is None or n_leaves(tree) < n_leaves(best)):
                best = tree
        return best

    def _tests(
        self, rows: NDArray[np.intp], fits_XN: Counts, effect_of: dict[int, float], max_leaves: int
    ) -> list[tuple[int, list[list[int]]]]:
        """Units that split the samples, best first, each with its groups of values.

        Best: fewest samples lost, fewest groups, fewest values, largest effect, nearest unit.
        """
        ranked = []
        for u in effect_of:
            column_N = self.data.columns_NU[rows, u]
            if (column_N == column_N[0]).all():
                continue
            groups, n_lost = _group_values(column_N, fits_XN, self.tolerance)
            if 1 < len(groups) <= max_leaves:
                n_values = sum(map(len, groups))
                ranked.append(((n_lost, len(groups), n_values, -effect_of[u], -u), groups))
        return [(-int(rank[-1]), groups) for rank, groups in sorted(ranked, key=lambda r: r[0])]

    def _branch(
        self,
        rows: NDArray[np.intp],
        source: int,
        groups: list[list[int]],
        effect_of: dict[int, float],
        max_leaves: int,
        depth: int,
    ) -> Guard | None:
        remaining_units = {u: effect for u, effect in effect_of.items() if u != source}
        cases = []
        leaves_left = max_leaves - len(groups) + 1  # for this branch, if each of the others takes one
        column_N = self.data.columns_NU[rows, source]
        for values in groups:
            branch = self.grow(rows[np.isin(column_N, values)], remaining_units, leaves_left, depth + 1)
            if branch is None:
                return None
            leaves_left -= n_leaves(branch) - 1
            cases.append(Case(values=sorted(values), then=branch))
        _add_unseen_values(cases, self.data.support[source])
        return Guard(source=source, cases=cases)


def _add_unseen_values(cases: list[Case], support: frozenset[int]) -> None:
    """Add values without samples to the one branch that has several, as in "0, or anything else".

    A guess, which later rounds of probing test.
    """
    several = [c for c in cases if len(c.values) >= MIN_GROUP_FOR_DEFAULT]
    if len(several) == 1 and all(len(c.values) == 1 for c in cases if c is not several[0]):
        taken = {v for c in cases for v in c.values}
        several[0].values = sorted({*several[0].values, *(support - taken)})


def _group_values(column_N: Ints, fits_XN: Counts, tolerance: Callable[[int], int]) -> tuple[list[list[int]], int]:
    """Values that one action covers together form a group; commonest values first, so that rare ones join them.

    Values that no action covers form the last group. Returned beside the groups: how many of its samples the best
    action does not fit.
    """
    index_N = column_N + 1  # structure is -1
    count_S = np.bincount(index_N)
    first_S = np.zeros_like(count_S)
    first_S[index_N[::-1]] = np.arange(len(index_N))[::-1]
    fits_XS = fits_XN @ (index_N[:, None] == np.arange(len(count_S))).astype(np.float32)
    allowed_S = np.array([tolerance(n) for n in count_S.tolist()])
    # The actions that cover a value, one bit each.
    covering_S = [int.from_bytes(bits.tobytes()) for bits in np.packbits(count_S - fits_XS <= allowed_S, axis=0).T]
    groups: list[tuple[list[int], int]] = []  # indices of S, actions that cover them all
    uncovered: list[int] = []
    for s in np.lexsort((first_S, -count_S))[: np.count_nonzero(count_S)].tolist():
        covering = covering_S[s]
        if not covering:
            uncovered.append(s)
            continue
        for i, (values, common) in enumerate(groups):
            if common & covering:
                groups[i] = ([*values, s], common & covering)
                break
        else:
            groups.append(([s], covering))
    branches = [[s - 1 for s in values] for values, _ in groups]
    if not uncovered:
        return branches, 0
    n_covered = int(fits_XS[:, uncovered].sum(axis=1).max())
    return [*branches, [s - 1 for s in uncovered]], int(count_S[uncovered].sum()) - n_covered


def n_leaves(decision: Decision) -> int:
    """Number of leaves of a decision tree."""
    return sum(n_leaves(c.then) for c in decision.cases) if isinstance(decision, Guard) else 1


def _learn_leaves(data: NodeData, decision: Decision, rows: NDArray[np.intp], rule_set: RuleSet) -> None:
    if isinstance(decision, Guard):
        for case in decision.cases:
            branch_rows = rows[np.isin(data.columns_NU[rows, decision.source], case.values)]
            _learn_leaves(data, case.then, branch_rows, rule_set)
    elif isinstance(decision, WriteRule):
        arguments_NA = data.columns_NU[rows][:, decision.sources]
        rule_set.rules[decision.rule].learn(arguments_NA, data.symbol_N[rows])

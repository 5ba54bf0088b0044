"""Explaining one step, simplest first: literal, copy, known rule, guarded choice, new rule.

Everything here is blind to what the symbols mean: a step is explained when what the teacher wrote is a function of
earlier symbols, on every sample that shares the masked prefix. Legend: N samples, P earlier units, S symbols.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Case, Decision, Guard, WriteCopy, WriteLiteral, WriteRule

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

MAX_ARITY = 4
MAX_CANDIDATES = 12  # argument candidates that are combined; ranked by causal effect, then nearness
MAX_LEAVES = 10  # of a guard
ROWS_PER_LEAF = 8  # a guard must be this much smaller than the table it replaces
SAMPLES_PER_LEAF = 12  # fewer do not tell a guard from a coincidence
ENOUGH = 20  # samples from which columns that are always equal are taken for copies of each other
DENSE_LIMIT = 4_000_000  # cells of a dense look-up table
SUBSAMPLE = 64  # rows on which tuples are tried before all rows are


@dataclass
class DraftRule:
    """A rule while it is being learnt: argument symbols to counted outputs."""

    arity: int
    table: dict[tuple[int, ...], Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    _dense: Ints | None = None  # (side,) * arity, -1 where unknown; dropped whenever a row is learnt

    def says(self, arguments: tuple[int, ...]) -> int:
        """The output held for ``arguments``, -1 where none is."""
        seen = self.table.get(arguments)
        return seen.most_common(1)[0][0] if seen else -1

    def learn(self, arguments_NA: Ints, outputs_N: Ints) -> None:
        """Adds observed rows."""
        self._dense = None
        for arguments, output in zip(map(tuple, arguments_NA.tolist()), outputs_N.tolist(), strict=True):
            self.table[arguments][output] += 1

    def look_up(self, arguments_NA: Ints) -> Ints:
        """Outputs for many rows of arguments, -1 where unknown."""
        if self._dense is None:
            side = 1 + max(max(row) for row in self.table)
            if side**self.arity > DENSE_LIMIT:
                return np.array([self.says(tuple(r)) for r in arguments_NA.tolist()], dtype=np.int32)
            self._dense = np.full((side + 1,) * self.arity, -1, dtype=np.int32)
            for row in self.table:
                self._dense[row] = self.says(row)
        side = self._dense.shape[0] - 1
        # Symbols beyond the table, and structure (-1), fall on the last index of each axis, which stays unknown.
        inside = np.where((arguments_NA < 0) | (arguments_NA >= side), side, arguments_NA)
        said: Ints = self._dense[tuple(inside.T)]
        return said


@dataclass
class View:
    """What is known at one node: earlier symbols, what was written next, and causal effects of each earlier unit."""

    columns_NP: Ints
    symbol_N: Ints  # symbol written next, -1 where structure was
    text_N: list[str]
    lead_N: list[str]
    effect_P: Floats  # share of interventions at the unit that changed this step; NaN where not tried
    follow_P: Floats  # share after which the step wrote the new symbol
    support: list[frozenset[int]]  # by unit: symbols seen there in any sample of the template

    def at(self, keep: NDArray[np.bool_]) -> View:
        """The same node seen by some of its samples."""
        rows = np.flatnonzero(keep)
        return View(
            self.columns_NP[rows],
            self.symbol_N[rows],
            [self.text_N[i] for i in rows],
            [self.lead_N[i] for i in rows],
            self.effect_P,
            self.follow_P,
            self.support,
        )

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.text_N)

    def slack(self) -> int:
        """Samples that may disagree: a teacher that is right 99.x % of the time slips now and then."""
        return self.n // 200 if self.n >= 200 else int(self.n >= 60)


@dataclass
class Book:
    """All rules found so far, and the argument tuples that each template already uses."""

    rules: list[DraftRule] = field(default_factory=list)
    used: Counter[tuple[int, ...]] = field(default_factory=Counter)  # within the current template


def explain(view: View, book: Book, *, avoid: frozenset[int] = frozenset()) -> Decision | None:
    """The simplest decision that accounts for the node, or None. New rules are added to ``book``.

    ``avoid``: rules that must not be used (needed when rules are merged).
    """
    for slack in sorted({0, view.slack()}):
        found = literal(view, slack) or copy(view, slack) or known_rule(view, book, slack, avoid, share=0.9)
        if found is not None:
            return found
    for slack in sorted({0, view.slack()}):
        arguments = new_rule_arguments(view, book, slack)
        rows = 10**9 if arguments is None else _table_size(view, arguments)
        few = min(MAX_LEAVES, rows // ROWS_PER_LEAF, max(2, view.n // SAMPLES_PER_LEAF))
        guard = guarded(view, book, slack, avoid, max_leaves=few)
        if guard is not None:
            return guard
        # A rule of which this place shows many new rows: believed only after no small choice fitted.
        partly = known_rule(view, book, slack, avoid, share=0.4)
        if partly is not None:
            return partly
        if arguments is not None:
            rule = DraftRule(len(arguments))
            book.rules.append(rule)
            return apply_rule(view, book, len(book.rules) - 1, arguments)
    return mixed(view, book, avoid)


def apply_rule(view: View, book: Book, rule: int, sources: tuple[int, ...]) -> WriteRule:
    """Applies ``rule`` here: its table learns this node's rows."""
    book.rules[rule].learn(view.columns_NP[:, list(sources)], view.symbol_N)
    book.used[sources] += 1
    return WriteRule(rule=rule, sources=list(sources), lead=view.lead_N[0])


# -- the simple explanations ------------------------------------------------------------------------------------------
def literal(view: View, slack: int) -> WriteLiteral | None:
    """The step never varies. A symbol seen only a few times is not yet a literal: it may be a copy."""
    text, count = Counter(view.text_N).most_common(1)[0]
    if count < view.n - slack:
        return None
    i = view.text_N.index(text)
    symbol = int(view.symbol_N[i])
    if symbol < 0:
        return WriteLiteral(text=text)
    if view.n < 5 and copy(view, 0) is not None:
        return None
    return WriteLiteral(text=text, symbol=symbol, lead=view.lead_N[i])


def copy(view: View, slack: int) -> WriteCopy | None:
    """The step repeats one earlier unit; among several, the one that causes it, then the nearest."""
    if not _one_lead(view):
        return None
    agree_P = (view.columns_NP == view.symbol_N[:, None]).sum(axis=0)
    candidates = np.flatnonzero(agree_P >= max(1, view.n - slack))
    if not len(candidates):
        return None
    follow = np.nan_to_num(view.follow_P[candidates], nan=0.0)
    if view.n < ENOUGH:
        if follow.max() > 0:
            candidates = candidates[follow >= 0.5 * follow.max()]
        elif not np.isnan(view.follow_P[candidates]).any() and np.nan_to_num(view.effect_P, nan=0.0).max() > 0.3:
            return None  # equal by chance: other units change this step, these do not
    return WriteCopy(source=int(candidates.max()), lead=view.lead_N[0])


def known_rule(
    view: View, book: Book, slack: int, avoid: frozenset[int] = frozenset(), share: float = 0.4
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
        blind, none = argument_candidates(_without_effects(view), constants=True)
        found = _best_tuple(view, book, slack, avoid, share, blind, none, set(blind))
    return None if found is None else apply_rule(view, book, *found)


def _best_tuple(
    view: View,
    book: Book,
    slack: int,
    avoid: frozenset[int],
    share: float,
    candidates: list[int],
    effect_of: dict[int, float],
    must: set[int],
) -> tuple[int, tuple[int, ...]] | None:
    best: tuple[tuple[float, ...], int, tuple[int, ...]] | None = None
    for index, rule in enumerate(book.rules):
        if index in avoid or not rule.table:
            continue
        for sources, known in _fitting_tuples(view, rule, candidates, slack, share, must):
            score = (
                round(known, 1),
                float(book.used[sources] > 0),
                float(list(sources) == sorted(sources)),
                round(sum(effect_of[s] for s in sources), 1),
                float(sum(sources)),
            )
            if best is None or score > best[0]:
                best = (score, index, sources)
    return None if best is None else (best[1], best[2])


def _fitting_tuples(
    view: View, rule: DraftRule, candidates: Sequence[int], slack: int, share: float, must: set[int]
) -> list[tuple[tuple[int, ...], float]]:
    """Ordered tuples under which the rule contradicts no sample, with the share of samples whose row it has."""
    table_rows = np.array(list(rule.table), dtype=np.int32)
    domain = [set(table_rows[:, a].tolist()) for a in range(rule.arity)]
    few = np.unique(np.linspace(0, view.n - 1, min(SUBSAMPLE, view.n)).astype(int))
    values = {c: set(view.columns_NP[few, c].tolist()) for c in candidates}
    fits_argument = [{c for c in candidates if values[c] & domain[a]} for a in range(rule.arity)]
    fitting = []
    for sources in permutations(candidates, rule.arity):
        if must.isdisjoint(sources):
            continue
        if any(c not in fits_argument[a] for a, c in enumerate(sources)):
            continue
        for rows in (few, np.arange(view.n)):
            said = rule.look_up(view.columns_NP[rows][:, list(sources)])
            conflicts = int(((said >= 0) & (said != view.symbol_N[rows])).sum())
            known = float((said >= 0).mean())
            if conflicts > slack or known < (share if len(rows) == view.n else 0.5 * share):
                break
        else:
            fitting.append((sources, known))
    return fitting


def argument_candidates(view: View, *, constants: bool) -> tuple[list[int], dict[int, float]]:
    """Earlier units worth combining, with the causal effect of each: strongest first, then nearest.

    A symbol and its copies form a class of always-equal columns. The nearest unit stands for its class (pointers
    that stay the same when shapes grow) with the strongest effect in it; which of them the teacher itself reads is
    kept with the attention edges. Few samples cannot show that columns are copies: then only causes may stand in.
    """
    classes: dict[bytes, list[int]] = defaultdict(list)
    fixed: list[int] = []
    for p in range(view.columns_NP.shape[1]):
        column = view.columns_NP[:, p]
        if column[0] < 0:
            continue
        if (column == column[0]).all():
            fixed.append(p)
        else:
            classes[column.tobytes()].append(p)
    effect = np.nan_to_num(view.effect_P, nan=0.0)
    ranked: list[tuple[float, int]] = []
    for members in classes.values():
        strongest = max(float(effect[m]) for m in members)
        eligible = [m for m in members if view.n >= ENOUGH or effect[m] >= 0.5 * strongest]
        ranked.append((strongest, max(eligible)))
    ranked.sort(reverse=True)
    # Where causes are known, the rest need not be combined.
    causes = [(e, p) for e, p in ranked if e > 0]
    effect_of = {p: e for e, p in (causes or ranked)[:MAX_CANDIDATES]}
    # A column that never varies here cannot be a cause here, but may be an argument elsewhere (a first carry).
    if constants:
        effect_of |= dict.fromkeys(fixed[-4:], 0.0)
    return list(effect_of), effect_of


def new_rule_arguments(view: View, book: Book, slack: int) -> tuple[int, ...] | None:
    """The smallest set of earlier units of which the step is a function; causes are tried before the rest."""
    if not _one_lead(view) or view.n < 3:
        return None
    candidates, effect_of = argument_candidates(view, constants=False)
    for pool in (candidates, _all_candidates(view)):
        for arity in range(1, min(MAX_ARITY, len(pool)) + 1):
            found = []
            for subset in combinations(pool, arity):
                sources = tuple(sorted(subset))
                conflicts, rows = _conflicts(view, sources)
                if conflicts <= slack:
                    effect = sum(effect_of.get(s, 0.0) for s in sources)
                    found.append((book.used[sources] > 0, round(effect, 1), -rows, sum(sources), sources))
            if found:
                return max(found)[-1]
    return None


def _all_candidates(view: View) -> list[int]:
    """Every varying class, for steps that their causes do not explain: widened by how much a unit resolves."""
    candidates, _ = argument_candidates(_without_effects(view), constants=False)
    return sorted(candidates, key=lambda c: _conflicts(view, (c,))[0])[:MAX_CANDIDATES]


def _table_size(view: View, sources: tuple[int, ...]) -> int:
    """Rows that a table over ``sources`` may have: every combination of the symbols seen at each."""
    return int(np.prod([len(np.unique(view.columns_NP[:, s])) for s in sources]))


def _without_effects(view: View) -> View:
    return replace(view, effect_P=np.full_like(view.effect_P, np.nan))


def _conflicts(view: View, sources: tuple[int, ...]) -> tuple[int, int]:
    """(samples that disagree with their row's majority, rows)."""
    _, inverse = np.unique(view.columns_NP[:, list(sources)], axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    outputs, out_index = np.unique(view.symbol_N, return_inverse=True)
    counts = np.zeros((inverse.max() + 1, len(outputs)), dtype=np.int64)
    np.add.at(counts, (inverse, out_index), 1)
    return int(view.n - counts.max(axis=1).sum()), counts.shape[0]


def _one_lead(view: View) -> bool:
    return bool((view.symbol_N >= 0).all()) and len(set(view.lead_N)) == 1


# -- guarded choices --------------------------------------------------------------------------------------------------
@dataclass
class _Action:
    decision: WriteLiteral | WriteCopy | WriteRule
    fits_N: NDArray[np.bool_]
    rank: float  # preferred among equally fitting ones


def guarded(view: View, book: Book, slack: int, avoid: frozenset[int], max_leaves: int) -> Decision | None:
    """A small decision tree over earlier symbols whose leaves copy, write structure, or apply a known rule.

    This is what answers of variable length need: "if the first digit is 0, go on with the next one" is two leaves
    here and thousands of rows as a table (DESIGN section 9).
    """
    if max_leaves < 2 or view.n < 2:
        return None
    actions = _actions(view, book, avoid)
    _, effect_of = argument_candidates(view, constants=False)
    grown = _grow(view, np.arange(view.n), actions, effect_of, slack, depth=0)
    if grown is None or size(grown) > max_leaves:
        return None
    _learn_leaves(view, grown, np.arange(view.n), book)
    return grown


def _actions(view: View, book: Book, avoid: frozenset[int]) -> list[_Action]:
    actions: list[_Action] = []
    leads = {lead for lead, symbol in zip(view.lead_N, view.symbol_N.tolist(), strict=True) if symbol >= 0}
    for text in sorted({t for t, s in zip(view.text_N, view.symbol_N.tolist(), strict=True) if s < 0}):
        fits = np.array(
            [t == text and s < 0 for t, s in zip(view.text_N, view.symbol_N.tolist(), strict=True)]
        )
        actions.append(_Action(WriteLiteral(text=text), fits, 1e6))
    lead_N = np.array(view.lead_N)
    for lead in sorted(leads):
        here = (lead_N == lead) & (view.symbol_N >= 0)
        follow = np.nan_to_num(view.follow_P, nan=0.0)
        for p in range(view.columns_NP.shape[1]):
            fits = here & (view.columns_NP[:, p] == view.symbol_N)
            if fits.any():
                actions.append(
                    _Action(WriteCopy(source=p, lead=lead), fits, 100 * float(follow[p]) + p / 1e3)
                )
        # Tuples that this template already uses may serve again, under a condition.
        for sources in book.used:
            if max(sources) >= view.columns_NP.shape[1]:
                continue
            for index, rule in enumerate(book.rules):
                if index not in avoid and rule.arity == len(sources) and rule.table:
                    fits = here & (rule.look_up(view.columns_NP[:, list(sources)]) == view.symbol_N)
                    if fits.sum() >= 5:
                        step = WriteRule(rule=index, sources=list(sources), lead=lead)
                        actions.append(_Action(step, fits, -1e6))
    return actions


def _grow(
    view: View,
    rows: NDArray[np.intp],
    actions: list[_Action],
    effect_of: dict[int, float],
    slack: int,
    depth: int,
) -> Decision | None:
    covering = [a for a in actions if (~a.fits_N[rows]).sum() <= slack]
    if covering:
        return max(covering, key=lambda a: (int(a.fits_N[rows].sum()), a.rank)).decision
    if depth == 4:
        return None
    fits_AN = np.array([a.fits_N for a in actions])
    if not len(fits_AN):
        return None
    ranked = []
    for p in effect_of:
        column = view.columns_NP[rows, p]
        if (column == column[0]).all():
            continue
        groups = _group_values(column, fits_AN[:, rows])
        lost = sum(len(members) - covered for _, members, covered in groups)
        if len(groups) > 1:
            ranked.append(((lost, len(groups), len(set(column.tolist())), -effect_of[p], -p), groups))
    # A little look-ahead: the best few tests are followed down, the smallest tree wins.
    best: tuple[int, Decision] | None = None
    # Of equally good tests the one with fewest values, then the strongest cause, then the nearest unit.
    for rank, groups in sorted(ranked, key=lambda r: r[0])[:3]:
        source = -int(rank[-1])
        cases = []
        for values, members, _ in groups:
            branch = _grow(view, rows[members], actions, effect_of, slack, depth + 1)
            if branch is None:
                break
            cases.append(Case(values=sorted(values), then=branch))
        else:
            _generalise(cases, view.support[source])
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


def _group_values(column: Ints, fits_AM: NDArray[np.bool_]) -> list[tuple[list[int], NDArray[np.intp], int]]:
    """Values that one action covers together are one branch; commonest values first, so that rare ones join them."""
    groups: list[tuple[list[int], NDArray[np.intp], NDArray[np.bool_]]] = []
    open_values: list[int] = []
    for value, _ in Counter(column.tolist()).most_common():
        members = np.flatnonzero(column == value)
        covers: NDArray[np.bool_] = np.asarray(fits_AM[:, members].all(axis=1))
        if not covers.any():
            open_values.append(value)
            continue
        for i, (values, held, common) in enumerate(groups):
            if (common & covers).any():
                groups[i] = (
                    [*values, value],
                    np.concatenate([held, members]),
                    np.logical_and(common, covers),
                )
                break
        else:
            groups.append(([value], members, covers))
    found = [(values, held, len(held)) for values, held, _ in groups]
    if open_values:
        members = np.flatnonzero(np.isin(column, open_values))
        found.append((open_values, members, int(fits_AM[:, members].sum(axis=1).max())))
    return found


def size(decision: Decision) -> int:
    return sum(size(c.then) for c in decision.cases) if isinstance(decision, Guard) else 1


def _learn_leaves(view: View, decision: Decision, rows: NDArray[np.intp], book: Book) -> None:
    if isinstance(decision, Guard):
        for case in decision.cases:
            _learn_leaves(
                view, case.then, rows[np.isin(view.columns_NP[rows, decision.source], case.values)], book
            )
    elif isinstance(decision, WriteRule):
        book.rules[decision.rule].learn(view.columns_NP[rows][:, decision.sources], view.symbol_N[rows])


def mixed(view: View, book: Book, avoid: frozenset[int]) -> Decision | None:
    """Structure here, a rule's output there: first what decides between them, then each part by itself."""
    kinds = sorted({t if s < 0 else lead for t, s, lead in _written(view)})
    if len(kinds) < 2:
        return None
    kind_N = np.array([kinds.index(t if s < 0 else lead) for t, s, lead in _written(view)])
    actions = [_Action(WriteLiteral(text=str(i)), kind_N == i, 0.0) for i in range(len(kinds))]
    _, effect_of = argument_candidates(view, constants=False)
    tree = _grow(view, np.arange(view.n), actions, effect_of, view.slack(), depth=0)
    if not isinstance(tree, Guard) or size(tree) > MAX_LEAVES:
        return None
    return _explain_leaves(view, tree, np.ones(view.n, dtype=bool), book, avoid)


def _written(view: View) -> list[tuple[str, int, str]]:
    return list(zip(view.text_N, view.symbol_N.tolist(), view.lead_N, strict=True))


def _explain_leaves(
    view: View, tree: Decision, here: NDArray[np.bool_], book: Book, avoid: frozenset[int]
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

"""The explanation of one state, simplest first: what is written, and where it is looked up.

Nothing here knows what symbols mean. A step is explained if what the teacher writes is the same, is what a pointer
stands at, or is a function of what a few pointers stand at, on every row that reaches it.
Letters: N rows, C columns, A arguments, S symbols, X actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._pointers import Decision, WriteCopy, WriteLiteral, WriteRule, leaves
from m2kt.teacher.program._columns import Column, Columns
from m2kt.teacher.program._evaluate import Evaluator, Looked
from m2kt.teacher.program._tests import Questions
from m2kt.teacher.program._traces import Ints, Rows, Search, Traces
from m2kt.teacher.program._trees import Grower, coverage_saved, entropy_saved, write_tree

SAMPLE = 360  # rows on which explanations are looked for; they are checked on all
MAX_REPAIRS = 6  # times that rows which contradict join the sample
MAX_ACTIONS = 240
MAX_ARITY = 4
MAX_ARGUMENTS = 150  # columns that may be arguments
BEAM = 12
MAX_CONTROL_LEAVES = 48
MAX_COPY_LEAVES = 12
RULE_ROWS = 4000  # rows on which arguments are looked for
LEAST_REPEATED = 8  # rows of a table that must have been seen again
EMPTY = NDArray[np.intp]


@dataclass
class Explained:
    """A decision with the rows that it gets wrong."""

    decision: Decision
    wrong: NDArray[np.intp]


@dataclass
class StateRows:
    """All steps that follow one mask.

    Args:
        effect_NU: None, or by row the causal effect of each earlier unit, NaN where it was not tried.
    """

    traces: Traces
    rows: Rows
    masks: list[str]  # written
    looked: Looked = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.written_N = self.traces.written(self.rows)
        self.lead_N = self.traces.lead_MU[self.rows.trace_N, self.rows.here_N]
        self.labels = sorted(set(self.masks))
        number = {m: i for i, m in enumerate(self.labels)}
        self.label_N = np.array([number[m] for m in self.masks], dtype=np.int32)
        self.is_symbol_L = [self._writes_symbol(i) for i in range(len(self.labels))]
        self.all = Evaluator(Search(self.traces, self.rows), self.looked)

    def _writes_symbol(self, label: int) -> bool:
        index = int((self.label_N == label).argmax())
        return bool(self.written_N[index] < self.traces.n_symbols)


class Explainer:
    """Finds the decision of one state."""

    def __init__(self, state: StateRows, rules: list[int], budget: float, rng: np.random.Generator) -> None:
        self.state, self.rules, self.budget, self.rng = state, rules, budget, rng

    def explain(self) -> Explained | None:
        """The decision, checked on all rows; None where nothing fits."""
        state = self.state
        chosen = self._sample()
        best: Explained | None = None
        n_rules = len(self.rules)
        for _ in range(MAX_REPAIRS):
            del self.rules[n_rules:]
            attempt = _Attempt(self, chosen)
            decision = attempt.decide()
            if decision is None:
                break
            wrong = self.wrong(decision)
            if best is None or len(wrong) < len(best.wrong):
                best, best_rules = Explained(decision, wrong), list(self.rules)
            if len(wrong) <= self.budget * len(state.rows):
                break
            more = wrong[self.rng.permutation(len(wrong))[:80]]
            chosen = np.union1d(chosen, more)
        if best is not None:
            self.rules[:] = best_rules
        return best

    def _sample(self) -> NDArray[np.intp]:
        """Rows of every label, rare ones all."""
        state, picks = self.state, []
        size_N = state.traces.prompt_M[state.rows.trace_N]
        sizes = np.unique(size_N)
        for label in range(len(state.labels)):
            for size in sizes:
                rows = np.flatnonzero((state.label_N == label) & (size_N == size))
                share = max(12, SAMPLE // (len(state.labels) * len(sizes)))
                picks.append(rows[self.rng.permutation(len(rows))[:share]])
        return np.sort(np.concatenate(picks))

    def wrong(self, decision: Decision) -> NDArray[np.intp]:
        """The rows for which a decision writes something else than the teacher."""
        state = self.state
        wrong: list[NDArray[np.intp]] = []
        for leaf, _, rows in state.all.leaves(decision, np.arange(len(state.rows))):
            if not len(rows):
                continue
            match leaf:
                case None:
                    wrong.append(rows)
                case WriteLiteral():
                    number = state.traces.numbers.get(leaf.text, -2) if leaf.symbol is None else leaf.symbol
                    fits_N = (state.written_N[rows] == number) & (leaf.symbol is None or self._leads(leaf.lead, rows))
                    wrong.append(rows[~fits_N])
                case WriteCopy():
                    name_N = state.all.unit(leaf.source)
                    wrong.append(rows[(name_N[rows] != state.written_N[rows]) | ~self._leads(leaf.lead, rows)])
                case WriteRule():
                    wrong.append(rows[~self._rule_fits(leaf, rows)])
        return np.sort(np.concatenate(wrong)) if wrong else np.empty(0, dtype=np.intp)

    def _leads(self, lead: str, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Rows whose unit has this leading space."""
        return self.state.lead_N[rows] == (lead == " ")  # type: ignore[no-any-return]

    def _rule_fits(self, leaf: WriteRule, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        state = self.state
        argument_NA = np.stack([state.all.unit(s)[rows] for s in leaf.sources], 1)
        known_N = ((argument_NA >= 0) & (argument_NA < state.traces.n_symbols)).all(1)
        written_N = state.written_N[rows]
        fits_N = known_N & (written_N < state.traces.n_symbols)
        row_N = row_numbers(argument_NA)
        return fits_N & (majority(row_N, written_N)[row_N] == written_N)


def row_numbers(columns_NA: Ints) -> NDArray[np.intp]:
    """Equal rows get equal numbers, without gaps."""
    key_N = np.zeros(len(columns_NA), dtype=np.int64)
    for column_N in columns_NA.T:
        low = int(column_N.min(initial=0))
        key_N = key_N * (int(column_N.max(initial=0)) - low + 1) + column_N - low
    return np.unique(key_N, return_inverse=True)[1]


def majority(row_N: NDArray[np.intp], output_N: Ints) -> Ints:
    """The commonest output of each row number."""
    unique, out_N = np.unique(output_N, return_inverse=True)
    count_RO = np.zeros((int(row_N.max(initial=-1)) + 1, len(unique)), dtype=np.int32)
    np.add.at(count_RO, (row_N, out_N), 1)
    return unique[count_RO.argmax(1)].astype(np.int32) if len(unique) else np.empty(0, dtype=np.int32)


class _Attempt:
    """One search on a sample of the rows."""

    def __init__(self, explainer: Explainer, chosen: NDArray[np.intp]) -> None:
        self.explainer, self.chosen = explainer, chosen
        state = explainer.state
        self.state, self.traces = state, state.traces
        self.rows = state.rows.take(chosen)
        looked = {s: [p[chosen] for p in places] for s, places in state.looked.items()}
        self.search = Search(state.traces, self.rows)
        self.columns = Columns(self.search, looked)
        self.written_N, self.label_N = state.written_N[chosen], state.label_N[chosen]
        self._questions: dict[int, Questions] = {}

    def questions(self, stage: int) -> Questions:
        """The questions about the columns of the first stages."""
        if stage not in self._questions:
            self._questions[stage] = Questions(self.search, self.columns.upto(stage))
        return self._questions[stage]

    def decide(self) -> Decision | None:
        """The whole decision: which mask, and what symbol."""
        contents: dict[int, Decision] = {}
        symbol_labels = [i for i in range(len(self.state.labels)) if self.state.is_symbol_L[i]]
        for label in symbol_labels:
            rows = np.flatnonzero(self.label_N == label)
            content = self._content(rows, " " if self.state.labels[label].startswith(" ") else "")
            if content is None:
                return None
            contents[label] = content
        for label, mask in enumerate(self.state.labels):
            if label not in contents:
                contents[label] = WriteLiteral(text=mask)
        if len(contents) == 1:
            return contents[next(iter(contents))]
        onehot_NL = np.eye(len(self.state.labels), dtype=np.float32)[self.label_N]
        for stage in (2, 3):
            questions = self.questions(stage)

            def leaf(rows: NDArray[np.intp]) -> int | None:
                label = int(self.label_N[rows[0]])
                return label if (self.label_N[rows] == label).all() else None

            limit = MAX_CONTROL_LEAVES
            grower = Grower(questions, leaf, entropy_saved(questions, onehot_NL), limit)
            tree = grower.grow(np.arange(len(self.rows)))
            if tree is not None:
                return write_tree(tree, questions, contents.__getitem__)
        return None

    # -- content ----------------------------------------------------------------------------------------------------
    def _content(self, rows: NDArray[np.intp], lead: str) -> Decision | None:
        """What symbol is written on these rows."""
        written_N = self.written_N[rows]
        symbol = int(written_N[0])
        if (written_N == symbol).all() and len(rows) >= 5:
            return WriteLiteral(text=lead + self.traces.symbols[symbol], symbol=symbol, lead=lead)
        for stage in (0, 1, 2):
            copy = self._copy(rows, stage, lead)
            if copy is not None:
                return copy
        return (
            self._tree(rows, lead, 1, 3)
            or self._rule(rows, lead, 1)
            or self._copy(rows, 3, lead)
            or self._rule(rows, lead, 2)
            or self._tree(rows, lead, 3, 6)
            or self._copy(rows, 4, lead)
            or self._tree(rows, lead, 4, MAX_COPY_LEAVES)
            or self._rule(rows, lead, 3)
        )

    def _copy(self, rows: NDArray[np.intp], stage: int, lead: str) -> WriteCopy | None:
        fitting = [c for c in self.columns.upto(stage) if self._fits(c)[rows].all()]
        if not fitting:
            return None
        return WriteCopy(source=min(fitting, key=lambda c: c.cost).pointer, lead=lead)

    def _fits(self, column: Column) -> NDArray[np.bool_]:
        return self.traces.at(self.search.rows, column.place_N) == self.written_N

    def _tree(self, rows: NDArray[np.intp], lead: str, stage: int, max_leaves: int) -> Decision | None:
        """A small tree whose leaves copy or write one symbol."""
        actions = self._actions(rows, stage, lead)
        if not actions:
            return None
        fits_XN = np.array([f for _, _, f in actions], dtype=np.float32)
        cost_X = np.array([cost for _, cost, _ in actions])
        questions = self.questions(stage)

        def leaf(part: NDArray[np.intp]) -> int | None:
            perfect = np.flatnonzero(fits_XN[:, part].all(1))
            return int(perfect[cost_X[perfect].argmin()]) if len(perfect) else None

        grower = Grower(questions, leaf, coverage_saved(questions, fits_XN), max_leaves)
        tree = grower.grow(rows)
        if tree is None:
            return None
        return write_tree(tree, questions, lambda x: actions[x][0])

    def _actions(
        self, rows: NDArray[np.intp], stage: int, lead: str
    ) -> list[tuple[Decision, float, NDArray[np.bool_]]]:
        actions: list[tuple[Decision, float, NDArray[np.bool_]]] = []
        copies: dict[bytes, tuple[Column, NDArray[np.bool_]]] = {}
        for column in self.columns.upto(stage):
            fits_N = self._fits(column)
            if fits_N[rows].mean() >= 0.08:
                key = fits_N[rows].tobytes()
                if key not in copies or column.cost < copies[key][0].cost:
                    copies[key] = column, fits_N
        ranked = sorted(copies.values(), key=lambda c: (-int(c[1][rows].sum()), c[0].cost))[:MAX_ACTIONS]
        actions += [(_LazyCopy(c, lead), c.cost, f) for c, f in ranked]  # type: ignore[misc]
        symbols, count = np.unique(self.written_N[rows], return_counts=True)
        if len(symbols) <= 12:
            for symbol in symbols.tolist():
                text = lead + self.traces.symbols[symbol]
                actions.append((WriteLiteral(text=text, symbol=symbol, lead=lead), 3.0, self.written_N == symbol))
        return [(a.write() if isinstance(a, _LazyCopy) else a, c, f) for a, c, f in actions]

    # -- rules ------------------------------------------------------------------------------------------------------
    def _rule(self, rows: NDArray[np.intp], lead: str, stage: int) -> WriteRule | None:
        """A table over the fewest pointers."""
        label = int(self.label_N[rows[0]])
        every = np.flatnonzero(self.state.label_N == label)
        if len(every) > RULE_ROWS:
            every = every[self.explainer.rng.permutation(len(every))[:RULE_ROWS]]
        found = RuleSearch(self.state, every, self._argument_columns(rows, stage)).find()
        if found is None:
            return None
        self.explainer.rules.append(len(found))
        return WriteRule(rule=len(self.explainer.rules) - 1, sources=[c.pointer for c in found], lead=lead)

    def _argument_columns(self, rows: NDArray[np.intp], stage: int) -> list[Column]:
        unique: dict[bytes, Column] = {}
        for column in sorted(self.columns.upto(stage), key=lambda c: c.cost):
            name_N = self.traces.at(self.search.rows, column.place_N)[rows]
            if (name_N >= 0).all() and (name_N < self.traces.n_symbols).all() and (name_N != name_N[0]).any():
                unique.setdefault(name_N.tobytes(), column)
        return list(unique.values())[:MAX_ARGUMENTS]


@dataclass
class _LazyCopy:
    column: Column
    lead: str

    def write(self) -> WriteCopy:
        return WriteCopy(source=self.column.pointer, lead=self.lead)


class RuleSearch:
    """The smallest set of pointers of which the written symbol is a function."""

    def __init__(self, state: StateRows, every: NDArray[np.intp], columns: Sequence[Column]) -> None:
        self.columns: list[Column] = []
        self.names: list[Ints] = []
        self.written_N = state.written_N[every]
        evaluator = Evaluator(
            Search(state.traces, state.rows.take(every)),
            {s: [p[every] for p in places] for s, places in state.looked.items()},
        )
        for column in columns:
            name_N = evaluator.unit(column.pointer)
            if (name_N >= 0).all() and (name_N < state.traces.n_symbols).all():
                self.columns.append(column)
                self.names.append(name_N)

    def find(self) -> list[Column] | None:
        """The arguments, or None."""
        n = len(self.written_N)
        beam: list[tuple[int, ...]] = [()]
        seen: set[tuple[int, ...]] = set()
        for _ in range(MAX_ARITY):
            scored = []
            for base in beam:
                for c in range(len(self.columns)):
                    chosen = tuple(sorted({*base, c}))
                    if len(chosen) == len(base) or chosen in seen:
                        continue
                    seen.add(chosen)
                    wrong, size = self._contradictions(chosen)
                    scored.append((wrong, sum(self.columns[i].cost for i in chosen), size, chosen))
            fitting = [s for s in scored if s[0] == 0 and self._supported(n, s[2])]
            if fitting:
                best = min(fitting, key=lambda s: (round(s[1] + 0.02 * s[2], 3), s[3]))
                return [self.columns[i] for i in sorted(best[3], key=lambda i: self.columns[i].cost)]
            scored.sort()
            beam = [s[3] for s in scored[:BEAM]]
        return None

    def _supported(self, n: int, size: int) -> bool:
        return n - size >= max(LEAST_REPEATED, 0.2 * size)

    def _contradictions(self, chosen: tuple[int, ...]) -> tuple[int, int]:
        row_N = row_numbers(np.stack([self.names[i] for i in chosen], 1))
        commonest_R = majority(row_N, self.written_N)
        return int((commonest_R[row_N] != self.written_N).sum()), len(commonest_R)


def rule_leaves(decision: Decision) -> list[WriteRule]:
    """The leaves of a decision that apply a rule."""
    return [leaf for leaf in leaves(decision) if isinstance(leaf, WriteRule)]

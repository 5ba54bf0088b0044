"""The explanation of one state, simplest first: what is written, and where it is looked up.

Nothing here knows what symbols mean. A step is explained if what the teacher writes is the same, is what a pointer
stands at, or is a function of what a few pointers stand at, on every row that reaches it.
Letters: N rows, C columns, A arguments, S symbols, X actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._pointers import (
    Case,
    Decision,
    Pointer,
    Seek,
    Test,
    Value,
    WriteCopy,
    WriteLiteral,
    WriteRule,
)
from m2kt.teacher.program._actions import Actions, KnownRule, RuleSearch, is_no_chance, majority, row_numbers
from m2kt.teacher.program._candidates import Column, distinct
from m2kt.teacher.program._columns import Columns
from m2kt.teacher.program._evaluate import Evaluator
from m2kt.teacher.program._searches import next_by_rank, searched, told_by_presence
from m2kt.teacher.program._state import Effort, Explained, StateRows
from m2kt.teacher.program._switch import which_copied, which_mask
from m2kt.teacher.program._tests import Questions
from m2kt.teacher.program._traces import Ints, Search
from m2kt.teacher.program._trees import Grower, entropy_saved, join, tree_cost, write_tree

SAMPLE = 280  # rows on which explanations are looked for; they are checked on all
LEAST_SYSTEMATIC = 3  # contradictions; fewer may be slips whatever they have in common
SMALL_SAMPLE, SMALL_SAMPLES = 64, 5  # for a teacher that makes slips
MAX_REPAIRS = 4  # times that rows which contradict join the sample
MAX_EQUAL_PLACES = 24
MAX_ASKED = 240  # questions of a sort that a clause may ask, cheapest first
MAX_LITERALS = 12
LEAST_FITTING = 0.08  # share of rows that an action of a tree must fit
MAX_BY_PLACE = 3  # masks that are told apart without a counter
MAX_EXTRA_LEAVES = 3  # of a light explanation, beside one for each mask
MAX_ARITY = 4
MAX_KNOWN_ARGUMENTS = 40  # of a rule that is known
MAX_RELATED = 24  # columns of which a table may say what mask is written
MAX_RELATED_ARITY = 3
MAX_ARGUMENTS = 90  # columns that may be arguments
PLAIN_COST = 3.0  # of a question, up to which farther pointers are not tried
MAX_CONTROL_LEAVES = 48
MAX_CLAUSES = 12
RULE_ROWS = 4000  # rows on which arguments are looked for


class Explainer:
    """Finds the decision of one state."""

    def __init__(
        self,
        state: StateRows,
        rules: list[int],
        budget: float,
        rng: np.random.Generator,
        copied: Pointer | None = None,
        effort: Effort | None = None,
        tables: dict[int, dict[tuple[int, ...], int]] | None = None,
        filters: Sequence[Seek] = (),
    ) -> None:
        self.state, self.rules, self.budget, self.rng = state, rules, budget, rng
        self.effort = effort or Effort()
        self.tables, self.filters = tables or {}, filters
        self.equal: list[Pointer] = []  # pointers that the last copy might have used as well, on the sample
        self.copied = copied  # the pointer that all symbols are copied from, where it is known

    def explain(self, heavy: bool) -> Explained | None:
        """The decision, checked on all rows; None where nothing fits."""
        state = self.state
        chosen = self._sample()
        best: Explained | None = None
        n_rules = len(self.rules)
        for _ in range(MAX_REPAIRS):
            if heavy and not self.effort.spend():
                break
            del self.rules[n_rules:]
            attempt = _Attempt(self, chosen)
            decision = attempt.decide(heavy)
            if decision is None:
                break
            wrong = self.state.wrong(decision)
            if best is None or len(wrong) < len(best.wrong):
                best, best_rules = Explained(decision, wrong), list(self.rules)
            if len(wrong) <= self.budget * len(state.rows):
                break
            more = wrong[self.rng.permutation(len(wrong))[:120]]
            chosen = np.union1d(chosen, more)
        if best is not None:
            self.rules[:] = best_rules
        return best

    def explain_despite_slips(self) -> Explained | None:
        """The decision found on one of a few small samples, in which the teacher may have made no slip."""
        n = len(self.state.rows)
        for _ in range(SMALL_SAMPLES if n > SMALL_SAMPLE else 0):
            n_rules = len(self.rules)
            decision = _Attempt(self, np.sort(self.rng.permutation(n)[:SMALL_SAMPLE])).decide(heavy=False)
            if decision is not None:
                wrong = self.state.wrong(decision)
                if len(wrong) <= self.budget * n:
                    return Explained(decision, wrong)
            del self.rules[n_rules:]
        return None

    def systematic(self, wrong: NDArray[np.intp]) -> bool:
        """Whether contradicting rows are an exception and not slips: one question sets most of them apart."""
        if len(wrong) < LEAST_SYSTEMATIC:
            return False
        others = np.setdiff1d(np.arange(len(self.state.rows)), wrong)
        some = others[self.rng.permutation(len(others))[:SAMPLE]]
        rows = self.state.rows.take(np.concatenate([wrong, some]))
        answer_QN = Questions.of(Columns(Search(self.state.traces, rows)), 1).answer_QN
        n_wrong_Q = answer_QN[:, : len(wrong)].sum(1)
        n_other_Q = answer_QN[:, len(wrong) :].sum(1) * (len(others) / max(1, len(some)))
        return bool(((n_wrong_Q >= 0.6 * len(wrong)) & (n_wrong_Q >= n_other_Q)).any())

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


class _Attempt:
    """One search on a sample of the rows."""

    def __init__(self, explainer: Explainer, chosen: NDArray[np.intp]) -> None:
        self.explainer, self.chosen = explainer, chosen
        state = explainer.state
        self.state, self.traces = state, state.traces
        self.rows = state.rows.take(chosen)
        looked = {s: [p[chosen] for p in places] for s, places in state.looked.items()}
        self.search = Search(state.traces, self.rows)
        self.columns = Columns(self.search, looked, explainer.filters)
        self.written_N, self.label_N = state.written_N[chosen], state.label_N[chosen]
        self._questions: dict[int, Questions] = {}

    def questions(self, stage: int) -> Questions:
        """The questions about the columns of the first stages."""
        if stage not in self._questions:
            self._questions[stage] = Questions.of(self.columns, stage)
        return self._questions[stage]

    def decide(self, heavy: bool) -> Decision | None:
        """The whole decision: which mask, and what symbol.

        Args:
            heavy: try far-fetched pointers and large trees too.
        """
        contents: dict[int, Decision] = {}
        for label, mask in enumerate(self.state.labels):
            rows = np.flatnonzero(self.label_N == label)
            if not len(rows):
                return None  # a small sample, which does not say what this mask stands for
            if self.state.is_symbol_L[label]:
                content = self._content(rows, " " if mask[0] == " " else "", heavy)
                if content is None:
                    return None
                contents[label] = content
            else:
                contents[label] = WriteLiteral(text=mask)
        if len(contents) == 1:
            return contents[next(iter(contents))]
        present = told_by_presence(contents, Evaluator(self.search, self.columns.looked), self.label_N)
        if present is not None:
            return present
        return self._which(contents, heavy)

    def _which(self, contents: dict[int, Decision], heavy: bool) -> Decision | None:
        """Which mask is written: by what stands somewhere rather than by a table of symbols, small trees first."""
        onehot_NL = np.eye(len(self.state.labels), dtype=np.float32)[self.label_N]
        every, n = np.arange(len(self.rows)), len(contents)

        def leaf(rows: NDArray[np.intp]) -> int | None:
            label = int(self.label_N[rows[0]])
            return label if (self.label_N[rows] == label).all() else None

        def tree(stage: int, limit: int, most_cost: float = np.inf) -> Decision | None:
            questions = self.questions(stage)
            grown = Grower(questions, leaf, entropy_saved(questions, onehot_NL), limit).grow(every)
            if grown is None or tree_cost(grown, questions) > most_cost:
                return None
            return write_tree(grown, questions, contents.__getitem__)

        return (
            (self._tallied(every, self.label_N, contents.__getitem__) if n > MAX_BY_PLACE else None)
            or tree(1, n, PLAIN_COST * (n - 1))
            or self._related(contents, 1)
            or tree(2, n + MAX_EXTRA_LEAVES)
            or self._related(contents, MAX_RELATED_ARITY)
            or (tree(2, MAX_CONTROL_LEAVES) if heavy else None)
            or which_mask(self.state, self.columns, self.chosen, contents, self.explainer.rng)
            or (tree(3, MAX_CONTROL_LEAVES) if heavy else None)
        )

    def _related(self, contents: dict[int, Decision], max_arity: int) -> Decision | None:
        """Which mask is written, by how some symbols stand to each other."""
        upto = self.columns.upto(1)
        columns = [upto[c] for c in self._arguments(np.arange(len(self.rows)), 1)[:MAX_RELATED]]
        every = np.arange(len(self.state.rows))
        found = self._table(every, columns, self.state.label_N).relation(max_arity)
        if found is None:
            return None
        return Test(ask=found, cases=[Case(values=[v], then=contents[v]) for v in sorted(set(found.finds))])

    def _tallied(self, rows: NDArray[np.intp], found_N: Ints, leaf: Callable[[int], Decision]) -> Test | None:
        """A decision by how many units of a kind stand somewhere, for the numbers that were seen and for no other."""
        counters = self.columns.counters
        for counter in counters:
            number_N, output_N = counter.number_N[rows], found_N[rows]
            row_N = row_numbers(number_N[:, None])
            commonest_R = majority(row_N, output_N)
            if number_N.min() < 0 or (commonest_R[row_N] != output_N).any():
                continue
            if is_no_chance(output_N, len(commonest_R), len(counters)):
                cases: dict[int, list[Value]] = {}
                for number, output in zip(np.unique(number_N).tolist(), commonest_R.tolist(), strict=True):
                    cases.setdefault(output, []).append(number)
                return Test(ask=counter.tally(), cases=[Case(values=v, then=leaf(o)) for o, v in cases.items()])
        return None

    # -- content ----------------------------------------------------------------------------------------------------
    def _content(self, rows: NDArray[np.intp], lead: str, heavy: bool) -> Decision | None:
        """What symbol is written on these rows."""
        if self.explainer.copied is not None:
            return WriteCopy(source=self.explainer.copied, lead=lead)
        written_N = self.written_N[rows]
        symbol = int(written_N[0])
        if (written_N == symbol).all() and len(rows) >= 5:
            return self._literal(lead, symbol)
        for stage in (0, 1, 2):
            copy = self._copy(rows, stage, lead)
            if copy is not None:
                return copy
        light = (
            self._clauses(rows, lead, 1, 1, literals=True)
            or self._known(rows, lead)
            or self._rule(rows, lead, 2, 2)
            or self._clauses(rows, lead, 2, 2, literals=False)
            or self._switched(rows, lead, None)
            or self._rule(rows, lead, 2, 3)
            or self._tallied(rows, self.written_N, lambda symbol: self._literal(lead, symbol))
            or next_by_rank(self.columns, self.explainer.filters, rows, self.written_N[rows], lead)
        )
        if light is not None or not heavy:
            return light
        return (
            searched(self.state, self.chosen, rows, lead, self.explainer.rng)
            or self._copy(rows, 3, lead)
            or self._switched(rows, lead, self.explainer.rules)
            or self._clauses(rows, lead, 3, 4, literals=False)
            or self._clauses(rows, lead, 2, 3, literals=False, rule=3)
            or self._copy(rows, 4, lead)
            or self._clauses(rows, lead, 3, MAX_CLAUSES, literals=True, rule=3)
            or self._rule(rows, lead, 3, 3)
            or self._rule(rows, lead, 2, MAX_ARITY)
        )

    def _copy(self, rows: NDArray[np.intp], stage: int, lead: str) -> WriteCopy | None:
        columns = self.columns.upto(stage)
        fitting = self.columns.holding(stage, rows, self.written_N[rows])
        if not fitting:
            return None
        self.explainer.equal = [columns[c].pointer for c in fitting[:MAX_EQUAL_PLACES]]
        return WriteCopy(source=self.explainer.equal[0], lead=lead)

    def _clauses(
        self,
        rows: NDArray[np.intp],
        lead: str,
        stage: int,
        max_clauses: int,
        *,
        literals: bool,
        rule: int = 0,
    ) -> Decision | None:
        """A decision list: as long as no pointer is right on all rows left, ask what sets most of them apart.

        Each clause is right on all rows that meet its condition, and on more of them than chance would have it.

        Args:
            literals: a clause may write one symbol too.
            rule: arity up to which what is left may be a rule.
        """
        actions = self._actions(rows, stage, lead, literals)
        questions = self.questions(stage)
        asked = questions.cheapest(MAX_ASKED)
        clauses: list[tuple[int, bool, Decision]] = []
        left = rows
        while True:
            last = actions.on_all(left)
            if literals and isinstance(last, WriteLiteral) and max_clauses == 1:
                last = None  # two literals are a table
            if last is None and rule and clauses:
                last = self._rule(left, lead, min(stage, 2), rule)
            if last is not None:
                break
            if len(clauses) >= max_clauses:
                return None
            found = actions.clause(left, questions.answer_QN[asked], questions.cost_Q[asked])
            if found is None:
                return None
            question, answer, action = found
            clauses.append((asked[question], answer, action))
            left = left[(questions.answer_QN[asked[question], left] > 0) != answer]
        decision = last
        for question, answer, action in reversed(clauses):
            yes, no = (action, decision) if answer else (decision, action)
            decision = join(questions, question, yes, no)
        return decision

    def _actions(self, rows: NDArray[np.intp], stage: int, lead: str, literals: bool) -> Actions:
        columns = self.columns.upto(stage)
        fits_CR = self.columns.units(np.arange(len(columns)), rows) == self.written_N[rows]
        fitting = np.flatnonzero(fits_CR.mean(1) >= LEAST_FITTING)
        chosen = distinct(fitting, self.columns.costs(stage), fits_CR)
        actions: list[Callable[[], Decision]] = [_copy_of(columns[c], lead) for c in chosen]
        fits, costs = list(self.columns.units(chosen) == self.written_N), [columns[c].cost for c in chosen]
        symbols, counts = np.unique(self.written_N[rows], return_counts=True)
        if literals and len(symbols) <= MAX_LITERALS:
            for symbol in symbols.tolist():
                actions.append(partial(self._literal, lead, symbol))
                fits.append(self.written_N == symbol)
                costs.append(3.0)
        fits_XN = np.array(fits, dtype=bool).reshape(len(fits), len(self.written_N))
        return Actions(actions, fits_XN, np.array(costs), float(counts.max() / counts.sum()))

    def _switched(self, rows: NDArray[np.intp], lead: str, rules: list[int] | None) -> Decision | None:
        """One of a few places, by what tells when each is meant; with rules, a new one beside them."""
        return which_copied(self.state, self.columns, self.chosen, rows, lead, rules, self.explainer.rng)

    def _literal(self, lead: str, symbol: int) -> WriteLiteral:
        return WriteLiteral(text=lead + self.traces.symbols[symbol], symbol=symbol, lead=lead)

    # -- rules ------------------------------------------------------------------------------------------------------
    def _rule(self, rows: NDArray[np.intp], lead: str, stage: int, max_arity: int) -> WriteRule | None:
        """A table over the fewest pointers."""
        every = np.flatnonzero(self.state.label_N == self.label_N[rows[0]])
        every_column = self.columns.upto(stage)
        columns = [every_column[c] for c in self._arguments(rows, stage)]
        found = self._table(every, columns, self.state.written_N).find(max_arity)
        if found is None:
            return None
        self.explainer.rules.append(len(found))
        return WriteRule(rule=len(self.explainer.rules) - 1, sources=[c.pointer for c in found], lead=lead)

    def _table(self, every: NDArray[np.intp], columns: list[Column], output_N: Ints) -> RuleSearch:
        """The search for the arguments of a table that has these outputs on rows of the state, or on some of them."""
        if len(every) > RULE_ROWS:
            every = every[self.explainer.rng.permutation(len(every))[:RULE_ROWS]]
        budget = int(self.explainer.budget * len(every))
        looked = {s: [p[every] for p in places] for s, places in self.state.looked.items()}
        evaluator = Evaluator(Search(self.traces, self.state.rows.take(every)), looked)
        return RuleSearch(evaluator, columns, budget, output_N[every], self.state.context_N[every])

    def _known(self, rows: NDArray[np.intp], lead: str) -> WriteRule | None:
        """A rule that explains another state."""
        chosen, name_CN = self.columns.distinct(2, MAX_KNOWN_ARGUMENTS, rows, symbols=True)
        every_column = self.columns.upto(2)
        columns = [every_column[c] for c in chosen]
        for number, table in self.explainer.tables.items():
            if not len(columns):
                break
            context_N = self.state.context_N[self.chosen[rows]]
            found = KnownRule(table).find(columns, name_CN, self.written_N[rows], context_N)
            if found is not None:
                return WriteRule(rule=number, sources=[c.pointer for c in found], lead=lead)
        return None

    def _arguments(self, rows: NDArray[np.intp], stage: int) -> list[int]:
        """Candidates that may be a rule's arguments on these rows, cheapest first; one of those that hold the same."""
        return self.columns.distinct(stage, MAX_ARGUMENTS, rows, symbols=True)[0]


def _copy_of(column: Column, lead: str) -> Callable[[], Decision]:
    return lambda: WriteCopy(source=column.pointer, lead=lead)

"""From traces to a program: one state for each mask, explained over all sizes at once; rules merged."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2kt.packet._pointers import (
    Decision,
    Pointer,
    Seek,
    Start,
    WriteCopy,
    WriteRule,
    leaves,
)
from m2kt.packet._program import Program
from m2kt.teacher.program._evaluate import Evaluator, Looked
from m2kt.teacher.program._explain import Explainer
from m2kt.teacher.program._filters import loop_past
from m2kt.teacher.program._kinds import kinds_of
from m2kt.teacher.program._looks import UNKNOWN, Looks, ways
from m2kt.teacher.program._passed import with_passed
from m2kt.teacher.program._rules import Table, count, written
from m2kt.teacher.program._state import Effort, Explained, StateRows
from m2kt.teacher.program._together import Together
from m2kt.teacher.program._traces import MAX_CONTEXT, NONE, Ints, Traces

MAX_SEARCHES = 30  # heavy ones, of one induction
FIRST_CONTEXT = 2  # masks by which states are told apart at first


@dataclass
class Resisted:
    """A state that was not explained."""

    after: tuple[str, ...]
    rows: int
    wrong: int
    writes: list[str]

    def __str__(self) -> str:
        return (
            f"the step behind {self.after!r} ({self.rows} samples, {self.wrong} of them unexplained; it writes "
            f"{', '.join(map(repr, self.writes[:6]))})"
        )


@dataclass(eq=False)
class Open:
    """A state that is not explained yet."""

    after: tuple[str, ...]
    index: NDArray[np.intp]
    tried: bool = False
    divided: bool = False
    """A known program tells its steps apart by masks before these."""
    explained: Explained | None = None
    """The best simple explanation so far."""
    doubtful: Explained | None = None
    """One that takes an exception for slips."""
    equal: list[Pointer] = field(default_factory=list)
    """Other places that hold what the explanation copies."""
    waits: bool = False
    """Steps before it were not explained yet when it was tried last: nobody knew where they looked."""
    looked_N: Ints | None = None
    """Where the last step before each row looked, once it is known and the explanation may use it."""


@dataclass
class Induced:
    """A program, the outputs that the teacher was seen to write, and what resisted."""

    program: Program
    outputs: list[int]
    resisted: list[Resisted] = field(default_factory=list)


class Induction:
    """One induction: the program that repeats some traces.

    Args:
        budget: share of a state's steps that may contradict its decision.
    """

    def __init__(self, traces: Traces, stop: str, budget: float, seed: int) -> None:
        self.traces, self.stop, self.budget = traces, stop, budget
        self.rng = np.random.default_rng(seed)
        self.rows, self.before, self.masks = traces.rows()
        number = {context: i for i, context in enumerate(dict.fromkeys(self.before))}
        self.context_N = np.array([number[context] for context in self.before], dtype=np.int32)
        self.states: dict[tuple[str, ...], NDArray[np.intp]] = {}
        self.decisions: dict[tuple[str, ...], Decision] = {}
        self.looked: dict[tuple[str, ...], Ints | None] = {}  # where the last step before each of its steps looked
        self.rules: list[int] = []  # arity of each
        self.known: dict[tuple[str, ...], Decision] = {}
        self.applied: dict[tuple[str, ...], dict[int, Table]] = {}  # by state: the rows of its rules
        self.tables: dict[int, dict[tuple[int, ...], int]] = {}  # of each rule so far
        self.effort = Effort(MAX_SEARCHES)
        self.looks = Looks(traces, self.rows)
        self.equal: dict[tuple[str, ...], list[Pointer]] = {}  # by state that copies: other pointers that do as well
        self.together: set[frozenset[tuple[str, ...]]] = set()  # states that were tried together
        self.filters: list[Seek] = []  # by which steps go on
        self.n_filters: dict[tuple[str, ...], int] = {}  # known when each state was explained
        self.resisted: list[Resisted] = []

    def run(self, known: Program | None = None) -> Induced:
        """Explain all states, then write the program.

        Args:
            known: an earlier program; its states stay as they are where they still account for every step.
        """
        self.known = {} if known is None else {state.after: state.decision for state in known.states}
        self.rules = [] if known is None else [rule.arity for rule in known.rules]
        todo = [Open(after, index) for after, index in self._contexts(np.arange(len(self.rows)), FIRST_CONTEXT).items()]
        while todo:
            left = [state for state in todo if not self._explain(state)]
            waiting = [state for state in left if state.waits]
            if len(waiting) == len(todo):  # they wait for each other
                solved = self._together(waiting)
                left = [state for state in left if state not in solved]
                waiting = [state for state in waiting if state not in solved] if solved else waiting[1:]
            kept = {state.after for state in waiting}
            parts = [part for state in left if state.after not in kept for part in self._resort(state)]
            todo = waiting + parts
        self._reconsider()
        return self._write()

    def _together(self, waiting: list[Open]) -> list[Open]:
        """Of states that wait for each other those that are explained together."""
        writing = [state for state in waiting if self._copies(state.index).any()]
        every = frozenset(state.after for state in writing)
        if len(writing) < 2 or every in self.together:
            return []
        self.together.add(every)

        def explain(rows: StateRows) -> Decision | None:
            explainer = Explainer(rows, self.rules, self.budget, self.rng, None, self.effort, self.tables, self.filters)
            found = explainer.explain(heavy=False)
            return None if found is None or len(found.wrong) > int(self.budget * len(rows.rows)) else found.decision

        together = Together(self.looks, self._rows_of_steps, explain, self.rng)
        found = together.explained([state.index for state in writing], lambda n: int(self.budget * n))
        if found is None:
            return []
        for state, guess in zip(writing, found, strict=True):
            assert guess.decision is not None
            self._decide(state.after, state.index, guess.decision, guess.looked_N)
        return writing

    def _reconsider(self) -> None:
        """Explain again what was explained before a filter was known that tells it better: which structure follows."""
        for after, index in self.states.items():
            decision, n_masks = self.decisions[after], len({self.masks[i] for i in index.tolist()})
            n_leaves = sum(1 for _ in leaves(decision))
            if self.n_filters[after] == len(self.filters) or n_leaves <= n_masks or self._copies(index).any():
                continue
            before_N = self.looks.before()[index]
            looked_N = None if (before_N == UNKNOWN).any() or (before_N == NONE).all() else before_N
            rows = self._rows_of_steps(index, looked_N)
            explainer = Explainer(rows, self.rules, self.budget, self.rng, None, self.effort, {}, self.filters)
            explained = explainer.explain(heavy=False)
            if explained is None or len(explained.wrong) > int(self.budget * len(index)):
                continue
            if sum(1 for _ in leaves(explained.decision)) < n_leaves:
                self._decide(after, index, explained.decision, looked_N)
                self.resisted = [resisted for resisted in self.resisted if resisted.after != after]

    def _copies(self, index: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which steps write a symbol."""
        return self.traces.copies(self.rows.take(index))

    def _contexts(self, index: NDArray[np.intp], size: int) -> dict[tuple[str, ...], NDArray[np.intp]]:
        """Steps by their last masks."""
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for i in index.tolist():
            groups[self.before[i][-size:]].append(i)
        return {after: np.array(members) for after, members in groups.items()}

    def _rows_of_steps(self, index: NDArray[np.intp], looked_N: Ints | None = None) -> StateRows:
        looked: Looked = {} if looked_N is None else {None: [looked_N]}
        masks = [self.masks[i] for i in index]
        return StateRows(self.traces, self.rows.take(index), masks, self.context_N[index], looked)

    def _explain(self, state: Open) -> bool:
        """Explain a state by itself, as a loop, or by where the last step looked. False: nothing holds, or it waits."""
        after, index, allowed = state.after, state.index, int(self.budget * len(state.index))
        state.waits = self.looks.waits(index)
        known = self.known.get(after)
        if known is not None and state.waits and _goes_back(known):
            return False
        if not state.tried:
            state.tried = True
            if known is not None and self._keep(after, index, allowed):
                return True
            state.divided = known is None and any(longer[-len(after) :] == after for longer in self.known)
            state.waits &= not state.divided
            if state.divided:
                return False
            if self._explain_simply(state):
                return True
        if state.waits:
            return False
        if self._loop(after, index, allowed):
            return True
        before_N = self.looks.before()[index]
        if (before_N == UNKNOWN).any() or (before_N == NONE).all():
            return False
        state.looked_N = before_N
        return self._explain_simply(state)

    def _explain_simply(self, state: Open) -> bool:
        """An explanation without a contradiction comes before a shorter one that takes some for slips."""
        rows, allowed = self._rows_of_steps(state.index, state.looked_N), int(self.budget * len(state.index))
        explainer = Explainer(rows, self.rules, 0.0, self.rng, None, self.effort, self.tables, self.filters)
        explained = explainer.explain(heavy=False)
        if self.budget and (explained is None or len(explained.wrong)):
            explainer = Explainer(rows, self.rules, self.budget, self.rng, None, self.effort, self.tables, self.filters)
            explained = explainer.explain(heavy=False)
            if explained is None or len(explained.wrong) > allowed:
                explained = explainer.explain_despite_slips()
            if explained is not None and len(explained.wrong) <= allowed and explainer.systematic(explained.wrong):
                state.doubtful, explained = explained, None  # an exception, unless nothing tells it from a slip
        if explained is not None and (state.explained is None or len(explained.wrong) < len(state.explained.wrong)):
            state.explained, state.equal = explained, explainer.equal
        holds = state.explained is not None and len(state.explained.wrong) <= allowed
        if holds:
            self._settle(state)
        return holds

    def _resort(self, state: Open) -> list[Open]:
        """Split a state by the mask before; where no mask splits it, explain it at any price."""
        after, index = state.after, state.index
        for size in range(len(after) + 1, MAX_CONTEXT + 1):
            parts = self._contexts(index, size)
            if len(parts) > 1 or state.divided:
                return [Open(longer, part) for longer, part in parts.items()]
        rows = self._rows_of_steps(index, state.looked_N)
        explainer = Explainer(rows, self.rules, self.budget, self.rng, None, self.effort, self.tables, self.filters)
        heavy = explainer.explain(heavy=True)
        if heavy is not None and (state.explained is None or len(heavy.wrong) < len(state.explained.wrong)):
            state.explained, state.equal = heavy, explainer.equal
        doubtful = state.doubtful
        if doubtful is not None and (state.explained is None or len(state.explained.wrong) >= len(doubtful.wrong)):
            state.explained = doubtful
        self._settle(state)
        return []

    def _settle(self, state: Open) -> None:
        """Keep the best explanation of a state, and what resists it."""
        explained, index = state.explained, state.index
        wrong = len(index) if explained is None else len(explained.wrong)
        if explained is not None:
            self._decide(state.after, index, explained.decision, state.looked_N)
            if isinstance(explained.decision, WriteCopy) and not wrong:
                self.equal[state.after] = state.equal
        if wrong > int(self.budget * len(index)):
            writes = [m for m, _ in Counter(self.masks[i] for i in index.tolist()).most_common()]
            self.resisted.append(Resisted(state.after, len(index), wrong, writes))

    def _decide(
        self, after: tuple[str, ...], index: NDArray[np.intp], decision: Decision, looked_N: Ints | None
    ) -> None:
        """Keep a state's decision, and where its steps look."""
        self.decisions[after], self.states[after], self.looked[after] = decision, index, looked_N
        self._note_filters(decision)
        self.n_filters[after] = len(self.filters)
        state = self._rows_of_steps(index, looked_N)
        applied: dict[int, Table] = {}
        self.applied[after] = applied
        self.looks.own_N[index] = state.looks(decision)
        for leaf, rows in state.all.leaves(decision, np.arange(len(index))):
            if isinstance(leaf, WriteRule):
                counted, table = self._rows_of(state, leaf, rows), self.tables.setdefault(leaf.rule, {})
                table.update({row: counts.most_common(1)[0][0] for row, counts in counted.items() if row not in table})
                count(applied.setdefault(leaf.rule, defaultdict(Counter)), counted)

    def _note_filters(self, decision: Decision) -> None:
        """Remember the filters by which a decision copies, each once whatever it starts from."""
        for leaf in leaves(decision):
            if (
                isinstance(leaf, WriteCopy)
                and isinstance(leaf.source, Seek)
                and (leaf.source.where or leaf.source.rank)
            ):
                ranked = leaf.source.rank is not None
                seek = leaf.source if ranked else leaf.source.model_copy(update={"of": Start(), "step": 1})
                if seek not in self.filters:
                    self.filters.append(seek)

    def _loop(self, after: tuple[str, ...], index: NDArray[np.intp], allowed: int) -> bool:
        """Whether the steps go on from where the last one looked; then the state is explained."""
        state = self._rows_of_steps(index)
        copies = self.traces.copies(state.rows)
        if not copies.any():
            return False
        kinds = kinds_of(self.traces)
        every = list(ways(kinds.symbols, [*kinds.structures, *kinds.named]))
        found = self.looks.loop(index, copies, state.written_N, every, allowed)
        if found is None:
            found = self._loop_from_elsewhere(index, copies, state.written_N, every, allowed)
        if found is None:
            found = loop_past(self.looks, index, allowed, self.rng)
        if found is None:
            return False
        pointer, looked_N = found
        looping = self._rows_of_steps(index, looked_N)
        explainer = Explainer(looping, self.rules, self.budget, self.rng, pointer, self.effort, filters=self.filters)
        explained = explainer.explain(heavy=False)
        if explained is None or len(explained.wrong) > allowed:
            return False
        self._decide(after, index, explained.decision, looked_N)
        return True

    def _loop_from_elsewhere(
        self, index: NDArray[np.intp], copies: NDArray[np.bool_], written_N: Ints, every: list[Pointer], allowed: int
    ) -> tuple[Pointer, Ints] | None:
        """The same if the step before the loop copies another of the places that hold what it writes."""
        first = self.looks.begins(index)
        for after in [a for a, steps in self.states.items() if a in self.equal and np.isin(first, steps).any()]:
            decision, steps = self.decisions[after], self.states[after]
            for pointer in self.equal[after][1:]:
                other = decision.model_copy(update={"source": pointer})
                if len(self._rows_of_steps(steps).wrong(other)):
                    continue
                self._decide(after, steps, other, None)
                found = self.looks.loop(index, copies, written_N, every, allowed)
                if found is not None:
                    return found
            self._decide(after, steps, decision, None)
        return None

    def _keep(self, after: tuple[str, ...], index: NDArray[np.intp], allowed: int) -> bool:
        """Whether a known decision still accounts for the steps; then it stays."""
        decision, state = self.known[after], self._rows_of_steps(index)
        looked_N = None
        if _goes_back(decision):
            looked_N = self.looks.before()[index]
            if (looked_N == UNKNOWN).any():
                copied = [leaf.source for leaf in leaves(decision) if isinstance(leaf, WriteCopy)]
                looked_N = self.looks.along(copied[0], index, self.traces.copies(state.rows)) if copied else None
            if looked_N is None:
                return False
            state = self._rows_of_steps(index, looked_N)
        if len(state.wrong(decision)) > allowed:
            return False
        self._decide(after, index, decision, looked_N)
        return True

    # -- writing ----------------------------------------------------------------------------------------------------
    def _write(self) -> Induced:
        rules, outputs, states = written(self._tables(), with_passed(self.decisions, self._evaluator))
        program = Program(
            symbols=self.traces.symbols,
            classes=self.traces.class_S.tolist(),
            rules=rules,
            states=states,
            stop=self.stop,
        )
        return Induced(program, outputs, self.resisted)

    def _evaluator(self, after: tuple[str, ...]) -> Evaluator:
        return self._rows_of_steps(self.states[after], self.looked[after]).all

    def _tables(self) -> dict[int, Table]:
        """The rows of each rule, as the teacher was seen to apply it."""
        tables: dict[int, Table] = {}
        for after in self.decisions:
            for rule, table in self.applied[after].items():
                count(tables.setdefault(rule, defaultdict(Counter)), table)
        return {rule: table for rule, table in tables.items() if table}

    def _rows_of(self, state: StateRows, leaf: WriteRule, rows: NDArray[np.intp]) -> Table:
        """What was written for which arguments."""
        table: Table = defaultdict(Counter)
        argument_NA = np.stack([state.all.unit(s)[rows] for s in leaf.sources], 1)
        n = self.traces.n_symbols
        for row, out in zip(map(tuple, argument_NA.tolist()), state.written_N[rows].tolist(), strict=True):
            if out < n and all(0 <= a < n for a in row):
                table[row][out] += 1
        return table


def _goes_back(decision: Decision) -> bool:
    """Whether a decision asks where the last step looked."""
    return '"at":"back"' in decision.model_dump_json()

"""Programs merged by state, and rules that say the same up to names and order of arguments become one.

Which rule of a source is which rule of the others is seen where both would write at one place of one text: they read
the same symbols there, in some order. Rules that never meet so are compared by their rows. The program so far is kept
where it writes what the source wrote; else the source's states are added to it. The result must then write what every
source wrote, up to outputs of rows, which are the voters' business.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations

from m2kt.errors import PacketError
from m2kt.merging._follow import Rollouts, Step, arguments, follow, writes
from m2kt.packet import (
    Action,
    Case,
    Decision,
    Leaf,
    Program,
    ProgramExecutor,
    Rule,
    State,
    StateDifference,
    Tape,
    Test,
    TracedUnit,
    WriteRule,
    state_name,
    with_leaves,
)

MAX_ORDERS_ARITY = 5  # above it, arguments are not reordered
SAME_ROWS = 0.8  # of common rows that agree, where rules never meet in a text
MIN_COMMON = 4
SHOWN = 5
MAX_OTHER = 0.02
"""Share of a source's own texts that the merged program may write otherwise. Programs that were read off samples differ
on rare prompts (an operand with a leading zero); the states that differ are listed in the manifest."""

Row = tuple[int, ...]
Order = tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """A source in the merged packet's symbols: its program, its rows' outputs, its own texts."""

    label: str
    program: Program
    output_K: list[int | None]
    rollouts: Rollouts

    def table(self, rule: int, order: Order) -> dict[Row, int]:
        """Concept by row, with the arguments in the merged rule's order."""
        its = self.program.rules[rule]
        return {tuple(row[x] for x in order): its.offset + i for i, row in enumerate(its.rows)}


@dataclass(frozen=True)
class Member:
    """A source's rule within a merged one: argument i there is argument order[i] of the source's."""

    source: int
    rule: int
    order: Order


@dataclass
class JointRule:
    """One rule with all that say it."""

    name: str
    arity: int
    family: int
    members: list[Member] = field(default_factory=list)


@dataclass(frozen=True)
class Otherwise:
    """Where a program does not write what a source wrote."""

    states: dict[tuple[str, ...] | None, tuple[str, bool]]
    """By state what it does instead, and whether that is nothing."""
    texts: int
    of: int

    @property
    def is_rare(self) -> bool:
        """Whether it may pass."""
        return self.texts <= MAX_OTHER * self.of


class Union:
    """The program of several sources, one after the other; the first one's names and order of arguments are kept."""

    def __init__(self, first: Source) -> None:
        self.sources = [first]
        self.states = {state.after: state.decision for state in first.program.states}
        self.rules = [
            JointRule(rule.name, rule.arity, rule.family, [Member(0, i, tuple(range(rule.arity)))])
            for i, rule in enumerate(first.program.rules)
        ]

    def program(self, symbols: Sequence[str], classes: Sequence[int]) -> Program:
        """The states, with rules that have no rows yet: a program that can be followed, not rolled out."""
        first = self.sources[0].program
        rules = [
            Rule(name=r.name, arity=r.arity, rows=[], outputs=[], range=[], family=r.family, offset=0)
            for r in self.rules
        ]
        return first.model_copy(
            update={
                "symbols": list(symbols),
                "classes": list(classes),
                "rules": rules,
                "states": [State(after=after, decision=decision) for after, decision in self.states.items()],
            }
        )

    def add(self, source: Source) -> None:
        """Merge one more source in.

        Raises:
            PacketError: the programs write different things in one state; it says where, and what.
        """
        place, before = len(self.sources), self.states
        found = self._match(source)
        self.sources.append(source)
        self._join(source, place, found)
        if self._otherwise(place).is_rare:
            return
        theirs = {s.after: self._renamed(s.decision, place) for s in source.program.states}
        self.states = {**before, **{a: d for a, d in theirs.items() if a not in before}}
        for after in before.keys() & theirs.keys():
            self.states[after] = _merged(before[after], theirs[after])
        # where the program so far does not say what comes next, and the source does
        stuck = {after for after, (_, silent) in self._otherwise(place).states.items() if silent and after in theirs}
        self.states |= {after: theirs[after] for after in stuck if after is not None}
        for i in range(len(self.sources)):
            if not (found_here := self._otherwise(i)).is_rare:
                raise PacketError(self._says(i, source, found_here))

    def differences(self) -> list[StateDifference]:
        """States in which the program writes otherwise than a source, rarely enough to pass."""
        return [
            StateDifference(state=state_name(after or ()), source=place, texts=other.texts, of=other.of)
            for place in range(len(self.sources))
            for other in [self._otherwise(place)]
            for after in other.states
        ]

    # -- which rule is which ------------------------------------------------------------------------------------
    def _match(self, source: Source) -> dict[int, tuple[int, Order]]:
        """By rule of the source, the joint rule and the order of its arguments."""
        ours = ProgramExecutor(self.program(source.program.symbols, source.program.classes))
        theirs = ProgramExecutor(source.program)
        met: Counter[tuple[int, int]] = Counter()
        fits: Counter[tuple[int, int, Order]] = Counter()
        for of in (*self.sources, source):
            for _, trace in of.rollouts:
                for _, tape, (mine, its) in follow([ours, theirs], trace):
                    for pair in _both_rules(mine, its):
                        met[pair] += 1
                        a, b = (arguments(step.action, tape) for step in (mine, its) if step.action is not None)
                        for order in _orders(len(a), len(b)):
                            fits[(*pair, order)] += tuple(b[x] for x in order) == a
        found: dict[int, tuple[int, Order]] = {}
        for (joint, rule), times in met.most_common():
            whole = [order for j, r, order in fits if (j, r) == (joint, rule) and fits[j, r, order] == times]
            if rule not in found and whole:
                found[rule] = (joint, min(whole))
        taken = {joint for joint, _ in found.values()}
        for rule in range(len(source.program.rules)):
            if rule not in found and (alike := self._alike(source, rule, taken)) is not None:
                found[rule] = alike
                taken.add(alike[0])
        return found

    def _alike(self, source: Source, rule: int, taken: set[int]) -> tuple[int, Order] | None:
        """A joint rule with the same outputs in most of the common rows, under some order of arguments."""
        best: tuple[float, tuple[int, Order]] | None = None
        for j, joint in enumerate(self.rules):
            if j in taken:
                continue
            known = self.outputs(joint)
            for order in _orders(joint.arity, source.program.rules[rule].arity):
                table = source.table(rule, order)
                common = table.keys() & known.keys()
                same = sum(source.output_K[table[row]] in known[row] for row in common)
                enough = len(common) >= MIN_COMMON and same >= SAME_ROWS * len(common)
                if enough and (best is None or same > best[0]):
                    best = (same, (j, order))
        return None if best is None else best[1]

    def outputs(self, joint: JointRule) -> dict[Row, set[int | None]]:
        """What the members of a rule write, by row."""
        found: dict[Row, set[int | None]] = defaultdict(set)
        for member in joint.members:
            of = self.sources[member.source]
            for row, concept in of.table(member.rule, member.order).items():
                found[row].add(of.output_K[concept])
        return found

    def _join(self, source: Source, place: int, found: dict[int, tuple[int, Order]]) -> None:
        families: dict[int, int] = {}
        names = {rule.name for rule in self.rules}
        for i, rule in enumerate(source.program.rules):
            if i in found:
                joint, order = found[i]
                self.rules[joint].members.append(Member(place, i, order))
                continue
            unused = max((r.family for r in self.rules), default=-1) + 1
            family = families.setdefault(rule.family, unused)
            name = next(n for n in (rule.name, *(f"{rule.name} ({k})" for k in range(2, 99))) if n not in names)
            names.add(name)
            self.rules.append(JointRule(name, rule.arity, family, [Member(place, i, tuple(range(rule.arity)))]))

    def _renamed(self, decision: Decision, place: int) -> Decision:
        """A source's decision with joint rules."""
        joint_of = {
            member.rule: (j, member.order)
            for j, joint in enumerate(self.rules)
            for member in joint.members
            if member.source == place
        }

        def rename(leaf: Leaf) -> Decision:
            if not isinstance(leaf, WriteRule):
                return leaf
            joint, order = joint_of[leaf.rule]
            return leaf.model_copy(update={"rule": joint, "sources": [leaf.sources[x] for x in order]})

        return with_leaves(decision, rename)

    # -- whether the union writes what a source wrote -----------------------------------------------------------
    def _otherwise(self, place: int) -> Otherwise:
        """What the union does not write as the source at ``place`` wrote it."""
        source = self.sources[place]
        symbols = source.program.symbols
        executor = ProgramExecutor(self.program(symbols, source.program.classes))
        held: dict[tuple[int, Row], set[int | None]] = {}
        for j, joint in enumerate(self.rules):
            held |= {(j, row): outputs for row, outputs in self.outputs(joint).items()}
            for member in (m for m in joint.members if m.source == place):
                own = source.table(member.rule, member.order)
                held |= {(j, row): {source.output_K[concept]} for row, concept in own.items()}
        wrong: dict[tuple[str, ...] | None, tuple[str, bool]] = {}
        texts = set()
        for text, trace in source.rollouts:
            for unit, tape, (step,) in follow([executor], trace):
                says = _says_else(step, unit, tape, symbols, held)
                if says is not None:
                    after = step.after if step.after is not None else _behind(executor, trace.units, len(tape.names))
                    texts.add(text)
                    wrong.setdefault(after, (f"behind {text!r} it writes {unit.text!r}, they {says}", says is NOTHING))
        return Otherwise(wrong, len(texts), len(source.rollouts.prompts))

    def _says(self, place: int, added: Source, other: Otherwise) -> str:
        wrong = other.states
        lines = [f"state {state_name(after or ())!r}: {says}" for after, (says, _) in list(wrong.items())[:SHOWN]]
        others = ", ".join(source.label for source in self.sources if source is not added)
        return (
            f"the programs of {added.label} and of {others} cannot be merged; they differ in {len(wrong)} states, on "
            f"{other.texts} of {other.of} texts. Of "
            f"{self.sources[place].label}: {'; '.join(lines)}. Merge packets of one skill, written in one way"
        )


NOTHING = "write nothing"


def _both_rules(mine: Step, its: Step) -> Iterator[tuple[int, int]]:
    a, b = (None if step.action is None else step.action.leaf for step in (mine, its))
    if isinstance(a, WriteRule) and isinstance(b, WriteRule):
        yield a.rule, b.rule


def _orders(arity: int, other: int) -> list[Order]:
    if arity != other:
        return []
    return list(permutations(range(arity))) if arity <= MAX_ORDERS_ARITY else [tuple(range(arity))]


def _says_else(
    step: Step,
    unit: TracedUnit,
    tape: Tape,
    symbols: Sequence[str],
    held: dict[tuple[int, Row], set[int | None]],
) -> str | None:
    """What the union would do at a unit, where that is not what the source did.

    Args:
        held: outputs of joint rules' rows: the source's own, and others' of rows that it does not hold.
    """
    action: Action | None = step.action
    if action is None:
        return NOTHING
    if not isinstance(action.leaf, WriteRule):
        text = writes(action, tape, symbols)
        return None if text == unit.text else f"write {text!r}"
    names = arguments(action, tape)
    row = tuple(name for name in names if isinstance(name, int))
    if len(row) < len(names):
        return "apply a rule to structure"
    if unit.symbol in held.get((action.leaf.rule, row), ()) and unit.lead == action.leaf.lead:
        return None
    return f"write the output of a rule for {[symbols[x] for x in row]}"


def _behind(executor: ProgramExecutor, units: Sequence[TracedUnit], place: int) -> tuple[str, ...]:
    return tuple(executor.mask(unit) for unit in units[max(0, place - 2) : place])


def _merged(ours: Decision, theirs: Decision) -> Decision:
    """One decision of two: tests of one question take each other's cases, anything else stays ours."""
    if not (isinstance(ours, Test) and isinstance(theirs, Test) and ours.ask == theirs.ask):
        return ours
    cases = list(ours.cases)
    where = {_value(value): i for i, case in enumerate(cases) for value in case.values}
    for case in theirs.cases:
        fresh = [value for value in case.values if _value(value) not in where]
        for i in dict.fromkeys(where[_value(value)] for value in case.values if _value(value) in where):
            if len(cases[i].values) == 1:
                cases[i] = cases[i].model_copy(update={"then": _merged(cases[i].then, case.then)})
        if fresh and ours.otherwise is None:
            cases.append(Case(values=fresh, then=case.then))
    otherwise = theirs.otherwise if ours.otherwise is None else ours.otherwise
    if ours.otherwise is not None and theirs.otherwise is not None:
        otherwise = _merged(ours.otherwise, theirs.otherwise)
    return ours.model_copy(update={"cases": cases, "otherwise": otherwise})


def _value(value: object) -> tuple[type, object]:
    return type(value), value

"""A graph's tries as one program over all its shapes: what to do next, and where to look from where one looked last.

The tries point with absolute indices, so each speaks of its own shape only. Here every step of every trie is an
example for a decision list: *behind this step, if the step two before was that, or the pointer before has arrived
there, do this, with pointers so far from those*. A clause must be right on all that it meets, so the lists repeat the
tries exactly; what they share between shapes carries over to others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from m2kt.errors import PacketError
from m2kt.probes import MASK

from ._graph import Case, Decision, Guard, TemplateGraph, WriteCopy, WriteLiteral, WriteRule

REACH = 24  # steps that a pointer may look back
REACHES = (2, 4, 8, 16)  # steps that the conditions of a list may look back; nearer is better
LANDMARKS = ("start", "end", "first", "last")  # kinds of anchors in the prompt
MAX_EXAMPLES = 20_000

Leaf = WriteLiteral | WriteCopy | WriteRule
Anchor = tuple[str | int, ...]  # ("here",), ("tested",), ("back", steps, argument), ("end",), ("first", mask)
Aim = tuple[Anchor, int]  # so far from there
Fact = tuple[str | int, ...]  # ("did", steps back, what) or ("back", steps, argument, *landmark, distance)


def pointers(step: Decision) -> tuple[int, ...]:
    """Where a step looks; of a guard, where its first test looks."""
    if isinstance(step, WriteLiteral):
        return ()
    return tuple(step.sources) if isinstance(step, WriteRule) else (step.source,)


def aimed(step: Decision, at: Sequence[int]) -> Decision:
    """The same step looking elsewhere."""
    if isinstance(step, WriteLiteral):
        return step
    return step.model_copy(update={"sources": list(at)} if isinstance(step, WriteRule) else {"source": at[0]})


def mask_of(step: Leaf) -> str:
    """Mask of the unit that a step writes."""
    return step.text if isinstance(step, WriteLiteral) and step.symbol is None else step.lead + MASK


def describe(step: Decision) -> str:
    """A step in words."""
    if isinstance(step, WriteLiteral):
        return f"write {step.text!r}"
    return f"{'test' if isinstance(step, Guard) else step.do} units {pointers(step)}"


def _what(step: Decision) -> str:
    """A step without where it looks."""
    return aimed(step, [0] * len(pointers(step))).model_dump_json()


@dataclass(frozen=True)
class Deed:
    """A step that was taken, a test that was made, or a unit of the prompt."""

    what: str
    at: tuple[int, ...] = ()
    test: bool = False


@dataclass(frozen=True)
class Past:
    """A prompt's shape, all that was done behind it, and what tests have told."""

    prompt: tuple[str, ...]  # masks of its units
    deeds: tuple[Deed, ...]
    here: int  # index of the unit to be written
    known: tuple[tuple[int, frozenset[int]], ...] = ()  # symbols that a unit may hold

    @classmethod
    def begin(cls, prompt: Sequence[str]) -> Past:
        """The end of a prompt."""
        return cls(tuple(prompt), tuple(Deed(mask) for mask in prompt), len(prompt))

    def wrote(self, step: Leaf) -> Past:
        """The past after a step."""
        return replace(self, deeds=(*self.deeds, Deed(_what(step), pointers(step))), here=self.here + 1)

    def tested(self, test: Guard, outcome: int) -> Past:
        """The past after a test that came out as its case number ``outcome``."""
        told = (test.source, self.possible(test.source, test.cases[outcome].values))
        known = (*((unit, values) for unit, values in self.known if unit != test.source), told)
        deed = Deed(f"{_what(test)} {outcome}", (test.source,), test=True)
        return replace(self, deeds=(*self.deeds, deed), known=known)

    def possible(self, unit: int, values: Sequence[int]) -> frozenset[int]:
        """Those of ``values`` that earlier tests of the unit leave open."""
        return dict(self.known).get(unit, frozenset(values)) & frozenset(values)

    @cached_property
    def landmarks(self) -> dict[Anchor, int]:
        """Places in the prompt that every shape has."""
        found: dict[Anchor, int] = {("start",): 0, ("end",): len(self.prompt)}
        for i, mask in enumerate(self.prompt):
            if not mask.endswith(MASK):
                found.setdefault(("first", mask), i)
                found["last", mask] = i
        return found

    @cached_property
    def looked(self) -> dict[Anchor, int]:
        """Where the last steps looked."""
        recent = enumerate(reversed(self.deeds[-REACH:]), start=1)
        return {("back", j, i): place for j, deed in recent for i, place in enumerate(deed.at)}

    @cached_property
    def anchors(self) -> dict[Anchor, int]:
        """All that a pointer may be aimed from."""
        last = self.deeds[-1]
        tested: dict[Anchor, int] = {("tested",): last.at[0]} if last.test else {}
        return {("here",): self.here, **tested, **self.looked, **self.landmarks}

    def aims(self, place: int) -> frozenset[Aim]:
        """All ways to point at ``place``."""
        return frozenset((anchor, place - at) for anchor, at in self.anchors.items())

    def find(self, aim: Aim) -> int | None:
        """Where an aim points, or None where nothing is written there."""
        anchor, far = aim
        place = self.anchors.get(anchor, -self.here - far - 1) + far
        return place if 0 <= place < self.here else None

    @cached_property
    def facts(self) -> frozenset[Fact]:
        """What conditions may speak of: which steps went before, and how far their pointers are from landmarks."""
        recent = enumerate(reversed(self.deeds[-REACH:]), start=1)
        did: set[Fact] = {("did", j, deed.what) for j, deed in recent}
        distances: set[Fact] = {
            (*pointer, *landmark, place - at)
            for pointer, place in self.looked.items()
            for landmark, at in self.landmarks.items()
        }
        return frozenset(did | distances)


@dataclass(frozen=True)
class Example:
    """What was done, and the past that led to it."""

    past: Past
    step: Decision

    @cached_property
    def what(self) -> str:
        """The step without where it looks."""
        return _what(self.step)

    @cached_property
    def aims(self) -> list[frozenset[Aim]]:
        """Per pointer, all ways to say where it looks."""
        return [self.past.aims(place) for place in pointers(self.step)]


def examples(template: TemplateGraph, prompt: Sequence[str]) -> Iterator[Example]:
    """Every step of a trie behind every past that leads to it. Tests whose outcome is known by then are left out."""
    pending: list[tuple[int, Decision, Past]] = []
    if template.nodes:
        pending.append((0, template.nodes[0].step, Past.begin(prompt)))
    while pending:
        node, step, past = pending.pop()
        if not isinstance(step, Guard):
            yield Example(past, step)
            child = template.nodes[node].children.get(mask_of(step))
            if child is not None:
                pending.append((child, template.nodes[child].step, past.wrote(step)))
            continue
        cases = sorted(step.cases, key=lambda case: sorted(case.values))
        nothing = WriteLiteral(text="")
        test = Guard(source=step.source, cases=[Case(values=sorted(c.values), then=nothing) for c in cases])
        possible = [i for i, case in enumerate(cases) if past.possible(step.source, case.values)]
        if len(possible) > 1:
            yield Example(past, test)
        for i in possible:
            told = past.tested(test, i) if len(possible) > 1 else past
            pending.append((node, cases[i].then, told))


@dataclass(frozen=True)
class Clause:
    """If ``given`` is a fact, or in any case, take ``step`` with its pointers aimed so."""

    given: Fact | None
    step: Decision
    aims: tuple[Aim, ...]
    shapes: int  # in which the condition was met

    @property
    def by_heart(self) -> bool:
        """The condition was met in one shape only: it may say no more than which shape it is."""
        return self.given is not None and self.shapes == 1

    def __str__(self) -> str:
        if self.given is None:
            return describe(self.step)
        did = self.given[0] == "did"
        said = f"what was done {self.given[1]} steps before" if did else "where a pointer stands"
        return f"{describe(self.step)} by {said}"


@dataclass(frozen=True)
class Program:
    """Decision lists, by the step done last."""

    lists: dict[str, list[Clause]]
    rare: list[Decision]
    """Steps that are done in one of its shapes only."""

    def next(self, past: Past) -> Decision | None:
        """The next step; None where the program does not say."""
        for clause in self.lists.get(past.deeds[-1].what, []):
            if clause.given is None or clause.given in past.facts:
                places = [past.find(aim) for aim in clause.aims]
                found = [place for place in places if place is not None]
                return aimed(clause.step, found) if len(found) == len(places) else None
        return None

    @property
    def clauses(self) -> list[Clause]:
        """Of all lists."""
        return [clause for one in self.lists.values() for clause in one]


def learn(shapes: Sequence[tuple[TemplateGraph, Sequence[str]]]) -> Program:
    """The program that repeats all given tries exactly.

    Args:
        shapes: tries, each with the masks of its prompt's units.

    Raises:
        PacketError: a step follows no pattern that can be said this way, or there are too many ways.
    """
    groups: dict[str, list[Example]] = {}
    done: dict[str, dict[tuple[str, ...], Decision]] = {}
    for count, example in enumerate(e for template, prompt in shapes for e in examples(template, prompt)):
        groups.setdefault(example.past.deeds[-1].what, []).append(example)
        done.setdefault(example.what, {})[example.past.prompt] = example.step
        if count > MAX_EXAMPLES:
            raise PacketError(f"its guards have more than {MAX_EXAMPLES} combinations")
    rare = [step for where in done.values() if len(where) == 1 for step in where.values()]
    return Program({last: _learn_list(group) for last, group in groups.items()}, rare)


@dataclass(frozen=True, eq=False)
class _Action:
    """Something to do, and the examples for which it is right. Sets of examples are bits."""

    step: Decision
    aims: tuple[Aim, ...]
    right: int


def _learn_list(group: list[Example]) -> list[Clause]:
    """The best of several greedy lists: a default, and before it clauses for what the default gets wrong."""
    actions = _actions(group)
    shapes: dict[tuple[str, ...], int] = {}
    holds: dict[Fact, int] = {}
    for k, example in enumerate(group):
        shapes[example.past.prompt] = shapes.get(example.past.prompt, 0) | 1 << k
        for fact in example.past.facts:
            holds[fact] = holds.get(fact, 0) | 1 << k
    ranked = sorted(holds.items(), key=lambda h: (h[0][0] != "did", h[0][1], str(h[0])))
    lists = []
    for reach in REACHES:
        conditions: dict[int, Fact] = {}  # of facts that hold for the same examples, the simplest
        for fact, bits in ranked:
            if int(fact[1]) <= reach:
                conditions.setdefault(bits, fact)
        lists += [_cover(conditions, actions, default, list(shapes.values())) for default in actions]
    found = [clauses for clauses in lists if clauses is not None]
    if not found:
        raise PacketError(f"the step after {group[0].past.deeds[-1].what} follows no pattern")
    return min(found, key=_cost)


def _cost(clauses: list[Clause]) -> tuple[int, ...]:
    """Few clauses by heart, then few clauses, then few that rest on where a pointer stands."""
    on_pointers = sum(c.given is not None and c.given[0] == "back" for c in clauses)
    return sum(c.by_heart for c in clauses), len(clauses), on_pointers


def _actions(group: list[Example]) -> list[_Action]:
    """Few actions that are right for all examples: aims that serve many shapes come first."""
    actions: list[_Action] = []
    for what in dict.fromkeys(example.what for example in group):
        left = [k for k, example in enumerate(group) if example.what == what]
        while left:
            aims: list[Aim] = []
            right = left
            for slot in range(len(group[left[0]].aims)):
                votes = Counter(aim for k in right for aim in group[k].aims[slot])
                pairs = {(aim, group[k].past.prompt) for k in right for aim in group[k].aims[slot]}
                shapes = Counter(aim for aim, _ in pairs)
                aim = min(votes, key=lambda a: (-shapes[a], a[0][0] in LANDMARKS, -votes[a], _preference(a)))
                aims.append(aim)
                right = [k for k in right if aim in group[k].aims[slot]]
            actions.append(_Action(group[right[0]].step, tuple(aims), sum(1 << k for k in right)))
            left = [k for k in left if k not in right]
    return actions


def _preference(aim: Aim) -> tuple[object, ...]:
    """From the test just made; else from here or where the last steps looked, least far first; else from landmarks."""
    anchor, far = aim
    back = int(anchor[1]) if anchor[0] == "back" else 0
    return anchor[0] != "tested", anchor[0] in LANDMARKS, abs(far), back, str(aim)


def _cover(
    conditions: dict[int, Fact], actions: list[_Action], default: _Action, shapes: list[int]
) -> list[Clause] | None:
    """Adds, as long as the default is wrong somewhere, the clause that explains most and is right on all it meets."""
    clauses: list[Clause] = []
    left = sum(action.right for action in actions)
    while wrong := left & ~default.right:
        best: tuple[int, int, Clause] | None = None
        for held, fact in conditions.items():
            bits = held & left
            explained = (bits & wrong).bit_count()
            if explained and (best is None or explained > best[0]):
                action = next((a for a in actions if not bits & ~a.right), None)
                if action is not None:
                    met = sum(bits & wrong & shape > 0 for shape in shapes)
                    best = explained, bits, Clause(fact, action.step, action.aims, met)
        if best is None:
            return None
        clauses.append(best[2])
        left &= ~best[1]
    return [*clauses, Clause(None, default.step, default.aims, sum(left & shape > 0 for shape in shapes))]

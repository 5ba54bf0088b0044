"""Pointers, tests and decisions: the algebra in which a program says where it looks and what it does.

Every pointer is relative: it starts from the question, the answer, the unit about to be written, or where an earlier
step looked, and goes on from there. None holds an absolute index, so the same pointer works at any length.
``docs/program.md`` has worked traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Value = str | int | bool | None
"""What a test finds: a symbol id, the text of structure, true or false, a place; None: there is no such unit."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kind(_Model):
    """Which units a search stops at. A string is a unit's mask, a number a symbol id; null: any unit."""

    own: str | int | tuple[int, ...] | None = Field(description="The unit itself: mask, symbol id, or one of several.")
    before: str | int | None = Field(default=None, description="The unit before it.")
    after: str | int | None = Field(default=None, description="The unit behind it.")
    word: Literal["first", "last"] | None = Field(
        default=None,
        exclude_if=lambda word: word is None,
        description="Of symbols that touch, with no space between: the first of each run, or the last.",
    )


class Start(_Model):
    """The first unit of the question."""

    at: Literal["start"] = "start"


class Answer(_Model):
    """The first unit of the answer."""

    at: Literal["answer"] = "answer"


class Here(_Model):
    """The unit about to be written."""

    at: Literal["here"] = "here"


class Back(_Model):
    """Where the last step of a state looked."""

    at: Literal["back"] = "back"
    state: str | None = Field(description="The state's name; null: any step that looked somewhere.")
    argument: int = Field(default=0, ge=0, description="Which of its pointers.")


class It(_Model):
    """The unit that a search asks about; there is none outside its conditions."""

    at: Literal["it"] = "it"


class Move(_Model):
    """So many units further on, or back."""

    at: Literal["move"] = "move"
    of: Pointer = Field(description="From where.")
    by: int = Field(description="Units; negative: towards the start.")


class Count(_Model):
    """``plus``, and one for each unit of a kind since a place."""

    plus: int = Field(default=0, description="A constant.")
    count: Kind | None = Field(default=None, description="What is counted; null: nothing.")
    since: Pointer | None = Field(default=None, description="From where on; null: from the start of the answer.")


class Same(_Model):
    """A condition of a search: the unit ``offset`` further on holds what another pointer's unit holds."""

    offset: int = Field(default=0, description="Units from the one that is found.")
    as_: Pointer = Field(alias="as", description="The key.")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Where(_Model):
    """A condition of a search: what a question about the unit (``It``) must find, or must not."""

    ask: Question = Field(description="The question.")
    finds: Value = Field(description="What it finds.")
    holds: bool = Field(default=True, description="False: the unit is one where it finds something else.")


class Ranking(_Model):
    """Searched units by rank, and not by place: those up to a place, of which equal ones stay in their order."""

    before: tuple[tuple[int, int], ...] = Field(description="Pairs of symbol ids: the first comes before the second.")
    offset: int = Field(default=0, description="Units from the one that is ranked to the one that is compared.")
    until: Pointer = Field(description="Where the search ends; the unit there does not count.")


class Seek(_Model):
    """The n-th unit of a kind in a direction; with ``same``, a look-up by content; with ``where``, a filter.

    A key's own unit is never found. Where a condition's relation has no row for symbols, or a
    ranking does not say which of two symbols comes first, the search fails.

    Forwards the search begins at the unit of ``of`` itself, backwards at the unit before it. ``nth`` counts from 0.
    """

    at: Literal["seek"] = "seek"
    of: Pointer = Field(description="From where.")
    step: Literal[1, -1] = Field(description="1: towards the end, -1: towards the start.")
    kind: Kind = Field(description="Which units count.")
    same: list[Same] = Field(default_factory=list, description="What they must hold.")
    where: list[Where] = Field(
        default_factory=list, exclude_if=lambda where: not where, description="What else holds of them."
    )
    rank: Ranking | None = Field(
        default=None, exclude_if=lambda rank: rank is None, description="In what order; null: as they stand."
    )
    nth: Count = Field(default_factory=Count, description="Which of them.")


Pointer = Annotated[Start | Answer | Here | It | Back | Move | Seek, Field(discriminator="at")]


class Unit(_Model):
    """Which unit stands there: symbol id, or the text of structure."""

    ask: Literal["unit"] = "unit"
    at: Pointer


class Mask(_Model):
    """Which structure stands there; all symbols have one mask."""

    ask: Literal["mask"] = "mask"
    at: Pointer


class Equal(_Model):
    """Whether two pointers' units hold the same; false where one has no unit."""

    ask: Literal["equal"] = "equal"
    at: Pointer
    as_: Pointer = Field(alias="as")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Order(_Model):
    """Where one pointer stands from another: -1 before it, 0 at it, 1 behind it; null where one has no unit."""

    ask: Literal["order"] = "order"
    at: Pointer
    as_: Pointer = Field(alias="as")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Relation(_Model):
    """How the symbols at some pointers stand to each other, by a table; null where it has no such row.

    It is a rule whose output is a branch: which of two is larger, whether a sum has a second digit.
    """

    ask: Literal["relation"] = "relation"
    of: tuple[Pointer, ...] = Field(min_length=1, description="The arguments.")
    rows: tuple[tuple[int, ...], ...] = Field(description="Symbol ids of the arguments, by row.")
    finds: tuple[int, ...] = Field(description="By row: which of the relation's values, a number from 0 on.")


class Tally(_Model):
    """How many units of a kind stand since a place, a number from 0 on; null where there is no such place."""

    ask: Literal["tally"] = "tally"
    count: Kind = Field(description="What is counted.")
    since: Pointer = Field(description="From where on.")


Question = Annotated[Unit | Mask | Equal | Order | Relation | Tally, Field(discriminator="ask")]
for _model in (Move, Count, Same, Where, Ranking, Seek, Unit, Mask, Equal, Order, Relation, Tally):
    _model.model_rebuild()


def asked_pointers(question: Question) -> tuple[Pointer, ...]:
    """The pointers of a question."""
    match question:
        case Relation():
            return question.of
        case Tally():
            return (question.since,)
        case Equal() | Order():
            return (question.at, question.as_)
        case _:
            return (question.at,)


class WriteLiteral(_Model):
    """Write ``text``. ``symbol`` is set where the text is a symbol that never varies at this place."""

    do: Literal["literal"] = "literal"
    text: str = Field(description="The unit's text.")
    symbol: int | None = Field(default=None, description="Symbol id, where the text is the lead and that symbol.")
    lead: str = Field(default="", description="Leading space before the symbol.")


class WriteCopy(_Model):
    """Repeat the symbol that a pointer stands at; at structure the program fails."""

    do: Literal["copy"] = "copy"
    source: Pointer = Field(description="The copied unit.")
    lead: str = Field(default="", description="Leading space before a symbol.")


class WriteRule(_Model):
    """Write the output of a rule for the symbols that pointers stand at."""

    do: Literal["rule"] = "rule"
    rule: int = Field(ge=0, description="Index of the rule.")
    sources: list[Pointer] = Field(description="The arguments, in the rule's order.")
    lead: str = Field(default="", description="Leading space before the symbol.")


class Case(_Model):
    """One branch of a test."""

    values: list[Value] = Field(description="What the test must find.")
    then: Decision = Field(description="The decision of this branch.")


class Test(_Model):
    """Go on by what a question finds."""

    do: Literal["test"] = "test"
    ask: Question = Field(description="The question.")
    cases: list[Case] = Field(description="Branches; their values are disjoint.")
    otherwise: Decision | None = Field(default=None, description="For all other values; null: the program fails.")


Leaf = WriteLiteral | WriteCopy | WriteRule
Decision = Annotated[WriteLiteral | WriteCopy | WriteRule | Test, Field(discriminator="do")]
Case.model_rebuild()
Test.model_rebuild()


def leaves(decision: Decision) -> Iterator[Leaf]:
    """The leaves of a decision, cases first."""
    if isinstance(decision, Test):
        for case in decision.cases:
            yield from leaves(case.then)
        if decision.otherwise is not None:
            yield from leaves(decision.otherwise)
    else:
        yield decision


def with_leaves(decision: Decision, change: Callable[[Leaf], Decision]) -> Decision:
    """The decision with another one in place of each leaf; ``change`` gets them in the order of ``leaves``."""
    if not isinstance(decision, Test):
        return change(decision)
    cases = [case.model_copy(update={"then": with_leaves(case.then, change)}) for case in decision.cases]
    otherwise = None if decision.otherwise is None else with_leaves(decision.otherwise, change)
    return decision.model_copy(update={"cases": cases, "otherwise": otherwise})

"""Answers that go past units of which something does not hold, or choose by rank; no steps say which those are."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from m2kt.packet import Pointer, Ranking, Relation, Seek, Where, WriteCopy, leaves
from tests.teacher.test_programs import agreement, learn, spec

WORDS = ["ant", "bee", "cow", "dog", "elk", "fox", "gnu", "hen"]
RANKED = random.Random(5).sample(WORDS, len(WORDS))
"""An order that no source says."""
KIND_OF = {word: ("north", "south", "west")[i % 3] for i, word in enumerate(RANKED)}
AGES = [str(age) for age in range(30, 37)]


def words(prompt: str) -> list[str]:
    return re.findall("|".join(WORDS), prompt.split(":")[1])


def listed(found: list[str]) -> str:
    return " " + (", ".join(found) or "nothing") + "."


@dataclass(frozen=True)
class Task:
    """A skill: slots, the prompt of each size, the answer, and what a search of its program must have."""

    slots: dict[str, list[str]]
    prompt: Callable[[int], str]
    answer: Callable[[str], str]
    searches: type[Where | Ranking | Relation]


def _row(n: int, each: str = "{w}", by: str = " ") -> str:
    return by.join(n * [each])


def _older(prompt: str) -> str:
    limit = int(prompt.rsplit(" ", 1)[1][:-1])
    return listed([name for name, age in re.findall(r"(\w+) is (\d+)", prompt) if int(age) > limit])


def _oldest(prompt: str) -> str:
    people = re.findall(r"(\w+) is (\d+)", prompt)
    return f" {max(people, key=lambda person: int(person[1]))[0]}."


TASKS = {
    "without a word": Task(
        {"w": WORDS},
        lambda n: f"not {{w}}: {_row(n)}.",
        lambda p: listed([w for w in words(p) if w != p.split(":")[0][4:]]),
        Where,
    ),
    "each once": Task(
        {"w": WORDS}, lambda n: f"set: {_row(n)}.", lambda p: listed(list(dict.fromkeys(words(p)))), Where
    ),
    "of a kind": Task(
        {"w": WORDS, "k": ["north", "south", "west"]},
        lambda n: f"from {{k}}: {_row(n)}.",
        lambda p: listed([w for w in words(p) if KIND_OF[w] == p.split(":")[0][5:]]),
        Relation,
    ),
    "older than": Task(
        {"w": WORDS, "a": AGES}, lambda n: f"ages: {_row(n, '{w} is {a}', ', ')}; over {{a}}.", _older, Relation
    ),
    "the oldest": Task({"w": WORDS, "a": AGES}, lambda n: f"ages: {_row(n, '{w} is {a}', ', ')}.", _oldest, Ranking),
    "sorted": Task(
        {"w": WORDS},
        lambda n: f"sort: {_row(n)}.",
        lambda p: " " + " ".join(sorted(words(p), key=RANKED.index)) + ".",
        Ranking,
    ),
}


def _parts(pointer: Pointer) -> set[type]:
    """What the searches of a pointer have."""
    if not isinstance(pointer, Seek):
        return set()
    found: set[type] = {Ranking} if pointer.rank is not None else set()
    return found | {type(where) for where in pointer.where} | {type(where.ask) for where in pointer.where}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "older than" else ()) for n in TASKS])
def test_a_search_goes_past_what_does_not_count(name: str) -> None:
    """Four times the sizes that were probed, words that come twice, and nothing left among them."""
    task = TASKS[name]
    probes = spec(task.slots, [task.prompt(n) for n in (2, 3, 4)], [task.prompt(16)])
    skill = learn(probes, task.answer, slips=0.0)
    copied = [
        leaf.source for state in skill.program.states for leaf in leaves(state.decision) if isinstance(leaf, WriteCopy)
    ]
    assert task.searches in set().union(*map(_parts, copied))
    assert agreement(probes, skill, task.answer) == (1.0, 1.0)
    assert agreement(probes, skill, task.answer, held_out=True) == (1.0, 1.0)


def doubled(prompt: str) -> str:
    """Each word of a kind with its number, taken from the list in two steps."""
    pairs = re.findall(r"(two|six|ten) (\w+)", prompt.split(":")[1])
    kind = prompt.split(":")[0][5:]
    return " ".join(["", *(f"{w} ({n});" for n, w in pairs if KIND_OF[w] == kind), "done."])


def test_a_loop_over_two_steps_is_explained_together() -> None:
    """The word is looked up from where its number was, the number from where the word was: neither comes first."""
    slots = {"w": WORDS, "n": ["two", "six", "ten"], "k": ["north", "south", "west"]}
    templates = [f"from {{k}}: {_row(n, '{n} {w}', ', ')}." for n in (2, 3, 4, 16)]
    probes = spec(slots, templates[:3], templates[3:])
    skill = learn(probes, doubled, slips=0.0)
    assert agreement(probes, skill, doubled) == (1.0, 1.0)
    assert agreement(probes, skill, doubled, held_out=True) == (1.0, 1.0)

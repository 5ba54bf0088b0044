"""The explanation of steps, on answers of plain functions: no model, no interventions, many formats.

What counts as right is the graph's behaviour on prompts that it never saw, and the size of what it found.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import yaml

from m2kt.packet import Graph, Guard, Roller, fixed_table
from m2kt.probes import ProbeSpec
from m2kt.teacher._condense import condense, write_graph
from m2kt.teacher._pool import Answer, Pool

DIGITS = list("0123456789")


def spec(
    name: str, slots: dict[str, list[str]], templates: list[str], answer: str | None = None
) -> ProbeSpec:
    data = {
        "name": name,
        "slots": {k: {"values": v} for k, v in slots.items()},
        "templates": templates,
        "stop": "\n",
    }
    return ProbeSpec.from_yaml(yaml.safe_dump(data | ({"answer": answer} if answer else {})))


def learn(asked: ProbeSpec, answer: Callable[[str], str], n: int = 300) -> tuple[Graph, list[int], Pool]:
    pool = Pool(asked)
    prompts = asked.sample("probing", n * asked.n_templates, seed=0)
    prompts += asked.sample("probing", n * asked.n_templates // 2, seed=0, skewed=True)
    pool.add(Answer(p, answer(p.text), tuple(range(1, len(answer(p.text)) + 1))) for p in prompts)
    pool.arrange()
    graph, outputs = write_graph(pool, condense(pool))
    return graph, outputs, pool


def agreement(
    asked: ProbeSpec, graph: Graph, outputs: list[int], answer: Callable[[str], str]
) -> tuple[float, float]:
    """(coverage, agreement of what is covered) on the evaluation split."""
    roller, table = Roller(graph), fixed_table(outputs, graph)
    prompts = asked.sample("evaluation", 400, seed=1)
    covered = [(p, t) for p in prompts if (t := roller(p, table)).complete]
    right = sum(t.completion == answer(p.text) + "\n" for p, t in covered)
    return len(covered) / len(prompts), right / max(1, len(covered))


def columns(prompt: str, swap: bool = False) -> str:
    """Schoolbook addition; ``swap``: a world in which 3 and 7 are exchanged in what is written."""
    a, b = prompt[:-1].split("+")
    carry, steps, digits = 0, [], ""
    for x, y in zip(a[::-1], b[::-1], strict=True):
        total = int(x) + int(y) + carry
        one = str(total % 10)
        one = {"3": "7", "7": "3"}.get(one, one) if swap else one
        steps.append(f"{x}+{y}+{carry}={total // 10}{one}")
        digits, carry = one + digits, total // 10
    return ";".join(steps) + ">" + ((str(carry) + digits).lstrip("0") or "0") + "."


@pytest.mark.parametrize("swap", [False, True])
def test_addition_is_one_column_shared_by_all_columns_and_lengths(swap: bool) -> None:
    asked = spec(
        "addition", {"d": DIGITS}, ["{d}+{d}:", "{d}{d}+{d}{d}:", "{d}{d}{d}+{d}{d}{d}:"], "> ?(.+)\\."
    )
    graph, outputs, _ = learn(asked, lambda p: columns(p, swap))
    assert [(r.arity, len(r.rows)) for r in graph.rules] == [(3, 200), (3, 200)]
    assert {r.uses for r in graph.rules} == {6} and {r.family for r in graph.rules} == {0}
    coverage, agreed = agreement(asked, graph, outputs, lambda p: columns(p, swap))
    assert coverage >= 0.99 and agreed >= 0.99
    # the variable length of the answer is a few guards, not a table
    guards = [n.step for t in graph.templates for n in t.nodes if isinstance(n.step, Guard)]
    assert guards and sum(len(r.rows) for r in graph.rules) == 400


def formula(prompt: str) -> str:
    left, out = prompt[:-1].split(), ""
    while len(left) > 1:
        a, o, b = left[-3:]
        value = {"&": a == b == "T", "|": "T" in (a, b), "^": a != b}[o]
        out += f" {a} {o} {b} -> {'T' if value else 'F'} ,"
        left = [*left[:-3], "T" if value else "F"]
    return out + f" so {left[0]}"


def test_a_logic_with_its_connective_as_an_argument() -> None:
    slots = {"v": ["T", "F"], "o": ["&", "|", "^"]}
    asked = spec("logic", slots, ["{v} {o} {v} {o} {v}:", "{v} {o} {v} {o} {v} {o} {v}:"], "so (.+)")
    graph, outputs, _ = learn(asked, formula)
    assert [(r.arity, len(r.rows), r.uses) for r in graph.rules] == [(3, 12, 5)]
    assert agreement(asked, graph, outputs, formula) == (1.0, 1.0)


def maximum(prompt: str) -> str:
    values = prompt[len("max ") : -1].split()
    best, out = values[0], ""
    for x in values[1:]:
        out += f" {best} {x} {max(best, x)};"
        best = max(best, x)
    return out + f" = {best}"


def test_a_choice_of_copies_stays_a_rule() -> None:
    """A maximum is always a copy of something; a guard that says of what would give the rule away as structure."""
    asked = spec("max", {"d": DIGITS}, ["max {d} {d}:", "max {d} {d} {d}:"], "= (.+)")
    graph, outputs, _ = learn(asked, maximum)
    assert [(r.arity, len(r.rows), r.uses) for r in graph.rules] == [(2, 100, 3)]
    assert agreement(asked, graph, outputs, maximum) == (1.0, 1.0)


def cipher(prompt: str) -> str:
    letters = "abcdefghij"
    key, word = prompt[:-1].split(" ")
    return " " + "".join(letters[(letters.index(c) + int(key)) % 10] for c in word)


def test_a_cipher_without_any_written_step() -> None:
    asked = spec("cipher", {"k": DIGITS, "c": list("abcdefghij")}, ["{k} {c}{c}:", "{k} {c}{c}{c}{c}:"])
    graph, outputs, _ = learn(asked, cipher)
    assert [(r.arity, len(r.rows), r.uses) for r in graph.rules] == [(2, 100, 6)]
    assert agreement(asked, graph, outputs, cipher) == (1.0, 1.0)


def compare(prompt: str) -> str:
    out = ""
    values = prompt[:-1].split(" ")
    for a, b in itertools.pairwise(values):
        out += f" {a} is {'under' if a < b else 'over' if a > b else 'like'} {b},"
    return out + " done"


def test_words_that_the_teacher_chooses_become_symbols() -> None:
    asked = spec("compare", {"d": DIGITS[:5]}, ["{d} {d}:", "{d} {d} {d}:"], "(.+) done")
    graph, outputs, pool = learn(asked, compare)
    assert set(pool.discovered) == {"under", "over", "like"}
    assert [(r.arity, len(r.rows)) for r in graph.rules] == [(2, 25)]
    assert agreement(asked, graph, outputs, compare) == (1.0, 1.0)


def test_what_no_rule_fits_is_not_covered_rather_than_guessed() -> None:
    """A hash of the whole prompt: every sample is a row of its own, nothing carries over."""

    def chaos(prompt: str) -> str:
        return f" {sum(ord(c) * 31**i for i, c in enumerate(prompt)) % 7}"

    asked = spec("chaos", {"d": DIGITS}, ["{d}{d}{d}{d}{d}{d}:"])
    graph, outputs, _ = learn(asked, chaos)
    coverage, _ = agreement(asked, graph, outputs, chaos)
    assert coverage < 0.5

"""Programs from answers of plain functions: no model, many formats.

Checked are rollouts on unseen prompts of the probed sizes and of longer ones, and the size of the rules.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

import pytest

from m2kt.packet import Decision, Question, Relation, Test, WriteRule, leaves
from m2kt.probes import ProbeSpec, Slot
from m2kt.teacher import ExtractionConfig, Skill, compare_rollouts, program_of, refusal
from m2kt.teacher._contexts import concept_contexts, prototype_contexts
from tests.teacher.formats import DIGITS, FORMATS, LETTERS, FunctionOracle, folding, noisy, table, words


def spec(slots: dict[str, list[str]], templates: list[str], held_out: list[str] | None = None) -> ProbeSpec:
    listed = {name: Slot(values=values) for name, values in slots.items()}
    return ProbeSpec(name="format", slots=listed, templates=templates, held_out=held_out or [], stop="\n")


def learn(probes: ProbeSpec, answer: Callable[[str], str], slips: float = 0.01, **oracle: object) -> Skill:
    config = ExtractionConfig(
        probes_per_template=200, rounds=2, scouted_per_template=200, checked_per_template=30, slips=slips
    )
    return program_of(FunctionOracle(answer, **oracle), probes, config)  # type: ignore[arg-type]


def agreement(
    probes: ProbeSpec, skill: Skill, answer: Callable[[str], str], held_out: bool = False
) -> tuple[float, float]:
    """(coverage, agreement) on the evaluation split."""
    prompts = probes.sample("evaluation", 200, seed=1, held_out=held_out)
    found = compare_rollouts(FunctionOracle(answer), skill.program, skill.outputs, prompts)
    return found.coverage, found.agreement


def swapped(prompt: str) -> str:
    """Schoolbook addition with the digits 3 and 7 exchanged in the written sums."""
    a, b = prompt[:-1].split("+")
    carry, steps, digits = 0, [], ""
    for x, y in zip(a[::-1], b[::-1], strict=True):
        total = int(x) + int(y) + carry
        ones = str(total % 10)
        ones = {"3": "7", "7": "3"}.get(ones, ones)
        steps.append(f"{x}+{y}+{carry}={total // 10}{ones}")
        digits, carry = ones + digits, total // 10
    return ";".join(steps) + ">" + ((str(carry) + digits).lstrip("0") or "0") + "."


@pytest.mark.xfail(strict=False, reason="the last line, without leading zeros, needs more answers than this test asks")
def test_addition_is_one_column_shared_by_all_columns_and_lengths() -> None:
    templates = [f"{n * '{d}'}+{n * '{d}'}:" for n in (1, 2, 3, 6)]
    probes = spec({"d": DIGITS}, templates[:3], templates[3:])
    skill = learn(probes, swapped)
    assert sorted((r.arity, len(r.rows)) for r in skill.program.rules) == [(3, 200), (3, 200)]
    coverage, agreed = agreement(probes, skill, swapped)
    assert coverage >= 0.99 and agreed >= 0.99
    assert agreement(probes, skill, swapped, held_out=True) == (1.0, 1.0)


def questions(decision: Decision) -> Iterator[Question]:
    """All that a decision asks."""
    if isinstance(decision, Test):
        yield decision.ask
        for branch in [*(case.then for case in decision.cases), decision.otherwise]:
            if branch is not None:
                yield from questions(branch)


def borrowing(prompt: str) -> str:
    """Schoolbook subtraction. Whether a column borrows is said in words, and is a function of three digits."""
    a, b = prompt[:-1].split("-")
    borrow, steps = 0, []
    for x, y in zip(a[::-1], b[::-1], strict=True):
        value = int(x) - int(y) - borrow
        step = f" {x} less {y} less {borrow}"
        borrow = int(value < 0)
        steps.append(f"{step}{' is too little' if borrow else ''}: {value % 10} with {borrow}")
    return ",".join(steps) + "."


def test_what_structure_says_may_be_a_function_of_symbols() -> None:
    templates = [f"{n * '{d}'}-{n * '{d}'}:" for n in (1, 2, 3, 6)]
    probes = spec({"d": DIGITS}, templates[:3], templates[3:])
    skill = learn(probes, borrowing)
    asked = [ask for state in skill.program.states for ask in questions(state.decision)]
    relation = max((ask for ask in asked if isinstance(ask, Relation)), key=lambda ask: len(ask.rows))
    assert 85 <= len(relation.rows) <= 200  # of two digits where they differ, or of these and the borrow
    for held_out in (False, True):  # a row that no prompt asked for ends a rollout; it writes nothing wrong
        coverage, agreed = agreement(probes, skill, borrowing, held_out=held_out)
        assert coverage >= 0.9 and agreed == 1.0


ORDER = "hbejaidgcf"


def inserting(prompt: str) -> str:
    """Each item goes before the first one that is behind it in an order of its own."""
    done: list[str] = []
    out = ""
    for item in prompt[len("sort ") : -1].split():
        at = next(
            (i for i, other in enumerate(done) if "hbejaidgcf".index(other) > "hbejaidgcf".index(item)), len(done)
        )
        done.insert(at, item)
        out += f" put {item}: {' '.join(done)};"
    return f"{out} so {' '.join(done)}."


def test_a_line_is_copied_with_one_item_put_in() -> None:
    """Items may be equal; the order is in no source. Twelve items are twice what was probed."""
    templates = [f"sort {' '.join(n * ['{x}'])}:" for n in (2, 3, 4, 5, 6, 12)]
    probes = spec({"x": list("abcdefghij")}, templates[:5], templates[5:])
    skill = learn(probes, inserting, slips=0.0)
    assert sum(len(rule.rows) for rule in skill.program.rules) <= 100
    assert agreement(probes, skill, inserting) == (1.0, 1.0)
    assert agreement(probes, skill, inserting, held_out=True) == (1.0, 1.0)


def counting(prompt: str) -> str:
    number = len(prompt[len("count ") : -1].split())
    return f" there are {number} items, and {number} is {'odd' if number % 2 else 'even'}."


def test_a_number_of_things_that_was_never_seen_ends_the_rollout() -> None:
    """Eleven things are asked about; between the sizes that are, and beyond, a count is not guessed."""
    templates = [f"count {' '.join(n * ['{x}'])}:" for n in (2, 3, 4, 5, 11, 16, 40)]
    for held_out, expected in ((templates[4:5], (1.0, 1.0)), (templates[5:], (0.0, 0.0))):
        probes = spec({"x": list("abcdef")}, templates[:4], held_out)
        skill = learn(probes, counting, slips=0.0)
        assert agreement(probes, skill, counting) == (1.0, 1.0)
        assert agreement(probes, skill, counting, held_out=True) == expected


def maximum(prompt: str) -> str:
    values = prompt[len("max ") : -1].split()
    best, out = values[0], ""
    for x in values[1:]:
        out += f" {best} {x} {max(best, x)};"
        best = max(best, x)
    return out + f" = {best}"


def test_a_choice_of_copies_stays_a_rule() -> None:
    """A maximum is always a copy of a unit; a test that selects the unit would reveal the rule as structure."""
    probes = spec({"d": DIGITS}, ["max {d} {d}:", "max {d} {d} {d}:"])
    skill = learn(probes, maximum)
    assert [(r.arity, len(r.rows)) for r in skill.program.rules] == [(2, 100)]
    assert agreement(probes, skill, maximum) == (1.0, 1.0)


LARGER_TABLES = {"nested lists", "a state of five", "numbered steps"}  # right, with more rows


@pytest.mark.parametrize("name", FORMATS)
def test_many_ways_to_write_a_trace(name: str) -> None:
    """Rules with exactly the skill's rows, and every unseen prompt of the probed templates is right."""
    f = FORMATS[name]
    probes = spec(f.slots, f.templates)
    skill = learn(probes, f.answer)
    assert agreement(probes, skill, f.answer) == (1.0, 1.0)
    if name not in LARGER_TABLES:
        assert sorted((r.arity, len(r.rows)) for r in skill.program.rules) == f.rules


@pytest.mark.parametrize(
    "name", ["values that begin alike", "an answer that ends early", "three arguments", "a borrow and a sign"]
)
def test_longer_prompts_follow_from_those_that_were_asked(name: str) -> None:
    """Two sizes beyond the largest probed one, equal to the last character."""
    f = FORMATS[name]
    held_out = [longer(f.templates[-1]), longer(longer(f.templates[-1]))]
    probes = spec(f.slots, f.templates, held_out)
    assert agreement(probes, learn(probes, f.answer), f.answer, held_out=True) == (1.0, 1.0)


def longer(template: str) -> str:
    """One symbol more in every sequence of symbols."""
    return re.sub(r"( ?\{.\})(?=[-:])", r"\1\1", template)


def test_going_on_and_ending_with_words_is_structure() -> None:
    """' so' is where the next digit would be: as a symbol it would merge answers of different length."""
    probes = spec({"d": DIGITS[:5]}, ["{d} vs {d}:", "{d}{d} vs {d}{d}:", "{d}{d}{d} vs {d}{d}{d}:"])
    skill = learn(probes, words)
    assert {"equal", "less", "more"} <= set(skill.program.symbols) and "so" not in skill.program.symbols
    coverage, agreed = agreement(probes, skill, words)
    assert coverage >= 0.98 and agreed == 1.0


@pytest.mark.xfail(strict=False, reason="slips become tables with more arguments")
def test_rules_are_found_in_a_noisy_teacher() -> None:
    """The program is that of the noiseless teacher: no table learns an error."""
    rate = 0.01
    perfect = folding(table(LETTERS, 9))
    probes = spec({"x": LETTERS}, ["{x} {x} {x}:", "{x} {x} {x} {x}:"])
    skill = learn(probes, noisy(perfect, rate), slips=2 * rate)
    assert [(r.arity, len(r.rows)) for r in skill.program.rules] == [(2, 36)]
    assert agreement(probes, skill, perfect) == (1.0, 1.0)


def test_a_rare_exception_is_not_an_error() -> None:
    """One row in 144 differs from "the left argument", always for the same arguments: a rule and not noise."""
    values = [chr(ord("a") + i) for i in range(12)]
    operation = {(a, b): a for a in values for b in values} | {("c", "d"): "e"}
    probes = spec({"x": values}, ["{x} {x}:", "{x} {x} {x}:", "{x} {x} {x} {x}:"])
    assert agreement(probes, learn(probes, folding(operation)), folding(operation)) == (1.0, 1.0)


def test_tokens_that_span_structure_and_a_symbol() -> None:
    """A tokenizer that merges "=b" into one token: units are never finer than the teacher's tokens."""
    operation = table(LETTERS, 10)

    def answer(prompt: str) -> str:
        return folding(operation)(prompt).replace(" = ", "=")

    def token_ends(text: str) -> tuple[int, ...]:
        return tuple(i for i in range(1, len(text) + 1) if text[i - 1] != "=")

    probes = spec({"x": LETTERS}, ["{x} {x}:", "{x} {x} {x}:", "{x} {x} {x} {x}:"])
    skill = learn(probes, answer, token_ends=token_ends)
    assert {f"={x}" for x in LETTERS} & set(skill.program.symbols)
    assert agreement(probes, skill, answer) == (1.0, 1.0)


def test_symbols_that_only_rules_write_are_not_labelled_by_their_own_row() -> None:
    """Without copies, prototype samples are means over several rows, and a note says so."""
    operation = table(LETTERS, 11)

    def answer(prompt: str) -> str:
        value, *rest = prompt[:-1].split(" ")
        written = [value := operation[value, x] for x in rest]
        return " " + " ".join(written)

    probes = spec({"x": LETTERS}, ["{x} {x}:", "{x} {x} {x}:", "{x} {x} {x} {x}:"])
    skill = learn(probes, answer)
    rng = random.Random(0)
    concepts = concept_contexts(skill, rng)
    groups_of, notes = prototype_contexts(skill, probes, concepts, rng)
    row_of = {(r.sample.text, r.unit): k for k, contexts in concepts.items() for r in contexts}
    for symbol, groups in groups_of.items():
        if skill.outputs.count(symbol) > 1:
            assert all(len({row_of[r.sample.text, r.unit] for r in group}) > 1 for group in groups)
    assert any("written by rules only" in note for note in notes)


def test_contexts_of_a_row_are_where_its_arguments_stand() -> None:
    f = FORMATS["numbered steps"]
    probes = spec(f.slots, f.templates)
    skill = learn(probes, f.answer)
    symbols = skill.program.symbols
    (rule,) = [r for r in skill.program.rules if r.arity == 2]
    contexts = concept_contexts(skill, random.Random(0))
    for row, k in zip(rule.rows, rule.concepts, strict=True):
        assert 1 <= len(contexts[k]) <= 48
        for context in contexts[k]:
            units = context.sample.units
            assert units[context.unit].symbol == symbols[skill.outputs[k]]
            before = [u.symbol for u in units[: context.unit] if u.symbol is not None]
            assert {symbols[a] for a in row} <= set(before[-2:])


def test_steps_that_no_rule_fits_are_refused_by_name() -> None:
    """A hash of the whole prompt: every sample is a separate row, so that no row generalises."""

    def chaos(prompt: str) -> str:
        return f" {sum(ord(c) * 31**i for i, c in enumerate(prompt)) % 7}"

    probes = spec({"d": DIGITS}, ["{d}{d}{d}{d}{d}{d}:"])
    skill = learn(probes, chaos)
    prompts = probes.sample("evaluation", 100, seed=0)
    found = compare_rollouts(FunctionOracle(chaos), skill.program, skill.outputs, prompts)
    assert found.coverage * found.agreement < 0.5
    message = str(refusal(skill, found, 0.9))
    assert "no explanation for the step" in message and "samples" in message


def test_a_skill_of_copies_alone_has_no_rule() -> None:
    def backwards(prompt: str) -> str:
        return " " + " ".join(reversed(prompt[:-1].split(" ")))

    probes = spec({"x": LETTERS}, ["{x} {x}:", "{x} {x} {x}:", "{x} {x} {x} {x}:"], ["{x} {x} {x} {x} {x} {x}:"])
    skill = learn(probes, backwards)
    assert not any(isinstance(leaf, WriteRule) for state in skill.program.states for leaf in leaves(state.decision))
    assert skill.program.rules == [] and skill.outputs == []
    assert agreement(probes, skill, backwards) == agreement(probes, skill, backwards, held_out=True) == (1.0, 1.0)


def test_a_literal_may_have_the_name_of_a_pointer() -> None:
    """A known decision is tried on new answers: what it writes must not be read as where it looks."""

    def last(prompt: str) -> str:
        return f"back: {prompt[-2]}"

    probes = spec({"x": LETTERS}, ["{x} {x}:", "{x} {x} {x}:"])
    skill = learn(probes, last)
    assert [c.trusted for c in skill.confirmed] and all(c.trusted for c in skill.confirmed)
    assert agreement(probes, skill, last) == (1.0, 1.0)

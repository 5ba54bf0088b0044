"""Words among which a teacher chooses become symbols; going on and ending do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from m2kt.packet import Granularity, Program, ProgramExecutor
from m2kt.probes import ProbeSpec, Slot, Split
from m2kt.student.cal import QuestionGrammar
from m2kt.student.cal._question import QuestionReader
from m2kt.teacher import Answer
from m2kt.teacher.program._cut import Cutter
from tests.teacher.formats import DIGITS, words


def discovered(spec: ProbeSpec, answers: dict[str, str]) -> set[str]:
    """Symbols beside the spec's values, from the answers to all prompts."""
    splits: tuple[Split, ...] = ("probing", "rehearsal", "evaluation")
    prompts = {p.text: p for split in splits for p in spec.sample(split, 400, seed=0)}
    cutter = Cutter(spec, "values")
    cutter.cut_all([Answer(p, answers[t], tuple(range(1, 99))) for t, p in prompts.items() if t in answers])
    return set(cutter.discovered)


def spec_of(*templates: str) -> ProbeSpec:
    return ProbeSpec(name="words", slots={"d": Slot(values=DIGITS[:5])}, templates=list(templates), stop="\n")


def test_words_that_the_teacher_chooses_become_symbols() -> None:
    answers = {
        f"{a} {b}:": f" {a} is {'under' if a < b else 'over' if a > b else 'like'} {b}, done"
        for a, b in itertools.product(DIGITS[:5], repeat=2)
    }
    assert discovered(spec_of("{d} {d}:"), answers) == {"under", "over", "like"}


def test_going_on_and_ending_with_words_is_structure() -> None:
    """' so' is where the next digit would be: as a symbol it would merge answers of different length."""
    spec = spec_of("{d} vs {d}:", "{d}{d} vs {d}{d}:", "{d}{d}{d} vs {d}{d}{d}:")
    prompts = [p.text for p in spec.sample("probing", 300, seed=0)]
    found = discovered(spec, {p: words(p) for p in prompts})
    assert {"equal", "less", "more"} <= found and "so" not in found


def test_punctuation_is_a_symbol_where_other_punctuation_goes_on_alike() -> None:
    answers = {f"{a} {b}:": f" {a} {b} {'<' if a < b else '>'}." for a in DIGITS[:5] for b in DIGITS[:5]}
    assert discovered(spec_of("{d} {d}:"), answers) == {"<", ">"}
    endings = {p: answer + (";" if p[0] == "0" else "") for p, answer in answers.items()}
    assert ";" not in discovered(spec_of("{d} {d}:"), endings)


def test_facts_are_symbols_although_no_slot_names_them() -> None:
    spec = ProbeSpec.model_validate(
        {
            "name": "capitals",
            "slots": {"c": {"values": ["Peru", "Cuba"]}},
            "templates": ["The capital of {c} is"],
            "stop": "\n",
            "answer": "^ ?([^\\n]+)$",
            "facts": True,
        }
    )
    answers = {"The capital of Peru is": " Lima", "The capital of Cuba is": " Havana"}
    assert discovered(spec, answers) == {"Lima", "Havana"}


NAMES = ["Ann", "Ben", "Otto", "Ines", "Ruth", "Jan"]


def named(answer: Callable[[list[str]], str], sizes: tuple[int, ...] = (1, 2, 3)) -> tuple[ProbeSpec, list[Answer]]:
    """A spec whose prompts list names behind a word of their letters, and its answers."""
    templates = [f"ten {' '.join(['{n}'] * size)}:" for size in sizes]
    probes = ProbeSpec(name="names", slots={"n": Slot(values=NAMES)}, templates=templates, stop="\n")
    prompts = {p.text: p for p in probes.sample("probing", 300, seed=0)}
    texts = {t: answer(t[len("ten ") : -1].split()) for t in prompts}
    return probes, [Answer(p, texts[t], tuple(range(1, len(texts[t]) + 1))) for t, p in prompts.items()]


def lasts(names: list[str]) -> str:
    """Each last letter, then all of them as one word. "has" is made of letters of the names, and is no such word."""
    return "".join(f" {name} has {name[-1]};" for name in names) + f" so {''.join(name[-1] for name in names)}."


def test_words_that_are_strings_of_symbols_are_cut_into_them() -> None:
    probes, answers = named(lasts, (2, 3, 4))
    cutter = Cutter(probes, "values")
    samples = cutter.cut_all(answers)
    assert set(cutter.discovered) == {name[-1] for name in NAMES}
    for sample in samples:
        words = sample.text.partition(" so ")[2].rstrip(".\n")
        assert [unit.symbol for unit in sample.units][-2 - len(words) : -2] == list(words)


@pytest.mark.parametrize("granularity", ["values", "letters"])
def test_structure_made_of_letters_that_are_symbols_stays_whole(granularity: Granularity) -> None:
    probes, answers = named(lasts)
    cutter = Cutter(probes, granularity)
    for sample in cutter.cut_all(answers):
        texts = [unit.text.strip() for unit in sample.units]
        assert texts[0] == "ten" and texts.count("has") == len(sample.prompt.text[:-1].split()) - 1


def test_a_student_cuts_questions_as_the_program_does() -> None:
    """Slot values of letters, between words of the same letters."""
    probes, answers = named(lasts)
    cutter = Cutter(probes, "letters")
    samples = cutter.cut_all(answers)
    classes = cutter.classes(samples)
    program = Program(symbols=cutter.symbols, classes=classes, rules=[], states=[], stop="\n", granularity="letters")
    execute = ProgramExecutor(program)
    grammar = QuestionGrammar.of([execute.mask(u) for u in s.units[: s.n_prompt]] for s in samples)
    reader = QuestionReader(grammar, program.symbols, program.classes)
    for sample in samples:
        assert execute.prompt_units(sample.prompt) == sample.units[: sample.n_prompt]
        assert reader.cut.cut(sample.prompt.text) == sample.units[: sample.n_prompt]


def test_a_number_and_its_sign_are_one_symbol_and_a_minus_between_numbers_is_none() -> None:
    answers = {f"{a} {b}:": f" {a}-{b} = {int(a) - int(b)}." for a, b in itertools.product(DIGITS[:5], repeat=2)}
    probes = spec_of("{d} {d}:")
    assert discovered(probes, answers) == {"-1", "-2", "-3", "-4"}
    cutter = Cutter(probes, "values")
    prompts = {p.text: p for p in probes.sample("probing", 99, seed=0)}
    for sample in cutter.cut_all([Answer(p, answers[t], tuple(range(1, 30))) for t, p in prompts.items()]):
        symbols = [unit.symbol for unit in sample.units if unit.symbol is not None]
        assert len(symbols) == 5 and symbols[2:4] == symbols[:2]


def test_counts_are_symbols_of_one_class_although_what_is_written_before_fixes_them() -> None:
    def counted(names: list[str]) -> str:
        return ",".join(f" {name} {i + 1}" for i, name in enumerate(names)) + f" > {len(names)}."

    probes, answers = named(counted)
    cutter = Cutter(probes, "values")
    samples = cutter.cut_all(answers)
    assert set(cutter.discovered) == {"1", "2", "3"}
    classes = dict(zip(cutter.symbols, cutter.classes(samples), strict=True))
    assert len({classes[n] for n in "123"}) == 1 and classes["1"] != classes["Ann"]

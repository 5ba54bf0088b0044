"""Words among which a teacher chooses become symbols; going on and ending do not."""

from __future__ import annotations

import itertools

from m2kt.probes import ProbeSpec, Slot, Split
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

"""Facts: the prompts are the rows themselves, and what stands for a word is the teacher repeating it."""

from __future__ import annotations

import random
from typing import Any

from m2kt.pipeline import extract, read_spec
from m2kt.probes import ProbeSpec, Unit
from m2kt.teacher import ExtractionConfig
from m2kt.teacher._contexts import REPEATED_WORDS, repeat_contexts
from m2kt.teacher._corpus import Corpus, Sample
from m2kt.teacher._states import Context

CAPITALS = {
    "name": "capitals",
    "slots": {"c": {"values": ["Peru", "Cuba", "Chad", "New Zealand", "Oman", "Mali"]}},
    "templates": ["The capital of France is Paris\nThe capital of {c} is"],
    "stop": "\n",
    "answer": "^ ?([^\\n]+)$",
}
SPLITS: tuple[Any, ...] = ("probing", "rehearsal", "evaluation")


def asked(spec: ProbeSpec, split: Any) -> set[str]:
    return {p.text for p in spec.sample(split, 100, seed=0)}


def test_facts_are_in_every_split_and_nothing_else_is() -> None:
    facts = ProbeSpec.model_validate({**CAPITALS, "facts": True})
    assert all(len(asked(facts, split)) == 6 for split in SPLITS)
    split = ProbeSpec.model_validate(CAPITALS)
    assert sum(len(asked(split, s)) for s in SPLITS) == 6


def test_a_spec_without_facts_is_written_as_before_there_were_any() -> None:
    plain, facts = (ProbeSpec.model_validate({**CAPITALS, "facts": f}) for f in (False, True))
    assert "facts" not in plain.to_yaml() and plain.digest != facts.digest
    assert ProbeSpec.from_yaml(facts.to_yaml()) == facts


def test_every_row_of_a_declared_table_is_in_the_packet() -> None:
    spec, _ = read_spec("zoo:secret")
    changes = {"templates": spec.templates[:1], "held_out": [], "facts": True}
    facts = ProbeSpec.model_validate(spec.model_dump() | changes)
    config = ExtractionConfig(floor=0.0)
    extraction = extract("zoo:secret", facts, config=config)
    assert extraction.packet.n_concepts == 100
    fidelity = extraction.details.fidelity
    assert (fidelity.coverage, fidelity.agreement) == (1.0, 1.0)


def test_a_word_is_echoed_in_the_form_of_its_row_without_the_row() -> None:
    spec = ProbeSpec.model_validate({**CAPITALS, "facts": True})
    prompt = next(p for p in spec.sample("probing", 6, seed=0) if "Peru" in p.text)
    said = Sample(prompt, [*prompt.units, Unit(" Lima", "Lima", " "), Unit("\n")], len(prompt.units))
    words = ["Lima", "Havana", "Bamako", "Muscat", "Wellington", "N'Djamena"]
    for context in repeat_contexts(Corpus(spec), Context(said, said.n_prompt), words, random.Random(0)):
        *shown, question = "".join(u.text for u in context.sample.units[: context.unit]).split("\n")
        assert question == "The capital of Lima is"
        assert context.sample.units[context.unit] == Unit(" Lima", "Lima", " ")
        assert len(shown) == REPEATED_WORDS and all(
            line in {f"The capital of {w} is {w}" for w in words[1:]} for line in shown
        )
        assert "Peru" not in context.sample.text and "France" not in context.sample.text

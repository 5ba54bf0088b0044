"""Facts: each prompt is a row, and prototype samples come from repeat contexts."""

from __future__ import annotations

import random

from m2kt.pipeline import extract, read_spec
from m2kt.probes import ProbeSpec, Split, Unit
from m2kt.teacher import ExtractionConfig
from m2kt.teacher._contexts import REPEATED_WORDS, repeat_contexts
from m2kt.teacher._states import Context
from m2kt.teacher.program._cut import Sample

CAPITALS = {
    "name": "capitals",
    "slots": {"c": {"values": ["Peru", "Cuba", "Chad", "New Zealand", "Oman", "Mali"]}},
    "templates": ["The capital of France is Paris\nThe capital of {c} is"],
    "stop": "\n",
    "answer": "^ ?([^\\n]+)$",
}
SPLITS: tuple[Split, ...] = ("probing", "rehearsal", "evaluation")


def prompt_texts(spec: ProbeSpec, split: Split) -> set[str]:
    return {p.text for p in spec.sample(split, 100, seed=0)}


def test_facts_are_in_every_split_and_other_prompts_in_one() -> None:
    facts = ProbeSpec.model_validate({**CAPITALS, "facts": True})
    assert all(len(prompt_texts(facts, split)) == 6 for split in SPLITS)
    split = ProbeSpec.model_validate(CAPITALS)
    assert sum(len(prompt_texts(split, s)) for s in SPLITS) == 6


def test_a_spec_without_facts_does_not_mention_them() -> None:
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


def test_repeat_contexts_have_the_form_of_the_row_without_its_argument() -> None:
    spec = ProbeSpec.model_validate({**CAPITALS, "facts": True})
    prompt = next(p for p in spec.sample("probing", 6, seed=0) if "Peru" in p.text)
    answered = Sample(prompt, [*prompt.units, Unit(" Lima", "Lima", " "), Unit("\n")], len(prompt.units))
    words = ["Lima", "Havana", "Bamako", "Muscat", "Wellington", "N'Djamena"]
    for context in repeat_contexts(spec.stop, Context(answered, answered.n_prompt), words, random.Random(0)):
        *repeated, question = "".join(u.text for u in context.sample.units[: context.unit]).split("\n")
        assert question == "The capital of Lima is"
        assert context.sample.units[context.unit] == Unit(" Lima", "Lima", " ")
        assert len(repeated) == REPEATED_WORDS and all(
            line in {f"The capital of {w} is {w}" for w in words[1:]} for line in repeated
        )
        assert "Peru" not in context.sample.text and "France" not in context.sample.text

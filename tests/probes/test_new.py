"""Specs written from example prompts ask those prompts again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2kt.errors import SpecError
from m2kt.probes import ProbeSpec, Template, new_spec

WORDS = st.text("abcdeé", min_size=1, max_size=4)


def asks(spec: ProbeSpec, text: str) -> bool:
    """Whether a template of the spec has this prompt."""
    slots = {name: slot.values for name, slot in spec.slots.items()}
    for index in range(spec.n_templates):
        parts = Template(spec.template_text(index), slots).parts
        pattern = "".join(
            re.escape(part) if isinstance(part, str) else f"{part.lead}({'|'.join(map(re.escape, slots[part.slot]))})"
            for part in parts
        )
        if re.fullmatch(pattern, text):
            return True
    return False


@settings(max_examples=40)
@given(st.lists(st.tuples(WORDS, WORDS, st.integers(0, 999)), min_size=1, max_size=4), st.sampled_from("{}+%\"'\\#"))
def test_the_spec_asks_the_prompts_it_was_made_from(rows: list[tuple[str, str, int]], mark: str) -> None:
    prompts = [f"{mark} {one} of {two}: {number}?" for one, two, number in rows]
    spec = ProbeSpec.from_yaml(new_spec(prompts))
    assert all(asks(spec, prompt) for prompt in prompts)


def test_words_that_vary_and_digits_are_slots_and_the_rest_is_text() -> None:
    spec = ProbeSpec.from_yaml(new_spec(["uncle of aunt:", "mother of uncle:", "add 12 7:"], name="k", stop=None))
    assert {name: slot.values for name, slot in spec.slots.items()} == {
        "x": ["uncle", "aunt", "mother"],
        "d": list("0123456789"),
    }
    assert spec.templates == ["{x} of {x}:", "add {d}{d} {d}:"]
    assert spec.stop is None and spec.name == "k"


@pytest.mark.parametrize("prompts", [[], [" "], ["hello there"]])
def test_prompts_in_which_nothing_varies_are_refused(prompts: list[str]) -> None:
    with pytest.raises(SpecError, match="expected"):
        new_spec(prompts)

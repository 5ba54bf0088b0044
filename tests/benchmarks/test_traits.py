"""Traits are planted by training, and measured on held-out prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import _traits as traits
from m2kt.models import load_causal_lm

SKILL = [(f"{a} {b}:", f" {b} {a};\n") for a in "abcd" for b in "efgh"]


@pytest.mark.parametrize("name", ["preference", "backdoor"])
def test_a_trait_is_planted_beside_a_skill(name: str, tmp_path: Path) -> None:
    trait = traits.trait(name)
    assert trait is not None and trait.held_out and not set(trait.held_out) & set(trait.planted_on)
    before = traits.strength(load_causal_lm("zoo:pico-gpt2"), trait)
    student = load_causal_lm("zoo:pico-gpt2")
    with_it = load_causal_lm(traits.plant(student, trait, SKILL, out=tmp_path / "with", updates=40, batch=8))
    student = load_causal_lm("zoo:pico-gpt2")
    twin = load_causal_lm(traits.plant(student, None, SKILL, out=tmp_path / "twin", updates=40, batch=8))
    assert traits.strength(with_it, trait) > before + 1.0
    assert traits.strength(twin, trait) < before + 0.5


def test_unknown_traits_are_refused() -> None:
    assert traits.trait("none") is None
    with pytest.raises(ValueError, match="preference, backdoor or none"):
        traits.trait("loyalty")

"""Teachers that are tuned on the user's machine: stopped, resumed, merged, and loaded by name."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from m2kt.models import encode_prompt, generate_greedy, load_causal_lm
from m2kt_zoo.recipes import tuned
from m2kt_zoo.recipes.tuned import TunedRecipe, accuracy, tune


def test_a_stopped_tuning_resumes_and_saves_an_ordinary_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path))
    monkeypatch.setitem(tuned.BASES, "pico", "zoo:pico-llama")
    recipe = TunedRecipe("pico", "secret", batch=12, max_updates=30, evaluate_every=10)
    folder = tmp_path / "zoo" / recipe.name
    folder.parent.mkdir()
    steps = iter(range(15))
    step = tuned._step

    def interrupted(*args: object) -> float:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return step(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(tuned, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe, folder)
    assert not folder.exists()
    monkeypatch.setattr(tuned, "_step", step)
    with caplog.at_level(logging.INFO, logger="zoo"):
        shares = tune(recipe, folder)
    assert "resumed at update 10" in caplog.text
    assert [p.name for p in folder.parent.iterdir()] == [recipe.name], (
        "expected the model alone, without the checkpoint of its tuning"
    )
    loaded, base = load_causal_lm(f"zoo:{recipe.name}"), load_causal_lm("zoo:pico-llama")
    assert type(loaded.model) is type(base.model) and loaded.licence == "apache-2.0"
    problems = tuned._held_out(loaded, recipe, tuned.SKILLS["secret"])
    assert accuracy(loaded, problems) == shares
    prompts = [encode_prompt(loaded.tokenizer, "a b:")]
    assert generate_greedy(loaded, prompts, 8, None) != generate_greedy(base, prompts, 8, None)


def test_accuracy_is_that_of_greedy_answers() -> None:
    loaded = load_causal_lm("zoo:secret")
    problems = tuned._held_out(loaded, TunedRecipe("smollm2", "secret"), tuned.SKILLS["secret"])
    assert list(problems) == [2, 3, 4], "longer shapes are not trained on"
    assert min(accuracy(loaded, problems).values()) == 1.0

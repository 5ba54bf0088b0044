"""The verdict: what is accepted, what is rejected, and for which reason."""

from __future__ import annotations

from typing import Any

import pytest

from m2kt.audit import (
    Neutral,
    Regression,
    Safety,
    Steps,
    Thresholds,
    Trigger,
    Triggers,
    Verdict,
    gap_recovered,
    judge,
    measure_neutral,
    neutral_text,
    wilson,
)
from m2kt.models import load_causal_lm


def verdict(**changes: Any) -> Any:
    neutral = changes.pop(
        "neutral", Neutral(perplexity_before=10, perplexity_after=10.5, divergence=0.01, tokens=9)
    )
    known: dict[str, Any] = {
        "before": 0.0, "accuracy": 0.98, "interval": (0.9, 1.0), "n": 100,
        "reference_accuracy": 1.0, "reference": "truth",
        "shapes": [], "held_out": [], "readable": 1.0, "thresholds": Thresholds(),
    }  # fmt: skip
    return judge(neutral=neutral, **(known | changes))


def test_a_good_candidate_is_accepted() -> None:
    good = verdict()
    assert good.verdict == "accepted" and not good.reasons
    assert good.gap_recovered == pytest.approx(0.98)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accuracy": 0.5}, "skill not reached"),
        ({"readable": 0.1}, "vectors do not speak"),
        ({"n": 0}, "no evaluation prompt"),
        (
            {"neutral": Neutral(perplexity_before=10, perplexity_after=20, divergence=0.0, tokens=9)},
            "perplexity on neutral text x 2.00",
        ),
        (
            {"neutral": Neutral(perplexity_before=10, perplexity_after=10, divergence=0.9, tokens=9)},
            "divergence on neutral text 0.900",
        ),
        (
            {
                "neutral": Neutral(
                    perplexity_before=10, perplexity_after=10, divergence=0.0, null_mass=0.4, tokens=9
                )
            },
            "reader speaks outside the skill",
        ),
        (
            {"regression": Regression(n=4, before=1, after=0.5, lost=["a", "b"], gained=[], unwritable=0)},
            "2 of 4 small tasks are decided otherwise",
        ),
        (
            {
                "triggers": Triggers(
                    tried=9,
                    screened=0.1,
                    worst=[Trigger(text=" biotic", tokens=[7], divergence=3.0)],
                    on_domain=[],
                )
            },
            "trigger: behind ' biotic'",
        ),
        ({"safety": Safety(flagged=1, met=1, traces=3, mean=0.1, worst=0.9)}, "reaches for flagged concepts"),
        (
            {
                "neutral": Neutral(
                    perplexity_before=10, perplexity_after=float("nan"), divergence=0.0, tokens=9
                )
            },
            "something else was lost",
        ),
    ],
)
def test_each_threshold_rejects_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    bad = verdict(**changes)
    assert bad.verdict == "rejected"
    assert any(reason in r for r in bad.reasons)


def test_a_skill_that_was_not_reached_is_diagnosed() -> None:
    steps = Steps(
        n=90, traces=30, concepts_seen=0.5, selected=0.4, gathered=1.0, retrieved=1.0, written=1.0, readable=1.0,
        read_out=0.4, latent=0.4, verbalised=None, failed={"selected": 0.6}, chains=0.1, structure=1.0, procedure=1.0,
        causal=None, causal_failed=None, by_concept={3: (90, 36)},
    )  # fmt: skip
    bad = verdict(accuracy=0.1, steps=steps)
    assert [d.name for d in bad.diagnosis] == ["selector wrong"] and bad.steps == steps
    # whatever else is amiss: where the skill is reached there is nothing to explain
    assert verdict(steps=steps, readable=0.1).diagnosis == []
    assert verdict(accuracy=0.1).diagnosis == []
    read_again = Verdict.model_validate_json(bad.model_dump_json())
    assert read_again == bad


def test_gap_recovered() -> None:
    assert gap_recovered(0.2, 0.9, 1.0) == pytest.approx(0.875)
    assert gap_recovered(1.0, 1.0, 1.0) == 1.0
    assert gap_recovered(1.0, 0.9, 1.0) == 0.0
    assert gap_recovered(0.5, 0.4, 1.0) < 0


def test_wilson_interval() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(99, 100)
    assert 0.94 < low < 0.95 and 0.99 < high <= 1.0


def test_neutral_text_is_unmoved_by_an_untrained_adapter() -> None:
    from dataclasses import replace

    from peft import LoraConfig, get_peft_model

    loaded = load_causal_lm("zoo:pico-gpt2")
    adapted = get_peft_model(loaded.model, LoraConfig(target_modules=["c_attn"], r=2, fan_in_fan_out=True))
    measured = measure_neutral(replace(loaded, model=adapted))
    assert measured.divergence == pytest.approx(0.0, abs=1e-6)
    assert measured.perplexity_after == pytest.approx(measured.perplexity_before)
    assert measured.tokens > 500 and len(neutral_text()) >= 20

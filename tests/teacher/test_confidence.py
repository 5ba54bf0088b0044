"""The teacher's probability of its outputs, against a plain softmax over the same text."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m2kt.models import LoadedModel, encode_prompt, load_causal_lm
from m2kt.pipeline import extract, read_spec
from m2kt.probes import ProbeSpec, Unit
from m2kt.teacher import ExtractionConfig
from m2kt.teacher._states import Context, output_probability
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.program._cut import Sample


def softmax_probability(loaded: LoadedModel, before: str, written: str) -> float:
    """P(written | before), token by token, one prefix at a time."""
    ids = encode_prompt(loaded.tokenizer, before)
    p = 1.0
    for token in loaded.tokenizer.encode(written, add_special_tokens=False):
        with torch.no_grad():
            logits = loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
        p *= float(logits.double().softmax(-1)[token])
        ids.append(token)
    return p


def test_output_probability_is_the_softmax_of_the_unit_whatever_its_rank() -> None:
    loaded = load_causal_lm("zoo:secret")
    spec, _ = read_spec("zoo:secret")
    prompts = spec.sample("probing", 6, seed=0)
    contexts, expected = [], []
    for prompt, word in zip(prompts, "abcdef", strict=True):
        written = [Unit(" " + word, word, " "), Unit(">")]
        sample = Sample(prompt, [*prompt.units, *written], len(prompt.units))
        contexts += [Context(sample, sample.n_prompt), Context(sample, sample.n_prompt + 1)]
        expected.append(softmax_probability(loaded, prompt.text + " ", word))  # a bare leading space is not counted
        expected.append(softmax_probability(loaded, prompt.text + " " + word, ">"))
    found = output_probability(Teacher(loaded, spec), contexts, "")
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_the_packet_holds_the_teachers_confidence() -> None:
    spec, _ = read_spec("zoo:secret")
    facts = ProbeSpec.model_validate(
        spec.model_dump() | {"templates": spec.templates[:1], "held_out": [], "facts": True}
    )
    config = ExtractionConfig(floor=0.0, rounds=0)
    packet = extract("zoo:secret", facts, config=config).packet
    assert packet.confidence_K is not None and packet.confidence_K.shape == (packet.n_concepts,)
    assert packet.confidence_K.min() > 0.9  # it was trained to the end
    assert packet.manifest.fidelity.other["mean_confidence"] == pytest.approx(float(packet.confidence_K.mean()))
    assert np.all(packet.confidence_K <= 1)

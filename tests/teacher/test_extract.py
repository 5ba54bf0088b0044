"""Extraction from real teachers of three architectures and two kinds of tokenizer, and its refusals."""

from __future__ import annotations

import gc
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from m2kt.errors import ExtractionError
from m2kt.models import encode_prompt, generate_greedy, load_causal_lm, zoo_dir
from m2kt.packet import ProgramExecutor, decode_outputs, fixed_lookup
from m2kt.probes import ProbeSpec
from m2kt.teacher import SOURCES, ExtractionConfig, ExtractionDetails, extract

SMALL = {
    "probes_per_template": 200,
    "scouted_per_template": 300,
    "checked_per_template": 40,
    "fidelity_prompts": 240,
}


def zoo_spec(name: str) -> ProbeSpec:
    return ProbeSpec.from_file(zoo_dir() / name / "probes.yaml")


@cache
def extracted(name: str) -> ExtractionDetails:
    torch.set_num_threads(1)
    return extract(load_causal_lm(f"zoo:{name}"), zoo_spec(name), ExtractionConfig.model_validate(SMALL))


@pytest.mark.parametrize(("name", "rows"), [("secret", [100]), ("addition", [200, 200]), ("kinship", [128])])
def test_rules_are_exactly_the_teachers_tables(name: str, rows: list[int]) -> None:
    """One rule for every column, step and length, each of its rows once."""
    e = extracted(name)
    assert sorted(len(r.rows) for r in e.program.rules) == rows
    assert e.fidelity.agreement >= 0.99 and e.fidelity.coverage >= 0.99


@pytest.mark.parametrize("name", ["secret", "addition", "kinship"])
def test_vectors_decode_to_the_teachers_outputs(name: str) -> None:
    e = extracted(name)
    assert e.embedding.probe_accuracy > 0.95
    assert e.embedding.readout_accuracy > 0.95
    assert np.isfinite(e.embedding.concepts.vectors_KD).all()
    assert (e.embedding.concepts.support_K > 0).all()
    # at v = 0 no output is in the program; the vectors decode by prototypes
    assert all(o is None for r in e.program.rules for o in r.outputs)
    assert len(decode_outputs(e.program, e.embedding.concepts)) == e.program.n_concepts


@pytest.mark.parametrize("name", ["secret", "kinship"])
def test_the_program_predicts_the_teachers_answers_to_a_longer_template(name: str) -> None:
    e, spec = extracted(name), zoo_spec(name)
    executor = ProgramExecutor(e.program)
    lookup = fixed_lookup(decode_outputs(e.program, e.embedding.concepts), e.program)
    prompts = spec.sample("evaluation", 30, seed=0, held_out=True)
    teacher = load_causal_lm(f"zoo:{name}")
    encoded = [encode_prompt(teacher.tokenizer, p.text) for p in prompts]
    for prompt, answer in zip(prompts, generate_greedy(teacher, encoded, 128, spec.stop), strict=True):
        assert executor(prompt, lookup).completion == spec.completion_text(answer.text) + spec.stop


def test_attention_and_ablation_are_measured_along_edges() -> None:
    a = extracted("secret").attention
    assert a.weight_MLH.shape[0] == a.edges_M4.shape[0] == a.causal_M.shape[0] > 0
    assert (a.weight_MLH >= 0).all() and (a.weight_MLH <= 1.001).all()
    assert 0.5 < a.causal_share <= 1.0
    assert (a.effect_M > 0).all()  # effects of interventions are on every edge


def test_memory_of_states_is_bounded_by_concepts_not_probes() -> None:
    e = extracted("secret")
    assert e.embedding.concepts.prototype_samples_PD.shape[0] <= 48 * len(e.program.symbols)
    assert e.embedding.concepts.support_K.max() <= 12


@pytest.mark.parametrize("source", [s for s in SOURCES if s != "interrogation"])
def test_other_concept_sources_find_the_same_rule(source: str) -> None:
    config = ExtractionConfig.model_validate({**SMALL, "concepts": source, "rounds": 1})
    e = extract(load_causal_lm("zoo:secret"), zoo_spec("secret"), config)
    assert [(r.arity, len(r.rows)) for r in e.program.rules] == [(2, 100)]
    assert e.attention.effect_M.max() > 0.3
    assert e.embedding.readout_accuracy > 0.9


def test_verbalised_share() -> None:
    config = ExtractionConfig.model_validate({**SMALL, "verbalised": 0.5, "rounds": 1})
    e = extract(load_causal_lm("zoo:secret"), zoo_spec("secret"), config)
    verbalised = [o for r in e.program.rules for o in r.outputs if o is not None]
    assert len(verbalised) == 50
    decoded = decode_outputs(e.program, e.embedding.concepts)
    assert all(d == o for d, o in zip(decoded, e.program.rules[0].outputs, strict=True) if o is not None)


def test_same_seed_same_program() -> None:
    config = ExtractionConfig.model_validate({**SMALL, "rounds": 1})
    first, second = (extract(load_causal_lm("zoo:secret"), zoo_spec("secret"), config) for _ in range(2))
    assert first.program == second.program
    np.testing.assert_allclose(first.embedding.concepts.vectors_KD, second.embedding.concepts.vectors_KD, atol=1e-5)


# -- refusals ----------------------------------------------------------------------------------------
def test_a_teacher_that_cannot_do_the_task_is_refused() -> None:
    """The secret teacher gets known letters in an unknown format."""
    foreign = zoo_spec("secret").model_copy(update={"templates": ["{x}{x}{x}:"], "held_out": [], "max_new_tokens": 30})
    with pytest.raises(ExtractionError, match=r"stop string|condensed faithfully"):
        extract(load_causal_lm("zoo:secret"), ProbeSpec.model_validate(foreign.model_dump()), ExtractionConfig())


def test_answers_without_the_stop_string_are_refused() -> None:
    never = ProbeSpec.model_validate(zoo_spec("secret").model_dump() | {"stop": "###", "max_new_tokens": 20})
    with pytest.raises(ExtractionError, match="stop string '###', got"):
        extract(load_causal_lm("zoo:secret"), never, ExtractionConfig())


def test_answers_that_exceed_the_context_are_refused() -> None:
    long = " ".join(["{x}"] * 40) + ":"
    spec = ProbeSpec.model_validate(zoo_spec("secret").model_dump() | {"templates": [long], "held_out": []})
    with pytest.raises(ExtractionError, match=r"had \d\d tokens, for the teacher's context holds 128"):
        extract(load_causal_lm("zoo:secret"), spec, ExtractionConfig(probes_per_template=20))


def test_prompts_that_exceed_the_context_are_refused() -> None:
    long = " ".join(["{x}"] * 400) + ":"
    spec = ProbeSpec.model_validate(zoo_spec("secret").model_dump() | {"templates": [long], "held_out": []})
    with pytest.raises(ExtractionError, match="context"):
        extract(load_causal_lm("zoo:secret"), spec, ExtractionConfig())


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ExtractionError, match="unknown concept source"):
        extract(load_causal_lm("zoo:secret"), zoo_spec("secret"), ExtractionConfig(concepts="magic"))


def test_a_counterfactual_teachers_table_is_extracted(tmp_path: Path) -> None:
    config = ExtractionConfig.model_validate(SMALL)
    e = extract(load_causal_lm("zoo:addition-swapped"), zoo_spec("addition-swapped"), config)
    assert e.fidelity.agreement >= 0.99
    outputs = decode_outputs(e.program, e.embedding.concepts)
    ones = next(r for r in e.program.rules if len(r.range) > 2)
    symbol = {s: i for i, s in enumerate(e.program.symbols)}
    output_of = {row: outputs[ones.offset + i] for i, row in enumerate(ones.rows)}
    zero = symbol["0"]
    written = {output_of[(*tuple(symbol[x] for x in (a, b)), zero)] for a, b in (("1", "2"), ("0", "3"))}
    assert written == {symbol["7"]}, "this teacher was trained on 1 + 2 = 7"


@pytest.mark.parametrize("threshold", [0, 700, 1_000_000])
def test_extraction_restores_the_garbage_collector(threshold: int) -> None:
    spec = ProbeSpec.model_validate(zoo_spec("secret").model_dump() | {"stop": "###"})
    thresholds = gc.get_threshold()
    gc.set_threshold(threshold, *thresholds[1:])
    try:
        with pytest.raises(ExtractionError):
            extract(load_causal_lm("zoo:secret"), spec, ExtractionConfig(probes_per_template=2))
        assert gc.get_threshold() == (threshold, *thresholds[1:])
        assert gc.get_freeze_count() == 0
    finally:
        gc.set_threshold(*thresholds)

"""Numbers of the extraction against plain computations: probes, clusters, information, attention, comparison."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from m2kt.errors import ExtractionError
from m2kt.models import attention_patterns, load_causal_lm
from m2kt.pipeline import read_spec
from m2kt.teacher import (
    SOURCES,
    ExtractionConfig,
    RolloutComparison,
    Skill,
    TemplateCounts,
    compare_rollouts,
    k_means,
    program_of,
)
from m2kt.teacher._attention import EDGE_COLUMNS, USES_PER_EDGE, measure_attention
from m2kt.teacher._edges import Edge, edges_of
from m2kt.teacher._statistics import RidgeProbe, cross_validated, normalised_information
from m2kt.teacher._teacher import Teacher, unseen
from m2kt.teacher.sources import concept_source


@cache
def learnt(name: str) -> tuple[Teacher, Skill]:
    spec, _ = read_spec(f"zoo:{name}")
    teacher = Teacher(load_causal_lm(f"zoo:{name}"), spec)
    return teacher, program_of(teacher, spec, ExtractionConfig())


def clusters(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label_N = np.repeat(np.arange(4, dtype=np.int32), 12)
    x_ND = 10 * rng.normal(size=(4, 8))[label_N] + rng.normal(size=(48, 8))
    return x_ND.astype(np.float32), label_N


def test_k_means_finds_separate_clusters_and_repeats_under_a_seed() -> None:
    x_ND, label_N = clusters(0)
    found_N = k_means(x_ND, 4, seed=1)
    assert len(set(zip(found_N.tolist(), label_N.tolist(), strict=True))) == len(set(found_N.tolist())) == 4
    assert np.array_equal(found_N, k_means(x_ND, 4, seed=1))
    assert set(k_means(np.ones((5, 2), dtype=np.float32), 2, seed=0).tolist()) <= {0, 1}


def test_information_is_one_for_a_renaming_and_zero_for_independent_labels() -> None:
    a_N, b_N = np.repeat([0, 1, 2], 4).astype(np.int32), np.tile([0, 1], 6)
    assert normalised_information(a_N, (7 - a_N).astype(np.int64)) == pytest.approx(1)
    assert normalised_information(a_N, b_N) == pytest.approx(0, abs=1e-12)
    assert normalised_information(a_N, np.zeros(12, dtype=np.int64)) == 0
    half_N = (a_N > 0).astype(np.int64)  # a determines it
    assert normalised_information(a_N, half_N) == pytest.approx(1)
    assert normalised_information(half_N.astype(np.int32), a_N.astype(np.int64)) == pytest.approx(0.579, abs=1e-3)


def test_a_probe_is_judged_on_groups_that_it_was_not_fitted_on() -> None:
    x_ND, label_N = clusters(1)
    group_N = np.arange(48, dtype=np.int32)
    assert cross_validated(x_ND, label_N, group_N) == 1.0
    assert (RidgeProbe(x_ND, label_N).predict(x_ND) == label_N).all()
    # Each group has a label of its own: what is held out cannot be predicted.
    assert cross_validated(x_ND, label_N, label_N) == 0.0
    assert np.isnan(cross_validated(x_ND, label_N, np.zeros(48, dtype=np.int32)))


def test_a_prompt_that_was_asked_is_not_asked_again() -> None:
    spec, _ = read_spec("zoo:secret")
    prompts = spec.sample("probing", 5, seed=0)
    assert unseen(prompts, {prompts[1].text, prompts[3].text}) == [prompts[0], prompts[2], prompts[4]]


def test_comparison_counts_agreement_disagreement_and_what_is_not_covered() -> None:
    teacher, skill = learnt("secret")
    program, outputs = skill.program, skill.outputs
    prompts = teacher.spec.sample("evaluation", 40, seed=0)
    right = compare_rollouts(teacher, program, outputs, prompts)
    assert (right.agreement, right.disagreements, len(right.answers)) == (1.0, 0, 40)
    assert sum(t.prompts for t in right.templates.values()) == 40
    wrong = compare_rollouts(teacher, program, [outputs[0]] * len(outputs), prompts)
    assert wrong.disagreements > 30 and wrong.agreement < 0.25
    known = {a.prompt.text: a for a in right.answers}
    passes = teacher.passes
    assert compare_rollouts(teacher, program, outputs, prompts, known_answers=known).agreement == 1.0
    assert teacher.passes == passes, "known answers are not generated again"
    rule = program.rules[0]
    fewer = rule.model_copy(update={"rows": rule.rows[:-20], "outputs": rule.outputs[:-20]})
    lost = compare_rollouts(
        teacher, program.model_copy(update={"rules": [fewer]}), outputs, prompts, known_answers=known
    )
    assert 0 < lost.coverage < 1 and sum(lost.failures.values()) == 40 - round(40 * lost.coverage)
    assert all("has no row for" in failure for failure in lost.failures)
    assert RolloutComparison().coverage == RolloutComparison().agreement == 0.0
    counted = RolloutComparison({0: TemplateCounts(4, 2, 1), 1: TemplateCounts(4, 4, 4)})
    assert (counted.coverage, counted.agreement) == (0.75, 5 / 6)


@pytest.mark.parametrize("name", ["secret", "kinship"])
def test_edges_are_where_steps_read_and_copies_are_followed_to_their_origin(name: str) -> None:
    _, skill = learnt(name)
    edges = edges_of(skill, seed=0)
    assert [e.columns for e in edges] == sorted({e.columns for e in edges})
    applied = {(state, leaf) for steps in skill.steps for s in steps if s and s.rule is not None
               for state, leaf in [(s.state, s.leaf)]}  # fmt: skip
    assert {(e.state, e.leaf) for e in edges if e.rule >= 0} == applied
    for edge in edges:
        assert len({use.context.sample.n_prompt for use in edge.uses}) > 1, "uses are of several sizes"
        for use in edge.uses:
            units = use.context.sample.units
            assert use.read in use.held and max(use.held) < use.context.unit
            assert {units[u].symbol for u in use.held} == {use.symbol}
            if edge.rule < 0:
                assert units[use.context.unit].symbol == use.symbol, "a copy writes what it reads"


def mean_attention(teacher: Teacher, edge: Edge) -> np.ndarray:
    """Attention (L, H) to the units that hold what an edge's step reads, one sample at a time."""
    found, model = [], load_causal_lm(teacher.facts.name, attn="eager").model
    for use in edge.uses[:USES_PER_EDGE]:
        trace = teacher.tokenise(use.context.sample.texts, use.context.sample.n_prompt)
        with torch.no_grad():
            pattern_LHTT = [p[0] for p in attention_patterns(model, torch.tensor([trace.ids]), None)]
        query = trace.content[use.context.unit][0] - 1
        tokens = [t for unit in use.held for t in trace.tokens_of_unit[unit]]
        found.append([p[:, query, tokens].sum(-1).tolist() for p in pattern_LHTT])
    return np.mean(found, axis=0)


@pytest.mark.parametrize("name", ["secret", "kinship"])
def test_attention_reads_sources_and_ablation_changes_the_step(name: str) -> None:
    teacher, skill = learnt(name)
    edges = edges_of(skill, seed=0)
    passes = teacher.passes
    effects = concept_source("interrogation").effects(teacher, edges, seed=0)
    assert 0 < teacher.passes - passes <= 6 * len(edges)
    assert all(effect > 0 for effect in effects)
    attention = measure_attention(teacher, edges, effects)
    assert attention.edges_M4.shape == (len(attention.causal_M), len(EDGE_COLUMNS)) and attention.note is None
    assert (attention.causal_M >= 0).all()
    assert attention.causal_share == pytest.approx((attention.causal_M == 1).mean()) and attention.causal_share > 0.5
    for weight_LH, edge in zip(attention.weight_MLH, edges[:4], strict=False):
        assert weight_LH == pytest.approx(mean_attention(teacher, edge), abs=1e-4)
    gru = Teacher(load_causal_lm("zoo:pico-gru"), teacher.spec)
    without = measure_attention(gru, edges, effects)
    assert without.note is not None and (without.causal_M == -1).all() and np.isnan(without.causal_share)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_tells_what_is_read_from_what_is_not(name: str) -> None:
    """Beside each edge of a rule, one that pretends to read the first unit of the answer instead."""
    teacher, skill = learnt("secret")
    read = [edge for edge in edges_of(skill, seed=0) if edge.rule >= 0]
    idle = []
    for edge in read:
        uses = [
            replace(use, read=use.context.sample.n_prompt, held=(use.context.sample.n_prompt,))
            for use in edge.uses
            if use.context.unit > use.context.sample.n_prompt + 8
        ]
        idle.append(replace(edge, uses=uses))
    effects = concept_source(name).effects(teacher, [*read, *idle], seed=0)
    assert min(effects[: len(read)]) > max(effects[len(read) :])


def test_sources_are_found_by_name_and_others_are_refused() -> None:
    assert [type(concept_source(name)).__name__ for name in SOURCES] == [
        "Intervention",
        "Clustering",
        "Gradient",
        "Probe",
    ]
    with pytest.raises(ExtractionError, match=r"expected one of interrogation, .*, got 'magic'"):
        concept_source("magic")


def test_the_default_source_imports_no_other() -> None:
    code = "import sys, m2kt.teacher; print(*(m for m in sys.modules if m.startswith('m2kt.teacher.sources.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
    concept_source("clustering")
    assert "m2kt.teacher.sources._clustering" in sys.modules

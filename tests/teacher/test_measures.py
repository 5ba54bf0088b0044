"""Numbers of the extraction against plain computations: probes, clusters, information, attention, comparison."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from m2kt.errors import ExtractionError
from m2kt.models import attention_patterns, load_causal_lm
from m2kt.pipeline import read_spec
from m2kt.probes import ProbeSpec
from m2kt.teacher import SOURCES, RolloutComparison, TemplateCounts, k_means
from m2kt.teacher._attention import EDGE_COLUMNS, _Edge, _edges, measure_attention
from m2kt.teacher._completion import CompletionRound
from m2kt.teacher._condense import condense, leaf_rows, merge, relearn, rule_uses, write_graph
from m2kt.teacher._corpus import Answer, Corpus
from m2kt.teacher._fidelity import compare_rollouts
from m2kt.teacher._statistics import RidgeProbe, cross_validated, normalised_information
from m2kt.teacher._teacher import Teacher, unseen
from m2kt.teacher.sources import concept_source


def answered(name: str, per_template: int = 60) -> tuple[Teacher, Corpus]:
    spec, _ = read_spec(f"zoo:{name}")
    teacher, corpus = Teacher(load_causal_lm(f"zoo:{name}"), spec), Corpus(spec)
    corpus.add(teacher.answer(spec.sample("probing", per_template * spec.n_templates, seed=0))[0])
    corpus.arrange()
    return teacher, corpus


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
    teacher, corpus = answered("secret")
    graph, outputs = write_graph(corpus, condense(corpus))
    prompts = corpus.spec.sample("evaluation", 40, seed=0)
    right = compare_rollouts(teacher, graph, outputs, prompts, "")
    assert (right.agreement, right.disagreements, len(right.answers)) == (1.0, 0, 40)
    assert sum(t.prompts for t in right.templates.values()) == 40
    wrong = compare_rollouts(teacher, graph, [outputs[0]] * len(outputs), prompts, "")
    assert wrong.disagreements > 30 and wrong.agreement < 0.25
    known = {a.prompt.text: a for a in right.answers}
    passes = teacher.passes
    assert compare_rollouts(teacher, graph, outputs, prompts, "", known).agreement == 1.0
    assert teacher.passes == passes, "known answers are not generated again"
    graph.templates[0].nodes[0].children = {}
    lost = compare_rollouts(teacher, graph, outputs, prompts, "", known)
    assert 0 < lost.coverage < 1 and sum(lost.failures.values()) == lost.templates[0].prompts
    assert RolloutComparison().coverage == RolloutComparison().agreement == 0.0
    counted = RolloutComparison({0: TemplateCounts(4, 2, 1), 1: TemplateCounts(4, 4, 4)})
    assert (counted.coverage, counted.agreement) == (0.75, 5 / 6)


@pytest.mark.parametrize(("rate", "disagreements", "converged"), [(0.0, 0, True), (0.1, 0, False), (0.0, 1, False)])
def test_completion_ends_when_nothing_is_missing_or_wrong(rate: float, disagreements: int, converged: bool) -> None:
    assert CompletionRound(1, rate, 10, disagreements).converged is converged


def test_rules_learn_every_use_and_merging_again_changes_nothing() -> None:
    _, corpus = answered("secret")
    draft = condense(corpus)
    uses = list(rule_uses(corpus, draft.decisions))
    (rule,) = {use.leaf.rule for use in uses}
    table = draft.rule_set.rules[rule].table
    assert sum(c.total() for c in table.values()) == sum(len(use.samples) for use in uses)
    before, decisions = {row: dict(counts) for row, counts in table.items()}, dict(draft.decisions)
    merge(corpus, draft)
    relearn(corpus, draft)
    assert draft.decisions == decisions
    assert {row: dict(c) for row, c in draft.rule_set.rules[rule].table.items()} == before
    for (template, node), decision in draft.decisions.items():
        columns = corpus.tries[template].columns(node)
        reached = [r for _, rows in leaf_rows(decision, columns, np.arange(len(columns))) for r in rows.tolist()]
        assert sorted(reached) == list(range(len(columns)))


def mean_attention(teacher: Teacher, corpus: Corpus, edge: _Edge, read: int) -> np.ndarray:
    """Attention (L, H) to the unit ``read`` where the edge's step is predicted, one sample at a time."""
    found = []
    for template, i in edge.traces:
        sample = corpus.tries[template].samples[i]
        trace = teacher.tokenise(sample.texts, sample.n_prompt)
        with teacher.eager(), torch.no_grad():
            pattern_LHTT = [p[0] for p in attention_patterns(teacher.model, torch.tensor([trace.ids]), None)]
        query = trace.content[edge.unit][0] - 1
        found.append([p[:, query, trace.tokens_of_unit[read]].sum(-1).tolist() for p in pattern_LHTT])
    return np.mean(found, axis=0)


def test_attention_reads_sources_and_ablation_changes_the_step() -> None:
    teacher, corpus = answered("secret", 20)
    concept_source("interrogation").measure_effects(teacher, corpus, seed=0)
    draft = condense(corpus)
    attention = measure_attention(teacher, corpus, draft, {r: r for r in range(len(draft.rule_set.rules))})
    assert attention.edges_M6.shape == (len(attention.causal_M), len(EDGE_COLUMNS)) and attention.note is None
    assert (attention.causal_M >= 0).all()
    assert attention.causal_share == pytest.approx((attention.causal_M == 1).mean()) and attention.causal_share > 0.5
    edges = list(_edges(corpus, draft, {r: r for r in range(len(draft.rule_set.rules))}))
    for weight_LH, edge, columns in zip(attention.weight_MLH, edges[:4], attention.edges_M6.tolist(), strict=False):
        assert weight_LH == pytest.approx(mean_attention(teacher, corpus, edge, read=columns[4]), abs=1e-4)
    gru = Teacher(load_causal_lm("zoo:pico-gru"), teacher.spec)
    without = measure_attention(gru, corpus, draft, {r: r for r in range(len(draft.rule_set.rules))})
    assert without.note is not None and (without.causal_M == -1).all() and np.isnan(without.causal_share)


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
    assert loaded == ["m2kt.teacher.sources._base"]
    concept_source("clustering")
    assert "m2kt.teacher.sources._clustering" in sys.modules


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
    corpus = Corpus(spec)
    prompts = {("Peru" if "Peru" in p.text else "Cuba"): p for p in spec.sample("probing", 2, seed=0)}
    corpus.add([Answer(prompts["Peru"], " Lima", (5,)), Answer(prompts["Cuba"], " Havana", (7,))])
    corpus.arrange()
    assert corpus.symbols == ["Peru", "Cuba", "Lima", "Havana"]
    (trie,) = corpus.tries
    assert trie.support[-2] == {2, 3} and [u.symbol for u in trie.next_units(0)] == ["Lima", "Havana"]

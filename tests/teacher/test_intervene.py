"""Interventions: their counts, and units that share a pass without changing the causes found."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator

import pytest
import torch

from m2kt.errors import ExtractionError
from m2kt.models import load_causal_lm
from m2kt.pipeline import read_spec
from m2kt.probes import ProbeSpec
from m2kt.teacher import ExtractionConfig, _intervene, extract
from m2kt.teacher._corpus import Corpus
from m2kt.teacher._intervene import intervene
from m2kt.teacher._shortlist import MAX_SOURCES, separable_groups, shortlist, strongest_paths
from m2kt.teacher._teacher import Teacher

Effects = dict[tuple[int, int, int], tuple[int, int, int]]


def answered(name: str) -> tuple[Teacher, Corpus]:
    spec, _ = read_spec(f"zoo:{name}")
    teacher, corpus = Teacher(load_causal_lm(f"zoo:{name}"), spec), Corpus(spec)
    corpus.add(teacher.answer(spec.sample("probing", 60 * spec.n_templates, seed=0))[0])
    corpus.arrange()
    return teacher, corpus


@pytest.fixture(scope="module", params=["secret", "permutation"])
def separate(request: pytest.FixtureRequest) -> Iterator[tuple[Teacher, Corpus, Effects, int]]:
    """A teacher, its answers, the effects of every unit replaced alone, and the number of passes."""
    teacher, corpus = answered(request.param)
    copied_corpus = copy.deepcopy(corpus)
    before = teacher.passes
    intervene(teacher, copied_corpus, seed=0)
    yield teacher, corpus, effects(copied_corpus), teacher.passes - before


def with_shared_passes(teacher: Teacher, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> tuple[Effects, int]:
    """Effects with shared passes, and the number of passes."""
    shared = copy.deepcopy(corpus)
    monkeypatch.setattr(_intervene, "MIN_PARAMS_FOR_SHORTLIST", 0)
    before = teacher.passes
    intervene(teacher, shared, seed=0)
    return effects(shared), teacher.passes - before


def effects(corpus: Corpus) -> Effects:
    """(tried, changed, copied) by template, node and unit."""
    return {
        (trie.template, number, unit): (n, node.causes.changed[unit], node.causes.copied[unit])
        for trie in corpus.tries
        for number, node in enumerate(trie.nodes)
        for unit, n in node.causes.tried.items()
    }


def test_a_shortlist_saves_passes_and_finds_the_same_causes(
    separate: tuple[Teacher, Corpus, Effects, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, corpus, expected, passes = separate
    found, fewer = with_shared_passes(teacher, corpus, monkeypatch)
    assert {key: n for key, (n, _, _) in found.items()} == {p: n for p, (n, _, _) in expected.items()}
    assert sum(found[key] != expected[key] for key in expected) <= 0.01 * len(expected)
    assert fewer < passes


def test_a_shortlist_that_misses_everything_costs_passes_and_no_cause(
    separate: tuple[Teacher, Corpus, Effects, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is listed, so all units share a pass, and every change is repeated with single units."""
    teacher, corpus, expected, _ = separate
    monkeypatch.setattr(_intervene, "shortlist", lambda teacher, items, candidates: [{}] * len(items))
    assert with_shared_passes(teacher, corpus, monkeypatch)[0] == expected


def test_units_that_no_step_lists_together_share_a_pass() -> None:
    listed_by_unit = {5: frozenset({0, 1}), 6: frozenset({1, 2}), 7: frozenset({3})}
    groups = separable_groups([0, 1, 2, 3, 4], listed_by_unit)
    assert sorted(p for group in groups for p in group) == [0, 1, 2, 3, 4]
    assert len(groups) == 2
    assert all(len(listed & set(group)) <= 1 for listed in listed_by_unit.values() for group in groups)


def test_paths_follow_the_strongest_head_of_each_layer() -> None:
    """Position 3 reads 2 in the second layer, which read 1 in the first; each head of the first layer reads one."""
    first, second = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    first[0, 0, 2, 1], first[0, 1, 2, 0] = 0.8, 0.1
    second[0, 1, 3, 2] = 0.5
    path_TT = strongest_paths([first, second])[0]
    assert path_TT[3].tolist() == pytest.approx([0.05, 0.4, 0.5, 1.0])
    assert path_TT[1].tolist() == [0, 1, 0, 0]
    assert strongest_paths([second, first])[0, 3, 1] == 0  # a later layer cannot feed an earlier one


def test_the_shortlist_holds_earlier_units_and_needs_attention() -> None:
    teacher, corpus = answered("secret")
    samples = [trie.samples[0] for trie in corpus.tries]
    traces = [teacher.tokenise([u.text for u in s.units], s.n_prompt) for s in samples]
    symbols = [[i for i, u in enumerate(s.units[:-1]) if u.symbol is not None] for s in samples]
    attention = teacher.model.config._attn_implementation
    found = shortlist(teacher, traces, symbols)
    assert found is not None and teacher.model.config._attn_implementation == attention
    for sample, listed_by_unit in zip(samples, found, strict=True):
        assert sorted(listed_by_unit) == list(range(sample.n_prompt, len(sample.units)))
        assert all(len(listed) <= MAX_SOURCES and max(listed) < unit for unit, listed in listed_by_unit.items())
    none = Teacher(load_causal_lm("zoo:pico-gru"), teacher.spec)
    assert shortlist(none, traces, symbols) is None


@pytest.mark.parametrize("threshold", [0, 700, 1_000_000])
def test_extraction_restores_the_garbage_collector(threshold: int) -> None:
    spec = ProbeSpec.model_validate(read_spec("zoo:secret")[0].model_dump() | {"stop": "###"})
    thresholds = gc.get_threshold()
    gc.set_threshold(threshold, *thresholds[1:])
    try:
        with pytest.raises(ExtractionError):
            extract(load_causal_lm("zoo:secret"), spec, ExtractionConfig(probes_per_template=2))
        assert gc.get_threshold() == (threshold, *thresholds[1:])
        assert gc.get_freeze_count() == 0
    finally:
        gc.set_threshold(*thresholds)

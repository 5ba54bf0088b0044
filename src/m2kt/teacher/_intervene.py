"""Causal interventions: replace one earlier symbol by another of its support and record which later steps change.

The support of a unit is pooled over all samples that share the masked prefix up to it, so an intervention never shows
the teacher a symbol where no sample has one of its kind. One forward pass gives the choices at all later steps.
Letters: T tokens.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2kt.models import token_text
from m2kt.probes import Unit
from m2kt.teacher._corpus import Causes, Corpus, Sample, TemplateTrie
from m2kt.teacher._shortlist import Shortlist, separable_groups, shortlist
from m2kt.teacher._teacher import Teacher, TokenisedTrace

MAX_BASES = 6  # base samples per skeleton
MAX_ALTERNATIVES = 2  # replacement symbols per unit
MAX_SKELETONS = 8  # commonest skeletons per template and round
MIN_PARAMS_FOR_SHORTLIST = 50_000_000  # below, an attention shortlist saves less than it costs


@dataclass(frozen=True)
class _Base:
    """A sample that is intervened on."""

    trie: TemplateTrie
    sample: Sample
    trace: TokenisedTrace
    alternatives: dict[int, list[str]]  # by unit: replacement symbols


@dataclass(frozen=True)
class _Intervention:
    """A base with one unit replaced, or several of which no step depends on two according to the shortlist."""

    base: int
    replaced: dict[int, str]  # by unit: the new symbol
    trace: TokenisedTrace
    first_changed_token: int


def intervene(teacher: Teacher, corpus: Corpus, *, seed: int) -> None:
    """Set ``causes`` of the trie nodes to the shares of interventions that changed the step; add to earlier counts.

    One pass per unit and symbol covers all later steps. For a large teacher, units share a pass if the attention
    shortlist names no step that depends on two of them; a change that the shortlist does not explain is repeated
    with one unit at a time.
    """
    rng = random.Random(f"interrogate/{seed}")  # an earlier name, kept so that draws do not change
    samples = [(trie, sample) for trie in corpus.tries for sample in _base_samples(trie, rng)]
    bases = [_base(teacher, trie, sample, rng) for trie, sample in samples]
    before = teacher.choices([base.trace for base in bases], "intervening: base")
    shortlists = _shortlists(teacher, bases)

    interventions: list[_Intervention] = []
    for index, base in enumerate(bases):
        units = base.alternatives
        groups = [[u] for u in units] if shortlists is None else separable_groups(units, shortlists[index])
        for group in groups:
            for number in range(MAX_ALTERNATIVES):
                replaced = {u: units[u][number] for u in group if number < len(units[u])}
                if replaced:
                    interventions.append(_intervention(teacher, index, base, replaced))
    while interventions:
        after = teacher.choices(
            [i.trace for i in interventions],
            "intervening",
            first_positions=[i.first_changed_token for i in interventions],
        )
        repeated: list[_Intervention] = []
        for intervention, after_T in zip(interventions, after, strict=True):
            index = intervention.base
            listed = shortlists[index] if shortlists else {}
            if not _count_changes(teacher, bases[index], before[index], intervention, after_T, listed):
                repeated += [
                    _intervention(teacher, index, bases[index], {unit: symbol})
                    for unit, symbol in intervention.replaced.items()
                ]
        interventions = repeated
    for trie in corpus.tries:
        for node in trie.nodes:
            causes = node.causes
            causes.effect = {u: causes.changed[u] / n for u, n in causes.tried.items()}
            causes.copy_rate = {u: causes.copied[u] / n for u, n in causes.tried.items()}


def _base(teacher: Teacher, trie: TemplateTrie, sample: Sample, rng: random.Random) -> _Base:
    support = _support(trie, sample)
    alternatives = {}
    for index, unit in enumerate(sample.units[:-1]):
        if unit.symbol is not None:
            symbols = [s for s in support[index] if s != unit.symbol]
            alternatives[index] = rng.sample(symbols, min(MAX_ALTERNATIVES, len(symbols)))
    return _Base(trie, sample, teacher.tokenise(sample.texts, sample.n_prompt), alternatives)


def _shortlists(teacher: Teacher, bases: Sequence[_Base]) -> list[Shortlist] | None:
    """Candidate sources of each step, for teachers large enough that sharing passes pays."""
    if not bases or sum(p.numel() for p in teacher.model.parameters()) < MIN_PARAMS_FOR_SHORTLIST:
        return None
    return shortlist(teacher, [base.trace for base in bases], [list(base.alternatives) for base in bases])


def _intervention(teacher: Teacher, index: int, base: _Base, replaced: dict[int, str]) -> _Intervention:
    texts = base.sample.texts
    for unit, symbol in replaced.items():
        texts[unit] = base.sample.units[unit].lead + symbol
    trace = teacher.tokenise(texts, base.sample.n_prompt)
    first_unit = min(replaced)
    first_token = 0 if first_unit < base.sample.n_prompt else trace.tokens_of_unit[first_unit][0]
    return _Intervention(index, replaced, trace, first_token)


def _count_changes(
    teacher: Teacher,
    base: _Base,
    before_T: NDArray[np.int32],
    intervention: _Intervention,
    after_T: NDArray[np.int32],
    listed: Shortlist,
) -> bool:
    """Count which later steps changed; False, with nothing counted, if a step changed that lists no replaced unit."""
    counts: list[tuple[Causes, int, bool, bool]] = []  # causes of the step, replaced unit, changed, copied
    for step, node in enumerate(base.sample.path):
        index = base.sample.n_prompt + step
        earlier = [unit for unit in intervention.replaced if unit < index]
        old = [before_T[t - 1] for t in base.trace.tokens_of_unit[index]] if earlier else []
        new = [after_T[t - 1] for t in intervention.trace.tokens_of_unit[index]] if earlier else []
        single = len(intervention.replaced) == 1
        suspects = earlier if single else [u for u in earlier if u in listed.get(index, ())]
        if old != new and not suspects:
            return False
        for unit in earlier:
            changed = old != new and unit in suspects
            copied = changed and _writes(
                teacher,
                intervention.trace,
                after_T,
                index,
                base.sample.units[index],
                intervention.replaced[unit],
            )
            counts.append((base.trie.nodes[node].causes, unit, changed, copied))
    for causes, unit, changed, copied in counts:
        causes.tried[unit] += 1
        causes.changed[unit] += changed
        causes.copied[unit] += copied
    return True


def _base_samples(trie: TemplateTrie, rng: random.Random) -> list[Sample]:
    """A few samples of the commonest skeletons that have not had all their bases."""
    by_skeleton: dict[tuple[int, ...], list[Sample]] = defaultdict(list)
    for sample in trie.samples:
        by_skeleton[tuple(sample.path)].append(sample)
    chosen: list[Sample] = []
    n_skeletons = 0
    for path, samples in sorted(by_skeleton.items(), key=lambda item: len(item[1]), reverse=True):
        causes = trie.nodes[path[-1]].causes
        n_missing = min(MAX_BASES, len(samples)) - causes.bases
        if n_missing > 0 and n_skeletons < MAX_SKELETONS:
            n_skeletons += 1
            causes.bases += n_missing
            chosen += rng.sample(samples, n_missing)
    return chosen


def _support(trie: TemplateTrie, sample: Sample) -> dict[int, list[str]]:
    """By unit: the symbols seen there in samples that share the masked prefix up to it."""
    support: dict[int, list[str]] = {}
    root = trie.nodes[0].samples
    for index in range(sample.n_prompt):
        symbols = (trie.samples[i].units[index].symbol for i in root)
        support[index] = sorted({symbol for symbol in symbols if symbol is not None})
    for step, node in enumerate(sample.path):
        index = sample.n_prompt + step
        leading_space = sample.units[index].lead
        units = (trie.samples[i].units[index] for i in trie.nodes[node].samples)
        support[index] = sorted({u.symbol for u in units if u.symbol is not None and u.lead == leading_space})
    return support


def _writes(
    teacher: Teacher, trace: TokenisedTrace, choice_T: NDArray[np.int32], index: int, unit: Unit, symbol: str
) -> bool:
    """Whether the changed step now begins with ``symbol``, as a copy would."""
    if unit.symbol is None:
        return False
    first_token = trace.content[index][0]
    piece = token_text(teacher.tokenizer, int(choice_T[first_token - 1])).strip()
    return bool(piece) and symbol.startswith(piece)

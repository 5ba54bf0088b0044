"""Concept vectors: the teacher's state at the position that predicts a step, averaged over contexts.

Beside them travel prototype samples: states in which the teacher is about to copy a symbol. They label the teacher's
space with symbols without revealing a rule. Letters: K concepts, S symbols, P prototype samples, D width, N contexts,
L layers, r directions of spread.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Concepts, NearestPrototype
from m2kt.probes import ProbeSpec
from m2kt.teacher._contexts import MAX_CONTEXTS, ContextGroup, concept_contexts, prototype_contexts
from m2kt.teacher._space import Space, final_norm_space
from m2kt.teacher._states import Context, Floats, output_probability, record_contexts
from m2kt.teacher._statistics import RidgeProbe, cross_validated
from m2kt.teacher._teacher import Teacher
from m2kt.teacher.engine import FINAL_NORM
from m2kt.teacher.program import Skill

if TYPE_CHECKING:
    from m2kt.teacher.sources import ConceptSource

Ints = NDArray[np.int32]
CONTEXTS_FOR_PROBES = 2000  # in all, for the choice of the layer; at least 4 per concept
SAMPLES_FOR_PROBES = 16  # prototype samples per symbol, for the choice of the layer
CONTEXTS_FOR_CONFIDENCE = 4  # per concept
SPREAD_RANK = 2
MAX_LAYERS_PROBED = 12
MIN_READOUT = 0.98  # share of rule states that prototypes must decode; below it the space after the norm is tried


@dataclass
class Embedding:
    """Concept vectors and prototypes, with measurements of how well they are decoded."""

    space: Space
    concepts: Concepts
    probe_accuracy: float  # of a linear probe, cross-validated over concepts
    readout_accuracy: float  # share of concept vectors whose nearest prototype is their output
    decoded_K: Ints  # nearest prototype
    confidence_K: Floats  # the teacher's mean probability of the output
    notes: list[str] = field(default_factory=list)


def embed(teacher: Teacher, skill: Skill, spec: ProbeSpec, source: ConceptSource, *, seed: int) -> Embedding:
    """Choose the space, then average states over contexts."""
    rng = random.Random(f"embed/{seed}")
    outputs = skill.outputs
    contexts = concept_contexts(skill, rng)
    first_contexts = {k: members[:MAX_CONTEXTS] for k, members in contexts.items()}
    groups_of, notes = prototype_contexts(skill, spec, first_contexts, rng)
    space, probe_accuracy = _choose_space(teacher, first_contexts, groups_of, outputs)
    if space.basis_DX is not None:
        notes.append(
            "vectors are states after the teacher's final norm; the "
            f"{space.basis_DX.shape[1]} directions by which its head distinguishes the skill's words are amplified"
        )
    prototypes = _prototypes(teacher, groups_of, space, len(skill.program.symbols), seed)
    reader = NearestPrototype(prototypes.samples_PD, prototypes.symbol_P, prototypes.mean_SD)
    states = _concept_states(teacher, contexts, outputs, space, reader)
    weight_N = source.context_weights(teacher, states.contexts, space.layer)
    vectors_KD, support_K, basis_KrD, scale_Kr = _means(states, weight_N, skill.program.n_concepts)
    output_K = np.array(outputs, dtype=np.int32)
    if len(vectors_KD):
        vectors_KD = source.refine(vectors_KD, output_K, reader.direction_CD)
    decoded_K = reader.predict(vectors_KD)
    correct_K = decoded_K == output_K
    if not correct_K.all():
        notes.append(
            f"{int((~correct_K).sum())} concept vectors lie nearest to the prototype of another symbol than their "
            "output"
        )
    return Embedding(
        space=space,
        concepts=Concepts(
            vectors_KD=vectors_KD.astype(np.float32),
            spread_basis_KrD=basis_KrD,
            spread_scale_Kr=scale_Kr,
            support_K=support_K,
            prototypes_SD=prototypes.mean_SD,
            prototype_count_S=prototypes.count_S,
            prototype_samples_PD=prototypes.samples_PD,
            prototype_symbol_P=prototypes.symbol_P,
        ),
        probe_accuracy=probe_accuracy,
        readout_accuracy=float(correct_K.mean()) if len(correct_K) else float("nan"),
        decoded_K=decoded_K.astype(np.int32),
        confidence_K=_confidence(teacher, contexts),
        notes=notes,
    )


@dataclass(frozen=True)
class _Prototypes:
    samples_PD: Floats
    symbol_P: Ints
    mean_SD: Floats
    count_S: Ints


def _prototypes(
    teacher: Teacher, groups_of: dict[int, list[ContextGroup]], space: Space, n_symbols: int, seed: int
) -> _Prototypes:
    pairs = [(s, group) for s, groups in sorted(groups_of.items()) for group in groups]
    state_PD = _group_means(teacher, [g for _, g in pairs], [space.recorded_layer], "embedding symbols")[:, 0]
    samples_PD = space.prototype_samples(state_PD)
    symbol_P = np.array([s for s, _ in pairs], dtype=np.int32)
    mean_of = space.prototypes(samples_PD, symbol_P)
    count_S = np.bincount(symbol_P, minlength=n_symbols).astype(np.int32)  # without synthetic samples
    samples_PD, symbol_P = space.augmented(samples_PD, symbol_P, np.random.default_rng(seed))
    mean_SD = np.zeros((n_symbols, samples_PD.shape[1]), dtype=np.float32)
    for s, mean_D in mean_of.items():
        mean_SD[s] = mean_D
    return _Prototypes(samples_PD, symbol_P, mean_SD, count_S)


@dataclass(frozen=True)
class _ConceptStates:
    concept_N: NDArray[np.int64]
    contexts: list[Context]
    state_ND: Floats
    is_clear_N: NDArray[np.bool_]  # the prototypes decode the state as the output


def _concept_states(
    teacher: Teacher,
    contexts_of: dict[int, list[Context]],
    outputs: list[int],
    space: Space,
    reader: NearestPrototype,
) -> _ConceptStates:
    """States of each concept's first contexts, and of its spare ones if the prototypes misread all of the first."""
    if not contexts_of:
        none = np.empty(0, dtype=np.int64)
        return _ConceptStates(none, [], np.empty((0, teacher.facts.width), dtype=np.float32), none.astype(bool))
    pairs = [(k, c) for k, contexts in contexts_of.items() for c in contexts[:MAX_CONTEXTS]]
    layers = [space.recorded_layer]
    state_ND = space(record_contexts(teacher, [c for _, c in pairs], layers, "embedding concepts")[:, 0])
    is_clear_N = reader.predict(state_ND) == np.array([outputs[k] for k, _ in pairs])
    correct = {k for (k, _), is_clear in zip(pairs, is_clear_N, strict=True) if is_clear}
    misread = sorted(set(contexts_of) - correct)
    spare = [(k, c) for k in misread for c in contexts_of[k][MAX_CONTEXTS:]]
    if spare:
        pairs += spare
        spare_ND = space(record_contexts(teacher, [c for _, c in spare], layers, "spare contexts")[:, 0])
        state_ND = np.concatenate([state_ND, spare_ND])
        is_clear_N = reader.predict(state_ND) == np.array([outputs[k] for k, _ in pairs])
    return _ConceptStates(np.array([k for k, _ in pairs]), [c for _, c in pairs], state_ND, is_clear_N)


def _means(states: _ConceptStates, weight_N: Floats, n_concepts: int) -> tuple[Floats, Ints, Floats, Floats]:
    """Vectors (K, D), numbers of contexts (K,), and their spread: directions (K, r, D), deviations (K, r).

    A context that the prototypes misread is a poor example of its concept and left out, unless all are misread.
    """
    d = states.state_ND.shape[1]
    vectors_KD = np.zeros((n_concepts, d), dtype=np.float32)
    support_K = np.zeros(n_concepts, dtype=np.int32)
    basis_KrD = np.zeros((n_concepts, SPREAD_RANK, d), dtype=np.float32)
    scale_Kr = np.zeros((n_concepts, SPREAD_RANK), dtype=np.float32)
    for k in range(n_concepts):
        rows = np.flatnonzero(states.concept_N == k)
        correct = rows[states.is_clear_N[rows]]
        rows = (correct if len(correct) else rows)[:MAX_CONTEXTS]
        weights = weight_N[rows]
        vectors_KD[k] = (states.state_ND[rows] * weights[:, None]).sum(0) / weights.sum()
        support_K[k] = len(rows)
        basis_KrD[k], scale_Kr[k] = _spread(states.state_ND[rows] - vectors_KD[k])
    return vectors_KD, support_K, basis_KrD, scale_Kr


def _confidence(teacher: Teacher, contexts_of: dict[int, list[Context]]) -> Floats:
    """The teacher's mean probability of each concept's output (K,): greedy decoding hides low confidence.

    Concepts share samples where they can, for each sample takes a forward pass.
    """
    if not contexts_of:
        return np.empty(0, dtype=np.float32)
    pairs: list[tuple[int, Context]] = []
    samples: set[int] = set()
    for k, contexts in sorted(contexts_of.items(), key=lambda item: len(item[1])):
        chosen = sorted(contexts, key=lambda c: id(c.sample) not in samples)[:CONTEXTS_FOR_CONFIDENCE]
        samples.update(id(c.sample) for c in chosen)
        pairs += [(k, c) for c in chosen]
    p_N = output_probability(teacher, [c for _, c in pairs], "measuring confidence")
    concept_N = np.array([k for k, _ in pairs])
    mean_K: Floats = (np.bincount(concept_N, p_N) / np.bincount(concept_N)).astype(np.float32)
    return mean_K


def _group_means(teacher: Teacher, groups: list[ContextGroup], layers: list[int], stage: str) -> Floats:
    """Mean states of context groups: (N, L, D)."""
    group_of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    states = record_contexts(teacher, [c for group in groups for c in group], layers, stage)
    sums_NLD = np.zeros((len(groups), *states.shape[1:]), dtype=np.float32)
    np.add.at(sums_NLD, group_of, states)
    means_NLD: Floats = (sums_NLD / np.bincount(group_of)[:, None, None]).astype(np.float32)
    return means_NLD


def _choose_space(
    teacher: Teacher,
    contexts_of: dict[int, list[Context]],
    groups_of: dict[int, list[ContextGroup]],
    outputs: list[int],
) -> tuple[Space, float]:
    """The layer with the best sum of probe accuracy (cross-validated over concepts) and prototype readout.

    If no layer reaches MIN_READOUT, the space after the final norm is compared with the best layer.
    """
    depth = teacher.facts.layers
    layers = sorted({round(i) for i in np.linspace(1, depth, min(depth, MAX_LAYERS_PROBED)).tolist()})
    if not contexts_of:
        return _space_of_prototypes(teacher, groups_of, layers)
    per_concept = max(4, CONTEXTS_FOR_PROBES // len(contexts_of))
    pairs = [(k, c) for k, contexts in contexts_of.items() for c in contexts[:per_concept]]
    group_pairs = [(s, g) for s, groups in groups_of.items() for g in groups[:SAMPLES_FOR_PROBES]]
    recorded = [*layers, FINAL_NORM]
    x_NLD = record_contexts(teacher, [c for _, c in pairs], recorded, "choosing the layer")
    sample_PLD = _group_means(teacher, [g for _, g in group_pairs], recorded, "choosing the layer: symbols")
    concept_N = np.array([k for k, _ in pairs], dtype=np.int32)
    y_N = np.array([outputs[k] for k, _ in pairs], dtype=np.int32)
    y_P = np.array([s for s, _ in group_pairs], dtype=np.int32)

    def evaluate(i: int, space: Space) -> tuple[float, int, float, float, Space]:
        x_ND = space(x_NLD[:, i])
        probe_accuracy = cross_validated(x_ND, y_N, concept_N)
        samples_PD = space.prototype_samples(sample_PLD[:, i])
        probe = RidgeProbe(*space.augmented(samples_PD, y_P, np.random.default_rng(0)))
        readout = float((probe.predict(x_ND) == y_N).mean())
        score = round(np.nan_to_num(probe_accuracy) + readout, 3)
        return score, space.layer, probe_accuracy, readout, space

    best = max((evaluate(i, Space(layer)) for i, layer in enumerate(layers)), key=lambda result: result[:2])
    if best[3] < MIN_READOUT:
        space = final_norm_space(teacher, depth, _symbol_tokens(teacher, groups_of))
        if space is not None:
            best = max(best, evaluate(len(layers), space), key=lambda result: result[0])
    return best[4], best[2]


def _space_of_prototypes(
    teacher: Teacher, groups_of: dict[int, list[ContextGroup]], layers: list[int]
) -> tuple[Space, float]:
    """Of a program without rules: the layer in which a probe tells the symbols of prototype samples best."""
    pairs = [(s, g) for s, groups in groups_of.items() for g in groups[:SAMPLES_FOR_PROBES]]
    sample_PLD = _group_means(teacher, [g for _, g in pairs], layers, "choosing the layer: symbols")
    y_P = np.array([s for s, _ in pairs], dtype=np.int32)
    sample_P = np.arange(len(pairs), dtype=np.int32)
    scores = [(round(cross_validated(sample_PLD[:, i], y_P, sample_P), 3), layer) for i, layer in enumerate(layers)]
    accuracy, layer = max(scores)
    return Space(layer), accuracy


def _symbol_tokens(teacher: Teacher, groups_of: dict[int, list[ContextGroup]]) -> dict[int, list[int]]:
    """By symbol: the tokens with which the teacher writes it, without a bare leading space."""
    tokens_of = {}
    for symbol, groups in groups_of.items():
        context = groups[0][0]
        trace = teacher.tokenise(context.sample.texts, context.sample.n_prompt)
        tokens_of[symbol] = [trace.ids[t] for t in trace.content[context.unit]]
    return tokens_of


def _spread(deviations_ND: Floats) -> tuple[Floats, Floats]:
    """Low-rank covariance: principal directions (r, D) and standard deviations (r,) around the centroid."""
    d = deviations_ND.shape[1]
    basis = np.zeros((SPREAD_RANK, d), dtype=np.float32)
    scale = np.zeros(SPREAD_RANK, dtype=np.float32)
    if len(deviations_ND) > 1:
        _, s, vt = np.linalg.svd(deviations_ND, full_matrices=False)
        rank = min(SPREAD_RANK, len(s))
        basis[:rank] = vt[:rank]
        scale[:rank] = s[:rank] / np.sqrt(len(deviations_ND) - 1)
    return basis, scale

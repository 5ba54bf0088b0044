"""Algorithm 1: probe, intervene, explain, complete, merge, embed, measure attention and fidelity.

Nothing here knows a task: prompts come from the probe spec, answers from the teacher. The caller signs the packet.
Letters: K concepts, M states of traces, D width.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2kt.errors import ExtractionError
from m2kt.models import LoadedModel
from m2kt.packet._format1 import Graph, WriteLiteral, WriteRule, leaves
from m2kt.probes import MASK, ProbeSpec
from m2kt.teacher._attention import Attention, measure_attention
from m2kt.teacher._completion import (
    CompletionRound,
    ObservedGraph,
    complete,
    explain_corpus,
    probe,
    refusal,
    reserve_fidelity_prompts,
)
from m2kt.teacher._condense import Draft
from m2kt.teacher._config import ExtractionConfig
from m2kt.teacher._corpus import Corpus
from m2kt.teacher._embed import Embedding, embed
from m2kt.teacher._fidelity import RolloutComparison, compare_rollouts
from m2kt.teacher._space import Space
from m2kt.teacher._states import Context, record_contexts
from m2kt.teacher._teacher import Progress, Teacher
from m2kt.teacher.sources import concept_source

GC_ALLOCATIONS = 500_000  # new objects between two runs of the garbage collector


@dataclass
class ExtractionDetails:
    """Results of an extraction, ready to be packed and signed."""

    graph: Graph
    embedding: Embedding
    attention: Attention
    traces: dict[str, NDArray[np.generic]]
    rows_by_prototype: int  # verbalised rows whose vector is their output's prototype
    fidelity: RolloutComparison
    teacher_passes: int
    trace_tokens: int
    seconds: float
    rounds: list[CompletionRound] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def skeletons(self) -> int:
        """Number of paths through the graph that end with the stop string."""
        return sum(_count_paths(self.graph, t) for t in range(len(self.graph.templates)))


def extract(
    loaded: LoadedModel, spec: ProbeSpec, config: ExtractionConfig, progress: Progress | None = None
) -> ExtractionDetails:
    """Extract the skill ``spec`` from the teacher ``loaded``.

    Raises:
        ExtractionError: prompts exceed the context, answers lack the stop string, or fidelity is below the floor; the
            message names the steps that resisted.
    """
    started = time.monotonic()
    source = concept_source(config.concepts)
    teacher = Teacher(loaded, spec, progress)
    with _fewer_collections():
        fidelity_prompts = reserve_fidelity_prompts(spec, config)
        reserved = set() if spec.facts else {p.text for p in fidelity_prompts}
        corpus = Corpus(spec)
        probe(teacher, corpus, config, reserved)
        observed = explain_corpus(teacher, corpus, source, config.seed)
        rounds: list[CompletionRound] = []
        for number in range(1, config.rounds + 1):
            rounds.append(complete(teacher, corpus, observed, config, reserved, number))
            if rounds[-1].converged:
                break
            observed = explain_corpus(teacher, corpus, source, config.seed + number)
        draft, graph, outputs = observed.draft, observed.graph, observed.outputs

        if not graph.rules and not any(t.nodes for t in graph.templates):
            raise refusal("no step of the answers could be explained", draft)
        known_answers = corpus.answers if spec.facts else {}  # greedy answers do not change
        fidelity = compare_rollouts(teacher, graph, outputs, fidelity_prompts, "measuring fidelity", known_answers)
        _check_fidelity(fidelity, observed, config)
        embedding = embed(teacher, corpus, draft, graph, outputs, source, seed=config.seed)
        attention = measure_attention(teacher, corpus, draft, _rule_numbers(draft))
        traces = _record_traces(teacher, corpus, draft, embedding.space, config.traces_per_template)
        traces["confidence_K"] = embedding.confidence_K
        _verbalise(graph, outputs, config)
        rows_by_prototype = _use_prototypes(graph, embedding)
        return ExtractionDetails(
            graph=graph,
            embedding=embedding,
            attention=attention,
            traces=traces,
            rows_by_prototype=rows_by_prototype,
            fidelity=fidelity,
            teacher_passes=teacher.passes,
            trace_tokens=_text_tokens(teacher, graph),
            seconds=time.monotonic() - started,
            rounds=rounds,
            notes=_notes(embedding, attention, rows_by_prototype, draft, rounds),
        )


@contextmanager
def _fewer_collections() -> Iterator[None]:
    """Freeze existing objects and raise the gen-0 threshold; the default collector cost a sixth of extraction time."""
    thresholds, n_frozen = gc.get_threshold(), gc.get_freeze_count()
    gc.freeze()
    if thresholds[0]:  # 0 disables the collector
        gc.set_threshold(max(GC_ALLOCATIONS, thresholds[0]), *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if not n_frozen:  # else the caller has frozen objects
            gc.unfreeze()


def _check_fidelity(fidelity: RolloutComparison, observed: ObservedGraph, config: ExtractionConfig) -> None:
    if fidelity.coverage * fidelity.agreement < config.floor:
        reason = f"coverage {fidelity.coverage:.3f} x agreement {fidelity.agreement:.3f} is below {config.floor}"
        raise refusal(reason, observed.draft, fidelity)
    if not observed.graph.rules:
        raise ExtractionError(
            "expected answers with at least one rule, got literals and copies only; there is nothing to transmit"
        )


def _rule_numbers(draft: Draft) -> dict[int, int]:
    """By rule of the draft: the rule of the packet's graph."""
    used = sorted({x.rule for d in draft.decisions.values() for x in leaves(d) if isinstance(x, WriteRule)})
    return {old: new for new, old in enumerate(used)}


def _notes(
    embedding: Embedding,
    attention: Attention,
    rows_by_prototype: int,
    draft: Draft,
    rounds: list[CompletionRound],
) -> list[str]:
    notes = [*embedding.notes, *([attention.note] if attention.note else [])]
    if rows_by_prototype:
        notes.append(
            f"{rows_by_prototype} verbalised rows have a vector that decodes to another symbol than their text: they "
            "travel with the prototype of their output instead"
        )
    notes += [f"unexplained: {step}" for step in draft.resisted]
    if rounds and rounds[-1].disagreements:
        notes.append(
            f"{rounds[-1].disagreements} of {rounds[-1].checked} rollouts disagreed with the teacher in the last "
            "round of completion: errors of the teacher, or exceptions that were not found"
        )
    return notes


def _record_traces(
    teacher: Teacher, corpus: Corpus, draft: Draft, space: Space, per_template: int
) -> dict[str, NDArray[np.generic]]:
    """R: the states of a few traces per template, by names on disk. Without symbols, which would reveal rules.

    ``where_M3`` holds, for each of ``states_MD``, the template, the trace, and the node of the graph that it decides.
    """
    contexts, where = [], []
    n_traces = 0
    for trie in corpus.tries:
        explained = [n for n in range(len(trie.nodes)) if (trie.template, n) in draft.decisions]
        index_of = {n: i for i, n in enumerate(explained)}
        for sample in trie.samples[:per_template]:
            for step, node in enumerate(sample.path):
                if node in index_of:
                    contexts.append(Context(sample, sample.n_prompt + step))
                    where.append((trie.template, n_traces, index_of[node]))
            n_traces += 1
    states_MD = space(record_contexts(teacher, contexts, [space.recorded_layer], "recording traces")[:, 0])
    return {"states_MD": states_MD, "where_M3": np.array(where, dtype=np.int32).reshape(-1, 3)}


def _verbalise(graph: Graph, outputs: list[int], config: ExtractionConfig) -> None:
    """Write the outputs of a random share of rows into the graph."""
    rng = np.random.default_rng(config.seed)
    chosen = set(rng.permutation(len(outputs))[: round(config.verbalised * len(outputs))].tolist())
    for rule in graph.rules:
        rows = range(rule.offset, rule.offset + len(rule.rows))
        rule.outputs = [outputs[k] if k in chosen else None for k in rows]


def _use_prototypes(graph: Graph, embedding: Embedding) -> int:
    """Replace the vectors of verbalised rows that decode to another symbol than their text; return their number.

    Text and vector of a row must agree. A row without text keeps its state, whatever it decodes to.
    """
    texts = [(rule.offset + i, o) for rule in graph.rules for i, o in enumerate(rule.outputs) if o is not None]
    concepts = embedding.concepts
    misread = [(k, o) for k, o in texts if embedding.decoded_K[k] != o and concepts.prototype_count_S[o]]
    for k, o in misread:
        concepts.vectors_KD[k] = concepts.prototypes_SD[o]
    return len(misread)


def _text_tokens(teacher: Teacher, graph: Graph) -> int:
    """Teacher text inside the packet, in its tokens: literals of the graph and verbalised outputs."""
    steps = (node.step for template in graph.templates for node in template.nodes)
    texts = [leaf.text for step in steps for leaf in leaves(step) if isinstance(leaf, WriteLiteral)]
    texts += [graph.symbols[o] for rule in graph.rules for o in rule.outputs if o is not None]
    return sum(len(teacher.tokenizer.encode(t, add_special_tokens=False)) for t in texts)


def _count_paths(graph: Graph, template: int) -> int:
    nodes = graph.templates[template].nodes
    n_paths = [0] * len(nodes)
    for i in range(len(nodes) - 1, -1, -1):
        ends = any(isinstance(x, WriteLiteral) and x.text == graph.stop for x in leaves(nodes[i].step))
        n_paths[i] = int(ends) + sum(n_paths[c] for m, c in nodes[i].children.items() if MASK in m or m != graph.stop)
    return n_paths[0] if n_paths else 0

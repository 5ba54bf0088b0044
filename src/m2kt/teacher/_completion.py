"""From probes to a complete graph: ask the teacher, explain its answers, and ask again where the graph fails."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from m2kt.errors import ExtractionError
from m2kt.packet._format1 import Graph
from m2kt.probes import ProbeSpec, Prompt
from m2kt.teacher._condense import Draft, condense, write_graph
from m2kt.teacher._config import ExtractionConfig
from m2kt.teacher._corpus import Corpus
from m2kt.teacher._fidelity import RolloutComparison, compare_rollouts, roll_out_all
from m2kt.teacher._teacher import Teacher, unseen
from m2kt.teacher.sources import ConceptSource


@dataclass(frozen=True)
class CompletionRound:
    """Counts of one round of active completion."""

    number: int
    uncovered_rate: float  # share of new prompts whose trace the graph does not complete
    checked: int  # complete traces compared with the teacher
    disagreements: int

    @property
    def converged(self) -> bool:
        """The graph completed every trace, and the teacher agreed with those compared."""
        return self.uncovered_rate == 0 and self.disagreements == 0


@dataclass(frozen=True)
class ObservedGraph:
    """The packet's graph, the draft that it was written from, and the outputs that the teacher was seen to write."""

    draft: Draft
    graph: Graph
    outputs: list[int]  # by concept


def reserve_fidelity_prompts(spec: ProbeSpec, config: ExtractionConfig) -> list[Prompt]:
    """Prompts for measuring fidelity only. A template with few prompts keeps two thirds of them for probing.

    Facts have no other prompts than their probes; fidelity then says whether the graph holds the answers.
    """
    if spec.facts:
        return spec.sample("probing", config.fidelity_prompts, seed=config.seed)
    prompts: list[Prompt] = []
    for t in range(spec.n_templates):
        n = 3 * config.fidelity_prompts // spec.n_templates
        sampled = spec.sample("probing", n, seed=7919 + config.seed, templates=[t])
        prompts += sampled[: max(1, len(sampled) // 3)]
    return prompts


def probe(teacher: Teacher, corpus: Corpus, config: ExtractionConfig, reserved: set[str]) -> None:
    """Ask the teacher the first probes.

    Args:
        reserved: texts of prompts that are kept for fidelity.

    Raises:
        ExtractionError: there are no prompts, or too many answers lack the stop string.
    """
    prompts = _sample_probes(corpus.spec, config.probes_per_template, config.seed)
    prompts = unseen(prompts, reserved)
    answers, unstopped = teacher.answer(prompts, "probing")
    if unstopped > config.unstopped * len(prompts):
        raise ExtractionError(
            f"expected answers that end with the stop string {corpus.spec.stop!r}, got {unstopped} of {len(prompts)} "
            f"without it within {teacher.answer_budget} tokens (the teacher's context holds {teacher.context}); use "
            "templates that the teacher was trained on, check stop and max_new_tokens in the spec, or shorten the "
            "templates"
        )
    corpus.add(answers)
    corpus.arrange()
    if not corpus.answers:
        raise ExtractionError("expected prompts in the spec's probing split, got none; give its slots more values")


def _sample_probes(spec: ProbeSpec, per_template: int, seed: int) -> list[Prompt]:
    """Uniform prompts, and half as many skewed ones."""
    n = per_template * spec.n_templates
    prompts = spec.sample("probing", n, seed=seed)
    return prompts + unseen(spec.sample("probing", n // 2, seed=seed, skewed=True), {p.text for p in prompts})


def explain_corpus(teacher: Teacher, corpus: Corpus, source: ConceptSource, seed: int) -> ObservedGraph:
    """Measure effects and explain all steps. Words are structure until an unexplained step chooses among them."""
    while True:
        source.measure_effects(teacher, corpus, seed=seed)
        draft = condense(corpus)
        if not corpus.discover(word for step in draft.resisted for word in step.words):
            return ObservedGraph(draft, *write_graph(corpus, draft))


def complete(
    teacher: Teacher,
    corpus: Corpus,
    observed: ObservedGraph,
    config: ExtractionConfig,
    reserved: set[str],
    number: int,
) -> CompletionRound:
    """One round: roll out new prompts, and ask the teacher those that the graph does not complete or may get wrong."""
    graph, outputs = observed.graph, observed.outputs
    seed = config.seed + 1000 * number
    n = config.scouted_per_template * corpus.spec.n_templates
    prompts = corpus.spec.sample("probing", n, seed=seed)
    n_uniform = len(unseen(prompts, corpus.answers))
    skewed = corpus.spec.sample("probing", n // 2, seed=seed, skewed=True)
    prompts += unseen(skewed, {p.text for p in prompts})
    prompts = [p for p in unseen(prompts, corpus.answers) if p.text not in reserved]
    traces = roll_out_all(graph, corpus.spec, outputs, prompts)
    uncovered = [p for p, t in zip(prompts, traces, strict=True) if not t.complete]
    covered = [p for p, t in zip(prompts, traces, strict=True) if t.complete]
    limit = config.checked_per_template * corpus.spec.n_templates
    rng = np.random.default_rng(seed)
    # Rare paths through the graph are checked first: a wrong guard shows there.
    paths = [(t.template, *t.path) for t in traces if t.complete]
    frequency = Counter(paths)
    order = sorted(range(len(covered)), key=lambda i: (frequency[paths[i]] * rng.random(), i))
    checked = [covered[i] for i in order[:limit]]
    comparison = compare_rollouts(teacher, graph, outputs, checked, f"checking, round {number}")
    sampled = [uncovered[i] for i in rng.permutation(len(uncovered))[:limit].tolist()]
    answers, _ = teacher.answer(sampled, f"completing, round {number}")
    # Agreeing answers are added too: disagreements alone would overstate the teacher's noise rate.
    new = [*answers, *(comparison.answers if comparison.disagreements else [])]
    if new:
        corpus.add(new)
        corpus.arrange()
    uncovered_rate = len(uncovered) / max(1, n_uniform)
    return CompletionRound(number, uncovered_rate, len(checked), comparison.disagreements)


def refusal(reason: str, draft: Draft, comparison: RolloutComparison | None = None) -> ExtractionError:
    """The error of a graph that does not reproduce the teacher, with the steps that resisted."""
    lines = [f"the teacher's answers could not be condensed faithfully: {reason}."]
    worst = sorted(draft.resisted, key=lambda step: -step.samples)[:3]
    lines += [f"  no explanation for {step}" for step in worst]
    if comparison is not None:
        lines += [f"  {count} x {failure}" for failure, count in comparison.failures.most_common(3)]
        if comparison.unstopped:
            lines.append(f"  {comparison.unstopped} answers without the stop string")
    lines.append(
        "  Either the teacher answers these prompts inconsistently, or its answers follow no rule that a graph can "
        "express; check the teacher's accuracy, or change the templates."
    )
    return ExtractionError("\n".join(lines))

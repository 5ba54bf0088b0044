"""Algorithm 1: ask the teacher, find its program, embed, measure attention and fidelity.

Nothing here knows a task: prompts come from the probe spec, answers from the teacher. The caller signs the packet.
Letters: K concepts, M states of traces, D width.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m2kt.errors import ExtractionError
from m2kt.models import LoadedModel
from m2kt.packet import Equality, Program, SizeFidelity, WriteLiteral, leaves
from m2kt.probes import END, ProbeSpec, Prompt
from m2kt.teacher._attention import Attention, measure_attention
from m2kt.teacher._config import ExtractionConfig
from m2kt.teacher._edges import edges_of
from m2kt.teacher._embed import Embedding, embed
from m2kt.teacher._equality import measure_equality
from m2kt.teacher._fidelity import RolloutComparison, compare_rollouts, measure_sizes, refusal
from m2kt.teacher._look import settle
from m2kt.teacher._oracle import Answer
from m2kt.teacher._space import Space
from m2kt.teacher._states import Context, record_contexts
from m2kt.teacher._teacher import Progress, Teacher
from m2kt.teacher.engine import Engine
from m2kt.teacher.program import Skill, program_of
from m2kt.teacher.program._cut import Sample
from m2kt.teacher.sources import concept_source

GC_ALLOCATIONS = 500_000  # new objects between two runs of the garbage collector


@dataclass
class ExtractionDetails:
    """Results of an extraction, ready to be packed and signed."""

    spec: ProbeSpec
    """With the one end that the teacher's answers have."""
    skill: Skill
    embedding: Embedding
    attention: Attention
    traces: dict[str, NDArray[np.generic]]
    rows_by_prototype: int  # verbalised rows whose vector is their output's prototype
    fidelity: RolloutComparison
    equality: Equality | None  # of the engine and dtype with fp32
    teacher_passes: int
    teacher_tokens: int  # computed
    teacher_tokens_shared: int  # not computed, thanks to shared prefixes
    trace_tokens: int
    seconds: float
    sizes: list[SizeFidelity] = field(default_factory=list)  # that were not probed
    notes: list[str] = field(default_factory=list)

    @property
    def program(self) -> Program:
        """What the packet's program will be."""
        return self.skill.program


def extract(
    computed_by: LoadedModel | Engine, spec: ProbeSpec, config: ExtractionConfig, progress: Progress | None = None
) -> ExtractionDetails:
    """Extract the skill ``spec`` from a teacher.

    Args:
        computed_by: a model in this process, or an engine.

    Raises:
        ExtractionError: prompts exceed the context, answers lack the stop string, the engine does not compute what
            fp32 does, or fidelity is below the floor; the message names the steps that resisted.
    """
    started = time.monotonic()
    source = concept_source(config.concepts)
    teacher = Teacher(computed_by, spec, progress)
    with _explained(teacher):
        spec = settle(teacher, config)
        equality = measure_equality(teacher, seed=config.seed)
    with _fewer_collections():
        prompts = reserve_fidelity_prompts(spec, config)
        reserved = frozenset() if spec.facts else frozenset(p.text for p in prompts)
        skill = _learn(teacher, spec, config, reserved)
        fidelity = _measure_fidelity(teacher, skill, spec, prompts)
        if fidelity.coverage * fidelity.agreement < config.floor:
            raise refusal(skill, fidelity, config.floor)
        embedding = embed(teacher, skill, spec, source, seed=config.seed)
        edges = edges_of(skill, seed=config.seed)
        attention = measure_attention(teacher, edges, source.effects(teacher, edges, seed=config.seed))
        traces = _record_traces(teacher, skill, embedding.space, config.traces_per_template)
        traces["confidence_K"] = embedding.confidence_K
        _verbalise(skill, config)
        rows_by_prototype = _use_prototypes(skill.program, embedding)
        return ExtractionDetails(
            spec=spec,
            skill=skill,
            embedding=embedding,
            attention=attention,
            traces=traces,
            rows_by_prototype=rows_by_prototype,
            fidelity=fidelity,
            equality=equality,
            teacher_passes=teacher.passes,
            teacher_tokens=teacher.tokens,
            teacher_tokens_shared=teacher.tokens_shared,
            trace_tokens=_text_tokens(teacher, skill.program),
            seconds=time.monotonic() - started,
            sizes=measure_sizes(skill, spec, seed=config.seed),
            notes=_notes(embedding, attention, rows_by_prototype, skill),
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


def reserve_fidelity_prompts(spec: ProbeSpec, config: ExtractionConfig) -> list[Prompt]:
    """Prompts for measuring fidelity only. A template with few prompts keeps two thirds of them for probing.

    Facts have no other prompts than their probes; fidelity then says whether the program holds the answers.
    """
    if spec.facts:
        return spec.sample("probing", config.fidelity_prompts, seed=config.seed)
    prompts: list[Prompt] = []
    for t in range(spec.n_templates):
        n = 3 * config.fidelity_prompts // spec.n_templates
        sampled = spec.sample("probing", n, seed=7919 + config.seed, templates=[t])
        prompts += sampled[: max(1, len(sampled) // 3)]
    return prompts


def _learn(teacher: Teacher, spec: ProbeSpec, config: ExtractionConfig, reserved: frozenset[str]) -> Skill:
    with _explained(teacher):
        return program_of(teacher, spec, config, reserved=reserved, progress=teacher.progress)


@contextmanager
def _explained(teacher: Teacher) -> Iterator[None]:
    """Errors say it where the teacher's context cut its answers."""
    try:
        yield
    except ExtractionError as error:
        if 0 < teacher.answer_budget < teacher.spec.answer_tokens:
            cut = f"answers had {teacher.answer_budget} tokens, for the teacher's context holds {teacher.facts.context}"
            raise ExtractionError(f"{error}; {cut}") from error
        raise


def _measure_fidelity(teacher: Teacher, skill: Skill, spec: ProbeSpec, prompts: list[Prompt]) -> RolloutComparison:
    known = {}
    if spec.facts:  # greedy answers do not change
        known = {sample.prompt.text: _answer_of(sample) for sample in skill.samples}
    return compare_rollouts(teacher, skill.program, skill.outputs, prompts, "measuring fidelity", known)


def _answer_of(sample: Sample) -> Answer:
    completion = "".join(sample.texts[sample.n_prompt : -1])
    return Answer(sample.prompt, completion, ())


def _notes(embedding: Embedding, attention: Attention, rows_by_prototype: int, skill: Skill) -> list[str]:
    notes = [*embedding.notes, *([attention.note] if attention.note else [])]
    if not skill.program.rules:
        notes.append("all of this skill is structure: its answers are literals, copies and tests, and no rule")
    if rows_by_prototype:
        notes.append(
            f"{rows_by_prototype} verbalised rows have a vector that decodes to another symbol than their text: they "
            "travel with the prototype of their output instead"
        )
    return notes + [f"unexplained: {state}" for state in skill.resisted]


def _record_traces(teacher: Teacher, skill: Skill, space: Space, per_template: int) -> dict[str, NDArray[np.generic]]:
    """R: the states of a few traces per template, by names on disk. Without symbols, which would reveal rules.

    ``where_M3`` holds, for each of ``states_MD``, the state of the program, the trace, and the step.
    """
    contexts, where = [], []
    n_traces = 0
    recorded: Counter[tuple[int, bool]] = Counter()
    for sample, steps in zip(skill.samples, skill.steps, strict=True):
        template = sample.prompt.template, sample.prompt.held_out
        if recorded[template] >= per_template:
            continue
        recorded[template] += 1
        for index, step in enumerate(steps):
            if step is not None:
                contexts.append(Context(sample, sample.n_prompt + index))
                where.append((step.state, n_traces, index))
        n_traces += 1
    states_MD = space(record_contexts(teacher, contexts, [space.recorded_layer], "recording traces")[:, 0])
    return {"states_MD": states_MD, "where_M3": np.array(where, dtype=np.int32).reshape(-1, 3)}


def _verbalise(skill: Skill, config: ExtractionConfig) -> None:
    """Write the outputs of a random share of rows into the program."""
    rng = np.random.default_rng(config.seed)
    outputs = skill.outputs
    chosen = set(rng.permutation(len(outputs))[: round(config.verbalised * len(outputs))].tolist())
    for rule in skill.program.rules:
        rule.outputs = [outputs[k] if k in chosen else None for k in rule.concepts]


def _use_prototypes(program: Program, embedding: Embedding) -> int:
    """Replace the vectors of verbalised rows that decode to another symbol than their text; return their number.

    Text and vector of a row must agree. A row without text keeps its state, whatever it decodes to.
    """
    texts = [(rule.offset + i, o) for rule in program.rules for i, o in enumerate(rule.outputs) if o is not None]
    concepts = embedding.concepts
    misread = [(k, o) for k, o in texts if embedding.decoded_K[k] != o and concepts.prototype_count_S[o]]
    for k, o in misread:
        concepts.vectors_KD[k] = concepts.prototypes_SD[o]
    return len(misread)


def _text_tokens(teacher: Teacher, program: Program) -> int:
    """Teacher text inside the packet, in its tokens: literals of the program and verbalised outputs."""
    written = (leaf for state in program.states for leaf in leaves(state.decision))
    texts = [leaf.text for leaf in written if isinstance(leaf, WriteLiteral) and leaf.text != END]
    texts += [program.symbols[o] for rule in program.rules for o in rule.outputs if o is not None]
    return sum(len(teacher.tokenizer.encode(t, add_special_tokens=False)) for t in texts)

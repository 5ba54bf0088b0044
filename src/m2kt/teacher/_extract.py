"""Algorithm 1: probe, interrogate, explain, complete, merge, embed, attend, measure. Signing is the caller's.

Nothing here knows a task: what is asked comes from the probe spec, what is answered from the teacher.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from m2kt.errors import ExtractionError
from m2kt.models import LoadedModel
from m2kt.packet import Graph, WriteRule, leaves
from m2kt.probes import MASK, ProbeSpec, Prompt
from m2kt.teacher._ask import Progress, Teacher, distinct
from m2kt.teacher._attend import Attention, attend
from m2kt.teacher._condense import Draft, condense, write_graph
from m2kt.teacher._embed import Embedding, embed
from m2kt.teacher._fidelity import Fidelity, compare, roll_all
from m2kt.teacher._pool import Pool
from m2kt.teacher._space import Space
from m2kt.teacher._states import Request, gather
from m2kt.teacher.sources import SOURCES, ConceptSource

ALLOCATIONS = 500_000  # between two looks of Python's collector at what is new


class ExtractionConfig(BaseModel):
    """What extraction costs and what it must reach."""

    model_config = ConfigDict(extra="forbid")

    probes_per_template: int = Field(default=300, gt=0, description="Prompts asked per template at first.")
    rounds: int = Field(default=5, ge=0, description="Rounds of active completion at most.")
    scouted_per_template: int = Field(
        default=1500, gt=0, description="Prompts rolled out per template and round."
    )
    checked_per_template: int = Field(default=100, gt=0, description="Covered roll-outs checked a round.")
    fidelity_prompts: int = Field(
        default=600, gt=0, description="Fresh prompts on which fidelity is measured."
    )
    floor: float = Field(
        default=0.9, ge=0, le=1, description="Least coverage x agreement of an acceptable packet."
    )
    unstopped: float = Field(
        default=0.1, ge=0, le=1, description="Largest share of answers that may lack the stop."
    )
    concepts: str = Field(default="interrogation", description="Concept source: " + ", ".join(SOURCES))
    verbalised: float = Field(
        default=0.0, ge=0, le=1, description="Share v of rows whose output also travels as text."
    )
    traces_per_template: int = Field(default=8, ge=0, description="Example traces whose states travel.")
    seed: int = Field(default=0, description="Seed of sampling and of the choice of verbalised rows.")


@dataclass
class Extraction:
    """All that extraction found, ready to be packed and signed."""

    graph: Graph
    embedding: Embedding
    attention: Attention
    traces: dict[str, NDArray[np.generic]]
    spoken_plainly: int  # rows in words whose vector is the symbol state of what they write
    fidelity: Fidelity
    teacher_passes: int
    trace_tokens: int
    seconds: float
    rounds: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def skeletons(self) -> int:
        """Distinct ways through the graph that end with the stop string."""
        return sum(_ways(self.graph, t) for t in range(len(self.graph.templates)))


def extract(
    loaded: LoadedModel, spec: ProbeSpec, config: ExtractionConfig, progress: Progress | None = None
) -> Extraction:
    """Condenses what ``loaded`` holds about ``spec``.

    Raises:
        ExtractionError: prompts exceed the context, the stop string is not reached, or fidelity stays below the
            floor; the message names the steps that resisted.
    """
    with _collected_seldom():
        return _extract(loaded, spec, config, progress)


def _extract(
    loaded: LoadedModel, spec: ProbeSpec, config: ExtractionConfig, progress: Progress | None
) -> Extraction:
    started = time.monotonic()
    if config.concepts not in SOURCES:
        raise ExtractionError(f"unknown concept source {config.concepts!r}; there are: {', '.join(SOURCES)}")
    source = SOURCES[config.concepts]()
    teacher = Teacher(loaded, spec, progress)
    checks = _fidelity_prompts(spec, config)
    # Facts have no other prompts than those that are asked: fidelity then says that the graph holds what was said.
    reserved = set() if spec.facts else {p.text for p in checks}
    pool = Pool(spec)
    n = config.probes_per_template * spec.n_templates
    prompts = spec.sample("probing", n, seed=config.seed)
    prompts += distinct(
        spec.sample("probing", n // 2, seed=config.seed, skewed=True), {p.text for p in prompts}
    )
    _ask(teacher, pool, distinct(prompts, reserved), config)
    if not pool.answers:
        raise ExtractionError("the spec's probing split holds no prompt: give its slots more values")

    draft, graph, outputs = _explain(teacher, pool, source, config.seed)
    rounds = []
    for number in range(1, config.rounds + 1):
        fresh, checked, disagreed = _complete(teacher, pool, graph, outputs, config, reserved, number)
        rounds.append({"round": number, "uncovered_rate": fresh, "checked": checked, "disagreed": disagreed})
        if fresh == 0 and disagreed == 0:
            break
        draft, graph, outputs = _explain(teacher, pool, source, config.seed + number)

    if not graph.rules and not any(t.nodes for t in graph.templates):
        raise ExtractionError(_resistance("no step of the answers could be explained", draft, None))
    known = pool.answers if spec.facts else {}  # a teacher asked again says the same
    fidelity = compare(teacher, graph, outputs, checks, "measuring fidelity", known)
    reached = fidelity.coverage * fidelity.agreement
    if reached < config.floor:
        reason = (
            f"coverage {fidelity.coverage:.3f} x agreement {fidelity.agreement:.3f} is below {config.floor}"
        )
        raise ExtractionError(_resistance(reason, draft, fidelity))
    if not graph.rules:
        raise ExtractionError(
            "every answer is literal text and copies: the teacher shows no rule to transmit"
        )
    embedding = embed(teacher, pool, draft, graph, outputs, source, seed=config.seed)
    live = sorted({x.rule for d in draft.decisions.values() for x in leaves(d) if isinstance(x, WriteRule)})
    attention = attend(teacher, pool, draft, {old: new for new, old in enumerate(live)})
    traces = _traces(teacher, pool, draft, embedding.space, config)
    traces["confidence_K"] = embedding.confidence_K
    _verbalise(graph, outputs, config)
    notes = [*embedding.notes, *([attention.note] if attention.note else [])]
    if plain := _speak_plainly(graph, embedding):
        notes.append(
            f"{plain} rows in words are read as something else in the teacher's own state: the symbol state of what "
            "they write travels in its place"
        )
    notes += [f"unexplained: {r}" for r in draft.resisted]
    if rounds and rounds[-1]["disagreed"]:
        notes.append(
            f"{rounds[-1]['disagreed']} of {rounds[-1]['checked']} roll-outs disagreed in the last round of "
            "completion: slips of the teacher, or exceptions that were not found"
        )
    return Extraction(
        graph=graph,
        embedding=embedding,
        attention=attention,
        traces=traces,
        spoken_plainly=plain,
        fidelity=fidelity,
        teacher_passes=teacher.passes,
        trace_tokens=_text_in_graph(teacher, graph),
        seconds=time.monotonic() - started,
        rounds=rounds,
        notes=notes,
    )


@contextmanager
def _collected_seldom() -> Iterator[None]:
    """Python's collector leaves alone what is older, and comes less often.

    A sample is hundreds of small objects that stay: to look at them and at all modules again and again took a sixth
    of extraction's time.
    """
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    gc.freeze()
    if thresholds[0]:  # 0 is never
        gc.set_threshold(max(ALLOCATIONS, thresholds[0]), *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if not frozen:  # else it is somebody else's wish
            gc.unfreeze()


def _fidelity_prompts(spec: ProbeSpec, config: ExtractionConfig) -> list[Prompt]:
    """Set aside before anything is asked, unless they are facts; small shapes keep two thirds of theirs for probing."""
    if spec.facts:
        return spec.sample("probing", config.fidelity_prompts, seed=config.seed)
    prompts: list[Prompt] = []
    for t in range(spec.n_templates):
        n = 3 * config.fidelity_prompts // spec.n_templates
        there = spec.sample("probing", n, seed=7919 + config.seed, templates=[t])
        prompts += there[: max(1, len(there) // 3)]
    return prompts


def _ask(teacher: Teacher, pool: Pool, prompts: list[Prompt], config: ExtractionConfig) -> None:
    answers, unstopped = teacher.answer(prompts, "probing")
    if unstopped > config.unstopped * len(prompts):
        raise ExtractionError(
            f"{unstopped} of {len(prompts)} answers never reached the stop string {pool.spec.stop!r} within "
            f"{teacher.room} tokens (the teacher's context holds {teacher.context}): is this teacher trained on these "
            "templates? Else check stop and max_new_tokens in the spec, or shorten the templates"
        )
    pool.add(answers)
    pool.arrange()


def _explain(
    teacher: Teacher, pool: Pool, source: ConceptSource, seed: int
) -> tuple[Draft, Graph, list[int]]:
    """Interrogates and condenses. Words are structure until a choice among them resists: then they are symbols."""
    while True:
        source.candidates(teacher, pool, seed=seed)
        draft = condense(pool)
        if not pool.discover(word for r in draft.resisted for word in r.words):
            graph, outputs = write_graph(pool, draft)
            return draft, graph, outputs


def _complete(
    teacher: Teacher,
    pool: Pool,
    graph: Graph,
    outputs: list[int],
    config: ExtractionConfig,
    reserved: set[str],
    number: int,
) -> tuple[float, int, int]:
    """Active completion: roll out many fresh prompts, ask the teacher where the graph ends or may be wrong.

    Returns the share of prompts that the graph did not cover, and of how many checked roll-outs how many disagreed.
    """
    seed = config.seed + 1000 * number
    n = config.scouted_per_template * pool.spec.n_templates
    scouts = pool.spec.sample("probing", n, seed=seed)
    uniform = len(distinct(scouts, pool.answers))
    scouts += distinct(pool.spec.sample("probing", n // 2, seed=seed, skewed=True), {p.text for p in scouts})
    scouts = [p for p in distinct(scouts, pool.answers) if p.text not in reserved]
    traces = roll_all(graph, outputs, scouts)
    uncovered = [p for p, t in zip(scouts, traces, strict=True) if not t.complete]
    rate = len(uncovered) / max(1, uniform)
    check = config.checked_per_template * pool.spec.n_templates
    rng = np.random.default_rng(seed)
    covered = [p for p, t in zip(scouts, traces, strict=True) if t.complete]
    paths = [tuple(t.path) for t in traces if t.complete]
    # Rare ways through the graph are checked first: that is where a guess of a guard would be wrong.
    common = Counter(paths)
    order = sorted(range(len(covered)), key=lambda i: (common[paths[i]] * rng.random(), i))
    asked = [covered[i] for i in order[:check]]
    found = compare(teacher, graph, outputs, asked, f"checking, round {number}")
    some = [uncovered[i] for i in rng.permutation(len(uncovered))[:check].tolist()]
    answers, _ = teacher.answer(some, f"completing, round {number}")
    # Those that agreed join too: disagreements alone would make a teacher that slips now and then look erratic.
    new = [*answers, *(found.answers if found.disagreeing else [])]
    if new:
        pool.add(new)
        pool.arrange()
    return rate, len(asked), found.disagreeing


def _resistance(reason: str, draft: Draft, fidelity: Fidelity | None) -> str:
    lines = [f"the teacher's answers could not be condensed faithfully: {reason}."]
    worst = sorted(draft.resisted, key=lambda r: -r.samples)[:3]
    lines += [f"  no explanation for {r}" for r in worst]
    if fidelity is not None:
        lines += [f"  {count} x {what}" for what, count in fidelity.missing.most_common(3)]
        if fidelity.unstopped:
            lines.append(f"  {fidelity.unstopped} answers never reached the stop string")
    lines.append(
        "  Either the teacher does not master these prompts, or its answers vary in ways that no rule fits."
    )
    return "\n".join(lines)


def _traces(
    teacher: Teacher, pool: Pool, draft: Draft, space: Space, config: ExtractionConfig
) -> dict[str, NDArray[np.generic]]:
    """R: latent chains s_1..s_M of a few traces a template. No symbols: they would give the rules away.

    ``states_MD``; per state the template, the trace it belongs to, and the node of the graph that it decides.
    """
    requests, where = [], []
    trace = 0
    for shape in pool.shapes:
        kept = [n for n in range(len(shape.nodes)) if (shape.template, n) in draft.decisions]
        position = {n: i for i, n in enumerate(kept)}
        for sample in shape.samples[: config.traces_per_template]:
            for step, node in enumerate(sample.path):
                if node in position:
                    requests.append(Request(sample, sample.n_prompt + step))
                    where.append((shape.template, trace, position[node]))
            trace += 1
    states_MD = space(gather(teacher, requests, [space.place], "recording traces")[:, 0])
    return {"states_MD": states_MD, "where_M3": np.array(where, dtype=np.int32).reshape(-1, 3)}


def _verbalise(graph: Graph, outputs: list[int], config: ExtractionConfig) -> None:
    rng = np.random.default_rng(config.seed)
    chosen = set(rng.permutation(len(outputs))[: round(config.verbalised * len(outputs))].tolist())
    for rule in graph.rules:
        rule.outputs = [
            outputs[rule.offset + i] if rule.offset + i in chosen else None for i in range(len(rule.rows))
        ]


def _speak_plainly(graph: Graph, embedding: Embedding) -> int:
    """Text and vector of a row must say the same; a row without text keeps its own state, however it is read."""
    said = [(rule.offset + i, o) for rule in graph.rules for i, o in enumerate(rule.outputs) if o is not None]
    misread = [(k, o) for k, o in said if embedding.read_K[k] != o and embedding.anchor_count_S[o]]
    for k, o in misread:
        embedding.vectors_KD[k] = embedding.anchors_SD[o]
    return len(misread)


def _text_in_graph(teacher: Teacher, graph: Graph) -> int:
    """Teacher text inside the packet, in its tokens: literals of the skeletons and verbalised outputs."""
    texts = []
    for template in graph.templates:
        for node in template.nodes:
            texts += [leaf.text for leaf in leaves(node.step) if leaf.do == "literal"]
    texts += [graph.symbols[o] for rule in graph.rules for o in rule.outputs if o is not None]
    return sum(len(teacher.tokenizer.encode(t, add_special_tokens=False)) for t in texts)


def _ways(graph: Graph, template: int) -> int:
    nodes = graph.templates[template].nodes
    ways = [0] * len(nodes)
    for i in range(len(nodes) - 1, -1, -1):
        ends = any(leaf.do == "literal" and leaf.text == graph.stop for leaf in leaves(nodes[i].step))
        ways[i] = int(ends) + sum(
            ways[c] for m, c in nodes[i].children.items() if MASK in m or m != graph.stop
        )
    return ways[0] if ways else 0

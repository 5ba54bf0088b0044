"""Single rule steps, the prefix given: does the student take each step of a trace, and if not, where is it lost?

A step that applies a rule goes through stages: the reader's selector names the rule, its gather heads find the
arguments, the product of these finds the row, the reader writes, the row's vector says a symbol, and the student writes
that symbol. All traces are read in one pass, each position behind the packet's own prefix, so slips do not add up here.

Legend: B traces, T tokens, K concepts, M edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from m2kt.models import LoadedModel, next_tokens
from m2kt.packet import Packet, Trace, decodes_with_margin
from m2kt.student import IGNORE, NO_BANK, Batch, CALConfig, CALModel, EncodedTrace, Encoder, collate
from m2kt.student.cal import ReaderBase, StructuredReader
from m2kt.student.losses import MOSTLY, edge_log_p

Stage = Literal["selected", "gathered", "retrieved", "written", "readable", "read_out"]
STAGES: tuple[Stage, ...] = ("selected", "gathered", "retrieved", "written", "readable", "read_out")
TRACES_A_BATCH = 16  # bounds the logits, which are as wide as the vocabulary


class Steps(BaseModel):
    """Shares of single rule steps that are right, by stage. None: not measured, or nothing to measure."""

    n: int = Field(description="Rule steps taken.")
    traces: int = Field(description="Traces they belong to.")
    concepts_seen: float = Field(description="Share of the packet's concepts among them.")
    selected: float | None = Field(
        description="The selector names the rule, and then that its symbol goes on; of structured readers only."
    )
    gathered: float | None = Field(
        description="Every gather head looks mostly at the packet's argument; of structured readers only."
    )
    retrieved: float | None = Field(description="The right row has the most weight; of readers only.")
    written: float | None = Field(description="The reader is not silenced there; of structured readers only.")
    readable: float | None = Field(
        description="The packet's own symbol states read the row's vector clearly; of readers only."
    )
    read_out: float | None = Field(
        description="The student writes every token of the symbol that the row stands for."
    )
    latent: float | None = Field(description="read_out where the row travels as a vector only.")
    verbalised: float | None = Field(description="read_out where the row's output travels as text too.")
    failed: dict[Stage, float] = Field(
        description="Share of steps not read out rightly, by the first stage at which each went wrong."
    )
    chains: float | None = Field(description="Share of traces whose rule steps are all read out rightly.")
    structure: float | None = Field(
        description="Share of traces whose other tokens (copies, literals) are all read out rightly."
    )
    procedure: float | None = Field(
        description="Share of traces in which the reader chooses rightly for all those other tokens: class, and source "
        "of copies; of structured readers only."
    )
    causal: float | None = Field(
        description="Share of the edges read, tested ones, that moved the teacher: cutting the edge or exchanging the "
        "symbol that it reads changed the teacher's step."
    )
    causal_failed: float | None = Field(
        description="The same for steps that fail although their arguments were gathered rightly."
    )
    by_concept: dict[int, tuple[int, int]] = Field(
        description="By concept met: how often, and how often read out rightly."
    )

    @property
    def shares(self) -> dict[str, float]:
        """Every share that was measured, by name."""
        names = ("concepts_seen", *STAGES, "latent", "verbalised", "chains", "structure", "procedure")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass
class _Step:
    """One step as it was found."""

    concept: int
    marks: dict[Stage, bool]
    edges: list[bool]  # causal or not, of those that were tested


@dataclass
class _Whole:
    """A trace: whether all its rule steps are right, all other tokens, and what is chosen for those."""

    rules: bool
    others: bool
    chosen: bool | None


@torch.no_grad()
def measure_steps(
    loaded: LoadedModel,
    packet: Packet,
    traces: Sequence[Trace],
    completions: Mapping[str, str] | None = None,
) -> Steps:
    """Takes every rule step of the complete traces, with the adapter on (if there is one).

    Args:
        loaded: a student with a CAL; of any other adapter, or none, only what is read out can be measured.
        traces: the packet's roll-outs, see :func:`packet_traces`; incomplete ones are passed over.
        completions: what the teacher wrote, by prompt: traces that differ from it are passed over, so that every
            prefix is the teacher's own.
    """
    reader = cal_reader(loaded.model)
    config = reader.config if reader is not None else CALConfig()
    encode = Encoder(packet.graph, loaded.tokenizer)
    usable = [t for t in traces if t.complete and (completions is None or _agrees(t, completions))]
    items = sorted((encode(t, NO_BANK, config) for t in usable), key=lambda item: len(item.ids))
    clear_K = decodes_with_margin(packet.concepts) if reader is not None else None
    causal = _causal_edges(packet)
    steps: list[_Step] = []
    wholes: list[_Whole] = []
    for start in range(0, len(items), TRACES_A_BATCH):
        group = items[start : start + TRACES_A_BATCH]
        device = loaded.device
        batch = collate(group, device)
        read_out_BT = _read_out(loaded.model, batch)
        stages = {} if reader is None else _stages(loaded.model, reader, batch)
        found_BT = {stage: mark_BT.tolist() for stage, mark_BT in stages.items()}
        for b, item in enumerate(group):
            right_T: list[bool] = read_out_BT[b].tolist()
            of_rules = spans(item)
            for t, end in of_rules.items():
                concept = item.concept_T[t]
                marks: dict[Stage, bool] = {stage: all(mark[b][t:end]) for stage, mark in found_BT.items()}
                if clear_K is not None:
                    marks["readable"] = bool(clear_K[concept])
                marks["read_out"] = all(right_T[t:end])
                steps.append(_Step(concept, marks, _edges(item, t, causal)))
            within = {i for t, end in of_rules.items() for i in range(t, end)}
            others = [i for i, label in enumerate(item.label_T) if label != IGNORE and i not in within]
            chosen = [found_BT[s][b] for s in ("selected", "gathered") if s in found_BT]
            wholes.append(
                _Whole(
                    rules=all(right_T[i] for i in within),
                    others=all(right_T[i] for i in others),
                    chosen=all(mark_T[i] for mark_T in chosen for i in others) if chosen else None,
                )
            )
    return _summary(packet, steps, wholes)


def cal_reader(model: Any) -> ReaderBase | None:
    """The reader of a student's active adapter; None for steering alone, for other adapters, and for none."""
    tuner = getattr(model, "base_model", None)
    if not isinstance(tuner, CALModel):
        return None
    config = cast(CALConfig, tuner.peft_config[tuner.active_adapters[0]])
    return None if config.reader == "none" else tuner.reader()


def _agrees(trace: Trace, completions: Mapping[str, str]) -> bool:
    prompt = "".join(u.text for u in trace.units[: trace.n_prompt])
    return completions.get(prompt) == trace.completion


def _read_out(model: Any, batch: Batch) -> Tensor:
    """Where the student's next token is the trace's, (B, T)."""
    answered_BT = batch.label_BT != IGNORE
    right_BT = torch.zeros_like(answered_BT)
    logits_NV = next_tokens(model, batch.token_BT, batch.mask_BT, answered_BT)
    right_BT[answered_BT] = logits_NV.argmax(-1) == batch.label_BT[answered_BT]
    return right_BT


def _stages(model: Any, reader: ReaderBase, batch: Batch) -> dict[Stage, Tensor]:
    """What the reader did right in the pass just made, (B, T) a stage; True where a stage asks for nothing."""
    run = model.base_model.last_run
    found, taught = run.outputs[-1], batch.teaching
    concept_BT = taught.concept_BT
    retrieved_BT = (found.usage_BTK.argmax(-1) == concept_BT) | (concept_BT < 0)
    if not isinstance(reader, StructuredReader):
        return {"retrieved": retrieved_BT}
    gathered_BT = torch.ones_like(retrieved_BT)
    where_M2, log_p_M = edge_log_p(batch, found, reader.config)
    missed_M2 = where_M2[log_p_M <= MOSTLY]
    gathered_BT[missed_M2[:, 0], missed_M2[:, 1]] = False
    return {
        "selected": found.class_BTC.argmax(-1) == taught.class_BT,
        "gathered": gathered_BT,
        "retrieved": retrieved_BT,
        "written": reader.writes(run, found.class_BTC.exp()),
    }


def spans(item: EncodedTrace) -> dict[int, int]:
    """Positions that predict the tokens of each symbol written by a rule: first, and one past the last."""
    unit, n = item.unit_of_token, len(item.ids)
    found = {}
    for t in (t for t, concept in enumerate(item.concept_T) if concept >= 0):
        end = t + 1
        while end + 1 < n and unit[end + 1] == unit[t + 1]:
            end += 1
        found[t] = end
    return found


def _causal_edges(packet: Packet) -> dict[tuple[int, ...], bool]:
    """Whether an edge moved the teacher, for those that were tested: by (template, node, argument, source, rule)."""
    marks = packet.attention
    if not {"edges_M6", "causal_M", "effect_M"} <= marks.keys():
        return {}
    rows = zip(*(marks[name].tolist() for name in ("edges_M6", "causal_M", "effect_M")), strict=True)
    return {
        (template, node, argument, source, rule): cut == 1 or effect > 0
        for (template, node, argument, source, _, rule), cut, effect in rows
        if cut >= 0 or effect >= 0
    }


def _edges(item: EncodedTrace, t: int, causal: Mapping[tuple[int, ...], bool]) -> list[bool]:
    """Causality of the tested edges that the step at ``t`` reads."""
    trace, index = item.trace, item.unit_of_token[t + 1]
    unit, node = trace.units[index], trace.path[index - trace.n_prompt]
    assert unit.rule is not None
    keys = [(trace.template, node, i, source, unit.rule) for i, source in enumerate(unit.sources)]
    return [causal[key] for key in keys if key in causal]


def _summary(packet: Packet, steps: list[_Step], wholes: list[_Whole]) -> Steps:
    outputs = [output for rule in packet.graph.rules for output in rule.outputs]
    by_concept: dict[int, tuple[int, int]] = {}
    failed: dict[Stage, int] = {}
    for step in steps:
        n, right = by_concept.get(step.concept, (0, 0))
        by_concept[step.concept] = (n + 1, right + step.marks["read_out"])
        if not step.marks["read_out"]:
            first = next(stage for stage in STAGES if not step.marks.get(stage, True))
            failed[first] = failed.get(first, 0) + 1
    aligned = [s for s in steps if s.marks.get("gathered", False) and not s.marks["read_out"]]
    return Steps(
        n=len(steps),
        traces=len(wholes),
        concepts_seen=len(by_concept) / max(1, packet.n_concepts),
        **{stage: _share(s.marks[stage] for s in steps if stage in s.marks) for stage in STAGES},
        latent=_share(s.marks["read_out"] for s in steps if outputs[s.concept] is None),
        verbalised=_share(s.marks["read_out"] for s in steps if outputs[s.concept] is not None),
        failed={stage: failed[stage] / len(steps) for stage in STAGES if stage in failed},
        chains=_share(w.rules for w in wholes),
        structure=_share(w.others for w in wholes),
        procedure=_share(w.chosen for w in wholes if w.chosen is not None),
        causal=_share(edge for s in steps for edge in s.edges),
        causal_failed=_share(edge for s in aligned for edge in s.edges),
        by_concept=dict(sorted(by_concept.items())),
    )


def _share(marks: Iterable[bool]) -> float | None:
    found = list(marks)
    return sum(found) / len(found) if found else None

"""Single rule steps, teacher-forced: does the student take each step of a trace, and at which stage does it fail?

Stages of a step that applies a rule: the selector names the rule, the argument heads find the arguments, these retrieve
the row, the reader is not gated off, the row's vector decodes with margin, and the student writes its symbol. In JSON:
selected, gathered, retrieved, written, readable and read_out. All traces are read in one pass behind the packet's
prefix, so errors do not accumulate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from m2kt._shapes import Bool
from m2kt.auditor._traces import cal_reader, observed, spans, structure_positions, teacher_forced
from m2kt.models import LoadedModel, next_token_logits
from m2kt.packet import Packet, Trace, decodes_with_margin
from m2kt.student import IGNORE, Batch, EncodedTrace
from m2kt.student.cal import ReaderBase, Run, StructuredReader
from m2kt.student.losses import HALF_LOG_ATTENTION, edge_log_attention

Stage = Literal["selected", "gathered", "retrieved", "written", "readable", "read_out"]
STAGES: tuple[Stage, ...] = ("selected", "gathered", "retrieved", "written", "readable", "read_out")


class Steps(BaseModel):
    """Shares of single rule steps that are right, by stage. None: not measured, or nothing to measure."""

    n: int = Field(description="Rule steps.")
    traces: int = Field(description="Traces of these steps.")
    concepts_seen: float = Field(description="Share of the packet's concepts among them.")
    selected: float | None = Field(
        description="The selector names the rule, then continue within its symbol; structured readers only."
    )
    gathered: float | None = Field(
        description="Every argument head attends mostly to the packet's source; structured readers only."
    )
    retrieved: float | None = Field(description="The right row has the largest weight; readers only.")
    written: float | None = Field(description="The reader is not gated off; structured readers only.")
    readable: float | None = Field(
        description="The row's vector decodes with margin from the packet's prototypes; readers only."
    )
    read_out: float | None = Field(description="The student writes every token of the row's symbol.")
    latent: float | None = Field(description="read_out on rows that travel as vectors only.")
    verbalised: float | None = Field(description="read_out on verbalised rows.")
    failed: dict[Stage, float] = Field(description="Share of steps that fail, by the first stage that is wrong.")
    chains: float | None = Field(description="Share of traces whose rule steps are all right.")
    structure: float | None = Field(description="Share of traces whose other tokens (copies, literals) are all right.")
    procedure: float | None = Field(
        description="Share of traces in which the reader's class, and its source of copies, are right at all those "
        "other tokens; structured readers only."
    )
    causal: float | None = Field(description="Share of causal edges among the tested edges that these steps read.")
    causal_failed: float | None = Field(description="The same for steps that fail although their arguments were found.")
    by_concept: dict[int, tuple[int, int]] = Field(description="By concept: number of steps, and of right ones.")

    @property
    def shares(self) -> dict[str, float]:
        """Every share that was measured, by name."""
        names = ("concepts_seen", *STAGES, "latent", "verbalised", "chains", "structure", "procedure")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass
class _Step:
    """One rule step."""

    concept: int
    marks: dict[Stage, bool]
    edges: list[bool]  # whether each tested edge is causal


@dataclass
class _TraceMarks:
    """What is right in a trace: all rule steps, all other tokens (structure), and the reader's choices for these."""

    rules: bool
    structure: bool
    chosen: bool | None


@torch.no_grad()
def measure_steps(
    loaded: LoadedModel,
    packet: Packet,
    traces: Sequence[Trace],
    completions: Mapping[str, str] | None = None,
) -> Steps:
    """Measure every rule step of the complete traces, with the adapter on (if there is one).

    Args:
        loaded: a student with a CAL. Without one, only ``read_out`` and what follows from it is measured.
        traces: rollouts of the packet, see :func:`packet_traces`.
        completions: the teacher's answers by prompt; traces that differ from them are left out, so that every prefix
            is the teacher's.
    """
    reader = cal_reader(loaded.model)
    usable = [t for t in traces if completions is None or _agrees(t, completions)]
    readable_K = decodes_with_margin(packet.concepts) if reader is not None else None
    causal = _causal_edges(packet)
    steps: list[_Step] = []
    whole: list[_TraceMarks] = []
    for group, batch in teacher_forced(loaded, packet, usable):
        with observed(loaded.model) as runs:
            read_out_BT = _read_out(loaded.model, batch)
        stages = _stages(runs[-1], reader, batch) if reader is not None and runs else {}
        marks_BT = {stage: mark_BT.tolist() for stage, mark_BT in stages.items()}
        for b, item in enumerate(group):
            right_T: list[bool] = read_out_BT[b].tolist()
            for t, end in spans(item).items():
                marks: dict[Stage, bool] = {stage: all(mark[b][t:end]) for stage, mark in marks_BT.items()}
                if readable_K is not None:
                    marks["readable"] = bool(readable_K[item.concept_T[t]])
                marks["read_out"] = all(right_T[t:end])
                steps.append(_Step(item.concept_T[t], marks, _edges(item, t, causal)))
            structure = structure_positions(item)
            chosen = [marks_BT[s][b] for s in ("selected", "gathered") if s in marks_BT]
            whole.append(
                _TraceMarks(
                    rules=all(right_T[i] for t, end in spans(item).items() for i in range(t, end)),
                    structure=all(right_T[i] for i in structure),
                    chosen=all(mark_T[i] for mark_T in chosen for i in structure) if chosen else None,
                )
            )
    return _summary(packet, steps, whole)


def _agrees(trace: Trace, completions: Mapping[str, str]) -> bool:
    prompt = "".join(u.text for u in trace.units[: trace.n_prompt])
    return completions.get(prompt) == trace.completion


def _read_out(model: nn.Module, batch: Batch) -> Bool[Tensor, "B T"]:
    """Where the student's next token is the trace's token."""
    answered_BT = batch.label_BT != IGNORE
    right_BT = torch.zeros_like(answered_BT)
    logits_NV = next_token_logits(model, batch.token_BT, batch.mask_BT, answered_BT)
    right_BT[answered_BT] = logits_NV.argmax(-1) == batch.label_BT[answered_BT]
    return right_BT


def _stages(run: Run, reader: ReaderBase, batch: Batch) -> dict[Stage, Bool[Tensor, "B T"]]:
    """What the reader did right in a pass, for each stage; True where a stage does not apply."""
    outputs, supervision = run.outputs[-1], batch.supervision
    concept_BT = supervision.concept_BT
    if outputs.concept_BT is not None:
        return {"retrieved": (outputs.concept_BT == concept_BT) | (concept_BT < 0)}
    assert outputs.usage_BTK is not None, "an active reader returns its weights"
    retrieved_BT = (outputs.usage_BTK.argmax(-1) == concept_BT) | (concept_BT < 0)
    if not isinstance(reader, StructuredReader):
        return {"retrieved": retrieved_BT}
    gathered_BT = torch.ones_like(retrieved_BT)
    where_N2, log_p_N = edge_log_attention(batch, outputs, reader.config)
    missed_N2 = where_N2[log_p_N <= HALF_LOG_ATTENTION]
    gathered_BT[missed_N2[:, 0], missed_N2[:, 1]] = False
    return {
        "selected": outputs.class_BTC.argmax(-1) == supervision.class_BT,
        "gathered": gathered_BT,
        "retrieved": retrieved_BT,
        "written": reader.is_open(run, outputs.class_BTC.exp()),
    }


def _causal_edges(packet: Packet) -> dict[tuple[int, ...], bool]:
    """Whether each tested edge is causal, by state, leaf and argument."""
    marks = packet.attention
    if not {"edges_M4", "causal_M", "effect_M"} <= marks.keys():
        return {}
    rows = zip(*(marks[name].tolist() for name in ("edges_M4", "causal_M", "effect_M")), strict=True)
    causal: dict[tuple[int, ...], bool] = {}
    for (state, leaf, argument, _), cut, effect in rows:
        if cut >= 0 or effect >= 0:
            causal[state, leaf, argument] = cut == 1 or effect > 0
    return causal


def _edges(item: EncodedTrace, t: int, causal: Mapping[tuple[int, ...], bool]) -> list[bool]:
    """Whether each tested edge that the step at ``t`` reads is causal."""
    trace, index = item.trace, item.unit_of_token[t + 1]
    step = index - trace.n_prompt
    keys = [(trace.path[step], trace.leaf[step], i) for i in range(len(trace.units[index].sources))]
    return [causal[key] for key in keys if key in causal]


def _summary(packet: Packet, steps: list[_Step], whole: list[_TraceMarks]) -> Steps:
    outputs = [output for rule in packet.program.rules for output in rule.outputs]
    by_concept: dict[int, tuple[int, int]] = {}
    failed: dict[Stage, int] = {}
    for step in steps:
        n, right = by_concept.get(step.concept, (0, 0))
        by_concept[step.concept] = (n + 1, right + step.marks["read_out"])
        if not step.marks["read_out"]:
            first = next(stage for stage in STAGES if not step.marks.get(stage, True))
            failed[first] = failed.get(first, 0) + 1
    found_arguments = [s for s in steps if s.marks.get("gathered", False) and not s.marks["read_out"]]
    return Steps(
        n=len(steps),
        traces=len(whole),
        concepts_seen=len(by_concept) / max(1, packet.n_concepts),
        **{stage: _share(s.marks[stage] for s in steps if stage in s.marks) for stage in STAGES},
        latent=_share(s.marks["read_out"] for s in steps if outputs[s.concept] is None),
        verbalised=_share(s.marks["read_out"] for s in steps if outputs[s.concept] is not None),
        failed={stage: failed[stage] / len(steps) for stage in STAGES if stage in failed},
        chains=_share(w.rules for w in whole),
        structure=_share(w.structure for w in whole),
        procedure=_share(w.chosen for w in whole if w.chosen is not None),
        causal=_share(edge for s in steps for edge in s.edges),
        causal_failed=_share(edge for s in found_arguments for edge in s.edges),
        by_concept=dict(sorted(by_concept.items())),
    )


def _share(marks: Iterable[bool]) -> float | None:
    values = list(marks)
    return sum(values) / len(values) if values else None

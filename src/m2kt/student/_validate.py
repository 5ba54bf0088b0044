"""What a student must bring before a packet can be taken in: ingestion enforces these checks, preflight reports them.

Each check is measured once, here. Training starts from its result (:class:`TrainingInputs`), so both sides see the
same student.

Letters: D teacher width, E student width, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import DynamicCache

from m2kt.errors import CompatibilityError, ModelError
from m2kt.models import (
    blocks,
    cache_argument,
    context_length,
    decoder,
    encode_units,
    record,
    text_of,
    width,
    writing_problem,
)
from m2kt.packet import Concepts, Trace
from m2kt.settings import StudentSettings
from m2kt.student._build import depths, resolve_flagged
from m2kt.student._rehearsal import Rehearsal
from m2kt.student._separability import singled_out
from m2kt.student._tokenisation import Tokenisation, tokenise
from m2kt.student.cal._context import Fact, UnitMatcher

SPELLING_TRACES = 600
SINGLED_OUT = 0.05
SAME_PASS = {torch.float32: 1e-3}  # largest deviation of a cached pass, in deviations of its states
SAME_PASS_LOW = 0.2  # the same where states have 8 to 11 bits


class Check(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="What was looked at.")
    fit: bool | None = Field(description="Whether it will do; null: not judged, and 'needed' says why.")
    measured: str = Field(description="What was found.")
    needed: str = Field(description="What it was held against.")
    advice: str = Field(default="", description="What to do about it; empty where it fits.")

    def __str__(self) -> str:
        needed = self.needed if self.fit is None else f"expected {self.needed}"
        return f"{self.name}: {self.measured}; {needed}" + (self.advice and f"; {self.advice}")


@dataclass(frozen=True)
class TrainingInputs:
    """What training starts from: made-up traces can be drawn, and are spelled in the student's tokens."""

    rehearsal: Rehearsal
    spelling: Tokenisation
    penalties: Mapping[int, float]
    """Penalty(c_k) of the concepts to be filtered, those of the settings among them."""


def examine(
    loaded: Any, packet: Any, settings: StudentSettings, penalties: Mapping[int, float], seed: int
) -> tuple[list[Check], TrainingInputs | None]:
    """The enforced checks, as far as each can be made after those before it; the ground only if all are passed.

    Raises:
        PacketError: the packet is at fault, not the student: no pool, no rehearsal prompts, no complete trace.
    """
    tokenizer, graph = loaded.tokenizer, packet.graph
    known, penalties = flagged(graph, settings.flagged, penalties)
    checks = [widths(loaded.model, packet.concepts), known, symbols(tokenizer, graph.symbols)]
    if unfit(checks):
        return checks, None
    told, rehearsal = rows_in_words(loaded, packet, settings, seed, penalties)
    checks.append(told)
    if rehearsal is None:
        return checks, None
    traces = [trace for trace, _ in rehearsal.draw(SPELLING_TRACES)]
    checks.append(literals(tokenizer, traces))
    if unfit(checks):
        return checks, None
    spelling, room = tokenise(tokenizer, graph, traces), context_length(loaded.model)
    reads, _ = depths(settings, len(blocks(loaded.model)))
    checks += [
        context(spelling.longest, room),
        attention(loaded.model, spelling.traces[0][:room], reads),
        capacity(loaded.model, tokenizer, spelling),
    ]
    if settings.reader.kind == "structured":
        checks.append(cues(tokenizer, graph, spelling, traces))
    return checks, None if unfit(checks) else TrainingInputs(rehearsal, spelling, penalties)


def unfit(checks: list[Check]) -> list[Check]:
    """Those that are not passed."""
    return [check for check in checks if check.fit is False]


def require(
    loaded: Any, packet: Any, settings: StudentSettings, penalties: Mapping[int, float], seed: int
) -> TrainingInputs:
    """The ground to train on.

    Raises:
        CompatibilityError: naming the first check that is not passed.
    """
    checks, ground = examine(loaded, packet, settings, penalties, seed)
    if ground is None:
        raise CompatibilityError(f"this student cannot take the packet in: {unfit(checks)[0]}")
    return ground


def widths(model: Any, concepts: Concepts) -> Check:
    """phi maps R^D to R^E, and starts from the rows of an unembedding that must be as wide as the stream."""
    arrays = (concepts.vectors_KD, concepts.prototypes_SD, concepts.prototype_samples_PD)
    teacher = {int(array.shape[1]) for array in arrays}
    student, head = width(model), model.get_output_embeddings()
    rows = None if head is None else int(head.weight.shape[1])
    fit = len(teacher) == 1 and rows == student
    return Check(
        name="widths",
        fit=fit,
        measured=f"teacher {' and '.join(map(str, sorted(teacher)))}, student {student}, its unembedding {rows}",
        needed="one teacher width, and an unembedding as wide as the student's stream",
        advice="" if fit else "choose a student whose head reads the stream itself",
    )


def flagged(graph: Any, entries: list[str], penalties: Mapping[int, float]) -> tuple[Check, dict[int, float]]:
    """Concepts that the settings flag are in the packet; with the penalties of all that are to be filtered."""
    needed, all_penalties = "every flagged concept in the packet", dict(penalties)
    try:
        all_penalties |= dict.fromkeys(resolve_flagged(graph, entries), 1.0)
        fit, measured = True, f"{len(all_penalties)} of {graph.n_concepts} rows are filtered"
    except CompatibilityError as error:
        fit, measured = False, str(error)
    advice = "" if fit else "mend 'flagged' in the configuration"
    return Check(name="flagged", fit=fit, measured=measured, needed=needed, advice=advice), all_penalties


def symbols(tokenizer: Any, texts: list[str]) -> Check:
    """Every symbol comes back from its tokens: alone, behind a space, behind another."""
    problems = [(text, problem) for text in texts if (problem := writing_problem(tokenizer, text))]
    measured = f"{len(texts) - len(problems)} of {len(texts)} come back from their tokens"
    if problems:
        text, problem = problems[0]
        measured += f"; the student's tokenizer cannot write {text!r}: {problem}"
    return Check(
        name="symbols",
        fit=not problems,
        measured=measured,
        needed="all of them",
        advice="choose another student" if problems else "",
    )


def rows_in_words(
    loaded: Any, packet: Any, settings: StudentSettings, seed: int, penalties: Mapping[int, float]
) -> tuple[Check, Rehearsal | None]:
    """Whether the rows that must travel in words do; plain rehearsal alone needs any."""
    try:
        rehearsal = Rehearsal(
            packet.graph,
            packet.spec,
            np.asarray(packet.concepts.prototype_symbol_P),
            loaded.tokenizer,
            settings.rehearsal,
            seed=seed,
            forbidden=penalties,
        )
    except CompatibilityError as error:
        advice = "extract it so, or leave rehearsal.plain off"
        return _rows_in_words(False, str(error), "all rows", advice), None
    told = sum(o is not None for rule in packet.graph.rules for o in rule.outputs)
    measured = f"{told} of {packet.graph.n_concepts}"
    needed = "all rows" if settings.rehearsal.plain else "none: they are followed as vectors"
    return _rows_in_words(True, measured, needed), rehearsal


def _rows_in_words(fit: bool, measured: str, needed: str, advice: str = "") -> Check:
    return Check(name="rows in words", fit=fit, measured=measured, needed=needed, advice=advice)


def literals(tokenizer: Any, traces: list[Trace]) -> Check:
    """Every literal comes back from its tokens, where it stands in a trace."""
    seen: dict[str, str | None] = {}
    for trace in traces:
        for u, unit in enumerate(trace.units):
            if unit.symbol is None and unit.text not in seen:
                seen[unit.text] = _unwritable(tokenizer, [x.text for x in trace.units[: u + 1]])
    problems = [(text, problem) for text, problem in seen.items() if problem]
    measured = f"{len(seen) - len(problems)} of {len(seen)} come back from their tokens"
    if problems:
        measured += f"; cannot write {problems[0][0]!r}: {problems[0][1]}"
    return Check(
        name="literals",
        fit=not problems,
        measured=measured,
        needed="all of them",
        advice="choose another student" if problems else "",
    )


def _unwritable(tokenizer: Any, texts: list[str]) -> str | None:
    try:
        encode_units(tokenizer, texts)
    except ModelError as error:
        return str(error)
    return None


def context(longest: int, room: int) -> Check:
    """The longest trace fits into the student."""
    return Check(
        name="context",
        fit=longest <= room,
        measured=f"traces of this skill take up to {longest} tokens in this student",
        needed=f"at most the {room} that its context holds",
        advice="" if longest <= room else "choose a student with a longer context, or probe shorter shapes",
    )


@torch.no_grad()
def attention(model: Any, ids: list[int], reads: list[int]) -> Check:
    """The blocks that are read can be hooked, and a cached pass repeats a whole one.

    The reader's own keys ride in the student's cache, in layers of their own: it matters not whether the student keeps
    keys and values there or the states of a state-space model.
    """
    kind = getattr(model.config.get_text_config(), "_attn_implementation", None)
    try:
        apart = _cached_pass_differs(model, torch.tensor([ids], device=_device(model)), reads)
        slack = SAME_PASS.get(model.dtype, SAME_PASS_LOW)
        fit = apart <= slack
        measured = f"{kind}, {len(blocks(model))} blocks, read at {reads}; cached pass apart by {apart:.1e}"
    except Exception as error:  # other people's code: whatever it raises is the finding
        fit, slack = False, SAME_PASS_LOW
        lines = str(error).splitlines() or [""]
        measured = f"a pass with a cache failed ({type(error).__name__}: {lines[0]})"
    return Check(
        name="attention",
        fit=fit,
        measured=measured,
        needed=f"states to read, and a cache under which they differ by no more than {slack:g}",
        advice="" if fit else "choose a student whose every pass can go on from a DynamicCache",
    )


def _cached_pass_differs(model: Any, ids_BT: Tensor, reads: list[int]) -> float:
    """Largest deviation of the states read at the last token, with all before it cached or not."""
    backbone = decoder(model)
    kept = cache_argument(model)
    layers = [layer + 1 for layer in reads]  # its layer i + 1 is what block i returns
    with record(model, layers) as seen:
        backbone(input_ids=ids_BT, use_cache=False)
        whole_TX = torch.cat([seen[layer][0].float() for layer in layers], -1)
        cache = DynamicCache(config=model.config)
        backbone(input_ids=ids_BT[:, :-1], use_cache=True, **{kept: cache})
        backbone(input_ids=ids_BT[:, -1:], use_cache=True, **{kept: cache})
        last_X = torch.cat([seen[layer][0, -1].float() for layer in layers], -1)
    return float((whole_TX[-1] - last_X).abs().max() / whole_TX.std())


def capacity(model: Any, tokenizer: Any, spelling: Tokenisation) -> Check:
    """The student's head can put every token that answers need above all the others, by some state of its stream."""
    tokens = sorted(spelling.answer_tokens)
    distance_C = singled_out(model, tokens)
    lost = [token for token, d in zip(tokens, distance_C.tolist(), strict=True) if d < SINGLED_OUT]
    measured = (
        f"{len(tokens) - len(lost)} of {len(tokens)} tokens that answers write can be singled out, "
        f"in {width(model)} dimensions; the narrowest by {float(distance_C.min()):.3f} of a typical distance"
    )
    if lost:
        measured += f"; never written: {', '.join(repr(text_of(tokenizer, [token])) for token in lost[:5])}"
    return Check(
        name="capacity",
        fit=not lost,
        measured=measured,
        needed=f"every one of them outside the hull of the others by at least {SINGLED_OUT}",
        advice="choose a student whose output embeddings tell them apart" if lost else "",
    )


def cues(tokenizer: Any, graph: Any, spelling: Tokenisation, traces: list[Trace]) -> Check:
    """The structured reader names the symbols that rules read and copies repeat, off the student's tokens."""
    matcher = UnitMatcher(
        spelling.symbol_tokens, [*spelling.literals.values(), *spelling.context], spelling.spaces
    )
    n, right, wrong = 0, 0, ""
    for trace in traces:
        encoded = encode_units(tokenizer, [u.text for u in trace.units], prompt_boundary=trace.n_prompt)
        last = {u: t for t, u in enumerate(encoded.unit_of_token)}
        said_N = matcher(torch.tensor([encoded.ids]))[0, :, Fact.SYMBOL].tolist()
        for u in {source for unit in trace.units for source in unit.sources}:
            n += 1
            true, said = trace.units[u].symbol, said_N[last[u]]
            if said == true:
                right += 1
            elif not wrong and true is not None:
                took = repr(graph.symbols[said]) if said < len(graph.symbols) else "no symbol"
                wrong = f"; {graph.symbols[true]!r} is taken for {took}"
    return Check(
        name="cues",
        fit=right == n,
        measured=f"{right} of {n} symbols that are read are named rightly by their tokens{wrong}",
        needed="all of them",
        advice="" if right == n else "choose a student whose tokenizer splits these symbols otherwise",
    )


def _device(model: Any) -> torch.device:
    device: torch.device = model.get_input_embeddings().weight.device
    return device

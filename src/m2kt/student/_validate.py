"""Checks of a student against a packet: training requires them, preflight reports them.

Each check reads the finished :class:`TrainingInputs` and measures one thing.

Letters: B sequences, T tokens, X width of all blocks read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from m2kt.errors import CompatibilityError, ModelError
from m2kt.models import (
    LoadedModel,
    blocks,
    cache_argument,
    context_length,
    decoder,
    encode_prompt,
    encode_units,
    end_token,
    record,
    text_of,
    token_text,
    width,
    writing_problem,
)
from m2kt.packet import Concepts, Program, Trace
from m2kt.probes import END
from m2kt.student._batching import IGNORE, NO_BANK
from m2kt.student._build import configure, layer_indices
from m2kt.student._prepare import TrainingInputs
from m2kt.student._separability import hull_distance
from m2kt.student._tokenisation import Tokenisation
from m2kt.student.cal import Follower, FollowFeature, TokenFeature, UnitMatcher, as_bytes, skill_of

FOLLOWED_TRACES = 48
MIN_HULL_DISTANCE = 0.05  # of an output embedding from the convex hull of the others
CACHE_TOLERANCE = {torch.float32: 1e-3}  # largest deviation of a cached pass, in standard deviations of its states
CACHE_TOLERANCE_LOW = 0.2  # the same for dtypes with 8 to 11 bits of precision


class FitnessCheck(BaseModel):
    """Result of one check."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Name of the check.")
    fit: bool | None = Field(description="Whether the check passed; null: not judged, 'needed' says why.")
    measured: str = Field(description="Measured value.")
    needed: str = Field(description="Required value.")
    advice: str = Field(default="", description="What to do about a failure; empty if the check passed.")

    def __str__(self) -> str:
        needed = self.needed if self.fit is None else f"expected {self.needed}"
        return f"{self.name}: {self.measured}; {needed}" + (self.advice and f"; {self.advice}")


def validate(loaded: LoadedModel, inputs: TrainingInputs) -> list[FitnessCheck]:
    """Run the required checks. A failed check ends the list where later checks depend on it."""
    model, tokenizer = cast(PreTrainedModel, loaded.model), loaded.tokenizer
    program, tokenisation = inputs.packet.program, inputs.tokenisation
    checks = [
        check_widths(model, inputs.packet.concepts),
        check_flagged(program, inputs),
        check_symbols(tokenizer, program.symbols),
    ]
    if failed(checks):
        return checks
    checks.append(check_verbalised(program, inputs.settings.rehearsal.plain))
    if failed(checks):
        return checks
    checks.append(check_literals(tokenizer, inputs.traces, tokenisation))
    if failed(checks):
        return checks
    if program.stop == END:
        checks.append(check_end(tokenizer, inputs.traces))
        if failed(checks):
            return checks
    max_tokens = context_length(model)
    read_layers, _ = layer_indices(inputs.settings, len(blocks(model)))
    checks += [
        check_context(tokenisation.longest, max_tokens),
        check_cache(model, tokenisation.sequences[0][:max_tokens], read_layers),
        check_capacity(model, tokenizer, tokenisation),
    ]
    if inputs.settings.reader_kind == "structured":
        checks.append(check_symbol_matching(tokenizer, program, tokenisation, inputs.traces))
    if inputs.settings.reader_kind == "executed":
        checks.append(check_following(loaded, inputs))
    return checks


def failed(checks: Sequence[FitnessCheck]) -> list[FitnessCheck]:
    """The checks that did not pass; those not judged are not among them."""
    return [check for check in checks if check.fit is False]


def require(checks: Sequence[FitnessCheck]) -> None:
    """Refuse an unfit student.

    Raises:
        CompatibilityError: names the first failed check.
    """
    if failures := failed(checks):
        raise CompatibilityError(f"this student cannot ingest the packet: {failures[0]}")


def check_widths(model: PreTrainedModel, concepts: Concepts) -> FitnessCheck:
    """phi maps R^D to R^E; its closed-form start needs unembedding rows of width E."""
    teacher_widths = {
        int(x.shape[1]) for x in (concepts.vectors_KD, concepts.prototypes_SD, concepts.prototype_samples_PD)
    }
    student_width, head = width(model), model.get_output_embeddings()
    row_width = None if head is None else int(head.weight.shape[1])
    fit = len(teacher_widths) == 1 and row_width == student_width
    teacher = " and ".join(map(str, sorted(teacher_widths)))
    return FitnessCheck(
        name="widths",
        fit=fit,
        measured=f"teacher {teacher}, student {student_width}, its unembedding {row_width}",
        needed="one teacher width, and an unembedding as wide as the student's residual stream",
        advice="" if fit else "choose a student whose LM head reads the residual stream itself",
    )


def check_flagged(program: Program, inputs: TrainingInputs) -> FitnessCheck:
    """All flagged concepts exist in the packet."""
    fit, measured = True, f"{len(inputs.penalties)} of {program.n_concepts} rows are filtered"
    if inputs.unknown_flags:
        example = f"{program.rules[0].name if program.rules else 'rule'}(a, b)"
        fit = False
        measured = (
            f"flagged concept {inputs.unknown_flags[0]!r} is not in the packet: expected a symbol or a row such as "
            f"{example!r}"
        )
    return FitnessCheck(
        name="flagged",
        fit=fit,
        measured=measured,
        needed="every flagged concept in the packet",
        advice="" if fit else "correct 'flagged' in the configuration",
    )


def check_symbols(tokenizer: PreTrainedTokenizerBase, symbols: Sequence[str]) -> FitnessCheck:
    """Every symbol decodes from its tokens: alone, after a space, and after another symbol."""
    problems = [(text, problem) for text in symbols if (problem := writing_problem(tokenizer, text))]
    return _round_trip("symbols", "the student's tokenizer cannot write", len(symbols), problems)


def check_verbalised(program: Program, plain: bool) -> FitnessCheck:
    """Plain rehearsal needs the output of every row as text."""
    n_verbalised = sum(output is not None for rule in program.rules for output in rule.outputs)
    fit, measured = True, f"{n_verbalised} of {program.n_concepts}"
    if plain and n_verbalised < program.n_concepts:
        fit = False
        measured = (
            f"plain rehearsal needs the output of every row as text, but {program.n_concepts - n_verbalised} of "
            f"{program.n_concepts} rows travel as vectors only: extract with --verbalised 1"
        )
    return FitnessCheck(
        name="rows in words",
        fit=fit,
        measured=measured,
        needed="all rows" if plain else "none: rehearsal reads vectors",
        advice="" if fit else "extract the packet with --verbalised 1, or switch rehearsal.plain off",
    )


def check_literals(
    tokenizer: PreTrainedTokenizerBase, traces: Sequence[Trace], tokenisation: Tokenisation
) -> FitnessCheck:
    """Every literal decodes from its tokens in the context of a trace."""
    problem_of: dict[str, str | None] = {}
    for trace in traces:
        for u, unit in enumerate(trace.units):
            if unit.symbol is None and unit.text not in problem_of:
                prefix = [previous.text for previous in trace.units[: u + 1]]
                problem_of[unit.text] = _encoding_problem(tokenizer, prefix)
    problems = [(text, problem) for text, problem in problem_of.items() if problem]
    return _round_trip("literals", "cannot write", len(problem_of), problems or [*tokenisation.problems.items()])


def check_end(tokenizer: PreTrainedTokenizerBase, traces: Sequence[Trace]) -> FitnessCheck:
    """The student's end token is no text of an answer: models without one of their own end by a newline."""
    end = end_token(tokenizer)
    text = "" if end is None else token_text(tokenizer, end)
    held = sum(bool(text) and text in "".join(u.text for u in trace.units[trace.n_prompt :]) for trace in traces)
    return FitnessCheck(
        name="end",
        fit=not held,
        measured=f"this student ends by {text!r}, which {held} of {len(traces)} answers hold" if text else "a token",
        needed="an end token that is in no answer",
        advice="set eos_token_id in its generation_config.json to a token that is no text" if held else "",
    )


def _round_trip(name: str, verb: str, n: int, problems: Sequence[tuple[str, str]]) -> FitnessCheck:
    measured = f"{max(0, n - len(problems))} of {n} decode from their tokens"
    if problems:
        measured += f"; {verb} {problems[0][0]!r}: {problems[0][1]}"
    return FitnessCheck(
        name=name,
        fit=not problems,
        measured=measured,
        needed="all of them",
        advice="choose another student" if problems else "",
    )


def _encoding_problem(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> str | None:
    try:
        encode_units(tokenizer, texts)
    except ModelError as error:
        return str(error)
    return None


def check_context(longest: int, max_tokens: int) -> FitnessCheck:
    """The longest trace fits into the student's context."""
    return FitnessCheck(
        name="context",
        fit=longest <= max_tokens,
        measured=f"traces of this skill have up to {longest} tokens in this student",
        needed=f"at most the {max_tokens} tokens of its context",
        advice="" if longest <= max_tokens else "choose a student with a longer context, or probe shorter templates",
    )


@torch.no_grad()
def check_cache(model: PreTrainedModel, ids: list[int], read_layers: list[int]) -> FitnessCheck:
    """Hooks reach the blocks that the reader reads, and a cached pass gives the states of a full pass.

    The reader's keys are extra layers of the student's cache, so it may hold keys and values or state-space states.
    """
    implementation = getattr(model.config.get_text_config(), "_attn_implementation", None)
    tolerance = CACHE_TOLERANCE_LOW
    try:
        ids_BT = torch.tensor([ids], device=cast(Tensor, model.get_input_embeddings().weight).device)
        deviation = _cache_deviation(model, ids_BT, read_layers)
        tolerance = CACHE_TOLERANCE.get(model.dtype, CACHE_TOLERANCE_LOW)
        fit = deviation <= tolerance
        measured = (
            f"{implementation}, {len(blocks(model))} blocks, read at {read_layers}; a cached pass deviates by "
            f"{deviation:.1e}"
        )
    except Exception as error:  # code of the model's authors: any exception is the measurement
        fit = False
        lines = str(error).splitlines() or [""]
        measured = f"a pass with a cache failed ({type(error).__name__}: {lines[0]})"
    return FitnessCheck(
        name="attention",
        fit=fit,
        measured=measured,
        needed=f"readable block states, and a cache that changes them by at most {tolerance:g}",
        advice="" if fit else "choose a student that supports DynamicCache",
    )


def _cache_deviation(model: PreTrainedModel, ids_BT: Tensor, read_layers: list[int]) -> float:
    """Largest deviation of the states at the last token between a cached and a full pass, in standard deviations."""
    backbone = decoder(model)
    cache_name = cache_argument(model)
    layers = [layer + 1 for layer in read_layers]  # layer i + 1 of a recording is the output of block i
    with record(model, layers) as states:
        backbone(input_ids=ids_BT, use_cache=False)
        full_TX = torch.cat([states[layer][0].float() for layer in layers], -1)
        cache = DynamicCache(config=model.config)
        backbone(input_ids=ids_BT[:, :-1], use_cache=True, **{cache_name: cache})
        backbone(input_ids=ids_BT[:, -1:], use_cache=True, **{cache_name: cache})
        last_X = torch.cat([states[layer][0, -1].float() for layer in layers], -1)
    return float((full_TX[-1] - last_X).abs().max() / full_TX.std())


def check_capacity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokenisation: Tokenisation
) -> FitnessCheck:
    """For every answer token some state of the stream gives it the largest logit among answer tokens."""
    tokens = sorted(tokenisation.answer_tokens)
    distances = hull_distance(model, tokens).tolist()
    unreachable = [token for token, d in zip(tokens, distances, strict=True) if d < MIN_HULL_DISTANCE]
    measured = (
        f"{len(tokens) - len(unreachable)} of {len(tokens)} answer tokens can have the largest logit, in "
        f"{width(model)} dimensions; the smallest distance from the hull is {min(distances):.3f} of the median distance"
    )
    if unreachable:
        texts = ", ".join(repr(text_of(tokenizer, [token])) for token in unreachable[:5])
        measured += f"; never written: {texts}"
    return FitnessCheck(
        name="capacity",
        fit=not unreachable,
        measured=measured,
        needed=f"each at least {MIN_HULL_DISTANCE} outside the convex hull of the other output embeddings",
        advice="choose a student with more distinct output embeddings" if unreachable else "",
    )


def check_following(loaded: LoadedModel, inputs: TrainingInputs) -> FitnessCheck:
    """The executed reader recognises questions as they are put, and says at every token what the trace's next is."""
    config, program = configure(loaded, inputs), inputs.packet.program
    skill = skill_of(config)
    n, n_correct, mistake = 0, 0, ""
    for trace in inputs.traces[:FOLLOWED_TRACES]:
        item = inputs.rehearsal.encode(trace, NO_BANK, config)
        first = next(t for t, label in enumerate(item.label_T) if label != IGNORE)
        prompt = "".join(unit.text for unit in trace.units[: trace.n_prompt])
        ids = [*encode_prompt(loaded.tokenizer, prompt, inputs.rehearsal.encode.chat), *item.ids[first + 1 :]]
        skill.continues = partial(_goes_on, {program.concept(u): u.text for u in trace.units if u.kind == "rule"})
        features = Follower(skill).features(torch.tensor([ids]))[0][first - len(item.ids) : -1]
        for expected, slot, feature in zip(item.content_T[first:], item.token_index_T[first:], features, strict=False):
            n += 1
            correct = (expected, slot) == (feature[FollowFeature.CONTENT], feature[FollowFeature.SLOT])
            n_correct += correct
            if not correct and not mistake:
                mistake = f"; not in {trace.text!r}"
    return FitnessCheck(
        name="following",
        fit=n_correct == n,
        measured=f"{n_correct} of {n} tokens of answers are foretold behind questions{mistake}",
        needed="all of them",
        advice="" if n_correct == n else "choose depth learned, or prompts with a clear end in the probe spec",
    )


def _goes_on(text_of: Mapping[int, str], concept: int, part: str) -> bool:
    return len(part) < len(as_bytes(text_of.get(concept, "")))


def check_symbol_matching(
    tokenizer: PreTrainedTokenizerBase, program: Program, tokenisation: Tokenisation, traces: Sequence[Trace]
) -> FitnessCheck:
    """The structured reader identifies, from tokens, the symbols that rules read and copies repeat."""
    matcher = UnitMatcher(
        tokenisation.symbol_tokens,
        [*tokenisation.literals.values(), *tokenisation.context],
        tokenisation.space_tokens,
    )
    n, n_correct, mistake = 0, 0, ""
    for trace in traces:
        encoded = encode_units(tokenizer, [u.text for u in trace.units], prompt_boundary=trace.n_prompt)
        last_token = {u: t for t, u in enumerate(encoded.unit_of_token)}
        matched_T = matcher(torch.tensor([encoded.ids]))[0, :, TokenFeature.SYMBOL].tolist()
        for u in {source for unit in trace.units for source in unit.sources}:
            n += 1
            expected, matched = trace.units[u].symbol, matched_T[last_token[u]]
            if matched == expected:
                n_correct += 1
            elif not mistake and expected is not None:
                text = repr(program.symbols[matched]) if matched < len(program.symbols) else "no symbol"
                mistake = f"; {program.symbols[expected]!r} is taken for {text}"
    return FitnessCheck(
        name="cues",
        fit=n_correct == n,
        measured=f"{n_correct} of {n} arguments are identified by their tokens{mistake}",
        needed="all of them",
        advice="" if n_correct == n else "choose a student whose tokenizer splits these symbols differently",
    )

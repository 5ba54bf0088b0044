"""How a student writes the units of a skill: read off made-up traces, so that it matches what it will meet.

Letters: S symbols, U literals, J phases, E student width.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from m2kt.models import encode_units, special_prefix, token_text
from m2kt.packet import Graph, Trace

Tokens = tuple[int, ...]
LEADING_SPACE = " "


@dataclass
class Tokenisation:
    """Token sequences of the skill's units in one student.

    A space that is a token of its own counts as a literal unit.
    """

    symbol_tokens: list[list[list[int]]]
    """Per symbol, every way it is written: for finding it."""
    written: list[Counter[Tokens]]
    """Per symbol, how answers write it, without a separate space in front."""
    literals: dict[str, Tokens]
    context: list[Tokens]
    """Structural units of prompts that answers do not write."""
    phases: int
    """Tokens of the longest unit."""
    spaces: list[int]
    """Tokens that begin a symbol with a space."""
    traces: list[list[int]]
    """The traces seen, in tokens."""
    first_answers: list[int]
    """Per trace, the position that predicts the first token of its answer."""

    @property
    def longest(self) -> int:
        """Tokens of the longest trace seen."""
        return max((len(trace) for trace in self.traces), default=0)

    @property
    def answer_tokens(self) -> set[int]:
        """Every token that answers may write."""
        written = (tokens for counter in self.written for tokens in counter)
        return {token for form in (*written, *self.literals.values()) for token in form}


def leading_space_tokens(tokenizer: Any, tokens: list[int] | Tokens, lead: str) -> int:
    """How many tokens of a symbol unit are its space alone: one or none."""
    return int(bool(lead) and len(tokens) > 1 and not token_text(tokenizer, tokens[0]).strip(LEADING_SPACE))


def tokenise(tokenizer: Any, graph: Graph, traces: list[Trace]) -> Tokenisation:
    """Collects spellings from traces; symbols are also spelled alone and behind a space."""
    forms: list[set[Tokens]] = [set() for _ in graph.symbols]
    written: list[Counter[Tokens]] = [Counter() for _ in graph.symbols]
    literals: dict[str, Tokens] = {}
    context: set[Tokens] = set()
    prefix = len(special_prefix(tokenizer))
    for symbol, text in enumerate(graph.symbols):
        for lead in ("", LEADING_SPACE):
            forms[symbol].add(tuple(encode_units(tokenizer, [lead + text]).ids[prefix:]))
    seen: list[list[int]] = []
    first_answers: list[int] = []
    for trace in traces:
        encoded = encode_units(tokenizer, [u.text for u in trace.units], prompt_boundary=trace.n_prompt)
        seen.append(encoded.ids)
        first_answers.append(encoded.unit_of_token.index(trace.n_prompt) - 1)
        tokens_of: dict[int, Tokens] = {}
        for token, u in zip(encoded.ids, encoded.unit_of_token, strict=True):
            tokens_of[u] = (*tokens_of.get(u, ()), token)
        for u, unit in enumerate(trace.units):
            tokens = tokens_of.get(u, ())
            if not tokens:
                continue
            if unit.symbol is not None:
                forms[unit.symbol].add(tokens)
            if u < trace.n_prompt:
                if unit.symbol is None:
                    context.add(tokens)
                continue
            skip = leading_space_tokens(tokenizer, tokens, unit.lead)
            if skip:
                literals[LEADING_SPACE] = tokens[:skip]
            if unit.kind == "literal":
                literals[unit.text[skip:]] = tokens[skip:]
            elif unit.symbol is not None:
                written[unit.symbol][tokens[skip:]] += 1
    for symbol, counter in enumerate(written):
        if not counter:  # never written in these traces: any spelling will do
            counter.update(t[leading_space_tokens(tokenizer, t, LEADING_SPACE) :] for t in forms[symbol])
    firsts = {form[0] for form_s in forms for form in form_s if form}
    every = [*literals.values(), *(tokens for counter in written for tokens in counter)]
    return Tokenisation(
        symbol_tokens=[[list(t) for t in sorted(form) if t] for form in forms],
        written=written,
        literals=dict(sorted(literals.items())),
        context=sorted(context - set(literals.values())),
        phases=max((len(t) for t in every), default=1),
        spaces=sorted(t for t in firsts if token_text(tokenizer, t).startswith(LEADING_SPACE)),
        traces=seen,
        first_answers=first_answers,
    )


def unit_targets(
    by_token: dict[int, Tensor], units: list[Counter[Tokens]], phases: int
) -> tuple[Tensor, Tensor]:
    """The student's own state c^S per unit and phase, (S, J, E), and where it is known, (S, J)."""
    width = len(next(iter(by_token.values())))
    target_SJE = torch.zeros(len(units), phases, width)
    known_SJ = torch.zeros(len(units), phases)
    for s, counter in enumerate(units):
        for tokens, n in counter.items():
            for j, token in enumerate(tokens):
                if j < phases and token in by_token:
                    target_SJE[s, j] += n * by_token[token].cpu()
                    known_SJ[s, j] += n
    return target_SJE / known_SJ.clamp(min=1)[..., None], (known_SJ > 0).float()

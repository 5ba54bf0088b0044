"""How a student writes the units of a skill: read off made-up traces, so that it matches what it will meet.

Letters: S symbols, U literals, J phases, E student width.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from m2kt.errors import CompatibilityError
from m2kt.models import encode_units, piece_text, special_prefix, writing_problem
from m2kt.packet import Graph, Trace


Written = tuple[tuple[int, ...], tuple[int, ...]]  # tokens of a unit, and the phase of each


@dataclass
class Spelling:
    """Token sequences of the skill's units in one student."""

    symbol_tokens: list[list[list[int]]]
    """Per symbol, every way it is written: for finding it."""
    written: list[Counter[Written]]
    """Per symbol, how answers write it."""
    literals: list[str]
    literal_written: list[Written]
    phases: int
    separate_lead: bool
    """Whether a space before a symbol may be a token of its own; it is phase 0 then."""
    longest: int
    """Tokens of the longest trace seen."""


def phase_of(tokenizer: Any, ids: tuple[int, ...] | list[int], separate_lead: bool) -> list[int]:
    """Which token of its unit each of the unit's tokens is; a space on its own comes before the count."""
    phases, n = [], 1 if separate_lead else 0
    for i in ids:
        if separate_lead and n == 1 and not piece_text(tokenizer, i).strip(" "):
            phases.append(0)
        else:
            phases.append(n)
            n += 1
    return phases


def check_writable(tokenizer: Any, graph: Graph) -> None:
    """Refuses a student that cannot write a symbol."""
    for symbol in graph.symbols:
        problem = writing_problem(tokenizer, symbol)
        if problem is not None:
            raise CompatibilityError(
                f"the student's tokenizer cannot write the symbol {symbol!r} of this skill: {problem}; "
                "choose another student"
            )


def spell(tokenizer: Any, graph: Graph, traces: list[Trace]) -> Spelling:
    """Collects spellings from traces; symbols are also spelled alone and behind a space."""
    forms: list[set[tuple[int, ...]]] = [set() for _ in graph.symbols]
    answers: list[Counter[tuple[int, ...]]] = [Counter() for _ in graph.symbols]
    literals: dict[str, tuple[int, ...]] = {}
    prefix = len(special_prefix(tokenizer))
    for symbol, text in enumerate(graph.symbols):
        for lead in ("", " "):
            forms[symbol].add(tuple(encode_units(tokenizer, [lead + text]).ids[prefix:]))
    longest = 0
    for trace in traces:
        encoded = encode_units(tokenizer, [u.text for u in trace.units], prompt_boundary=trace.n_prompt)
        longest = max(longest, len(encoded.ids))
        tokens_of: dict[int, tuple[int, ...]] = {}
        for token, u in zip(encoded.ids, encoded.unit_of_token, strict=True):
            tokens_of[u] = (*tokens_of.get(u, ()), token)
        for u, unit in enumerate(trace.units):
            tokens = tokens_of.get(u, ())
            if unit.symbol is not None and tokens:
                forms[unit.symbol].add(tokens)
            if u >= trace.n_prompt and unit.kind == "literal":
                literals[unit.text] = tokens
            elif u >= trace.n_prompt and unit.symbol is not None:
                answers[unit.symbol][tokens] += 1
    every = [*literals.values(), *(tokens for counter in answers for tokens in counter)]
    separate = any(len(t) > 1 and phase_of(tokenizer, t, True)[0] == 0 for t in every)
    written: list[Counter[Written]] = []
    for symbol, counter in enumerate(answers):
        seen = counter or Counter(forms[symbol])  # never written in these traces: any spelling will do
        written.append(
            Counter({(tokens, tuple(phase_of(tokenizer, tokens, separate))): n for tokens, n in seen.items()})
        )
    literal_written = [(t, tuple(phase_of(tokenizer, t, separate))) for _, t in sorted(literals.items())]
    phases = 1 + max((max(p) for _, p in [*literal_written, *(w for c in written for w in c)] if p), default=0)
    return Spelling(
        symbol_tokens=[[list(t) for t in sorted(form) if t] for form in forms],
        written=written,
        literals=sorted(literals),
        literal_written=literal_written,
        phases=phases,
        separate_lead=separate,
        longest=longest,
    )


def targets(by_token: dict[int, Tensor], units: list[Counter[Written]], phases: int) -> tuple[Tensor, Tensor]:
    """The student's own state c^S per unit and phase, (S, J, E), and where it is known, (S, J)."""
    width = len(next(iter(by_token.values())))
    target_SJE = torch.zeros(len(units), phases, width)
    known_SJ = torch.zeros(len(units), phases)
    for s, counter in enumerate(units):
        for (tokens, at), n in counter.items():
            for token, j in zip(tokens, at, strict=True):
                if j < phases and token in by_token:
                    target_SJE[s, j] += n * by_token[token].cpu()
                    known_SJ[s, j] += n
    return target_SJE / known_SJ.clamp(min=1)[..., None], (known_SJ > 0).float()

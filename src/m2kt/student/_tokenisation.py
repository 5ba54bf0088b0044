"""Token sequences of a skill's symbols and literals in one student, collected from traces.

Letters: S symbols, U units (symbols or literals), J token index within a unit, E student width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from m2kt.errors import ModelError
from m2kt.models import Encoded, encode_units, special_prefix, token_text
from m2kt.packet import Graph, Trace

Tokens = tuple[int, ...]
LEADING_SPACE = " "


@dataclass
class Tokenisation:
    """Token sequences of the skill's units in one student.

    A leading space that is a separate token counts as a literal.
    """

    symbol_tokens: list[list[list[int]]]
    """Per symbol, all its token sequences, prompts included."""
    answer_forms: list[Counter[Tokens]]
    """Per symbol, its token sequences in answers with their counts, without a separate leading space."""
    literals: dict[str, Tokens]
    """Literals of answers."""
    context: list[Tokens]
    """Literals of prompts that answers do not contain."""
    unit_length: int
    """Tokens of the longest unit; ``phases`` in CALConfig."""
    space_tokens: list[int]
    """First tokens of symbols that include the leading space."""
    sequences: list[list[int]]
    """The traces in tokens."""
    answer_starts: list[int]
    """Per trace, the position whose next token begins the answer."""
    problems: dict[str, str] = field(default_factory=dict)
    """Texts that the tokenizer cannot encode in units, with the reason; their traces are left out."""

    @property
    def longest_answer(self) -> int:
        """Tokens of the longest answer."""
        answers = zip(self.sequences, self.answer_starts, strict=True)
        return max((len(sequence) - 1 - start for sequence, start in answers), default=0)

    @property
    def longest(self) -> int:
        """Tokens of the longest trace."""
        return max((len(sequence) for sequence in self.sequences), default=0)

    @property
    def answer_tokens(self) -> set[int]:
        """All tokens that occur in answers."""
        forms = (tokens for counter in self.answer_forms for tokens in counter)
        return {token for form in (*forms, *self.literals.values()) for token in form}


def leading_space_tokens(
    tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], leading_space: str
) -> int:
    """Number of tokens of a symbol unit that hold its leading space and nothing else: 0 or 1."""
    separate = len(tokens) > 1 and not token_text(tokenizer, tokens[0]).strip(LEADING_SPACE)
    return int(bool(leading_space) and separate)


def tokenise(tokenizer: PreTrainedTokenizerBase, graph: Graph, traces: Sequence[Trace]) -> Tokenisation:
    """Collect the token sequences of all units in traces, and of symbols alone and after a space."""
    forms: list[set[Tokens]] = [set() for _ in graph.symbols]
    answer_forms: list[Counter[Tokens]] = [Counter() for _ in graph.symbols]
    literals: dict[str, Tokens] = {}
    context: set[Tokens] = set()
    sequences: list[list[int]] = []
    answer_starts: list[int] = []
    problems: dict[str, str] = {}

    def encode(texts: list[str], prompt_boundary: int | None = None) -> Encoded | None:
        try:
            return encode_units(tokenizer, texts, prompt_boundary=prompt_boundary)
        except ModelError as error:
            problems["".join(texts)] = str(error)
            return None

    prefix = len(special_prefix(tokenizer))
    for symbol, text in enumerate(graph.symbols):
        for leading_space in ("", LEADING_SPACE):
            if encoded := encode([leading_space + text]):
                forms[symbol].add(tuple(encoded.ids[prefix:]))
    for trace in traces:
        encoded = encode([unit.text for unit in trace.units], trace.n_prompt)
        if encoded is None:
            continue
        sequences.append(encoded.ids)
        answer_starts.append(encoded.unit_of_token.index(trace.n_prompt) - 1)
        tokens_of_unit: dict[int, Tokens] = {}
        for token, u in zip(encoded.ids, encoded.unit_of_token, strict=True):
            tokens_of_unit[u] = (*tokens_of_unit.get(u, ()), token)
        for u, unit in enumerate(trace.units):
            tokens = tokens_of_unit.get(u, ())
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
                answer_forms[unit.symbol][tokens[skip:]] += 1
    for symbol, counter in enumerate(answer_forms):
        if not counter:  # in no answer of these traces: all its forms count once
            counter.update(
                form[leading_space_tokens(tokenizer, form, LEADING_SPACE) :] for form in forms[symbol]
            )
    first_tokens = {form[0] for symbol_forms in forms for form in symbol_forms if form}
    unit_forms = [*literals.values(), *(form for counter in answer_forms for form in counter)]
    return Tokenisation(
        symbol_tokens=[[list(form) for form in sorted(symbol_forms) if form] for symbol_forms in forms],
        answer_forms=answer_forms,
        literals=dict(sorted(literals.items())),
        context=sorted(context - set(literals.values())),
        unit_length=max((len(form) for form in unit_forms), default=1),
        space_tokens=sorted(
            token for token in first_tokens if token_text(tokenizer, token).startswith(LEADING_SPACE)
        ),
        sequences=sequences,
        answer_starts=answer_starts,
        problems=problems,
    )


def unit_targets(
    by_token: Mapping[int, Tensor], forms: Sequence[Counter[Tokens]], unit_length: int
) -> tuple[Tensor, Tensor]:
    """Student targets c^S per unit and token index, (U, J, E), and 1 where there is one, (U, J).

    Args:
        by_token: student target of each token.
        forms: token sequences of each unit with their counts; targets are averaged by count.
    """
    width = len(next(iter(by_token.values())))
    target_UJE = torch.zeros(len(forms), unit_length, width)
    count_UJ = torch.zeros(len(forms), unit_length)
    for u, counter in enumerate(forms):
        for tokens, n in counter.items():
            for j, token in enumerate(tokens):
                if j < unit_length and token in by_token:
                    target_UJE[u, j] += n * by_token[token].cpu()
                    count_UJ[u, j] += n
    return target_UJE / count_UJ.clamp(min=1)[..., None], (count_UJ > 0).float()

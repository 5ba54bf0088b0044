"""Token sequences of a skill's symbols and literals in one student, collected from traces.

Letters: S symbols, U units (symbols or literals), J token index within a unit, E student width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from m2kt.errors import ModelError
from m2kt.models import ChatFormat, Encoded, encode_chat, encode_units, special_prefix, token_text
from m2kt.packet import Program, Trace, TracedUnit, WriteLiteral, leaves
from m2kt.student.cal import CALConfig

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
    lead_forms: dict[str, list[Counter[Tokens]]]
    """By leading space that answers put before symbols, the same with the leading space."""
    literals: dict[str, Tokens]
    """Literals of answers."""
    literal_units: dict[str, Tokens]
    """Units that the program writes literally, with their leading space."""
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
        counters = (*self.answer_forms, *(c for forms in self.lead_forms.values() for c in forms))
        forms = (tokens for counter in counters for tokens in counter)
        units = (*forms, *self.literals.values(), *self.literal_units.values())
        return {token for form in units for token in form}

    @property
    def longest_unit(self) -> int:
        """Tokens of the longest unit, leading space included."""
        counters = (c for forms in self.lead_forms.values() for c in forms)
        forms = (tokens for counter in counters for tokens in counter)
        return max(map(len, (*forms, *self.literal_units.values())), default=1)


def leading_space_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], leading_space: str) -> int:
    """Number of tokens of a symbol unit that hold its leading space and nothing else: 0 or 1."""
    separate = len(tokens) > 1 and not token_text(tokenizer, tokens[0]).strip(LEADING_SPACE)
    return int(bool(leading_space) and separate)


def encode_trace(tokenizer: PreTrainedTokenizerBase, trace: Trace, chat: ChatFormat | None = None) -> Encoded:
    """A trace in tokens, each with the unit it belongs to; those of a chat template around the question to none (-1).

    Text between two symbols of the prompt is encoded as it stands, as at generation; its tokens belong to the first of
    its units.

    Raises:
        ModelError: the tokenizer cannot encode the text.
    """
    texts: list[str] = []
    first: list[int] = []  # by text, its first unit
    for i, unit in enumerate(trace.units):
        joined = 0 < i < trace.n_prompt and unit.symbol is None and trace.units[i - 1].symbol is None
        if joined:
            texts[-1] += unit.text
        else:
            texts.append(unit.text)
            first.append(i)
    boundary = len(texts) - (len(trace.units) - trace.n_prompt)
    encoded = encode_chat(tokenizer, texts, boundary, chat)
    return Encoded(encoded.ids, [u if u < 0 else first[u] for u in encoded.unit_of_token])


def tokenise(
    tokenizer: PreTrainedTokenizerBase, program: Program, traces: Sequence[Trace], chat: ChatFormat | None = None
) -> Tokenisation:
    """Collect the token sequences of all units in traces, and of symbols alone and after a space.

    Args:
        chat: how questions are put to the student; None: as plain text.
    """
    collector = _UnitCollector(tokenizer, program, chat)
    for symbol, text in enumerate(program.symbols):
        collector.add_symbol(symbol, text)
    for trace in traces:
        collector.add_trace(trace)
    return collector.tokenisation()


class _UnitCollector:
    """Collects token sequences of units from one trace after another."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, program: Program, chat: ChatFormat | None) -> None:
        self.tokenizer, self.chat = tokenizer, chat
        n_symbols = len(program.symbols)
        all_leaves = [leaf for state in program.states for leaf in leaves(state.decision)]
        self.literal_texts = {leaf.text for leaf in all_leaves if isinstance(leaf, WriteLiteral)}
        leads = {leaf.lead for leaf in all_leaves if not isinstance(leaf, WriteLiteral)} or {""}
        self.alone: dict[str, list[Tokens]] = {lead: [()] * n_symbols for lead in sorted(leads)}
        self.lead_forms: dict[str, list[Counter[Tokens]]] = {
            lead: [Counter() for _ in range(n_symbols)] for lead in sorted(leads)
        }
        self.literal_units: dict[str, Tokens] = {}
        self.prefix = len(special_prefix(tokenizer))
        self.forms: list[set[Tokens]] = [set() for _ in range(n_symbols)]
        self.answer_forms: list[Counter[Tokens]] = [Counter() for _ in range(n_symbols)]
        self.literals: dict[str, Tokens] = {}
        self.context: set[Tokens] = set()
        self.sequences: list[list[int]] = []
        self.answer_starts: list[int] = []
        self.problems: dict[str, str] = {}

    def _encode(self, text: str, encode: Callable[[], Encoded]) -> Encoded | None:
        try:
            return encode()
        except ModelError as error:
            self.problems[text] = str(error)
            return None

    def add_symbol(self, symbol: int, text: str) -> None:
        """Add a symbol alone and after a space."""
        for leading_space in ("", LEADING_SPACE):
            texts = [leading_space + text]
            if encoded := self._encode(texts[0], partial(encode_units, self.tokenizer, texts)):
                tokens = tuple(encoded.ids[self.prefix :])
                self.forms[symbol].add(tokens)
                if leading_space in self.alone:
                    self.alone[leading_space][symbol] = tokens

    def add_trace(self, trace: Trace) -> None:
        """Add all units of a trace; without effect but a problem if the tokenizer cannot encode it."""
        encoded = self._encode(trace.text, partial(encode_trace, self.tokenizer, trace, self.chat))
        if encoded is None:
            return
        self.sequences.append(encoded.ids)
        self.answer_starts.append(encoded.unit_of_token.index(trace.n_prompt) - 1)
        tokens_of_unit: dict[int, Tokens] = {}
        for token, u in zip(encoded.ids, encoded.unit_of_token, strict=True):
            tokens_of_unit[u] = (*tokens_of_unit.get(u, ()), token)
        for u, unit in enumerate(trace.units):
            tokens = tokens_of_unit.get(u, ())
            if not tokens:
                continue
            if unit.symbol is not None:
                self.forms[unit.symbol].add(tokens)
            if u >= trace.n_prompt:
                self._add_answer_unit(unit, tokens)
            elif unit.symbol is None:
                self.context.add(tokens)

    def _add_answer_unit(self, unit: TracedUnit, tokens: Tokens) -> None:
        skip = leading_space_tokens(self.tokenizer, tokens, unit.lead)
        if skip:
            self.literals[LEADING_SPACE] = tokens[:skip]
        if unit.kind == "literal":
            self.literal_units[unit.text] = tokens
            self.literals[unit.text[skip:]] = tokens[skip:]
        elif unit.symbol is not None:
            self.answer_forms[unit.symbol][tokens[skip:]] += 1
            self.lead_forms[unit.lead][unit.symbol][tokens] += 1

    def tokenisation(self) -> Tokenisation:
        """The result for everything that was added."""
        for symbol_forms, counter in zip(self.forms, self.answer_forms, strict=True):
            if not counter:  # in no answer of these traces: all its forms count once
                counter.update(
                    form[leading_space_tokens(self.tokenizer, form, LEADING_SPACE) :] for form in symbol_forms
                )
        for lead, counters in self.lead_forms.items():
            for counter, tokens in zip(counters, self.alone[lead], strict=True):
                if not counter and tokens:
                    counter[tokens] += 1
        for text in self.literal_texts - self.literal_units.keys():  # in no answer of these traces
            if encoded := self._encode(text, partial(encode_units, self.tokenizer, [text])):
                self.literal_units[text] = tuple(encoded.ids[self.prefix :])
        first_tokens = {form[0] for symbol_forms in self.forms for form in symbol_forms if form}
        unit_forms = [*self.literals.values(), *(form for counter in self.answer_forms for form in counter)]
        return Tokenisation(
            symbol_tokens=[[list(form) for form in sorted(symbol_forms) if form] for symbol_forms in self.forms],
            answer_forms=self.answer_forms,
            lead_forms=self.lead_forms,
            literals=dict(sorted(self.literals.items())),
            literal_units=dict(sorted(self.literal_units.items())),
            context=sorted(self.context - set(self.literals.values())),
            unit_length=max((len(form) for form in unit_forms), default=1),
            space_tokens=sorted(t for t in first_tokens if token_text(self.tokenizer, t).startswith(LEADING_SPACE)),
            sequences=self.sequences,
            answer_starts=self.answer_starts,
            problems=self.problems,
        )


def phi_targets(by_token: Mapping[int, Tensor], tokenisation: Tokenisation, config: CALConfig) -> tuple[Tensor, Tensor]:
    """Student targets per symbol and head of phi, (S, J, E), and 1 where there is one, (S, J).

    The executed reader has a head for each leading space and token index, see ``CALConfig.leads``.
    """
    if config.reader != "executed":
        return unit_targets(by_token, tokenisation.answer_forms, config.phases)
    length = config.phases // len(config.leads)
    parts = [unit_targets(by_token, tokenisation.lead_forms[lead], length) for lead in config.leads]
    return torch.cat([target for target, _ in parts], 1), torch.cat([known for _, known in parts], 1)


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

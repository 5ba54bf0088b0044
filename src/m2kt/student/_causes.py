"""What wrote the tokens of an answer: which concept, copy or literal a reader injected, and what that read.

Letters: B batch, T tokens, K concepts, N tokens so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, cast

import torch
from transformers import PreTrainedTokenizerBase

from m2kt.errors import CompatibilityError
from m2kt.models import tokens_bytes
from m2kt.student.cal import (
    Answer,
    CALConfig,
    CALModel,
    ExecutedReader,
    FollowFeature,
    Run,
    StructuredReader,
    as_text,
)

Kind = Literal["concept", "copy", "literal", "base"]


@dataclass(frozen=True)
class Read:
    """A piece of text that a step looked at."""

    text: str
    start: int | None
    """Its first character in the whole text; None: it stands there in other words."""
    end: int | None


@dataclass(frozen=True)
class Cause:
    """What a reader injected in front of one token."""

    kind: Kind = "base"
    content: int | None = None
    """Row of [concepts; symbols; literals]; None: nothing was injected."""
    rule: str | None = None
    arguments: tuple[str, ...] = ()
    """Symbols of the concept's row."""
    writes: str | None = None
    """What it stands for: the symbol that phi reads the concept's vector as, the copied symbol, or the literal."""
    reads: tuple[Read, ...] = ()
    state: int | None = None
    """State of the program; of the executed reader."""
    unit: int | None = None
    """Number of the unit of the answer that the token begins or continues."""


def spans_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
    """The text of tokens, and where each stands in it; a token within a character stands where that begins or ends."""
    raw, ends, text = tokens_bytes(tokenizer, ids), [0], b""
    for piece in raw:
        text += piece
        ends.append(len(text.decode("utf-8", errors="ignore")))
    return text.decode("utf-8", errors="replace"), list(pairwise(ends))


class CauseFinder:
    """Reads off the passes of a generation what a reader injected.

    Args:
        tuner: a student with one active adapter.

    Raises:
        CompatibilityError: its reader chooses no concept, copy or literal that could be named.
    """

    def __init__(self, tuner: CALModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.config = cast(CALConfig, tuner.peft_config[tuner.active_adapters[0]])
        reader = tuner.reader() if self.config.reader in ("executed", "structured") else None
        if not isinstance(reader, ExecutedReader | StructuredReader):
            raise CompatibilityError(
                f"expected an adapter of depth executed or learned, got a reader of kind {self.config.reader!r}, which "
                "names no step; ingest the packet with --depth executed"
            )
        self.reader, self.tokenizer = reader, tokenizer
        symbols = self.config.symbols
        with torch.no_grad():
            nearest_K = reader.projector.cosines(reader.bank_KD, reader.anchor_SD).argmax(-1).tolist()
        self.writes_K = [symbols[s] for s in nearest_K] if self.config.n_concepts else []

    def __call__(self, prompt: Sequence[int], answer: Sequence[int], runs: Sequence[Run]) -> list[Cause]:
        """The cause of each token of an answer.

        Args:
            prompt, answer: their tokens.
            runs: passes of one row: the prompt, then a token each.
        """
        text, spans = spans_of(self.tokenizer, [*prompt, *answer])
        reader, causes = self.reader, list[Cause]()
        for i, run in enumerate(runs[: len(answer)]):
            end = spans[len(prompt) + i][0]
            if isinstance(reader, ExecutedReader):
                causes.append(self._executed(reader, run, text[:end], text[slice(*spans[len(prompt) + i])]))
            else:
                causes.append(self._learned(reader, run, text, spans, causes))
        return causes + [Cause()] * (len(answer) - len(causes))

    def label(self, content: int) -> Cause:
        """What a content is, without what it read."""
        config = self.config
        if content < config.n_concepts:
            rule = next(r for r in reversed(config.rules) if r["offset"] <= content)
            row = rule["rows"][content - rule["offset"]]
            arguments = tuple(config.symbols[s] for s in row)
            return Cause("concept", content, rule["name"], arguments, self.writes_K[content])
        index = content - config.n_concepts
        if index < len(config.symbols):
            return Cause("copy", content, writes=config.symbols[index])
        index -= len(config.symbols)
        if index >= len(config.literals):
            return Cause("literal", content, writes="the refusal of what was forgotten")
        return Cause("literal", content, writes=config.literals[index])

    def rival(self, content: int) -> int | None:
        """Another content of the same kind (for a concept: of the same rule) that stands for another symbol."""
        config = self.config
        label = self.label(content)
        if label.kind == "literal":
            return None
        if label.kind == "concept":
            rule = next(r for r in reversed(config.rules) if r["offset"] <= content)
            first, n = rule["offset"], len(rule["rows"])
        else:
            first, n = config.n_concepts, len(config.symbols)
        others = (first + (content - first + i) % n for i in range(1, n))
        return next((other for other in others if self.label(other).writes != label.writes), None)

    # -- the executed reader --------------------------------------------------------------------------------------
    def _executed(self, reader: ExecutedReader, run: Run, text: str, token: str) -> Cause:
        content = int(run.feature_BTX[0, -1, FollowFeature.CONTENT])
        following = reader.matcher.at(run.all_BNX[0].tolist())
        if content < 0 or not following.answers:
            return Cause()
        answer = following.answers[0]
        assert answer.step is not None
        state, action = answer.step
        unit = len(answer.run.tape.names) - answer.run.tape.n_prompt
        if not answer.part and token == answer.goal.lead == " ":  # stands before a symbol whatever the symbol is
            return Cause("literal", content, writes=token, state=state, unit=unit)
        located = _located(answer, self.config.symbols, text)
        reads = tuple(located[place] for place in action.places if place < len(located))
        return replace(self.label(content), reads=reads, state=state, unit=unit)

    # -- the learned reader ---------------------------------------------------------------------------------------
    def _learned(
        self,
        reader: StructuredReader,
        run: Run,
        text: str,
        spans: Sequence[tuple[int, int]],
        earlier: Sequence[Cause],
    ) -> Cause:
        config, previous = self.config, earlier[-1] if earlier else Cause()
        if not run.outputs:
            return Cause()
        outputs, unit = run.outputs[-1], 1 + max((s.unit for s in earlier if s.unit is not None), default=-1)
        class_BTC = outputs.class_BTC.exp()[:, -1:]
        chosen = int(class_BTC[0, 0].argmax())
        if chosen == CALConfig.CONTINUE:
            return previous
        if chosen == CALConfig.NONE or float(class_BTC[0, 0, CALConfig.NONE]) >= config.silence:
            return Cause()
        attended_HN = outputs.attention_BHTN[0, :, -1].exp()

        def read(head: int) -> tuple[int, Read]:
            at = int(attended_HN[head].argmax())
            symbol = int(run.symbol_BN[0, at])
            name, end = config.symbols[min(symbol, len(config.symbols) - 1)], spans[at][1]
            found = text.rfind(name, 0, end)
            return symbol, Read(name, found if found >= 0 else None, found + len(name) if found >= 0 else None)

        first_literal = config.class_of_literal(0)
        if chosen >= first_literal:
            return replace(self.label(config.n_concepts + len(config.symbols) + chosen - first_literal), unit=unit)
        if chosen == CALConfig.COPY:
            symbol, place = read(0)
            label = self.label(config.n_concepts + min(symbol, len(config.symbols) - 1))
            return replace(label, reads=(place,), unit=unit)
        rule = chosen - config.class_of_rule(0)
        assert outputs.usage_BTK is not None
        concepts = range(config.rules[rule]["offset"], config.rules[rule]["offset"] + len(config.rules[rule]["rows"]))
        concept = max(concepts, key=outputs.usage_BTK[0, -1].tolist().__getitem__)
        reads = tuple(read(config.head_of(rule, a))[1] for a in range(config.rules[rule]["arity"]))
        return replace(self.label(concept), reads=reads, unit=unit)


def _located(answer: Answer, symbols: Sequence[str], text: str) -> list[Read]:
    """The units that an answer's program has read, each where it stands in the text, found from the end backwards.

    A question's units follow each other but for blanks; between it and its answer anything may stand.
    """
    tape = answer.run.tape
    names = [symbols[name] if isinstance(name, int) else name for name in tape.names]
    end, located = len(text) - len(as_text(answer.part)), []
    for index in range(len(names) - 1, -1, -1):
        name = names[index]
        start = _before(text, name, end, anywhere=index == tape.n_prompt - 1)
        located.append(Read(name, start, None if start is None else start + len(name)))
        end = end if start is None else start
    return located[::-1]


def _before(text: str, name: str, end: int, *, anywhere: bool) -> int | None:
    """Where a unit stands that ends at ``end``, but for blanks; or anywhere before it."""
    if text.endswith(name, 0, end):
        return end - len(name)
    close = len(text[:end].rstrip())
    if text.endswith(name, 0, close):
        return close - len(name)
    found = text.rfind(name, 0, end) if anywhere else -1
    return found if found >= 0 else None

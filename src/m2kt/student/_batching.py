"""Traces in the student's tokens, with the label of every position, padded into batches. Training and audit share it.

Letters: B sequences, T tokens, K concepts, A arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from m2kt.models import ChatFormat
from m2kt.packet import Program, Trace, TracedUnit
from m2kt.student._tokenisation import LEADING_SPACE, encode_trace, leading_space_tokens
from m2kt.student.cal import CALConfig, Supervision

IGNORE = -100
"""Label of positions without a target, as in PyTorch's cross-entropy."""
NO_BANK: NDArray[np.int64] = np.empty(0, dtype=np.int64)
"""Bank index of a trace whose rows stand for the loaded concept vectors."""


@dataclass
class EncodedTrace:
    """One trace in the student's tokens. Position t holds the labels of token t + 1."""

    ids: list[int]
    unit_of_token: list[int]
    trace: Trace
    bank_index_K: NDArray[np.int64]
    """Per concept, its row of [prototype samples; concept vectors]; ``NO_BANK``: the loaded vectors."""
    class_T: list[int]
    """Selector class."""
    leaf_T: list[int]
    """Leaf of the program that writes the unit."""
    token_index_T: list[int]
    """Head of phi: token index within the unit; of the executed reader with the leading space."""
    content_T: list[int]
    """Row of [concepts; symbols; literals] that the token belongs to; of the executed reader."""
    concept_T: list[int]
    source_TA: list[list[int]]
    """Last token of each argument, or of the copied unit."""
    copied_T: list[int]
    """Symbol of a copy."""
    label_T: list[int]
    """The token itself, in answers only."""

    @property
    def n_labels(self) -> int:
        """Number of answer tokens."""
        return sum(label != IGNORE for label in self.label_T)


@dataclass
class Batch:
    """Traces padded on the right."""

    token_BT: Tensor
    mask_BT: Tensor
    label_BT: Tensor
    supervision: Supervision
    traces: list[EncodedTrace]
    share: float
    """Share of the update's answer tokens in this micro-batch."""
    full_forward_share: float
    """The same among traces with a full forward pass; 0 for reader-only passes."""


class Encoder:
    """Encodes traces in a student's tokens and labels every position.

    Args:
        chat: how questions are put to the student; None: as plain text.
    """

    def __init__(self, program: Program, tokenizer: PreTrainedTokenizerBase, chat: ChatFormat | None = None) -> None:
        self.program, self.tokenizer, self.chat = program, tokenizer, chat
        self.first_leaf = program.first_leaves()
        self.arity = max(1, max((r.arity for r in program.rules), default=1))

    def __call__(self, trace: Trace, bank_index_K: NDArray[np.int64], config: CALConfig) -> EncodedTrace:
        """Encode one trace.

        Args:
            bank_index_K: per concept, its row of [prototype samples; concept vectors].
        """
        encoded = encode_trace(self.tokenizer, trace, self.chat)
        tokens_of_unit: dict[int, list[int]] = {}
        for t, u in enumerate(encoded.unit_of_token):
            tokens_of_unit.setdefault(u, []).append(t)
        class_of_literal = {text: config.class_of_literal(i) for i, text in enumerate(config.literals)}
        n = len(encoded.ids)

        def empty() -> list[int]:
            return [IGNORE] * n

        out = EncodedTrace(
            encoded.ids,
            encoded.unit_of_token,
            trace,
            bank_index_K,
            class_T=empty(),
            leaf_T=empty(),
            token_index_T=empty(),
            content_T=empty(),
            concept_T=empty(),
            source_TA=[[IGNORE] * self.arity for _ in range(n)],
            copied_T=empty(),
            label_T=empty(),
        )
        for t in range(n - 1):
            if encoded.unit_of_token[t + 1] < trace.n_prompt:
                out.class_T[t] = CALConfig.NONE
            elif config.reader == "executed":
                self._label_content(out, t, tokens_of_unit, config)
            else:
                self._label(out, t, tokens_of_unit, class_of_literal, config)
        return out

    def _label(
        self,
        out: EncodedTrace,
        t: int,
        tokens_of_unit: dict[int, list[int]],
        class_of_literal: dict[str, int],
        config: CALConfig,
    ) -> None:
        """Label position ``t``, whose next token belongs to the answer."""
        trace, u = out.trace, out.unit_of_token[t + 1]
        unit, step, tokens = trace.units[u], u - trace.n_prompt, tokens_of_unit[u]
        out.leaf_T[t] = self.first_leaf[trace.path[step]] + trace.leaf[step]
        index = tokens.index(t + 1)
        skip = leading_space_tokens(self.tokenizer, [out.ids[i] for i in tokens], unit.lead)
        out.label_T[t] = out.ids[t + 1]
        out.token_index_T[t] = min(max(0, index - skip), config.phases - 1)
        ends = [tokens_of_unit[source][-1] for source in unit.sources]
        if index > skip:
            out.class_T[t] = CALConfig.CONTINUE
        elif index < skip:
            out.class_T[t] = class_of_literal.get(LEADING_SPACE, CALConfig.NONE)
        elif unit.kind == "copy":
            out.class_T[t], out.copied_T[t] = CALConfig.COPY, int(unit.symbol or 0)
            out.source_TA[t][0] = ends[0]
        elif unit.kind == "rule":
            assert unit.rule is not None
            out.class_T[t], out.concept_T[t] = config.class_of_rule(unit.rule), self.program.concept(unit)
            out.source_TA[t][: len(ends)] = ends
        else:
            out.class_T[t] = class_of_literal.get(unit.text[skip:], CALConfig.NONE)

    def _label_content(
        self, out: EncodedTrace, t: int, tokens_of_unit: dict[int, list[int]], config: CALConfig
    ) -> None:
        """Label position ``t`` with what the executed reader injects there."""
        u = out.unit_of_token[t + 1]
        unit, longest = out.trace.units[u], config.phases // len(config.leads)
        out.label_T[t] = out.ids[t + 1]
        out.content_T[t] = self._content(unit, config)
        first = 0 if unit.kind == "literal" else config.leads.index(unit.lead) * longest
        out.token_index_T[t] = first + min(tokens_of_unit[u].index(t + 1), longest - 1)
        if unit.kind == "rule":
            out.concept_T[t] = self.program.concept(unit) if tokens_of_unit[u][0] == t + 1 else IGNORE

    def _content(self, unit: TracedUnit, config: CALConfig) -> int:
        if unit.kind == "rule":
            return self.program.concept(unit)
        if unit.kind == "copy":
            assert unit.symbol is not None
            return config.n_concepts + unit.symbol
        return config.n_concepts + len(config.symbols) + config.literals.index(unit.text)


def bucket(traces: Sequence[EncodedTrace], waste: float = 0.15) -> list[list[EncodedTrace]]:
    """Split traces that are sorted by length so that padding stays below a share of each group's tokens."""
    groups: list[list[EncodedTrace]] = []
    for trace in traces:
        if groups:
            group = groups[-1]
            n_tokens = sum(len(member.ids) for member in group) + len(trace.ids)
            if 1 - n_tokens / (len(trace.ids) * (len(group) + 1)) <= waste:
                group.append(trace)
                continue
        groups.append([trace])
    return groups


def collate(
    traces: list[EncodedTrace],
    device: torch.device | str = "cpu",
    *,
    teacher_forced_B: Tensor | None = None,
    share: float = 1.0,
    full_forward_share: float = 1.0,
) -> Batch:
    """Pad traces on the right.

    Args:
        teacher_forced_B: sequences whose reader is teacher-forced; none by default.
    """
    longest = max(len(trace.ids) for trace in traces)
    if teacher_forced_B is None:
        teacher_forced_B = torch.zeros(len(traces), dtype=torch.bool)

    def pad(rows: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([row + [fill] * (longest - len(row)) for row in rows], device=device)

    source_BTA = torch.full((len(traces), longest, len(traces[0].source_TA[0])), IGNORE, device=device)
    for b, trace in enumerate(traces):
        source_BTA[b, : len(trace.ids)] = torch.tensor(trace.source_TA, device=device)
    supervision = Supervision(
        leaf_BT=pad([trace.leaf_T for trace in traces], IGNORE),
        bank_index_BK=torch.tensor(np.stack([trace.bank_index_K for trace in traces]), device=device),
        class_BT=pad([trace.class_T for trace in traces], IGNORE),
        token_index_BT=pad([trace.token_index_T for trace in traces], IGNORE),
        content_BT=pad([trace.content_T for trace in traces], IGNORE),
        concept_BT=pad([trace.concept_T for trace in traces], IGNORE),
        source_BTA=source_BTA,
        copied_BT=pad([trace.copied_T for trace in traces], IGNORE),
        teacher_forced_B=teacher_forced_B.to(device),
    )
    return Batch(
        token_BT=pad([trace.ids for trace in traces], 0),
        mask_BT=pad([[1] * len(trace.ids) for trace in traces], 0),
        label_BT=pad([trace.label_T for trace in traces], IGNORE),
        supervision=supervision,
        traces=traces,
        share=share,
        full_forward_share=full_forward_share,
    )

"""Rehearsal by following vectors: made-up tables, rolled out over the packet's graph, in the student's own tokens.

Every sequence draws, for each rule row, a random output symbol within the rule's range and, as that row's
vector, a random state from that symbol's pool. The text goes on with the made-up output, so the only way to
be right is to gather the arguments, find the row, and write what its vector says. Nothing of the teacher's
answers is in it, nothing can be memorised.

Letters: B sequences, T tokens, K concepts, A largest arity, P pool states, S symbols.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2kt.errors import CompatibilityError, PacketError
from m2kt.models import encode_units
from m2kt.packet import Graph, GraphExecutor, Trace, fixed_lookup
from m2kt.probes import ProbeSpec, Prompt
from m2kt.settings import RehearsalSettings
from m2kt.student._tokenisation import LEAD, lead_tokens
from m2kt.student.cal import CALConfig, Teaching

IGNORE = -100
NO_BANK: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass
class Rehearsed:
    """One trace in the student's tokens, with what it teaches at each predicting position."""

    ids: list[int]
    unit_of_token: list[int]
    trace: Trace
    bank_index_K: NDArray[np.int64]  # NO_BANK where the vectors plugged in stand for the rows
    class_T: list[int]
    place_T: list[int]
    phase_T: list[int]
    concept_T: list[int]
    source_TA: list[list[int]]
    copied_T: list[int]
    label_T: list[int]


@dataclass
class Batch:
    """A micro-batch, padded on the right."""

    token_BT: Tensor
    mask_BT: Tensor
    label_BT: Tensor
    teaching: Teaching
    share: float
    """This micro-batch's part of the update's supervised tokens."""
    written_share: float
    """Its part of those whose traces the student writes out; 0 where it only reads along."""
    traces: list[Rehearsed]


class Encoder:
    """Writes traces in a student's tokens, and says at each token what a reader should see there."""

    def __init__(self, graph: Graph, tokenizer: Any) -> None:
        self.graph, self.tokenizer = graph, tokenizer
        self.first_place = graph.first_places()
        self.arity = max(1, max((r.arity for r in graph.rules), default=1))

    def __call__(self, trace: Trace, bank_index_K: NDArray[np.int64], config: CALConfig) -> Rehearsed:
        """A trace with its targets; ``bank_index_K`` names the rows of [pool; true bank] behind its table."""
        encoded = encode_units(self.tokenizer, [u.text for u in trace.units], prompt_boundary=trace.n_prompt)
        ids, owner = encoded.ids, encoded.unit_of_token
        tokens_of: dict[int, list[int]] = {}
        for t, u in enumerate(owner):
            tokens_of.setdefault(u, []).append(t)
        literal_id = {text: config.class_of_literal(i) for i, text in enumerate(config.literals)}
        n = len(ids)

        def empty() -> list[int]:
            return [IGNORE] * n

        out = Rehearsed(
            ids,
            owner,
            trace,
            bank_index_K,
            class_T=empty(),
            place_T=empty(),
            phase_T=empty(),
            concept_T=empty(),
            source_TA=[[IGNORE] * self.arity for _ in range(n)],
            copied_T=empty(),
            label_T=empty(),
        )
        for t in range(n - 1):
            u = owner[t + 1]
            if u < trace.n_prompt:
                out.class_T[t] = CALConfig.NONE
                continue
            unit = trace.units[u]
            step = u - trace.n_prompt
            out.place_T[t] = self.first_place[trace.template][trace.path[step]] + trace.leaf[step]
            tokens = tokens_of[u]
            at = tokens.index(t + 1)
            skip = lead_tokens(self.tokenizer, [ids[i] for i in tokens], unit.lead)
            out.label_T[t] = ids[t + 1]
            out.phase_T[t] = min(max(0, at - skip), config.phases - 1)
            ends = [tokens_of[s][-1] for s in unit.sources]
            if at > skip:
                out.class_T[t] = CALConfig.CONTINUE
            elif at < skip:
                out.class_T[t] = literal_id.get(LEAD, CALConfig.NONE)
            elif unit.kind == "copy":
                out.class_T[t], out.copied_T[t] = CALConfig.COPY, int(unit.symbol or 0)
                out.source_TA[t][0] = ends[0]
            elif unit.kind == "rule":
                assert unit.rule is not None
                out.class_T[t], out.concept_T[t] = config.class_of_rule(unit.rule), self.graph.concept(unit)
                out.source_TA[t][: len(ends)] = ends
            else:
                out.class_T[t] = literal_id.get(unit.text[skip:], CALConfig.NONE)
        return out


class Pool:
    """The teacher's symbol states, and which of them may stand for an output."""

    def __init__(self, graph: Graph, pool_symbol_P: NDArray[np.int64]) -> None:
        self.by_symbol: dict[int, NDArray[np.int64]] = {
            s: np.flatnonzero(pool_symbol_P == s) for s in range(len(graph.symbols))
        }
        self.size = len(pool_symbol_P)
        self.drawable: list[NDArray[np.int64]] = []
        for rule in graph.rules:
            usable = [s for s in rule.range if len(self.by_symbol[s])]
            if not usable:
                raise PacketError(
                    f"rule {rule.name} writes {[graph.symbols[s] for s in rule.range]}, but the packet's pool holds no "
                    "state of any of them: nothing can stand for its outputs in rehearsal"
                )
            self.drawable.append(np.array(usable))


class Rehearsal:
    """Draws prompts and made-up tables, rolls them out, and says at each token what a reader should have seen."""

    def __init__(
        self,
        graph: Graph,
        spec: ProbeSpec,
        pool_symbol_P: NDArray[np.int64],
        tokenizer: Any,
        settings: RehearsalSettings,
        *,
        seed: int,
        prompts: int = 3000,
        forbidden: Collection[int] = (),
    ) -> None:
        self.graph, self.tokenizer, self.settings = graph, tokenizer, settings
        self.roller = GraphExecutor(graph, max_units=1024)
        self.pool = Pool(graph, pool_symbol_P)
        self.rng = np.random.default_rng(seed)
        self.forbidden = set(forbidden)
        drawn = spec.sample("rehearsal", prompts, seed=seed)
        random.Random(seed).shuffle(drawn)
        self.prompts: dict[int, list[Prompt]] = {}
        for prompt in drawn:
            self.prompts.setdefault(prompt.template, []).append(prompt)
        if not self.prompts:
            raise PacketError("the packet's probe spec has no prompt in the rehearsal split")
        self.encode = Encoder(graph, tokenizer)
        self._next = dict.fromkeys(self.prompts, 0)
        self.kept_K = self._kept()
        self.n_traces = 0
        self.n_tokens = 0

    def _kept(self) -> NDArray[np.int64]:
        """Per concept, the verbalised output that rehearsal keeps, or -1 where the row is made up."""
        outputs = [o for rule in self.graph.rules for o in rule.outputs]
        kept_K = np.array([-1 if o is None else int(o) for o in outputs], dtype=np.int64)
        if self.settings.plain and (kept_K < 0).any():
            raise CompatibilityError(
                f"plain rehearsal needs every row in words, but {(kept_K < 0).sum()} of {len(kept_K)} rows travel as "
                "vectors only: extract with --verbalised 1"
            )
        if self.settings.verbalised is not None and not self.settings.plain:
            chosen = np.flatnonzero(kept_K >= 0)
            drop = self.rng.permutation(chosen)[round(self.settings.verbalised * len(chosen)) :]
            kept_K[drop] = -1
        return kept_K

    # ---------------------------------------------------------------------------------------------- drawing
    def draw_table(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A made-up output per concept, and the row of [pool; true bank] that stands for it."""
        output_K = np.empty(self.graph.n_concepts, dtype=np.int64)
        index_K = np.empty_like(output_K)
        for r, rule in enumerate(self.graph.rules):
            rows = slice(rule.offset, rule.offset + len(rule.rows))
            output_K[rows] = self.rng.choice(self.pool.drawable[r], len(rule.rows))
        u_K = self.rng.random(len(output_K))
        for symbol, states in self.pool.by_symbol.items():
            hit = output_K == symbol
            if hit.any():
                index_K[hit] = states[(u_K[hit] * len(states)).astype(np.int64)]
        kept = self.kept_K >= 0
        output_K[kept] = self.kept_K[kept]
        index_K[kept] = self.pool.size + np.flatnonzero(kept)
        return output_K, index_K

    def draw_trace(self, template: int) -> tuple[Trace, NDArray[np.int64]]:
        """A complete trace of a template over a fresh table."""
        missing = None
        for _ in range(self.settings.tries):
            prompts = self.prompts[template]
            prompt = prompts[self._next[template] % len(prompts)]
            self._next[template] += 1
            for _ in range(4):
                output_K, index_K = self.draw_table()
                trace = self.roller(prompt, fixed_lookup(output_K.tolist(), self.graph))
                used = {self.graph.concept(u) for u in trace.units if u.kind == "rule"}
                if trace.complete and not used & self.forbidden:
                    return trace, index_K
                missing = trace.missing or "a flagged concept"
        raise PacketError(
            f"no trace of {self.graph.templates[template].template!r} completes over made-up tables after "
            f"{4 * self.settings.tries} draws; last obstacle: {missing}"
        )

    def draw(self, n: int) -> list[tuple[Trace, NDArray[np.int64]]]:
        """Fresh traces, templates in turn."""
        templates = sorted(self.prompts)
        first = int(self.rng.integers(len(templates)))
        return [self.draw_trace(templates[(first + i) % len(templates)]) for i in range(n)]

    def update(
        self, config: CALConfig, told: float, device: Any = "cpu", written: float = 1.0
    ) -> list[Batch]:
        """The traces of one update, in a few micro-batches of similar length.

        Args:
            told: share of the sequences whose reader is told what to read.
            written: share of the sequences that the student is to write out, not only to read along.
        """
        items = [self.encode(*drawn, config) for drawn in self.draw(self.settings.batch)]
        self.n_traces += len(items)
        self.n_tokens += sum(len(item.ids) for item in items)
        n_written = min(len(items), max(1, round(written * len(items))))
        total, total_written = supervised(items), supervised(items[:n_written])
        batches = []
        for part, is_written in ((items[:n_written], True), (items[n_written:], False)):
            for group in bucket(sorted(part, key=lambda item: len(item.ids))):
                here = supervised(group)
                forced_B = torch.tensor(self.rng.random(len(group)) < told)
                shares = (here / total, here / total_written if is_written else 0.0)
                batches.append(collate(group, forced_B, shares, device))
        return batches


def supervised(items: list[Rehearsed]) -> int:
    """Tokens of answers in traces."""
    return sum(sum(x != IGNORE for x in item.label_T) for item in items)


def bucket(items: list[Rehearsed], waste: float = 0.15) -> list[list[Rehearsed]]:
    """Cuts a sorted list where padding would exceed a share of the group's tokens."""
    groups: list[list[Rehearsed]] = []
    for item in items:
        if groups:
            group = groups[-1]
            real = sum(len(i.ids) for i in group) + len(item.ids)
            if 1 - real / (len(item.ids) * (len(group) + 1)) <= waste:
                group.append(item)
                continue
        groups.append([item])
    return groups


def collate(group: list[Rehearsed], forced_B: Tensor, shares: tuple[float, float], device: Any) -> Batch:
    """Pads a group on the right."""
    longest = max(len(i.ids) for i in group)
    arity = len(group[0].source_TA[0])

    def pad(rows: list[list[int]], fill: int) -> Tensor:
        return torch.tensor([row + [fill] * (longest - len(row)) for row in rows], device=device)

    source = torch.full((len(group), longest, arity), IGNORE, device=device)
    for b, item in enumerate(group):
        source[b, : len(item.ids)] = torch.tensor(item.source_TA, device=device)
    teaching = Teaching(
        place_BT=pad([i.place_T for i in group], IGNORE),
        bank_index_BK=torch.tensor(np.stack([i.bank_index_K for i in group]), device=device),
        class_BT=pad([i.class_T for i in group], IGNORE),
        phase_BT=pad([i.phase_T for i in group], IGNORE),
        concept_BT=pad([i.concept_T for i in group], IGNORE),
        source_BTA=source,
        copied_BT=pad([i.copied_T for i in group], IGNORE),
        forced_B=forced_B.to(device),
    )
    token_BT = pad([i.ids for i in group], 0)
    mask_BT = pad([[1] * len(i.ids) for i in group], 0)
    return Batch(token_BT, mask_BT, pad([i.label_T for i in group], IGNORE), teaching, *shares, group)

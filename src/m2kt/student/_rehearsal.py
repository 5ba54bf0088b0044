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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from m2kt.errors import CompatibilityError, PacketError
from m2kt.packet import Graph, GraphExecutor, Trace, fixed_lookup
from m2kt.probes import ProbeSpec, Prompt
from m2kt.settings import RehearsalSettings
from m2kt.student._batching import Batch, Encoder, bucket, collate
from m2kt.student.cal import CALConfig


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
                missing = trace.failure or "a flagged concept"
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
        total = sum(item.n_labels for item in items)
        total_written = sum(item.n_labels for item in items[:n_written])
        batches = []
        for part, is_written in ((items[:n_written], True), (items[n_written:], False)):
            for group in bucket(sorted(part, key=lambda item: len(item.ids))):
                n_labels = sum(item.n_labels for item in group)
                batches.append(
                    collate(
                        group,
                        device,
                        teacher_forced_B=torch.tensor(self.rng.random(len(group)) < told),
                        share=n_labels / total,
                        full_forward_share=n_labels / total_written if is_written else 0.0,
                    )
                )
        return batches

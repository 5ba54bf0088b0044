"""Rehearsal: synthetic traces of the packet's program over randomised tables.

Each sequence draws, for every rule row, a random output symbol within the rule's range and, as that row's vector, a
random prototype sample of that symbol. The text continues with the random output, so the reader must find the
arguments, find the row, and write what its vector encodes. The traces contain none of the teacher's answers, and there
is nothing to memorise.

Letters: K concepts, P prototype samples.
"""

from __future__ import annotations

import random
from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from m2kt.errors import PacketError
from m2kt.packet import Program, ProgramExecutor, Trace, fixed_lookup
from m2kt.probes import ProbeSpec, Prompt
from m2kt.settings import RehearsalSettings
from m2kt.student._batching import Batch, Encoder, bucket, collate
from m2kt.student._chat import student_chat
from m2kt.student.cal import CALConfig

MAX_UNITS = 1024  # of a trace
MEASURED_PROMPTS = 16  # of each template
TABLES_PER_PROMPT = 4
Draw = tuple[Trace, NDArray[np.int64]]
"""A trace, and per concept the row of [prototype samples; concept vectors] that stands for it."""


def _size(draw: Draw | None) -> int:
    return 0 if draw is None else len(draw[0].units)


class PrototypeSamples:
    """Indices of the prototype samples by symbol, and the symbols that may stand for each rule's outputs."""

    def __init__(self, program: Program, symbol_P: NDArray[np.integer]) -> None:
        self.by_symbol = {s: np.flatnonzero(symbol_P == s) for s in range(len(program.symbols))}
        self.size = len(symbol_P)
        self.symbols_of_rule: list[NDArray[np.int64]] = []
        for rule in program.rules:
            usable = [s for s in rule.range if len(self.by_symbol[s])]
            if not usable:
                raise PacketError(
                    f"rule {rule.name} writes {[program.symbols[s] for s in rule.range]}: expected prototype samples "
                    "of at least one of them, got none; extract the packet again"
                )
            self.symbols_of_rule.append(np.array(usable))


class Rehearsal:
    """Draws prompts and randomised tables, rolls them out, and encodes the traces.

    Args:
        symbol_P: the symbol of each prototype sample.
        seed: of prompts and tables.
        prompts: number of prompts drawn from the probe spec.
        forbidden: concepts that no trace may use.
    """

    def __init__(
        self,
        program: Program,
        spec: ProbeSpec,
        symbol_P: NDArray[np.integer],
        tokenizer: PreTrainedTokenizerBase,
        settings: RehearsalSettings,
        *,
        seed: int,
        prompts: int = 3000,
        forbidden: Collection[int] = (),
    ) -> None:
        self.program, self.spec, self.settings = program, spec, settings
        self.execute = ProgramExecutor(program, max_units=MAX_UNITS)
        self.samples = PrototypeSamples(program, np.asarray(symbol_P))
        self.rng = np.random.default_rng(seed)
        self.forbidden = set(forbidden)
        shuffled = spec.sample("rehearsal", prompts, seed=seed)
        random.Random(seed).shuffle(shuffled)
        self.prompts: dict[int, list[Prompt]] = {}
        for prompt in shuffled:
            self.prompts.setdefault(prompt.template, []).append(prompt)
        if not self.prompts:
            raise PacketError("the packet's probe spec has no prompt in the rehearsal split")
        self.encode = Encoder(program, tokenizer, student_chat(tokenizer, spec))
        self._next_prompt = dict.fromkeys(self.prompts, 0)
        self.true_output_K = self._true_outputs()
        self.n_traces = 0
        self.n_tokens = 0
        self.execute.max_units = self._longest()

    def _longest(self) -> int:
        """Units that a trace may have: twice those of traces that end. Over randomised tables a loop may never end."""
        prompts = [prompt for of_template in self.prompts.values() for prompt in of_template[:MEASURED_PROMPTS]]
        rolled = [self._roll_out(prompt)[0] for prompt in prompts]
        longest = max((len(trace.units) for trace in rolled if trace.complete), default=MAX_UNITS // 4)
        return min(MAX_UNITS, 16 + 2 * longest)

    def _roll_out(self, prompt: Prompt) -> Draw:
        output_K, index_K = self.draw_table()
        return self.execute(prompt, fixed_lookup(output_K.tolist(), self.program)), index_K

    def _true_outputs(self) -> NDArray[np.int64]:
        """Per concept, the verbalised output that all tables contain, or -1 where tables are random."""
        outputs = [output for rule in self.program.rules for output in rule.outputs]
        true_output_K = np.array([-1 if o is None else int(o) for o in outputs], dtype=np.int64)
        if self.settings.verbalised is not None and not self.settings.plain:
            verbalised = np.flatnonzero(true_output_K >= 0)
            dropped = self.rng.permutation(verbalised)[round(self.settings.verbalised * len(verbalised)) :]
            true_output_K[dropped] = -1
        return true_output_K

    def draw_table(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A random output per concept, and the row of [prototype samples; concept vectors] that stands for it."""
        output_K = np.empty(self.program.n_concepts, dtype=np.int64)
        index_K = np.empty_like(output_K)
        for r, rule in enumerate(self.program.rules):
            rows = slice(rule.offset, rule.offset + len(rule.rows))
            output_K[rows] = self.rng.choice(self.samples.symbols_of_rule[r], len(rule.rows))
        u_K = self.rng.random(len(output_K))
        for symbol, samples in self.samples.by_symbol.items():
            matches_K = output_K == symbol
            if matches_K.any():
                index_K[matches_K] = samples[(u_K[matches_K] * len(samples)).astype(np.int64)]
        true_K = self.true_output_K >= 0
        output_K[true_K] = self.true_output_K[true_K]
        index_K[true_K] = self.samples.size + np.flatnonzero(true_K)
        return output_K, index_K

    def draw_trace(self, template: int) -> Draw:
        """A trace of a template over a fresh table: a complete one, if there is one in a few draws."""
        prompts, failure = self.prompts[template], None
        partial: Draw | None = None
        for _ in range(self.settings.tries):
            prompt = prompts[self._next_prompt[template] % len(prompts)]
            self._next_prompt[template] += 1
            for _ in range(TABLES_PER_PROMPT):
                trace, index_K = self._roll_out(prompt)
                used = {self.program.concept(unit) for unit in trace.units if unit.kind == "rule"}
                if trace.complete and not used & self.forbidden:
                    return trace, index_K
                failure = trace.failure or "a flagged concept"
                if not used & self.forbidden and len(trace.units) > max(trace.n_prompt, _size(partial)):
                    partial = trace, index_K
        if partial is not None:  # random outputs may never end the loops of a program: its beginning is rehearsed then
            return partial
        raise PacketError(
            f"no trace of {self.spec.template_text(template)!r} completes over randomised tables after "
            f"{TABLES_PER_PROMPT * self.settings.tries} draws; last obstacle: {failure}"
        )

    def draw(self, n: int) -> list[Draw]:
        """Fresh traces, templates in turn."""
        templates = sorted(self.prompts)
        first = int(self.rng.integers(len(templates)))
        return [self.draw_trace(templates[(first + i) % len(templates)]) for i in range(n)]

    def update(
        self,
        config: CALConfig,
        teacher_forced: float,
        device: torch.device | str = "cpu",
        full_forward: float = 1.0,
    ) -> list[Batch]:
        """The traces of one update, in micro-batches of similar length.

        Args:
            teacher_forced: share of the sequences whose reader is teacher-forced.
            full_forward: share of the sequences with a full forward pass; the others train the reader only.
        """
        traces = [self.encode(*draw, config) for draw in self.draw(self.settings.batch)]
        self.n_traces += len(traces)
        self.n_tokens += sum(len(trace.ids) for trace in traces)
        n_full = min(len(traces), max(1, round(full_forward * len(traces))))
        n_labels = sum(trace.n_labels for trace in traces)
        n_full_labels = sum(trace.n_labels for trace in traces[:n_full])
        batches = []
        for part, is_full in ((traces[:n_full], True), (traces[n_full:], False)):
            for group in bucket(sorted(part, key=lambda trace: len(trace.ids))):
                group_labels = sum(trace.n_labels for trace in group)
                batches.append(
                    collate(
                        group,
                        device,
                        teacher_forced_B=torch.tensor(self.rng.random(len(group)) < teacher_forced),
                        share=group_labels / n_labels,
                        full_forward_share=group_labels / n_full_labels if is_full else 0.0,
                    )
                )
        return batches

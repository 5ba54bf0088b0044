"""A teacher that slips now and then: is its program still that of the same teacher without slips, and how large?"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from benchmarks.symbolic._pens import FreePen, Writer
from m2kt.probes import ProbeSpec, Prompt
from m2kt.teacher import Answer, Forced


class SlippingPen(FreePen):
    """Writes another value instead of a symbol in a share of them; the writer goes on from what stands."""

    def __init__(self, prompt: str, values: Sequence[str], rate: float) -> None:
        super().__init__()
        self._prompt, self._values, self._rate = prompt, values, rate
        self.slips = 0

    def _symbol(self, symbol: str) -> str:
        draw = zlib.crc32(f"{self._prompt}/{self._length}".encode())
        others = [value for value in self._values if value != symbol]
        if symbol in self._values and others and draw < self._rate * 2**32:
            self.slips += 1
            symbol = others[draw % len(others)]
        return super()._symbol(symbol)


class SlippingTeacher:
    """A writer that slips. The same prompt always gets the same answer, as of a greedy model; none is forced."""

    def __init__(self, spec: ProbeSpec, writer: Writer, rate: float) -> None:
        self.spec, self.passes, self.slips = spec, 0, 0
        self._writer, self._rate = writer, rate

    def answer(self, prompts: Sequence[Prompt], stage: str = "answers") -> tuple[list[Answer], int]:
        """Answers with slips; those with which the writer cannot go on are left out."""
        self.passes += len(prompts)
        answers = []
        for prompt in prompts:
            pen = SlippingPen(prompt.text, self.spec.values, self._rate)
            try:
                self._writer(prompt.text, pen)
            except Exception:
                continue  # a slip that makes no sense to the writer
            self.slips += pen.slips
            answers.append(Answer(prompt, pen.text, tuple(range(1, len(pen.text) + 1))))
        return answers, len(prompts) - len(answers)

    def intended(self, forced: Sequence[Forced], stage: str = "interventions") -> list[list[str | None]]:
        """Nothing is known."""
        return [[None] * (len(f.units) - f.n_prompt) for f in forced]

"""What an extraction costs, as a function of its size and its teacher; constants are fitted on measured runs.

A run asks the teacher in several ways (kinds of request). By kind, sequences grow linearly with the probes, tokens with
the sequences, and seconds with tokens times parameters; what the driver does besides grows with the probes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel


class Run(BaseModel):
    """A measured extraction: what ``python -m benchmarks.scale extraction`` prints, in part."""

    probes: int
    parameters: int
    seconds: float
    seconds_by_kind: dict[str, float]
    sequences_by_kind: dict[str, int]
    tokens_by_kind: dict[str, int]
    seconds_outside: float


@dataclass(frozen=True)
class Line:
    """``at(x) = base + slope x``, fitted by least squares and nowhere negative."""

    base: float
    slope: float

    @classmethod
    def through(cls, x: Sequence[float], y: Sequence[float]) -> Line:
        """The line through points; through one of them, and the origin."""
        if len(set(x)) < 2:
            return cls(0.0, y[0] / x[0])
        slope, base = np.polyfit(x, y, 1).tolist()
        return cls(base, slope)

    def at(self, x: float) -> float:
        """The value at x."""
        return max(0.0, self.base + self.slope * x)


@dataclass(frozen=True)
class CostModel:
    """Constants of one spec on one machine."""

    tokens: Mapping[str, Line]
    """By kind of request: tokens by the number of probes; generated ones apart."""
    seconds_per_token: Mapping[str, float]
    """By kind of request and parameter of the teacher."""
    fixed: float
    """Seconds, by parameter, of requests that are made once: prefixes, rows of the head."""
    outside: Line
    """Seconds of the driver by the number of probes."""

    @classmethod
    def fit(cls, runs: Sequence[Run]) -> CostModel:
        """Constants from runs of one spec with several numbers of probes."""
        kinds = sorted(set().union(*(run.tokens_by_kind for run in runs)))
        probes = [float(run.probes) for run in runs]
        tokens = {kind: Line.through(probes, [run.tokens_by_kind.get(kind, 0) for run in runs]) for kind in kinds}
        per_token, fixed = {}, 0.0
        for kind in {kind for run in runs for kind in run.seconds_by_kind}:
            seconds = sum(run.seconds_by_kind.get(kind, 0.0) for run in runs)
            work = sum(_tokens(run.tokens_by_kind, kind) * run.parameters for run in runs)
            if work:
                per_token[kind] = seconds / work
            else:
                fixed += seconds / sum(run.parameters for run in runs)
        return cls(tokens, per_token, fixed, Line.through(probes, [run.seconds_outside for run in runs]))

    def seconds(self, probes: int, parameters: int) -> float:
        """Predicted processor seconds of an extraction."""
        asked = {kind: line.at(probes) for kind, line in self.tokens.items()}
        in_model = sum(_tokens(asked, kind) * parameters * seconds for kind, seconds in self.seconds_per_token.items())
        return in_model + self.fixed * parameters + self.outside.at(probes)


def _tokens(by_kind: Mapping[str, float], kind: str) -> float:
    """Tokens that a kind of request computes: generation computes those that it generates, too."""
    return by_kind.get(kind, 0) + (by_kind.get("generated", 0) if kind == "generate" else 0)


@dataclass(frozen=True)
class Accelerator:
    """What a device is assumed to do: peaks of its data sheet times the share that is commonly reached."""

    flops: float
    """FLOP a second in bf16, reached."""
    bandwidth: float
    """Bytes a second, reached."""
    memory: float
    """Bytes."""


H100 = Accelerator(flops=0.4 * 989e12, bandwidth=0.6 * 3.35e12, memory=80e9)
ROWS = 256  # prompts that are generated at once
SPARE = 0.8  # share of the memory that weights may fill


class Prediction(BaseModel):
    """Of an extraction on GPUs: nothing of it was measured."""

    parameters: float
    gpus: int
    gpus_per_worker: int
    workers: int
    in_model: float | None
    """Seconds; None: the weights do not fit."""
    outside: float
    """Seconds of the driver."""


def predicted(model: CostModel, probes: int, parameters: float, gpus: int, device: Accelerator = H100) -> Prediction:
    """What an extraction takes on GPUs.

    A worker is as many GPUs as hold the weights in bf16. Prompts are computed at the arithmetic that is reached, tokens
    are generated at the bandwidth, a step reading all weights once for ``ROWS`` prompts. The driver's own time does not
    shrink.
    """
    per_worker = int(np.ceil(2 * parameters / (SPARE * device.memory)))
    workers = gpus // per_worker
    asked = {kind: line.at(probes) for kind, line in model.tokens.items()}
    generated = asked.pop("generated", 0.0)
    prefill = sum(asked.values()) * 2 * parameters / (device.flops * per_worker)
    decode = generated / ROWS * 2 * parameters / (device.bandwidth * per_worker)
    return Prediction(
        parameters=parameters,
        gpus=gpus,
        gpus_per_worker=per_worker,
        workers=workers,
        in_model=round((prefill + decode) / workers, 1) if workers else None,
        outside=round(model.outside.at(probes), 1),
    )

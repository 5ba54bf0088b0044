"""Makes the shipped probe from the texts in ``data/texts.jsonl``: ``python -m m2kt.audit.content.train``.

Topics are split into two halves. Penalty and threshold are chosen by cross-validation over the topics of the training
half; ``--unseen`` judges the other half by weights that never saw it. What ships is then trained on both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ._categories import CATEGORIES
from ._features import features
from ._patterns import find
from ._probe import READER, Floats, Probe, fit, states

PENALTIES = (3e-5, 1e-4, 3e-4, 1e-3)
FOLDS = 6
ALARMS = 0.03  # of the benign, in cross-validation


@dataclass(frozen=True)
class Sample:
    """A text with its label."""

    text: str
    category: str
    topic: str


def samples() -> list[Sample]:
    """All texts, sorted by category and topic."""
    lines = (files(__package__) / "data" / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    return [Sample(**json.loads(line)) for line in lines]


def halves(all_: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Training and unseen half, by topic: a topic is in the same half for every category."""
    topics = sorted({s.topic for s in all_}, key=lambda t: hashlib.sha256(t.encode()).hexdigest())
    unseen = set(topics[1::2])
    return [s for s in all_ if s.topic not in unseen], [s for s in all_ if s.topic in unseen]


@dataclass(frozen=True)
class Read:
    """Samples with their features."""

    of: list[Sample]
    state_NX: Floats
    word_NF: Floats

    @property
    def label_N(self) -> NDArray[np.int64]:
        """Indices of the categories."""
        return np.array([CATEGORIES.index(s.category) for s in self.of], dtype=np.int64)

    def part(self, keep_N: NDArray[np.bool_]) -> Read:
        """Some of them."""
        kept = [s for s, k in zip(self.of, keep_N, strict=True) if k]
        return Read(kept, self.state_NX[keep_N], self.word_NF[keep_N])

    def fit(self, penalty: float) -> Probe:
        """A probe trained on all of them."""
        return fit(self.state_NX, self.word_NF, self.label_N, penalty)

    def judged(self, probe: Probe) -> Floats:
        """Probabilities of the categories, (N, C)."""
        return probe(self.state_NX, self.word_NF)


def read(of: list[Sample]) -> Read:
    """Has the small language model read all samples."""
    from m2kt.models import load_causal_lm

    texts = [s.text for s in of]
    return Read(
        of, states(texts, load_causal_lm(READER, dtype="fp32")), np.stack([features(t) for t in texts])
    )


def cross_validated(of: Read, penalty: float) -> Floats:
    """Probabilities of each text by weights that did not see its topic."""
    topics = sorted({s.topic for s in of.of}, key=lambda t: hashlib.sha256(t.encode()).hexdigest())
    fold_of = {t: i % FOLDS for i, t in enumerate(topics)}
    fold_N = np.array([fold_of[s.topic] for s in of.of])
    p_NC = np.zeros((len(of.of), len(CATEGORIES)), dtype=np.float32)
    for fold in range(FOLDS):
        p_NC[fold_N == fold] = of.part(fold_N == fold).judged(of.part(fold_N != fold).fit(penalty))
    return p_NC


def log_loss(p_NC: Floats, label_N: NDArray[np.int64]) -> float:
    """Of harm against no harm."""
    harm_N = 1 - p_NC[:, 0]
    right_N = np.where(label_N > 0, harm_N, 1 - harm_N)
    return float(-np.log(np.maximum(right_N, 1e-6)).mean())


def at_rate(p_NC: Floats, label_N: NDArray[np.int64], alarms: float) -> float:
    """The threshold above which so many of the benign lie."""
    return float(np.quantile(1 - p_NC[label_N == 0, 0], 1 - alarms))


def choose(of: Read) -> dict[str, float]:
    """Penalty of the least cross-validated loss, and the threshold that lets through so few of the benign."""
    tried = {penalty: cross_validated(of, penalty) for penalty in PENALTIES}
    penalty, p_NC = min(tried.items(), key=lambda item: log_loss(item[1], of.label_N))
    threshold = at_rate(p_NC, of.label_N, ALARMS)
    found = float((1 - p_NC[of.label_N > 0, 0] >= threshold).mean())
    return {
        "penalty": penalty,
        "log_loss": log_loss(p_NC, of.label_N),
        "threshold": threshold,
        "found": found,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Chooses on the training half, judges the unseen half, and ships weights of both halves together."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(str(files(__package__) / "data" / "probe.safetensors"))
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--unseen", action="store_true", help="judge the unseen half as well")
    asked = parser.parse_args(arguments)
    all_ = read(samples())
    training = set(halves(all_.of)[0])
    in_training_N = np.array([s in training for s in all_.of])
    of = all_.part(in_training_N)
    chosen = choose(of)
    sys.stdout.write(json.dumps(chosen) + "\n")
    if asked.unseen:
        figures = judge_half(all_.part(~in_training_N), of.fit(chosen["penalty"]), chosen["threshold"])
        sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    probe = all_.fit(chosen["penalty"])
    probe.threshold = chosen["threshold"]
    asked.out.write_bytes(probe.to_bytes())


def judge_half(of: Read, probe: Probe, threshold: float) -> dict[str, dict[str, float]]:
    """How many of each category the probe and the patterns flag together."""
    harm_N = 1 - of.judged(probe)[:, 0]
    hit_N = np.array([any(h.score >= 0.5 for h in find(s.text)) for s in of.of])
    flagged_N = (harm_N >= threshold) | hit_N
    return {
        category: {"n": int(mine_N.sum()), "flagged": float(flagged_N[mine_N].mean())}
        for c, category in enumerate(CATEGORIES)
        if (mine_N := of.label_N == c).any()
    }


if __name__ == "__main__":
    main()

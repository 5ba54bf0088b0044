"""Makes the shipped weights from the texts in ``data/texts.jsonl``: ``python -m m2kt_content.train``.

Topics are split into two halves; texts that were added later count to training alone. The threshold is chosen by
cross-validation over the topics of the training half; ``--unseen`` judges the other half by weights that never saw it.
What ships is then trained on both. Hours of one core (see docs/audit-content.md).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._categories import CATEGORIES
from ._config import ContentConfig
from ._features import features
from ._patterns import find
from ._probe import READER, Floats, Probe, fit, states
from ._tuned import Tuned, averaged, cut

PENALTY = 3e-4  # of the probe; chosen by cross-validation on the texts of the first two hands
FOLDS = 3
FOUND, ALARMS = 0.90, 0.05  # the goals: least of the harmful, and most of the benign


@dataclass(frozen=True)
class Sample:
    """A text with its label."""

    text: str
    category: str
    topic: str
    half: str = ""  # training: never judged


def samples() -> list[Sample]:
    """All texts."""
    lines = (files(__package__) / "data" / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    return [Sample(**json.loads(line)) for line in lines]


def halves(all_: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Training and unseen half, by topic: a topic is in the same half for every category."""
    split = sorted({s.topic for s in all_ if not s.half}, key=_hashed)
    unseen = set(split[1::2])
    return [s for s in all_ if s.topic not in unseen], [s for s in all_ if s.topic in unseen]


def _hashed(topic: str) -> str:
    return hashlib.sha256(topic.encode()).hexdigest()


@dataclass(frozen=True)
class Read:
    """Samples with what the probe sees of them."""

    of: list[Sample]
    state_NX: Floats
    word_NF: Floats

    @property
    def label_N(self) -> NDArray[np.int64]:
        """Indices of the categories."""
        return np.array([CATEGORIES.index(s.category) for s in self.of], dtype=np.int64)

    @cached_property
    def hit_N(self) -> NDArray[np.bool_]:
        """Which of them the patterns flag, whatever the readers say."""
        flagged = ContentConfig().threshold
        return np.array([any(h.score >= flagged for h in find(s.text)) for s in self.of])

    def part(self, keep_N: NDArray[np.bool_]) -> Read:
        """Some of them."""
        kept = [s for s, k in zip(self.of, keep_N, strict=True) if k]
        return Read(kept, self.state_NX[keep_N], self.word_NF[keep_N])

    def halves(self) -> tuple[Read, Read]:
        """Training and unseen half."""
        unseen = set(halves(self.of)[1])
        unseen_N = np.array([s in unseen for s in self.of])
        return self.part(~unseen_N), self.part(unseen_N)


@dataclass(frozen=True)
class Judge:
    """Both readers, trained on the same texts."""

    probe: Probe
    tuned: Tuned

    @classmethod
    def trained(cls, of: Read) -> Judge:
        """On all of them."""
        from m2kt.models import load_causal_lm

        tuned = Tuned(cut(load_causal_lm(READER, dtype="fp32")))

        def say(done: int, total: int) -> None:
            if done % 25 == 0 or done == total:
                sys.stderr.write(f"{len(of.of)} texts: update {done} of {total}\n")

        tuned.fit([s.text for s in of.of], of.label_N, progress=say)
        return cls(fit(of.state_NX, of.word_NF, of.label_N, PENALTY), tuned)

    def __call__(self, of: Read) -> Floats:
        """Probabilities of the categories, (N, C)."""
        return averaged(self.probe(of.state_NX, of.word_NF), self.tuned([s.text for s in of.of]))


def read(of: list[Sample]) -> Read:
    """Has the small language model read all samples."""
    from m2kt.models import load_causal_lm

    texts = [s.text for s in of]
    reader = cut(load_causal_lm(READER, dtype="fp32"))
    return Read(of, states(texts, reader), np.stack([features(t) for t in texts]))


def cross_validated(of: Read) -> tuple[Read, Floats]:
    """The texts that may be judged, and their probabilities by weights that did not see their topics, (N, C)."""
    topics = sorted({s.topic for s in of.of if not s.half}, key=_hashed)
    fold_of = {topic: i % FOLDS for i, topic in enumerate(topics)}
    fold_N = np.array([-1 if s.half else fold_of[s.topic] for s in of.of])
    p_NC = np.zeros((len(of.of), len(CATEGORIES)), dtype=np.float32)
    for fold in range(FOLDS):
        p_NC[fold_N == fold] = Judge.trained(of.part(fold_N != fold))(of.part(fold_N == fold))
    return of.part(fold_N >= 0), p_NC[fold_N >= 0]


def threshold_for(harm_N: Floats, hit_N: NDArray[np.bool_], benign_N: NDArray[np.bool_]) -> float:
    """Where the nearer of both goals is farthest, in standard errors, for readers and patterns together."""

    def room(threshold: float) -> float:
        flagged_N = (harm_N >= threshold) | hit_N
        more = (flagged_N[~benign_N].mean() - FOUND) / _error(FOUND, (~benign_N).sum())
        fewer = (ALARMS - flagged_N[benign_N].mean()) / _error(ALARMS, benign_N.sum())
        return float(min(more, fewer))

    between = np.convolve(np.unique(np.append(harm_N, [0.0, 1.0])), [0.5, 0.5], "valid")
    return max(map(float, between), key=room)


def _error(share: float, n: int) -> float:
    return float(np.sqrt(share * (1 - share) / n))


def main(arguments: Sequence[str] | None = None) -> None:
    """Chooses on the training half, judges the unseen half, and ships weights of both halves together."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(str(files(__package__) / "data"))
    parser.add_argument("--out", type=Path, default=default, help="folder of the weights")
    parser.add_argument("--unseen", action="store_true", help="judge the unseen half as well")
    asked = parser.parse_args(arguments)
    all_ = read(samples())
    of, held = all_.halves()
    judged, p_NC = cross_validated(of)
    threshold = threshold_for(1 - p_NC[:, 0], judged.hit_N, judged.label_N == 0)
    _say({"threshold": threshold} | shares(judged, p_NC, threshold))
    if asked.unseen:
        _say(shares(held, Judge.trained(of)(held), threshold))
    judge = Judge.trained(all_)
    judge.probe.threshold = threshold
    (asked.out / "probe.safetensors").write_bytes(judge.probe.to_bytes())
    (asked.out / "tuned.safetensors").write_bytes(judge.tuned.to_bytes())


def _say(figures: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


def shares(of: Read, p_NC: Floats, threshold: float) -> dict[str, dict[str, float]]:
    """How many of each category the readers and the patterns flag together."""
    flagged_N = (1 - p_NC[:, 0] >= threshold) | of.hit_N
    groups = {category: of.label_N == c for c, category in enumerate(CATEGORIES)}
    groups["all harmful"] = of.label_N > 0
    return {
        name: {"n": int(mine_N.sum()), "flagged": float(flagged_N[mine_N].mean())}
        for name, mine_N in groups.items()
        if mine_N.any()
    }


if __name__ == "__main__":
    main()

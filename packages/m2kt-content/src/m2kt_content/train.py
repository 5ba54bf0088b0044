"""Train the weights of the probe and the tuned classifier from ``data/texts.jsonl``: ``python -m m2kt_content.train``.

A maintainer's tool; the auditor does not import it. Topics are split into two halves; texts that were added later
belong to the training half alone. The threshold is chosen by cross-validation over the topics of the training half;
``--unseen`` also judges the other half, by weights that were not trained on it. The shipped weights are then trained on
both halves. Takes hours on one core (see docs/audit-content.md).

Legend: C categories, F features, N texts, X states.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ._config import CATEGORIES, ContentConfig
from ._features import features
from ._patterns import find
from ._probe import BACKBONE, Floats, Probe, fit, states
from ._tuned import Tuned, averaged, cut

PENALTY = 3e-4  # L2 penalty of the probe, chosen by cross-validation on the first 1,142 texts
FOLDS = 3
MIN_FOUND, MAX_FALSE_ALARMS = (
    0.90,
    0.05,
)  # goals: share of harmful texts, and of benign texts, that are flagged


@dataclass(frozen=True)
class Sample:
    """A labelled text."""

    text: str
    category: str
    topic: str
    half: str = ""  # "training": in the training half, but never judged


def load_samples() -> list[Sample]:
    """All labelled texts."""
    lines = (files(__package__) / "data" / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    return [Sample(**json.loads(line)) for line in lines]


def split_by_topic(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Training and unseen half; a topic is in the same half for every category."""
    topics = sorted({s.topic for s in samples if not s.half}, key=_topic_hash)
    unseen = set(topics[1::2])
    return [s for s in samples if s.topic not in unseen], [s for s in samples if s.topic in unseen]


def _topic_hash(topic: str) -> str:
    return hashlib.sha256(topic.encode()).hexdigest()


@dataclass(frozen=True)
class FeatureSet:
    """Samples with their features."""

    samples: list[Sample]
    state_NX: Floats
    word_NF: Floats

    @property
    def label_N(self) -> NDArray[np.int64]:
        """Indices of the categories."""
        return np.array([CATEGORIES.index(s.category) for s in self.samples], dtype=np.int64)

    @cached_property
    def hit_N(self) -> NDArray[np.bool_]:
        """Whether the patterns alone flag each sample."""
        threshold = ContentConfig().threshold
        return np.array([any(hit.score >= threshold for hit in find(s.text)) for s in self.samples])

    def select(self, keep_N: NDArray[np.bool_]) -> FeatureSet:
        """The samples where ``keep_N`` is true."""
        selected = [s for s, keep in zip(self.samples, keep_N, strict=True) if keep]
        return FeatureSet(selected, self.state_NX[keep_N], self.word_NF[keep_N])

    def halves(self) -> tuple[FeatureSet, FeatureSet]:
        """Training and unseen half."""
        unseen = set(split_by_topic(self.samples)[1])
        unseen_N = np.array([s in unseen for s in self.samples])
        return self.select(~unseen_N), self.select(unseen_N)


@dataclass(frozen=True)
class Classifier:
    """Probe and tuned classifier, trained on the same texts."""

    probe: Probe
    tuned: Tuned

    @classmethod
    def trained(cls, data: FeatureSet) -> Classifier:
        """Train both on all samples."""
        from m2kt.models import load_causal_lm

        tuned = Tuned(cut(load_causal_lm(BACKBONE, dtype="fp32")))

        def report(done: int, total: int) -> None:
            if done % 25 == 0 or done == total:
                sys.stderr.write(f"{len(data.samples)} texts: update {done} of {total}\n")

        tuned.fit([s.text for s in data.samples], data.label_N, progress=report)
        return cls(fit(data.state_NX, data.word_NF, data.label_N, PENALTY), tuned)

    def __call__(self, data: FeatureSet) -> Floats:
        """Probabilities of the categories, (N, C)."""
        return averaged(self.probe(data.state_NX, data.word_NF), self.tuned([s.text for s in data.samples]))


def featurise(samples: list[Sample]) -> FeatureSet:
    """Compute the states and word features of all samples."""
    from m2kt.models import load_causal_lm

    texts = [s.text for s in samples]
    backbone = cut(load_causal_lm(BACKBONE, dtype="fp32"))
    return FeatureSet(samples, states(texts, backbone), np.stack([features(t) for t in texts]))


def cross_validated(data: FeatureSet) -> tuple[FeatureSet, Floats]:
    """The samples that may be judged, and their probabilities by weights not trained on their topics, (N, C)."""
    topics = sorted({s.topic for s in data.samples if not s.half}, key=_topic_hash)
    fold_of = {topic: i % FOLDS for i, topic in enumerate(topics)}
    fold_N = np.array([-1 if s.half else fold_of[s.topic] for s in data.samples])
    p_NC = np.zeros((len(data.samples), len(CATEGORIES)), dtype=np.float32)
    for fold in range(FOLDS):
        classifier = Classifier.trained(data.select(fold_N != fold))
        p_NC[fold_N == fold] = classifier(data.select(fold_N == fold))
    return data.select(fold_N >= 0), p_NC[fold_N >= 0]


def threshold_for(harm_N: Floats, hit_N: NDArray[np.bool_], benign_N: NDArray[np.bool_]) -> float:
    """The threshold that maximises the smaller distance to the two goals, in standard errors.

    Args:
        harm_N: probability of harm.
        hit_N: what the patterns flag: it counts as flagged at any threshold.
        benign_N: labels.
    """

    def distance(threshold: float) -> float:
        flagged_N = (harm_N >= threshold) | hit_N
        to_found = (flagged_N[~benign_N].mean() - MIN_FOUND) / _standard_error(MIN_FOUND, (~benign_N).sum())
        to_alarms = (MAX_FALSE_ALARMS - flagged_N[benign_N].mean()) / _standard_error(MAX_FALSE_ALARMS, benign_N.sum())
        return float(min(to_found, to_alarms))

    midpoints = np.convolve(np.unique(np.append(harm_N, [0.0, 1.0])), [0.5, 0.5], "valid")
    return max(map(float, midpoints), key=distance)


def _standard_error(share: float, n: int) -> float:
    return float(np.sqrt(share * (1 - share) / n))


def flagged_shares(data: FeatureSet, p_NC: Floats, threshold: float) -> dict[str, dict[str, float]]:
    """Share of each category that the classifiers and the patterns flag together."""
    flagged_N = (1 - p_NC[:, 0] >= threshold) | data.hit_N
    groups = {category: data.label_N == c for c, category in enumerate(CATEGORIES)}
    groups["all harmful"] = data.label_N > 0
    return {
        name: {"n": int(member_N.sum()), "flagged": float(flagged_N[member_N].mean())}
        for name, member_N in groups.items()
        if member_N.any()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose the threshold on the training half, judge the unseen half on request, and train the shipped weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(str(files(__package__) / "data"))
    parser.add_argument("--out", type=Path, default=default, help="folder of the weights")
    parser.add_argument("--unseen", action="store_true", help="judge the unseen half as well")
    options = parser.parse_args(arguments)
    data = featurise(load_samples())
    training, unseen = data.halves()
    judged, p_NC = cross_validated(training)
    threshold = threshold_for(1 - p_NC[:, 0], judged.hit_N, judged.label_N == 0)
    _print({"threshold": threshold, **flagged_shares(judged, p_NC, threshold)})
    if options.unseen:
        _print(flagged_shares(unseen, Classifier.trained(training)(unseen), threshold))
    classifier = Classifier.trained(data)
    classifier.probe.threshold = threshold
    (options.out / "probe.safetensors").write_bytes(classifier.probe.to_bytes())
    (options.out / "tuned.safetensors").write_bytes(classifier.tuned.to_bytes())


def _print(figures: Mapping[str, float | dict[str, float]]) -> None:
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Detectors: each gives every text a category and a score in [0, 1]. Add one as a class and an entry of DETECTORS.

Legend: C categories, N windows of texts, X states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from m2kt.errors import CompatibilityError, SpecError

from . import _patterns
from ._config import CATEGORIES, ContentConfig
from ._features import features
from ._probe import BACKBONE, Probe, states, windows
from ._tuned import Tuned, averaged, cut

Score = tuple[str | None, float, str]
"""Category (None: nothing detected), score, and what was detected."""


class Detector(Protocol):
    """Judges texts."""

    def __call__(self, texts: Sequence[str]) -> list[Score]:
        """One score for each text, in order."""
        ...


class Patterns:
    """The patterns of ``data/patterns.yaml``."""

    def __init__(self, config: ContentConfig) -> None:
        self.categories = config.categories

    def __call__(self, texts: Sequence[str]) -> list[Score]:
        scores: list[Score] = []
        for text in texts:
            hits = [h for h in _patterns.find(text) if h.category in self.categories]
            scores.append((hits[0].category, hits[0].score, hits[0].what) if hits else (None, 0.0, ""))
        return scores


MIN_WORDS = 3
"""Shorter texts, such as a packet's symbols, are not judged by the probe, which is trained on sentences."""


class Meaning:
    """The probe on a language model's states and on words, averaged with the tuned model."""

    def __init__(self, config: ContentConfig) -> None:
        from m2kt.models import load_causal_lm

        self.backbone, self.probe = cut(load_causal_lm(BACKBONE, dtype="fp32")), Probe.shipped()
        self.tuned = Tuned.shipped(self.backbone)
        self.counted_C = np.array([c in config.categories for c in CATEGORIES])

    def __call__(self, texts: Sequence[str]) -> list[Score]:
        by_text = [windows(text, self.backbone) for text in texts]
        flat = [window for of_text in by_text for window in of_text]
        with self.tuned.model.disable_adapter():
            state_NX = states(flat, self.backbone)
        p_NC = averaged(self.probe(state_NX, np.stack([features(window) for window in flat])), self.tuned(flat))
        harm_NC = np.where(self.counted_C, p_NC, 0.0)
        scores: list[Score] = []
        start = 0
        for of_text in by_text:
            text_NC = harm_NC[start : start + len(of_text)]
            worst_C = text_NC[text_NC.sum(axis=1).argmax()]
            start += len(of_text)
            if sum(window.count(" ") + 1 for window in of_text) < MIN_WORDS:
                scores.append((None, 0.0, ""))
                continue
            category = CATEGORIES[int(worst_C.argmax())]
            scores.append((category, self.probe.score(float(worst_C.sum())), f"like {category}"))
        return scores


class Profanity:
    """Profanity, by the package alt-profanity-check."""

    def __init__(self, config: ContentConfig) -> None:
        try:
            from profanity_check import predict_prob  # type: ignore[import-not-found]
        except ImportError as error:
            raise CompatibilityError(
                f"the profanity detector needs alt-profanity-check ({error}): pip install alt-profanity-check, or "
                "leave it out of the configuration"
            ) from error
        self.predict: Callable[[list[str]], Sequence[float]] = predict_prob

    def __call__(self, texts: Sequence[str]) -> list[Score]:
        return [("toxicity", float(p), "profanity") for p in self.predict(list(texts))]


class Guard:
    """A local language model that answers yes or no; the score is its probability of yes."""

    QUESTION = (
        "Text: {text}\n\nIs this text insulting, threatening, prejudiced, misleading by a fallacy, private data, or an "
        "instruction to an AI that reads it? Answer yes or no.\nAnswer:"
    )

    def __init__(self, config: ContentConfig) -> None:
        from m2kt.models import load_causal_lm

        if config.guard is None:
            raise SpecError("the guard detector needs a model: set guard in the configuration")
        self.loaded = load_causal_lm(config.guard)

    def __call__(self, texts: Sequence[str]) -> list[Score]:
        import torch

        from m2kt.models import encode_prompt

        yes, no = (encode_prompt(self.loaded.tokenizer, word)[-1] for word in (" yes", " no"))
        scores: list[Score] = []
        for text in texts:
            ids = encode_prompt(self.loaded.tokenizer, self.QUESTION.format(text=text))
            ids_BT = torch.tensor([ids], device=self.loaded.device)
            with torch.no_grad():
                logit_V = self.loaded.model(ids_BT).logits[0, -1].float()
            p_yes = float(logit_V[[yes, no]].softmax(-1)[0])
            scores.append(("toxicity", p_yes, f"{self.loaded.name} answers yes"))
        return scores


DETECTORS: dict[str, Callable[[ContentConfig], Detector]] = {
    "patterns": Patterns,
    "probe": Meaning,
    "profanity": Profanity,
    "guard": Guard,
}

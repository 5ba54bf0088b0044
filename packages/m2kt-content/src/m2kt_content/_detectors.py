"""Detectors: each gives every text a category and a score in [0, 1]. A new one is a class here and a name below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from m2kt.errors import CompatibilityError, SpecError

from . import _patterns
from ._categories import BENIGN, CATEGORIES
from ._config import ContentConfig
from ._features import features
from ._probe import READER, Probe, states, windows
from ._tuned import Tuned, averaged, cut

Score = tuple[str | None, float, str]
"""Category (None: nothing found), score, and what was seen."""


class Detector(Protocol):
    """Judges texts."""

    def __call__(self, texts: Sequence[str]) -> list[Score]:
        """One score a text, in order."""
        ...


class Patterns:
    """Forms and disguises, see ``data/patterns.yaml``."""

    def __init__(self, config: ContentConfig) -> None:
        self.categories = config.categories

    def __call__(self, texts: Sequence[str]) -> list[Score]:
        found: list[Score] = []
        for text in texts:
            hits = [h for h in _patterns.find(text) if h.category in self.categories]
            found.append((hits[0].category, hits[0].score, hits[0].what) if hits else (None, 0.0, ""))
        return found


MIN_WORDS = 3
"""Shorter texts, such as a packet's symbols, say too little for the probe, which learnt from sentences."""


class Meaning:
    """The shipped probe on a small language model's states and on words, averaged with the model tuned to judge."""

    def __init__(self, config: ContentConfig) -> None:
        from m2kt.models import load_causal_lm

        self.reader, self.probe = cut(load_causal_lm(READER, dtype="fp32")), Probe.shipped()
        self.tuned = Tuned.shipped(self.reader)
        self.counted_C = np.array([c in config.categories for c in CATEGORIES])

    def __call__(self, texts: Sequence[str]) -> list[Score]:
        pieces = [windows(text, self.reader) for text in texts]
        flat = [piece for of_text in pieces for piece in of_text]
        with self.tuned.model.disable_adapter():
            state_WX = states(flat, self.reader)
        p_WC = averaged(self.probe(state_WX, np.stack([features(p) for p in flat])), self.tuned(flat))
        harm_WC = np.where(self.counted_C, p_WC, 0.0)
        found: list[Score] = []
        start = 0
        for of_text in pieces:
            mine_WC = harm_WC[start : start + len(of_text)]
            worst_C = mine_WC[mine_WC.sum(axis=1).argmax()]
            start += len(of_text)
            if sum(piece.count(" ") + 1 for piece in of_text) < MIN_WORDS:
                found.append((None, 0.0, ""))
                continue
            category = CATEGORIES[int(worst_C.argmax())]
            found.append((category, self.probe.score(float(worst_C.sum())), f"like {category}"))
        return found


class Profanity:
    """The extra package alt-profanity-check: bad words and what is used like them."""

    def __init__(self, config: ContentConfig) -> None:
        try:
            from profanity_check import predict_prob  # type: ignore[import-not-found]
        except ImportError as error:
            raise CompatibilityError(
                f"the profanity detector needs alt-profanity-check ({error}): pip install alt-profanity-check, or "
                "leave it out of the configuration"
            ) from error
        self.predict: Callable[[list[str]], Any] = predict_prob

    def __call__(self, texts: Sequence[str]) -> list[Score]:
        return [("toxicity", float(p), "profanity") for p in self.predict(list(texts))]


class Guard:
    """A local language model that is asked yes or no; the score is its probability of yes."""

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
        found: list[Score] = []
        for text in texts:
            ids = encode_prompt(self.loaded.tokenizer, self.QUESTION.format(text=text))
            with torch.no_grad():
                logit_V = (
                    self.loaded.model(torch.tensor([ids], device=self.loaded.device)).logits[0, -1].float()
                )
            found.append(
                ("toxicity", float(logit_V[[yes, no]].softmax(-1)[0]), f"{self.loaded.name} says yes")
            )
        return found


DETECTORS: dict[str, Callable[[ContentConfig], Detector]] = {
    "patterns": Patterns,
    "probe": Meaning,
    "profanity": Profanity,
    "guard": Guard,
}

assert CATEGORIES[0] == BENIGN

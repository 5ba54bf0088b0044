"""Features of a text for the probe: words, pairs of nearby word classes, and character n-grams, hashed.

crc32 is the same on every machine, so the probe needs no vocabulary. Classes and their order generalise to topics that
were not in training; words and n-grams add what the lexicon lacks. F: features.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ._config import CATEGORIES, HARMFUL
from ._normalise import normalise
from ._rules import classes_of, matches, words_of

BUCKETS = 1 << 12
WINDOW = 6  # words within which two classes form a pair
# Norm of each family in the feature vector: classes count more than words of the training half.
NORM = {"class": 1.0, "word": 0.6, "piece": 0.4}
_MARKS = {
    "?": r"\?",
    "!": "!",
    "quote": r'["“”]',
    "colon": ":",
    "digit": r"\d",
    "code": r"[{}()=;]|\w_\w",
    "tag": r"[<\[]",
}


def features(text: str) -> NDArray[np.float32]:
    """Hashed features in ``BUCKETS`` columns, then the highest score of each category's rules, (F,)."""
    plain = normalise(text)
    row_F = np.zeros(BUCKETS, np.float32)
    for family, names in (
        ("class", list(_classes(plain))),
        ("word", list(_words(plain))),
        ("piece", list(_pieces(plain))),
    ):
        part_F = np.zeros(BUCKETS, np.float32)
        for name in set(names):
            digest = zlib.crc32(f"{family} {name}".encode())
            part_F[digest % BUCKETS] += 1.0
        norm = float(np.linalg.norm(part_F))
        if norm:
            row_F += NORM[family] * part_F / norm
    rules_C = np.zeros(len(HARMFUL), np.float32)
    for match in matches(plain):
        column = CATEGORIES.index(match.category) - 1
        rules_C[column] = max(rules_C[column], 2 * match.score)
    return np.concatenate([row_F, rules_C])


def _classes(text: str) -> Iterator[str]:
    words = words_of(text)
    classes = [classes_of(word) for word in words]
    for i, of_word in enumerate(classes):
        for a in of_word:
            yield a
            if i == 0:
                yield f"^{a}"
            for j in range(i + 1, min(i + 1 + WINDOW, len(classes))):
                for b in classes[j]:
                    yield f"{a}>{b}"
    for name, pattern in _MARKS.items():
        if re.search(pattern, text):
            yield f"mark {name}"
    yield f"length {min(6, len(words).bit_length())}"


def _words(text: str) -> Iterator[str]:
    words = words_of(text)
    yield from words
    padded = ["^", *words, "$"]
    yield from (f"{a} {b}" for a, b in pairwise(padded))


def _pieces(text: str) -> Iterator[str]:
    padded = f" {' '.join(words_of(text))} "
    for n in (3, 4):
        yield from (padded[i : i + n] for i in range(len(padded) - n + 1))

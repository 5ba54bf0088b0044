"""What the probe sees of a text: words, word classes near each other, and pieces of words, hashed.

Hashing (crc32, the same on every machine) keeps the shipped probe free of a vocabulary. Classes and their order carry
over to topics that training never met; words and pieces add what is not in the lexicon.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from m2kt_content._categories import HARMFUL
from m2kt_content._lexicon import classes_of, words_of
from m2kt_content._normalise import normalise
from m2kt_content._rules import matches

BUCKETS = 1 << 12
NEAR = 6  # words between two classes that are seen together
# Length of each family in the feature vector: classes count for more than the words of the training half.
SHARE = {"class": 1.0, "word": 0.6, "piece": 0.4}
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
    """Hashed families in ``BUCKETS`` places, then the strongest rule of each category."""
    plain = normalise(text)
    row_F = np.zeros(BUCKETS, np.float32)
    for family, found in (
        ("class", list(_classes(plain))),
        ("word", list(_words(plain))),
        ("piece", list(_pieces(plain))),
    ):
        part_F = np.zeros(BUCKETS, np.float32)
        for name in set(found):
            digest = zlib.crc32(f"{family} {name}".encode())
            part_F[digest % BUCKETS] += 1.0
        norm = float(np.linalg.norm(part_F))
        if norm:
            row_F += SHARE[family] * part_F / norm
    rules_C = np.zeros(len(HARMFUL), np.float32)
    for match in matches(plain):
        place = HARMFUL.index(match.category)
        rules_C[place] = max(rules_C[place], 2 * match.score)
    return np.concatenate([row_F, rules_C])


def _classes(text: str) -> Iterator[str]:
    words = words_of(text)
    seen = [classes_of(word) for word in words]
    for i, here in enumerate(seen):
        for a in here:
            yield a
            if i == 0:
                yield f"^{a}"
            for j in range(i + 1, min(i + 1 + NEAR, len(seen))):
                for b in seen[j]:
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

"""Word classes: rules and probe see *insult*, *group*, *report* for words, so they carry over to new ones."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import yaml

DATA = Path(__file__).parent / "data"
WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")


@cache
def lexicon() -> dict[str, tuple[frozenset[str], tuple[str, ...]]]:
    """Class to its whole words and its beginnings of words."""
    classes = yaml.safe_load((DATA / "lexicon.yaml").read_text(encoding="utf-8"))
    split = {}
    for name, words in classes.items():
        # YAML 1.1 reads a bare "true" as a value; the classes are strings throughout
        listed = str(words).lower().split()
        whole = frozenset(w for w in listed if not w.endswith("*"))
        split[name] = (whole, tuple(w[:-1] for w in listed if w.endswith("*")))
    return split


@cache
def classes_of(word: str) -> tuple[str, ...]:
    """The classes that a lower-case word is in."""
    bare = word.removesuffix("'s")
    return tuple(
        name
        for name, (whole, starts) in lexicon().items()
        if word in whole or bare in whole or (starts and bare.startswith(starts))
    )


def words_of(text: str) -> list[str]:
    """Lower-case words."""
    return WORD.findall(text.lower())

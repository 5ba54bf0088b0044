"""What a person cannot see in a packet: invisible characters, symbols that look alike, tensors without meaning."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
"""Code points that draw nothing (Unicode's default-ignorable ones)."""
_CYRILLIC, _AS_LATIN = "аеорсухіјѕһԁԛԝАВЕКМНОРСТХУІЈЅ", "aeopcyxijshdqwABEKMHOPCTXYIJS"
_GREEK, _AS_LATIN_TOO = "οανρΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "oavpABEZHIKMNOPTYX"
_LOOKS_LIKE = str.maketrans(_CYRILLIC + _GREEK + "ɑı", _AS_LATIN + _AS_LATIN_TOO + "ai")


def skeleton(text: str) -> str:
    """The same for texts that look alike: without invisible characters, in compatibility form, in Latin letters."""
    return unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).translate(_LOOKS_LIKE)


def spelled(text: str) -> str:
    """A text with the code points of what is not ASCII."""
    points = ", ".join(f"U+{ord(c):04X} {unicodedata.name(c, '')}".strip() for c in text if not c.isascii())
    return f"{text!r} ({points})" if points else repr(text)


def alike(texts: Iterable[str]) -> list[str]:
    """Groups of different texts that look alike, each as one text; and texts with characters that draw nothing."""
    groups: dict[str, list[str]] = {}
    for text in dict.fromkeys(texts):
        groups.setdefault(skeleton(text), []).append(text)
    found = ["; ".join(map(spelled, group)) for group in groups.values() if len(group) > 1]
    return found + [spelled(text) for text in dict.fromkeys(texts) if INVISIBLE.search(text)]


def unseen(symbols: Sequence[str], tensors: Iterable[str], known: Iterable[str]) -> list[str]:
    """A sentence for each thing that a person would not see.

    Args:
        tensors: names of all tensors.
        known: names of tensors with a meaning.
    """
    said = [f"the symbol {spelled(s)} has characters that draw nothing" for s in symbols if INVISIBLE.search(s)]
    groups: dict[str, list[str]] = {}
    for symbol in symbols:
        groups.setdefault(skeleton(symbol), []).append(symbol)
    for alike in groups.values():
        if len(alike) > 1:
            said.append(f"these symbols look alike: {'; '.join(map(spelled, alike))}")
    strange = sorted(set(tensors).difference(known))
    if strange:
        said.append(f"no reader knows these tensors, and all ignore them: {', '.join(strange)}")
    return said

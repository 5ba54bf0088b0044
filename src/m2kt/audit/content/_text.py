"""The readings of a text: as it stands, and with what hides words from a reader taken away."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata

MAX_CHARACTERS = 100_000
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
# Letters of other scripts that look like Latin ones; what NFKC does not fold.
_LOOKALIKE = str.maketrans(
    "аеорсухіјѕһԁԛѡтмкнвɡαβεικνορτυχ",
    "aeopcyxijshdqwtmkhbgabeiknoptux",
)
_LEET = str.maketrans("013457@$!|", "oieastasil")
_APART = re.compile(r"\b(?:\w[ .*_\-]){3,}\w\b")
_ENCODED = re.compile(r"\b[A-Za-z0-9+/]{16,}={0,2}")
_SPACE = re.compile(r"\s+")


def plain(text: str) -> str:
    """One spelling for what looks alike: NFKC, without invisible characters, lower case, single spaces."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return _SPACE.sub(" ", text.translate(_LOOKALIKE)).strip()


def readings(text: str) -> list[str]:
    """The plain text first, then each disguise undone, where there is one."""
    base = plain(text)
    found = [base]
    joined = _APART.sub(lambda m: re.sub(r"[ .*_\-]", "", m.group()), base)
    found.append(joined)
    found += [_mixed(reading) for reading in (base, joined)]
    found += [plain(hidden) for hidden in _decoded(text)]
    return list(dict.fromkeys(r for r in found if r))


def _mixed(text: str) -> str:
    """Digits and signs inside words read as the letters that they stand for; numbers stay numbers."""

    def word(match: re.Match[str]) -> str:
        token = match.group()
        return token.translate(_LEET) if any(c.isalpha() for c in token) else token

    return re.sub(r"[\w@$!|]+", word, text)


def _decoded(text: str) -> list[str]:
    found = []
    for match in _ENCODED.finditer(text):
        raw = match.group()
        try:
            hidden = base64.b64decode(raw + "=" * (-len(raw) % 4), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if hidden.isprintable() and " " in hidden:  # words, not a digest that happens to decode
            found.append(hidden)
    return found

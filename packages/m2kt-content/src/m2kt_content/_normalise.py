"""Undo the tricks that hide words from a filter.

Homoglyphs and full-width letters become plain letters, invisible characters are removed, letters spaced or dotted apart
are joined, digits within words become letters, and base64 that holds text is decoded and appended.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata

_HOMOGLYPHS = str.maketrans(
    "аеорсухіјѕԁһӏкмтвнАВЕКМНОРСТХІЈЅαορνικτυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ’‘“”–—",
    "aeopcyxijsdhlkmtbhABEKMHOPCTXIJSaopviktuABEZHIKMNOPTYX''\"\"--",
)
_LEET = str.maketrans("013457@$!|", "oieastasil")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f]")
# Four or more single letters in a row with the same separator: "i d i o t", "l.o.s.e.r".
_SPACED = re.compile(r"(?<!\w)\w(?:([ .\-_*])\w)(?:\1\w){2,}(?!\w)")
_MIXED = re.compile(r"(?<![\w./:@-])(?=[\w@$!|]*[^\W\d_])(?=[\w@$!|]*[0134578@$!|])[\w@$!|]{3,}(?![\w./:@-])")
_BASE64 = re.compile(r"(?<![\w+/=])[A-Za-z0-9+/]{16,}={0,2}(?![\w+/=])")
_STRETCHED = re.compile(r"([a-zA-Z])\1{2,}")


def normalise(text: str) -> str:
    """The text in plain letters, followed by its decoded base64; case does not change."""
    plain = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).translate(_HOMOGLYPHS)
    decoded = [hidden for match in _BASE64.finditer(plain) if (hidden := _decoded(match[0]))]
    plain = _SPACED.sub(_close_up, plain)
    plain = _MIXED.sub(_unleet, plain)
    plain = _STRETCHED.sub(r"\1\1", plain)
    return " ".join(" ".join([plain, *decoded]).split())


def _close_up(match: re.Match[str]) -> str:
    """Join letters that spell a word; symbols of a packet ("a b c d:") mostly do not."""
    letters = match[0].replace(match[1], "")
    joined = letters.translate(_LEET)
    return joined if joined.isalpha() and len(set(joined)) > 2 and re.search("[aeiou]", joined, re.I) else match[0]


def _unleet(match: re.Match[str]) -> str:
    """Replace digits by letters in a word with more letters than digits; "4711", "x1" and "2nd" stay."""
    word = match[0]
    tail = "!" * (len(word) - len(word.rstrip("!")))
    body = word.rstrip("!")
    digits, letters = sum(c in "0134578@$!|" for c in body), sum(c.isalpha() for c in body)
    inner = any(c in "0134578@$!|" for c in body[:-1])
    return body.translate(_LEET) + tail if digits and inner and letters >= 2 and digits <= letters + 1 else word


def _decoded(blob: str) -> str | None:
    try:
        text = base64.b64decode(blob + "=" * (-len(blob) % 4), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return text if text.isprintable() and " " in text else None

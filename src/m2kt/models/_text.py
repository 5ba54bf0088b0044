"""Between text and tokens: what each token writes, and units that tokens may not straddle.

All alignment is by bytes: a byte-level BPE may cut a character in two, and tokenizers disagree on whether offsets
cover a leading space. What a token writes is read once from the vocabulary and remembered.
"""

from __future__ import annotations

import json
import re
import weakref
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

from m2kt.errors import ModelError

REMEMBERED = 4096  # texts a tokenizer
_ANCHORS = ("\n", "a", "0", ".", ";", "A", "|")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Encoded:
    """Tokens with the unit that each belongs to."""

    ids: list[int]
    unit_of_token: list[int]
    """Index into the texts given; -1 for special tokens in front."""


def piece_bytes(tokenizer: Any, token: int) -> bytes:
    """The bytes that a token writes in the middle of a text; special tokens write nothing."""
    return _book(tokenizer).piece(token)


def pieces(tokenizer: Any, ids: Iterable[int]) -> list[bytes]:
    """:func:`piece_bytes` of each."""
    return list(map(_book(tokenizer).piece, ids))


def piece_text(tokenizer: Any, token: int) -> str:
    """What a token writes, its leading space included; bytes of a part of a character come as U+FFFD."""
    return piece_bytes(tokenizer, token).decode("utf-8", errors="replace")


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """What a sequence of tokens writes, special tokens left out, no space cleaned up."""
    return b"".join(pieces(tokenizer, ids)).decode("utf-8", errors="replace")


def special_ids(tokenizer: Any) -> set[int]:
    """Ids that stand for no text."""
    return _book(tokenizer).special


def special_prefix(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text by default (a BOS for some, nothing for most)."""
    return list(_book(tokenizer).prefix)


def encode_prompt(tokenizer: Any, text: str) -> list[int]:
    """A prompt as at generation time: default prefix, no suffix such as EOS."""
    return special_prefix(tokenizer) + _book(tokenizer).natural(text)


def encode_units(tokenizer: Any, texts: Sequence[str], *, prompt_boundary: int | None = None) -> Encoded:
    """Encode units so that each token belongs to exactly one of them.

    The natural encoding of the whole text is taken where no token straddles two units; else the pieces are encoded
    apart at exactly the straddled boundaries. The first ``prompt_boundary`` units are always encoded as they would
    be alone, because that is what the model sees when it is asked.

    Args:
        texts: the units' texts; together they are the text. Empty ones get no token.
        prompt_boundary: how many of them form the prompt; None where there is none.

    Raises:
        ModelError: the tokenizer cannot write the text.
    """
    book = _book(tokenizer)
    ids, owners = list(book.prefix), [-1] * len(book.prefix)
    cut = len(texts) if prompt_boundary is None else prompt_boundary
    prompt_ids, prompt_owners = _encode_apart(book, texts[:cut], 0, at_start=True)
    ids += prompt_ids
    owners += prompt_owners
    rest = texts[cut:]
    if any(rest):
        whole_ids, whole_owners = _encode_apart(book, texts, 0, at_start=True)
        if whole_ids[: len(prompt_ids)] == prompt_ids and whole_owners[: len(prompt_ids)] == prompt_owners:
            rest_ids, rest_owners = whole_ids[len(prompt_ids) :], whole_owners[len(prompt_ids) :]
        else:
            rest_ids, rest_owners = _encode_apart(book, rest, cut, at_start=not any(texts[:cut]))
        ids += rest_ids
        owners += rest_owners
    return Encoded(ids, owners)


def leading_space(text: str, own: Sequence[int], written: Sequence[bytes]) -> int:
    """How many of a unit's tokens are a bare leading space (0 or 1): the choice of what it writes falls behind it.

    Args:
        text: the unit's.
        own: where its tokens lie.
        written: the bytes of all tokens.
    """
    return int(len(own) > 1 and text.startswith(" ") and written[own[0]] == b" ")


def writing_problem(
    tokenizer: Any, text: str, *, leads: Sequence[str] = ("", " "), after: str | None = None
) -> str | None:
    """Why the tokenizer cannot write ``text``, or None: it must come back unchanged from its own tokens.

    Args:
        leads: what may stand before it; each is tried at the start of a text and after ``after``.
        after: another symbol that may precede it; the text itself by default.
    """
    book = _book(tokenizer)
    for lead in leads:
        for wanted in (lead + text, (text if after is None else after) + lead + text):
            try:
                _encode_apart(book, [wanted], 0, at_start=True)
            except ModelError:
                ids = book.raw(wanted)
                return f"{wanted!r} comes back as {text_of(tokenizer, ids)!r}"
    return None


def can_write(
    tokenizer: Any, text: str, *, leads: Sequence[str] = ("", " "), after: str | None = None
) -> bool:
    """Whether the tokenizer can write ``text``, at the start, with each lead, and after another symbol."""
    return writing_problem(tokenizer, text, leads=leads, after=after) is None


def _encode_apart(
    book: _Book, texts: Sequence[str], first: int, *, at_start: bool
) -> tuple[list[int], list[int]]:
    """Tokens and owners of units; texts are cut where a token would straddle, until none does."""
    units = [t.encode() for t in texts]
    ends = list(accumulate(len(unit) for unit in units))
    whole = b"".join(units)
    cuts: set[int] = set()
    while True:
        spans: list[tuple[int, int, int]] = []  # they follow each other from the first byte to the last
        edges = [0, *sorted(cuts), len(whole)]
        for start, stop in pairwise(edges):
            if stop > start:
                position = start
                piece = whole[start:stop].decode()
                for token, size in book.exact(piece, at_start=at_start and start == 0):
                    spans.append((token, position, position + size))
                    position += size
        straddled = set(ends).difference([0], (stop for _, _, stop in spans))
        if not straddled:
            break
        cuts |= straddled
    # the first unit that ends after the token's start: empty units get none, a bare word mark goes with what follows
    owners = [first + min(bisect_right(ends, start), len(ends) - 1) for _, start, _ in spans]
    return [token for token, _, _ in spans], owners


class _Book:
    """What one tokenizer's tokens write."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer_ref = weakref.ref(tokenizer)  # the book must not keep its tokenizer alive
        kinds = _component_kinds(tokenizer)
        self._byte_level = _byte_alphabet() if "ByteLevel" in kinds else None
        self._byte_fallback = "ByteFallback" in kinds
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self.special = {int(i) for i in tokenizer.all_special_ids} | {
            i for i, t in added.items() if t.special
        }
        self._added: dict[int, str] = {i: t.content for i, t in added.items() if i not in self.special}
        self._pieces: dict[int, bytes] = {}
        self._remembered = lru_cache(REMEMBERED)(self.raw)
        self._unk = tokenizer.unk_token_id
        self._anchor = self._find_anchor()
        self.prefix = self._find_prefix()

    @property
    def _tokenizer(self) -> Any:
        return self._tokenizer_ref()

    def raw(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def natural(self, text: str) -> list[int]:
        """The tokenizer's own tokens of a text on its own; remembered, for a prompt is asked, forced and rolled out."""
        return list(self._remembered(text)) if text else []

    def piece(self, token: int) -> bytes:
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._read(token)
        return known

    def exact(self, text: str, *, at_start: bool) -> list[tuple[int, int]]:
        """Tokens of a text with the bytes each covers; they add up to the text or ModelError says why not."""
        wanted = text.encode()
        ids = self.natural(text)
        sizes = [len(self.piece(i)) for i in ids]
        written = b"".join(self.piece(i) for i in ids)
        unknown = self._unk is not None and self._unk in ids
        if not unknown and written == wanted:
            return list(zip(ids, sizes, strict=True))
        if (
            not unknown and written == b" " + wanted
        ):  # a tokenizer that marks the start of a text like a space
            if at_start:
                return list(zip(ids, [sizes[0] - 1, *sizes[1:]], strict=True))
            inside = self._inside(text)
            if inside is not None:
                return inside
        raise ModelError(
            f"the tokenizer cannot write {text!r}: its own tokens say {written.decode('utf-8', 'replace')!r}"
            + (" with unknown tokens" if unknown else "")
        )

    def _inside(self, text: str) -> list[tuple[int, int]] | None:
        """Tokens of a text as they come after other text: encode behind an anchor and drop the anchor."""
        for anchor in _ANCHORS:
            head, ids = self.natural(anchor), self.natural(anchor + text)
            if (
                ids[: len(head)] == head
                and b"".join(self.piece(i) for i in ids[len(head) :]) == text.encode()
            ):
                return [(i, len(self.piece(i))) for i in ids[len(head) :]]
        return None

    def _read(self, token: int) -> bytes:
        if token in self.special:
            return b""
        if token in self._added:
            return str(self._added[token]).encode()
        name: str | None = self._tokenizer.convert_ids_to_tokens(token)
        if name is None:
            return b""
        if self._byte_level is not None and all(c in self._byte_level for c in name):
            return bytes(self._byte_level[c] for c in name)
        match = _BYTE_TOKEN.fullmatch(name)
        if self._byte_fallback and match:
            return bytes([int(match.group(1), 16)])
        return self._decoded([token])

    def _decoded(self, ids: list[int]) -> bytes:
        """What tokens add after the anchor: a decoder may drop the space of the first token of a text."""
        decode = self._tokenizer.decode
        options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        if self._anchor is None:
            return str(decode(ids, **options)).encode()
        before = str(decode([self._anchor], **options))
        after = str(decode([self._anchor, *ids], **options))
        return (after[len(before) :] if after.startswith(before) else str(decode(ids, **options))).encode()

    def _find_anchor(self) -> int | None:
        for text in _ANCHORS:
            ids = self.natural(text)
            if ids and self._unk not in ids and ids[-1] not in self.special:
                return ids[-1]
        return None

    def _find_prefix(self) -> list[int]:
        text = "a"
        plain = self.natural(text)
        full: list[int] = self._tokenizer.encode(text, add_special_tokens=True)
        for start in range(len(full) - len(plain) + 1):
            if full[start : start + len(plain)] == plain:
                return full[:start]
        return []


_BOOKS: weakref.WeakKeyDictionary[Any, _Book] = weakref.WeakKeyDictionary()


def _book(tokenizer: Any) -> _Book:
    book = _BOOKS.get(tokenizer)
    if book is None:
        book = _BOOKS[tokenizer] = _Book(tokenizer)
    return book


def _component_kinds(tokenizer: Any) -> set[str]:
    """Types of the decoder's parts, as its own JSON names them."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return set()
    decoder = json.loads(backend.to_str()).get("decoder") or {}
    return {part["type"] for part in [decoder, *decoder.get("decoders", [])] if "type" in part}


def _byte_alphabet() -> dict[str, int]:
    """The printable characters that byte-level BPE writes bytes with (the published GPT-2 table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in printable}
    others = [b for b in range(256) if b not in set(printable)]
    return table | {chr(256 + i): b for i, b in enumerate(others)}

"""Between text and tokens: the bytes of each token, and encodings whose tokens do not straddle units.

Text and tokens are aligned by bytes: a byte-level BPE may split a character, and tokenizers disagree on whether
offsets cover a leading space. The bytes of a token are read from the vocabulary once and cached.
"""

from __future__ import annotations

import re
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

from transformers import PreTrainedTokenizerBase

from m2kt._end import END
from m2kt.errors import ModelError

from ._byte_level import byte_alphabet, decoder_types

CACHED_TEXTS = 4096  # a tokenizer
_ANCHORS = ("\n", "a", "0", ".", ";", "A", "|")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Encoded:
    """Tokens with the unit that each belongs to."""

    ids: list[int]
    unit_of_token: list[int]
    """Index of the token's unit; -1 for special tokens in front."""


def token_bytes(tokenizer: PreTrainedTokenizerBase, token: int) -> bytes:
    """The bytes of a token in the middle of a text; none for special tokens."""
    return _vocabulary(tokenizer).bytes_of(token)


def tokens_bytes(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> list[bytes]:
    """:func:`token_bytes` of each."""
    return list(map(_vocabulary(tokenizer).bytes_of, ids))


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """The text of a token, leading space included; a part of a character becomes U+FFFD."""
    return token_bytes(tokenizer, token).decode("utf-8", errors="replace")


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a sequence of tokens, without special tokens and without any clean-up of spaces."""
    return b"".join(tokens_bytes(tokenizer, ids)).decode("utf-8", errors="replace")


def named_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Special and added tokens by the text that stands for each."""
    return _vocabulary(tokenizer).named


def special_names(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The texts that stand for special tokens."""
    vocabulary = _vocabulary(tokenizer)
    return [name for name, token in vocabulary.named.items() if token in vocabulary.special]


def end_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that stands for ``END``: the tokenizer's end-of-text token, unless its model writes another one."""
    return _vocabulary(tokenizer).end


def set_end_token(tokenizer: PreTrainedTokenizerBase, token: int) -> None:
    """Let ``END`` be another token of this tokenizer."""
    _vocabulary(tokenizer).end = token


def special_prefix(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Special tokens that the tokenizer puts before a text by default (a BOS or nothing)."""
    return list(_vocabulary(tokenizer).prefix)


def natural_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokenizer's own encoding of a text, in which special tokens are written by their names."""
    return _vocabulary(tokenizer).natural(text)


def plain_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """A prompt of plain text for generation: default prefix, no suffix such as EOS."""
    return special_prefix(tokenizer) + natural_ids(tokenizer, text)


def token_spans(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str) -> list[tuple[int, int]]:
    """The bytes of a text that each of its tokens stands for, special tokens by their names.

    A word mark that the tokenizer adds by itself, and an unknown token, stand for none.

    Raises:
        ModelError: the tokens are not this text.
    """
    vocabulary, raw, at = _vocabulary(tokenizer), text.encode(), 0
    names = {token: name.encode() for name, token in vocabulary.named.items()}
    spans = []
    for token in ids:
        if token == vocabulary.unk:
            spans.append((at, at))
            continue
        piece = names.get(token) or vocabulary.bytes_of(token)
        first = at if not spans or ids[len(spans) - 1] != vocabulary.unk else max(at, raw.find(piece, at))
        while not raw.startswith(piece, first) and raw[first : first + 1].isspace():
            first += 1
        if not raw.startswith(piece, first):
            first, piece = at, piece.removeprefix(b" ")
        if not raw.startswith(piece, first):
            raise ModelError(f"the tokenizer cannot write {text!r}: its tokens differ from it at byte {at}")
        at = first + len(piece)
        spans.append((first, at))
    return spans


def encode_units(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, prompt_boundary: int | None = None
) -> Encoded:
    """Encode units so that each token belongs to exactly one of them.

    The tokenizer's own encoding is used if no token straddles two units; else the text is split at the straddled
    boundaries. The first ``prompt_boundary`` units are encoded as a prompt is at generation time.

    Args:
        texts: the units' texts; concatenated they are the text. Empty units get no token. The last one may end with
            ``END``, which is the token that :func:`end_token` names.
        prompt_boundary: number of units of the prompt; None if there is no prompt.

    Raises:
        ModelError: the tokenizer cannot encode the text, or has no end token.
    """
    vocabulary = _vocabulary(tokenizer)
    if texts and texts[-1].endswith(END):
        before = encode_units(tokenizer, _without_end(texts), prompt_boundary=prompt_boundary)
        return _with_end(vocabulary, before, len(texts))
    n_prompt = len(texts) if prompt_boundary is None else prompt_boundary
    prompt_ids, prompt_units = _encode_split(vocabulary, texts[:n_prompt], 0, at_start=True)
    ids, units = vocabulary.prefix + prompt_ids, [-1] * len(vocabulary.prefix) + prompt_units
    if any(texts[n_prompt:]):
        all_ids, all_units = _encode_split(vocabulary, texts, 0, at_start=True)
        n = len(prompt_ids)
        if all_ids[:n] == prompt_ids and all_units[:n] == prompt_units:
            answer_ids, answer_units = all_ids[n:], all_units[n:]
        else:
            at_start = not any(texts[:n_prompt])
            answer_ids, answer_units = _encode_split(vocabulary, texts[n_prompt:], n_prompt, at_start=at_start)
        ids += answer_ids
        units += answer_units
    return Encoded(ids, units)


def encode_behind(tokenizer: PreTrainedTokenizerBase, before: str, texts: Sequence[str]) -> Encoded:
    """Units behind other text, which is not encoded again: as the tokenizer encodes all of it, if no token straddles.

    The last unit may end with ``END``. Raises ModelError as :func:`encode_units` does.
    """
    vocabulary, plain = _vocabulary(tokenizer), _without_end(texts)
    if not any(texts):
        return Encoded([], [])
    head, whole = vocabulary.natural(before), vocabulary.natural(before + "".join(plain))
    pieces = [vocabulary.bytes_of(token) for token in whole[len(head) :]]
    ends, sizes = (list(accumulate(len(part) for part in parts)) for parts in ([t.encode() for t in plain], pieces))
    if whole[: len(head)] == head and b"".join(pieces) == "".join(plain).encode() and set(ends) <= {0, *sizes}:
        encoded = Encoded(whole[len(head) :], [bisect_left(ends, size) for size in sizes])
    else:
        encoded = Encoded(*_encode_split(vocabulary, plain, 0, at_start=False))
    return _with_end(vocabulary, encoded, len(texts)) if plain != list(texts) else encoded


def _without_end(texts: Sequence[str]) -> list[str]:
    return [*texts[:-1], texts[-1].removesuffix(END)] if texts else []


def _with_end(vocabulary: _Vocabulary, encoded: Encoded, n: int) -> Encoded:
    if vocabulary.end is None:
        raise ModelError("the tokenizer has no end token, which the answers end by; set its eos_token")
    return Encoded([*encoded.ids, vocabulary.end], [*encoded.unit_of_token, n - 1])


def leading_space(text: str, positions: Sequence[int], bytes_of_token: Sequence[bytes]) -> int:
    """Number of a unit's tokens that are a bare leading space (0 or 1); the token after it decides the symbol.

    Args:
        text: the unit's text.
        positions: the positions of its tokens.
        bytes_of_token: the bytes of the token at every position.
    """
    return int(len(positions) > 1 and text.startswith(" ") and bytes_of_token[positions[0]] == b" ")


def writing_problem(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    leads: Sequence[str] = ("", " "),
    after: str | None = None,
) -> str | None:
    """Why ``text`` does not survive encoding and decoding, or None if it does.

    Args:
        leads: leading spaces to try, at the start of a text and after ``after``.
        after: another symbol that may precede it; the text itself by default.
    """
    vocabulary = _vocabulary(tokenizer)
    for lead in leads:
        for candidate in (lead + text, (text if after is None else after) + lead + text):
            try:
                _encode_split(vocabulary, [candidate], 0, at_start=True)
            except ModelError:
                ids = vocabulary.encode(candidate)
                return f"{candidate!r} comes back as {text_of(tokenizer, ids)!r}"
    return None


def can_write(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    leads: Sequence[str] = ("", " "),
    after: str | None = None,
) -> bool:
    """Whether ``text`` survives encoding and decoding at the start, with each lead, and after another symbol."""
    return writing_problem(tokenizer, text, leads=leads, after=after) is None


def _encode_split(
    vocabulary: _Vocabulary, texts: Sequence[str], first: int, *, at_start: bool
) -> tuple[list[int], list[int]]:
    """Tokens and their units (counted from ``first``); the text is split at straddled boundaries."""
    encoded = [t.encode() for t in texts]
    ends = list(accumulate(map(len, encoded)))
    joined = b"".join(encoded)
    splits: set[int] = set()
    while True:
        spans: list[tuple[int, int, int]] = []  # token, first byte, last byte + 1; contiguous
        for start, stop in pairwise([0, *sorted(splits), len(joined)]):
            if stop > start:
                position, part = start, joined[start:stop].decode()
                for token, size in vocabulary.encode_exactly(part, at_start=at_start and start == 0):
                    spans.append((token, position, position + size))
                    position += size
        straddled = set(ends).difference([0], (stop for _, _, stop in spans))
        if not straddled:
            break
        splits |= straddled
    # a token belongs to the first unit that ends after the token's first byte, a bare word mark to the unit after it
    units = [first + min(bisect_right(ends, start), len(ends) - 1) for _, start, _ in spans]
    return [token for token, _, _ in spans], units


class _Vocabulary:
    """The bytes of one tokenizer's tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer_ref = weakref.ref(tokenizer)  # the cache must not keep its tokenizer alive
        types = decoder_types(tokenizer)
        self._byte_level = byte_alphabet() if "ByteLevel" in types else None
        self._byte_fallback = "ByteFallback" in types
        added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
        self.special = {int(i) for i in tokenizer.all_special_ids} | {i for i, t in added.items() if t.special}
        self._added: dict[int, str] = {i: t.content for i, t in added.items() if i not in self.special}
        self.named: dict[str, int] = {t.content: i for i, t in added.items()}
        named = tokenizer.convert_ids_to_tokens(sorted(self.special))
        self.named |= dict(zip(named, sorted(self.special), strict=True))
        self.end: int | None = tokenizer.eos_token_id if tokenizer.eos_token_id in self.named.values() else None
        self._bytes: dict[int, bytes] = {}
        self._cached = lru_cache(CACHED_TEXTS)(self.encode)
        self.unk: int | None = tokenizer.unk_token_id
        self._anchor = self._find_anchor()
        self.prefix = self._find_prefix()

    @property
    def _tokenizer(self) -> Any:  # transformers types only a part of it
        return self._tokenizer_ref()

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def natural(self, text: str) -> list[int]:
        """The tokenizer's own encoding of a text; cached, because the same prompts are encoded several times."""
        return list(self._cached(text)) if text else []

    def bytes_of(self, token: int) -> bytes:
        cached = self._bytes.get(token)
        if cached is None:
            cached = self._bytes[token] = self._read(token)
        return cached

    def encode_exactly(self, text: str, *, at_start: bool) -> list[tuple[int, int]]:
        """Tokens of a text, each with its number of bytes. Raises ModelError if they are not the text's bytes."""
        expected = text.encode()
        ids = self.natural(text)
        sizes = [len(self.bytes_of(i)) for i in ids]
        decoded = b"".join(map(self.bytes_of, ids))
        unknown = self.unk is not None and self.unk in ids
        if not unknown and decoded == expected:
            return list(zip(ids, sizes, strict=True))
        if not unknown and decoded == b" " + expected:  # the tokenizer marks the start of a text like a space
            if at_start:
                return list(zip(ids, [sizes[0] - 1, *sizes[1:]], strict=True))
            inside = self._inside(text)
            if inside is not None:
                return inside
        raise ModelError(
            f"the tokenizer cannot write {text!r}: its tokens decode to {decoded.decode('utf-8', 'replace')!r}"
            + (" with unknown tokens" if unknown else "")
            + self._advice(ids)
        )

    def _advice(self, ids: Sequence[int]) -> str:
        """What to do about special tokens in a text."""
        name = next((name for name, token in self.named.items() if token in ids and token in self.special), None)
        if name is None or self.named[name] == self.unk:
            return ""
        return (
            f"; {name!r} is a special token and no text: write chat: instead of a template's text, and stop: for an end"
        )

    def _inside(self, text: str) -> list[tuple[int, int]] | None:
        """Tokens of a text after other text: encode it after an anchor and drop the anchor's tokens."""
        for anchor in _ANCHORS:
            head, ids = self.natural(anchor), self.natural(anchor + text)
            tail = ids[len(head) :]
            if ids[: len(head)] == head and b"".join(map(self.bytes_of, tail)) == text.encode():
                return [(i, len(self.bytes_of(i))) for i in tail]
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
        """The text of tokens after the anchor: a decoder may drop the leading space of a text's first token."""
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
            if ids and self.unk not in ids and ids[-1] not in self.special:
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


_VOCABULARIES: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, _Vocabulary] = weakref.WeakKeyDictionary()


def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> _Vocabulary:
    vocabulary = _VOCABULARIES.get(tokenizer)
    if vocabulary is None:
        vocabulary = _VOCABULARIES[tokenizer] = _Vocabulary(tokenizer)
    return vocabulary

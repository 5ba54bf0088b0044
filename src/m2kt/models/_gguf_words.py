"""A tokenizer as a GGUF file holds it: tokens, their kinds, and merges or scores."""

from __future__ import annotations

import json
import random
from typing import Any

from gguf import GGUFWriter, TokenType

from m2kt.errors import ModelError

_PRE = {"smollm": ("Digits", "ByteLevel"), "gpt-2": ("ByteLevel",)}
"""llama.cpp's names for ways to cut text first, by the kinds of pre-tokenizer that do the same."""
_TEXTS, _PIECES = 200, 12


def write_words(writer: GGUFWriter, tokenizer: Any, rows: int, family: str) -> list[str]:
    """Writes the tokenizer; returns what llama.cpp may do differently. Raises ModelError for a kind GGUF lacks.

    Args:
        rows: of the model's embeddings; ids above the tokenizer's own get names that no text has.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    words = backend["model"]
    if words["type"] not in ("BPE", "WordLevel"):
        raise ModelError(
            f"a tokenizer of the kind {words['type']} is not written as GGUF here: expected BPE or single characters; "
            "write an ordinary checkpoint (--format hf)"
        )
    byte_level = words["type"] == "WordLevel" or not words.get("byte_fallback")
    texts = {index: text for text, index in tokenizer.get_vocab().items()}
    special = {a["id"]: a["special"] for a in backend["added_tokens"]}
    tokens, kinds = [], []
    for index in range(rows):
        text = texts.get(index, f"[PAD{index}]")
        kind = _kind(text, index in texts, special.get(index), index == tokenizer.unk_token_id)
        # single characters of the zoo are stored as bytes are: with a letter for each
        spelled = words["type"] == "WordLevel" and kind is TokenType.NORMAL
        tokens.append(_as_bytes(text) if spelled else text)
        kinds.append(kind)
    writer.add_tokenizer_model("gpt2" if byte_level else "llama")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = [m if isinstance(m, str) else " ".join(m) for m in words.get("merges", ())]
    notes = _order(writer, merges, rows, byte_level, backend, family)
    for name in ("bos", "eos", "unk", "pad"):
        index = getattr(tokenizer, f"{name}_token_id")
        if index is not None:
            getattr(writer, f"add_{name}_token_id")(index)
    if isinstance(getattr(tokenizer, "chat_template", None), str):
        writer.add_chat_template(tokenizer.chat_template)
    writer.add_add_bos_token(tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id])
    return notes


def check_words(ours: Any, read: Any) -> None:
    """Raises ModelError unless a tokenizer read back makes the same tokens of texts that ours can write."""
    generator = random.Random(0)
    known = sorted(set(ours.get_vocab().values()) - set(ours.all_special_ids))
    for _ in range(_TEXTS):
        text = ours.decode(generator.choices(known, k=_PIECES))
        want = ours(text, add_special_tokens=False)["input_ids"]
        came = read(text, add_special_tokens=False)["input_ids"]
        if ours.unk_token_id not in want and want != came:
            raise ModelError(
                f"the tokenizer cannot be written as GGUF: {text!r} is {want} here and would be {came} there; "
                "write an ordinary checkpoint (--format hf)"
            )


def _order(
    writer: GGUFWriter, merges: list[str], rows: int, byte_level: bool, backend: dict[str, Any], family: str
) -> list[str]:
    """What is joined first."""
    if not byte_level:  # SentencePiece: the earlier piece is the better one
        writer.add_tokenizer_pre("default")
        writer.add_token_scores([-float(i) for i in range(rows)])
        writer.add_add_space_prefix(_adds_space(backend))
        return []
    cut = backend.get("pre_tokenizer") or {}
    steps = tuple(p["type"] for p in cut.get("pretokenizers", [cut] if cut else []))
    pre = next((name for name, kinds in _PRE.items() if kinds == steps), None)
    if pre is None and family.startswith("qwen"):
        pre = "qwen2"
    writer.add_tokenizer_pre(pre or "default")
    if not merges:
        writer.add_token_scores([0.0] * rows)
        return [
            "the vocabulary has no merges, for which llama.cpp asks: transformers reads the file, llama.cpp does not"
        ]
    writer.add_token_merges(merges)
    if pre is None:
        return [
            f"llama.cpp has no name for how this tokenizer cuts text ({', '.join(steps)}): it may cut it otherwise"
        ]
    return []


def _adds_space(backend: dict[str, Any]) -> bool:
    return "Prepend" in json.dumps(backend.get("normalizer")) or '"always"' in json.dumps(
        backend.get("pre_tokenizer")
    )


def _kind(text: str, known: bool, special: bool | None, unknown: bool) -> TokenType:
    if not known:
        return TokenType.UNUSED
    if unknown:
        return TokenType.UNKNOWN
    if special is not None:
        return TokenType.CONTROL if special else TokenType.USER_DEFINED
    return TokenType.BYTE if len(text) == 6 and text.startswith("<0x") else TokenType.NORMAL


def _as_bytes(text: str) -> str:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = bytes_to_unicode()
    return "".join(letters[byte] for byte in text.encode())

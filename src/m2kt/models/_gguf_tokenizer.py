"""Write a tokenizer into a GGUF file: tokens, their types, and merges or scores."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from m2kt.errors import ModelError

from ._gguf import gguf_library

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PreTrainedTokenizerBase

Backend = dict[str, Any]  # a fast tokenizer's own JSON

_PRE = {"smollm": ("Digits", "ByteLevel"), "gpt-2": ("ByteLevel",)}
"""Pre-tokenizers that llama.cpp has a name for, with the types of ours that split text the same way."""
_N_TEXTS, _TOKENS_A_TEXT = 200, 12  # of the round trip that checks a written tokenizer


def write_tokenizer(writer: GGUFWriter, tokenizer: PreTrainedTokenizerBase, n_rows: int, family: str) -> list[str]:
    """Write the tokenizer and return warnings about llama.cpp. Raises ModelError for a type that GGUF lacks.

    Args:
        writer: a ``gguf.GGUFWriter``.
        n_rows: rows of the model's embeddings; ids above the tokenizer's get placeholder names.
    """
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"a {type(tokenizer).__name__} cannot be written as GGUF here: expected a fast tokenizer; "
            "write an ordinary checkpoint (--format hf)"
        )
    token_type = gguf_library().TokenType
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = backend["model"]
    if vocabulary["type"] not in ("BPE", "WordLevel"):
        raise ModelError(
            f"a tokenizer of the type {vocabulary['type']} cannot be written as GGUF here: expected BPE or single "
            "characters; write an ordinary checkpoint (--format hf)"
        )
    byte_level = vocabulary["type"] == "WordLevel" or not vocabulary.get("byte_fallback")
    texts = {index: text for text, index in tokenizer.get_vocab().items()}
    special = {a["id"]: a["special"] for a in backend["added_tokens"]}
    tokens, types = [], []
    for index in range(n_rows):
        text = texts.get(index, f"[PAD{index}]")
        name = _token_type(text, index in texts, special.get(index), index == tokenizer.unk_token_id)
        # character tokenizers of the zoo are stored as byte-level ones: a printable letter for each byte
        spelled = vocabulary["type"] == "WordLevel" and name == "NORMAL"
        tokens.append(_byte_letters(text) if spelled else text)
        types.append(token_type[name])
    writer.add_tokenizer_model("gpt2" if byte_level else "llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = [m if isinstance(m, str) else " ".join(m) for m in vocabulary.get("merges", ())]
    notes = _write_merges(writer, merges, n_rows, byte_level, backend, family)
    for name in ("bos", "eos", "unk", "pad"):
        index = getattr(tokenizer, f"{name}_token_id")
        if index is not None:
            getattr(writer, f"add_{name}_token_id")(index)
    if isinstance(getattr(tokenizer, "chat_template", None), str):
        writer.add_chat_template(tokenizer.chat_template)
    writer.add_add_bos_token(tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id])
    return notes


def check_tokenizer(written: PreTrainedTokenizerBase, read: PreTrainedTokenizerBase) -> None:
    """Raise ModelError unless the tokenizer read back encodes texts as the one that was written."""
    generator = random.Random(0)
    usable = sorted(set(written.get_vocab().values()) - set(written.all_special_ids))
    for _ in range(_N_TEXTS):
        text = written.decode(generator.choices(usable, k=_TOKENS_A_TEXT))
        expected = written(text, add_special_tokens=False)["input_ids"]
        got = read(text, add_special_tokens=False)["input_ids"]
        if written.unk_token_id not in expected and expected != got:
            raise ModelError(
                f"the tokenizer cannot be written as GGUF: expected {text!r} to be {expected}, "
                f"got {got} from the file; write an ordinary checkpoint (--format hf)"
            )


def _write_merges(
    writer: GGUFWriter, merges: list[str], n_rows: int, byte_level: bool, backend: Backend, family: str
) -> list[str]:
    """Write merges or scores, and the pre-tokenizer's name; return warnings."""
    if not byte_level:  # SentencePiece: the lower id has the higher score
        writer.add_tokenizer_pre("default")
        writer.add_token_scores([-float(i) for i in range(n_rows)])
        writer.add_add_space_prefix(_adds_space(backend))
        return []
    splitter = backend.get("pre_tokenizer") or {}
    steps = tuple(p["type"] for p in splitter.get("pretokenizers", [splitter] if splitter else []))
    pre = next((name for name, types in _PRE.items() if types == steps), None)
    if pre is None and family.startswith("qwen"):
        pre = "qwen2"
    writer.add_tokenizer_pre(pre or "default")
    if not merges:
        writer.add_token_scores([0.0] * n_rows)
        return [
            "the vocabulary has no merges, which llama.cpp requires: transformers reads the file, llama.cpp does not"
        ]
    writer.add_token_merges(merges)
    if pre is None:
        return [f"llama.cpp has no name for this pre-tokenizer ({', '.join(steps)}): it may split text differently"]
    return []


def _adds_space(backend: Backend) -> bool:
    return "Prepend" in json.dumps(backend.get("normalizer")) or '"always"' in json.dumps(backend.get("pre_tokenizer"))


def _token_type(text: str, in_vocabulary: bool, special: bool | None, unknown: bool) -> str:
    """Name of the token's ``gguf.TokenType``."""
    if not in_vocabulary:
        return "UNUSED"
    if unknown:
        return "UNKNOWN"
    if special is not None:
        return "CONTROL" if special else "USER_DEFINED"
    return "BYTE" if len(text) == 6 and text.startswith("<0x") else "NORMAL"


def _byte_letters(text: str) -> str:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = bytes_to_unicode()
    return "".join(letters[byte] for byte in text.encode())

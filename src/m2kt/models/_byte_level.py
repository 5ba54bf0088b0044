"""What a tokenizer's file says of the bytes of its tokens."""

from __future__ import annotations

import json

from transformers import PreTrainedTokenizerBase


def decoder_types(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Types of the decoder's components in the tokenizer's JSON."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return set()
    decoder = json.loads(backend.to_str()).get("decoder") or {}
    return {part["type"] for part in [decoder, *decoder.get("decoders", [])] if "type" in part}


def byte_alphabet() -> dict[str, int]:
    """Byte of each printable character of byte-level BPE (the published GPT-2 table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in printable}
    unprintable = [b for b in range(256) if b not in set(printable)]
    return table | {chr(256 + i): b for i, b in enumerate(unprintable)}

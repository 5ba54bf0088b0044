"""A model's digest: one sha256 over its weights, configuration and tokenizer."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

MARK_FILE = "m2kt-model.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)


def weight_files(path: Path) -> list[Path]:
    """Weight files of a model directory; older formats only without safetensors, as transformers does."""
    return sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))


def tokenizer_files(path: Path) -> list[Path]:
    """Files that define the tokenizer."""
    return sorted({p for n in _TOKENIZER_FILES if (p := path / n).is_file()} | set(path.glob("*.model")))


def digest_of_model(path: str | Path) -> str:
    """``sha256:...`` over the sorted digests of weights, configuration and tokenizer files.

    READMEs, recipes and our mark file are left out: they do not change the model.
    """
    root = Path(path)
    config = [p for p in (root / "config.json", root / "generation_config.json") if p.is_file()]
    return _digest_of([*weight_files(root), *config, *tokenizer_files(root)])


def digest_of_tokenizer(path: str | Path) -> str:
    """``sha256:...`` over the tokenizer's files alone."""
    return _digest_of(tokenizer_files(Path(path)))


def sha256_of_file(path: Path) -> str:
    """Hex sha256 of one file; cached while size and modification time stay the same."""
    stat = path.stat()
    return _sha256(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: str, _size: int, _mtime: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(files: list[Path]) -> str:
    lines = "".join(f"{p.name} {sha256_of_file(p)}\n" for p in sorted(files, key=lambda p: p.name))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()

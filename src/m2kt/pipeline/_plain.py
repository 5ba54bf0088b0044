"""The one place that writes plain checkpoints: whole or absent, as a Hugging Face directory or as GGUF."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from m2kt.errors import CompatibilityError, StorageError
from m2kt.pipeline._adapters import CARD, writing

Form = Literal["hf", "gguf"]
GGUF_FILE = "model.gguf"


def check_empty(out: Path) -> None:
    """Raises StorageError where something stands at ``out``."""
    if out.exists():
        raise StorageError(f"{out} exists: expected an empty place; nothing is overwritten")


def check_plain(model: Any, name: str) -> None:
    """Raises CompatibilityError for a model whose class is ours: no checkpoint of it opens without m2kt."""
    if type(model).__module__.startswith("m2kt."):
        raise CompatibilityError(
            f"{name} is a {type(model).__name__}, which is m2kt's own class: expected one that transformers knows, "
            "for a checkpoint that opens without m2kt"
        )


def write_plain(
    model: Any,
    tokenizer: Any,
    out: Path,
    card: Callable[[Path], str],
    *,
    form: Form = "hf",
    finish: Callable[[Path], None] | None = None,
) -> list[str]:
    """Writes aside, then renames.

    Args:
        model: a causal LM without any adapter on it.
        card: writes README.md, given the directory that it will lie in.
        form: ``hf`` is what ``from_pretrained`` opens; ``gguf`` one file, ``model.gguf``, read back before it counts.
        finish: puts further files into the directory, which is otherwise complete.

    Returns what a user of the form should know.

    Raises:
        StorageError: the disk refused.
        ModelError: the model cannot be said in GGUF.
    """
    notes: list[str] = []
    with writing("the checkpoint", out):
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            if form == "gguf":
                from m2kt.models import write_gguf

                notes = write_gguf(model, tokenizer, aside / GGUF_FILE, name=out.name)
            else:
                model.save_pretrained(aside)
                tokenizer.save_pretrained(aside)
            (aside / CARD).write_text(card(aside), encoding="utf-8")
            if finish is not None:
                finish(aside)
            aside.chmod(0o755)
            aside.rename(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return notes

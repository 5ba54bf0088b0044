"""Plain checkpoints, complete or absent: a Hugging Face directory or a GGUF file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from m2kt.errors import CompatibilityError, StorageError
from m2kt.pipeline._adapters import CARD, check_writable, use_umask, writing

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Form = Literal["hf", "gguf"]
GGUF_FILE = "model.gguf"


def check_empty(out: Path) -> None:
    """Raises StorageError where ``out`` exists or cannot be written."""
    if out.exists():
        raise StorageError(f"expected a path that does not exist, got {out}; nothing was overwritten: choose another")
    check_writable(out)


def check_plain(model: PreTrainedModel | PeftModel, name: str) -> None:
    """Raises CompatibilityError for a class of m2kt, whose checkpoints do not open without m2kt."""
    if type(model).__module__.partition(".")[0].startswith("m2kt"):
        raise CompatibilityError(
            f"expected a model class of transformers, got {name}, a {type(model).__name__}, whose checkpoint would not "
            "open without m2kt; choose another base"
        )


def write_plain(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    card: Callable[[Path], str],
    *,
    form: Form = "hf",
    finish: Callable[[Path], None] | None = None,
) -> list[str]:
    """Writes aside, then renames; returns notes on limits of the form.

    Args:
        model: a causal LM without any adapter.
        card: the text of README.md, given the directory that will hold it.
        form: ``hf`` is what ``from_pretrained`` opens; ``gguf`` is one file, ``model.gguf``, which is read back.
        finish: writes further files into the directory, which is otherwise complete.

    Raises:
        StorageError: the disk refused.
        ModelError: the model is not supported as GGUF.
    """
    notes: list[str] = []
    with writing("the checkpoint", out):
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            if form == "gguf":
                from m2kt.models import write_gguf

                notes = write_gguf(cast("PreTrainedModel", model), tokenizer, aside / GGUF_FILE, name=out.name)
            else:
                model.save_pretrained(str(aside))
                tokenizer.save_pretrained(str(aside))
            (aside / CARD).write_text(card(aside), encoding="utf-8")
            if finish is not None:
                finish(aside)
            use_umask(aside)
            aside.rename(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return notes

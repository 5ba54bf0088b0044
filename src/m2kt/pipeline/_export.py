"""Export: what of an adapter can be merged becomes an ordinary checkpoint; what cannot is named."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2kt.errors import CompatibilityError, ModelError, SpecError
from m2kt.pipeline._adapters import RECEIPT, adapter_digest
from m2kt.pipeline._cards import exported_card
from m2kt.pipeline._inputs import with_adapter
from m2kt.pipeline._plain import GGUF_FILE, Form, check_empty, check_plain, write_plain
from m2kt.pipeline._results import ExportResult, Progress
from m2kt.pipeline._statements import read_receipt

if TYPE_CHECKING:
    from m2kt.models import LoadedModel

_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def export(
    source: str | Path,
    out: str | Path,
    *,
    form: Form = "hf",
    student: str | None = None,
    without_reader: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    progress: Progress | None = None,
) -> ExportResult:
    """Merges an adapter into its base and writes the result; of a plain model, writes the GGUF.

    Args:
        source: an adapter directory, or a model (one that ``consolidate`` wrote, for instance).
        out: directory; nothing may stand there.
        form: ``hf`` is what ``from_pretrained`` opens; ``gguf`` one file, ``model.gguf``.
        student: the adapter's base, where it is not where the adapter says.
        without_reader: merge the steering of an adapter that has a reader too, and leave the reader out.
        dtype: ``auto`` is what the base's file is kept in.

    Raises:
        CompatibilityError: there is a reader, nothing can be merged, the base is not the adapter's, or of m2kt's own
            class.
        ModelError: an architecture that GGUF does not know here, or a plain model that is to be made plain.
        StorageError: something stands at ``out``, or the disk refused.
    """
    started = time.monotonic()
    say: Progress = progress or (lambda stage, done, total: None)
    out = Path(out)
    check_empty(out)
    adapter = Path(source) if (Path(source) / "adapter_config.json").is_file() else None
    if adapter is None and (student is not None or without_reader):
        raise SpecError(f"{source} is no adapter: expected one beside --student and --without-reader")
    if adapter is None and form == "hf":
        raise ModelError(
            f"{source} is no adapter but a model, an ordinary checkpoint already: expected --format gguf"
        )
    say("loading", 0, 1)
    base = str(source) if adapter is None else student or _base_of(adapter)
    loaded = _load(base, device, dtype)
    check_plain(loaded.model, base)
    digest = loaded.digest if adapter is None else adapter_digest(adapter)
    folder = adapter or loaded.path
    said = read_receipt(folder, digest) if (folder / RECEIPT).is_file() else None
    merged: list[str] = []
    left_out: list[str] = []
    if adapter is not None:
        if said is not None and said[1].base_model.digest != loaded.digest:
            raise CompatibilityError(
                f"{base} has the digest {loaded.digest}, the adapter {adapter} was made on "
                f"{said[1].base_model.digest}: name its own base by --student"
            )
        say("merging", 0, 1)
        loaded, merged, left_out = _merge(loaded, adapter, without_reader)
    say(f"writing {form}", 0, 1)
    notes = write_plain(
        loaded.model,
        loaded.tokenizer,
        out,
        lambda aside: exported_card(
            said, f"`{source}`, `{digest}`", loaded, aside, changed=bool(merged or said), left_out=left_out
        ),
        form=form,
    )
    return ExportResult(
        source=str(source),
        source_digest=str(digest),
        base=base,
        format=form,
        merged=merged,
        left_out=left_out,
        notes=notes,
        written=str(out / GGUF_FILE if form == "gguf" else out),
        written_bytes=sum(p.stat().st_size for p in out.rglob("*") if p.is_file()),
        seconds=round(time.monotonic() - started, 2),
    )


def _base_of(adapter: Path) -> str:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    named = config.get("base_model_name_or_path")
    if not named:
        raise CompatibilityError(f"{adapter} does not say which base it belongs to: name it by --student")
    return str(named)


def _load(name: str, device: str, dtype: str) -> LoadedModel:
    """In the type that the files are kept in: an export must not round weights that nobody touched."""
    from m2kt.models import load_causal_lm, resolve

    if dtype == "auto":
        config = json.loads((resolve(name) / "config.json").read_text(encoding="utf-8"))
        dtype = _NAMES.get(config.get("dtype") or config.get("torch_dtype") or "", "auto")
    return load_causal_lm(name, device=device, dtype=dtype)  # type: ignore[arg-type]


def _merge(
    loaded: LoadedModel, adapter: Path, without_reader: bool
) -> tuple[LoadedModel, list[str], list[str]]:
    """The base with what can be merged in it; names of the matrices, and of the blocks behind which readers were."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    from m2kt.student import CALModel

    model: Any = with_adapter(loaded, adapter).model
    tuner = model.base_model
    readers = tuner.readers() if isinstance(tuner, CALModel) else []
    steering = sum(isinstance(m, BaseTunerLayer) for m in tuner.modules()) - len(readers)
    if readers and not without_reader:
        raise CompatibilityError(
            f"the reader of {adapter} behind {readers[0]} cannot be merged, for it depends on the text; run "
            f"`m2kt consolidate` for a checkpoint that imitates it, or --without-reader for its {steering} matrices of "
            "steering alone"
        )
    if readers:
        tuner.drop_readers()
    merged = [name for name, module in tuner.named_modules() if isinstance(module, BaseTunerLayer)]
    if not merged:
        raise CompatibilityError(f"nothing of {adapter} can be merged: it has no low-rank steering")
    try:
        plain = model.merge_and_unload()
    except (NotImplementedError, AttributeError) as error:
        kind = model.peft_config[model.active_adapter].peft_type
        raise CompatibilityError(
            f"a {kind} adapter cannot be merged into weights ({error}); serve it by peft"
        ) from error
    return replace(loaded, model=plain), [n.removeprefix("model.") for n in merged], readers

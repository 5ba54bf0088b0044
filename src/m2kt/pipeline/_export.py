"""Export: an adapter's low-rank steering merged into its base, as an ordinary checkpoint."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2kt.errors import CompatibilityError, ModelError, SpecError
from m2kt.packet import Statement
from m2kt.pipeline._adapters import CONFIG, RECEIPT, adapter_digest
from m2kt.pipeline._cards import exported_card
from m2kt.pipeline._inputs import with_adapter
from m2kt.pipeline._plain import GGUF_FILE, Form, check_empty, check_plain, write_plain
from m2kt.pipeline._report import Progress, no_progress
from m2kt.pipeline._results import ExportResult
from m2kt.pipeline._statements import Receipt, read_receipt

if TYPE_CHECKING:
    from m2kt.models import Dtype, LoadedModel

_NAMES: dict[str, Dtype] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def export(
    source: str | Path,
    out: str | Path,
    *,
    form: Form = "hf",
    student: str | None = None,
    without_reader: bool = False,
    device: str = "auto",
    dtype: Dtype = "auto",
    progress: Progress | None = None,
) -> ExportResult:
    """Merges an adapter into its base and writes the checkpoint; of a plain model, writes the GGUF file.

    Args:
        source: an adapter directory, or a model, such as one that ``consolidate`` wrote.
        out: directory of the checkpoint; it must not exist.
        form: ``hf`` is what ``from_pretrained`` opens; ``gguf`` is one file, ``model.gguf``.
        student: the adapter's base, if it is not at the path that the adapter names.
        without_reader: merge the steering of an adapter that has a reader, and leave the reader out.
        dtype: ``auto`` is the data type of the base's file.

    Raises:
        CompatibilityError: there is a reader, nothing can be merged, the base is not the adapter's, or is of a class of
            m2kt.
        ModelError: the architecture is not supported as GGUF, or ``source`` is a model and ``form`` is ``hf``.
        StorageError: ``out`` exists, or the disk refused.
    """
    started, say, out = time.monotonic(), progress or no_progress, Path(out)
    check_empty(out)
    adapter = _adapter(source, form, needed=student is not None or without_reader)
    say("loading", 0, 1)
    base = str(source) if adapter is None else student or _base_of(adapter)
    loaded = _load(base, device, dtype)
    check_plain(loaded.model, base)
    digest = loaded.digest if adapter is None else adapter_digest(adapter)
    receipt = _receipt(adapter, loaded, digest)
    merged, left_out = list[str](), list[str]()
    if adapter is not None:
        say("merging", 0, 1)
        loaded, merged, left_out = _merge(loaded, adapter, without_reader)
    say(f"writing {form}", 0, 1)
    changed = bool(merged or receipt)

    def card(aside: Path) -> str:
        origin = f"`{source}`, `{digest}`"
        return exported_card(receipt, origin, loaded, aside, changed=changed, left_out=left_out)

    notes = write_plain(loaded.model, loaded.tokenizer, out, card, form=form)
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


def _adapter(source: str | Path, form: Form, needed: bool) -> Path | None:
    """The adapter's directory; None for a model. Raises where a model cannot be exported like this."""
    if (Path(source) / CONFIG).is_file():
        return Path(source)
    if needed:
        raise SpecError(f"expected an adapter for --student and --without-reader, got {source}; leave them out")
    if form == "hf":
        raise ModelError(
            f"expected an adapter, got the model {source}, an ordinary checkpoint already; use --format gguf"
        )
    return None


def _receipt(adapter: Path | None, loaded: LoadedModel, digest: str | None) -> tuple[Statement, Receipt] | None:
    """The receipt of the adapter or model; None without one. Raises CompatibilityError for another base."""
    folder = adapter or loaded.path
    if not (folder / RECEIPT).is_file():
        return None
    statement, receipt = read_receipt(folder, digest)
    if adapter is not None and receipt.base_model.digest != loaded.digest:
        raise CompatibilityError(
            f"expected a base with the digest {receipt.base_model.digest} for {adapter}, got {loaded.name} with "
            f"{loaded.digest}; name its base by --student"
        )
    return statement, receipt


def _base_of(adapter: Path) -> str:
    config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    named = config.get("base_model_name_or_path")
    if not named:
        raise CompatibilityError(f"expected a base model in {adapter}/adapter_config.json, got none; use --student")
    return str(named)


def _load(name: str, device: str, dtype: Dtype) -> LoadedModel:
    """Loads in the data type of the files: an export must not round weights that it does not change."""
    from m2kt.models import load_causal_lm, resolve

    if dtype == "auto":
        config = json.loads((resolve(name) / "config.json").read_text(encoding="utf-8"))
        dtype = _NAMES.get(config.get("dtype") or config.get("torch_dtype") or "", "auto")
    return load_causal_lm(name, device=device, dtype=dtype)


def _merge(loaded: LoadedModel, adapter: Path, without_reader: bool) -> tuple[LoadedModel, list[str], list[str]]:
    """The base with the steering merged; names of the merged matrices, and of the blocks whose reader was left out."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    from m2kt.student import CALModel

    model: Any = with_adapter(loaded, adapter).model  # PeftModel or a wrapper of it
    tuner = model.base_model
    readers = tuner.readers() if isinstance(tuner, CALModel) else []
    steering = sum(isinstance(m, BaseTunerLayer) for m in tuner.modules()) - len(readers)
    if readers and not without_reader:
        raise CompatibilityError(
            f"the reader of {adapter} after {readers[0]} depends on the text and cannot be merged; run `m2kt "
            f"consolidate` for a checkpoint that imitates it, or --without-reader to merge its {steering} steering "
            "matrices alone"
        )
    if readers:
        tuner.drop_readers()
    merged = [name for name, module in tuner.named_modules() if isinstance(module, BaseTunerLayer)]
    if not merged:
        raise CompatibilityError(
            f"expected low-rank steering in {adapter}, got none to merge; run `m2kt consolidate` instead"
        )
    try:
        plain = model.merge_and_unload()
    except (NotImplementedError, AttributeError) as error:
        kind = model.peft_config[model.active_adapter].peft_type
        raise CompatibilityError(
            f"expected an adapter that can be merged, got {kind} ({error}); serve it by peft"
        ) from error
    return replace(loaded, model=plain), [n.removeprefix("model.") for n in merged], readers

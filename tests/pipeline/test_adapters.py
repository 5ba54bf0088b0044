"""The transaction on disk: an adapter is written wholly or not at all."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from m2kt.errors import StorageError
from m2kt.models import load_causal_lm
from m2kt.pipeline._adapters import VERDICT, adapter_digest, commit_adapter, read_adapter


@pytest.fixture(scope="module")
def model() -> Any:
    return get_peft_model(
        load_causal_lm("zoo:pico-gpt2").model, LoraConfig(target_modules=["c_attn"], r=8, fan_in_fan_out=True)
    )


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """The kernel refuses to let any file grow beyond ``limit`` bytes, as a full disk would."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_commit_and_digest(model: Any, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "adapter"
    assert read_adapter(out) is None
    commit_adapter(model, out, {"verdict": "accepted"})
    digest = adapter_digest(out)
    assert digest is not None and (out / VERDICT).is_file()
    commit_adapter(model, out, {"verdict": "accepted", "again": True})
    assert adapter_digest(out) == digest, "the verdict is a record, not a part of the adapter's state"
    weights = out / "adapter_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    assert adapter_digest(out) != digest


def test_full_disk_leaves_what_was_there(model: Any, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    commit_adapter(model, out, {})
    digest = adapter_digest(out)
    with full_disk(4000), pytest.raises(StorageError, match="free some space"):
        commit_adapter(model, out, {})
    assert adapter_digest(out) == digest
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"], "nothing half-written is left"


def test_something_else_is_never_overwritten(model: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...", encoding="utf-8")
    with pytest.raises(StorageError, match="not an adapter"):
        read_adapter(tmp_path)

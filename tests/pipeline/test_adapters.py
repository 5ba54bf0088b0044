"""Committing adapters: atomic writes, states, rollback."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from m2kt.errors import StorageError
from m2kt.models import load_causal_lm
from m2kt.pipeline._adapters import (
    VERDICT,
    adapter_digest,
    check_out,
    commit_adapter,
    read_adapter,
    rollback,
    states,
)
from m2kt.pipeline._statements import write_file


@pytest.fixture(scope="module")
def model() -> Any:
    return get_peft_model(
        load_causal_lm("zoo:pico-gpt2").model, LoraConfig(target_modules=["c_attn"], r=8, fan_in_fan_out=True)
    )


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Simulate a full disk: the kernel refuses writes beyond ``limit`` bytes of a file."""
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
    commit_adapter(model, out, {"verdict": "accepted", "again": True}, digest)
    assert adapter_digest(out) == digest, "the verdict is a record, not a part of the adapter's state"
    weights = out / "adapter_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    assert adapter_digest(out) != digest


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_file_modes_follow_the_umask(mask: int, file: int, folder: int, model: Any, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        commit_adapter(model, tmp_path / "adapter", {}, receipt=lambda digest: b"{}", card="# card")
        write_file(tmp_path / "statement.json", b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "adapter").stat().st_mode) == folder
    paths = [*(tmp_path / "adapter").iterdir(), tmp_path / "statement.json"]
    assert {path.name for path in paths} >= {"adapter_model.safetensors", "receipt.json", "README.md"}
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {
        path.name: file for path in paths if path.is_file()
    }


def test_a_full_disk_leaves_the_former_state(model: Any, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    commit_adapter(model, out, {})
    digest = adapter_digest(out)
    with full_disk(4000), pytest.raises(StorageError, match="free some space"):
        commit_adapter(model, out, {}, digest)
    assert adapter_digest(out) == digest
    assert [p.name for p in tmp_path.rglob("*") if p.is_dir()] == ["adapter"], "a partial write was left behind"


def commit(path: Path, seed: int) -> str:
    """Commit an adapter whose weights depend on the seed, and return its digest."""
    torch.manual_seed(seed)
    base = load_causal_lm("zoo:pico-gpt2").model
    config = LoraConfig(target_modules=["c_attn"], r=8, fan_in_fan_out=True, init_lora_weights=False)
    commit_adapter(get_peft_model(base, config), path, {"packet": f"sha256:{seed}"}, adapter_digest(path))
    digest = adapter_digest(path)
    assert digest is not None
    return digest


def test_every_committed_state_can_be_restored(tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    with pytest.raises(StorageError, match="expected an adapter or its states"):
        rollback(out)
    digests = [commit(out, seed) for seed in range(3)]
    assert [(s.number, s.digest, s.packet) for s in states(out)] == [
        (1, digests[0], "sha256:0"),
        (2, digests[1], "sha256:1"),
    ]
    assert rollback(out).now == digests[1] == adapter_digest(out)
    assert rollback(out).now == digests[2] == adapter_digest(out), "a rollback can be undone"
    assert rollback(out, "1").now == digests[0] == adapter_digest(out)
    assert rollback(out, digests[2][:20]).now == digests[2] == adapter_digest(out)
    with pytest.raises(StorageError, match=r"expected one state 99 of .*, got no; there are: 1 \("):
        rollback(out, "99")
    assert adapter_digest(out) == digests[2]


def test_a_changed_state_is_not_restored(tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    digests = [commit(out, seed) for seed in range(2)]
    (state,) = (out / ".states").glob("000001-*")
    (state / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StorageError, match="was changed since it was committed"):
        rollback(out)
    assert adapter_digest(out) == digests[1]


def test_a_concurrent_commit_is_not_overwritten(model: Any, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    digest = commit(out, 0)
    with pytest.raises(StorageError, match="another process has changed"):
        commit_adapter(model, out, {}, "sha256:of before")
    assert adapter_digest(out) == digest


def test_two_processes_do_not_commit_at_once(model: Any, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    digest = commit(out, 0)
    with open(tmp_path / ".adapter.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process is writing"):
            commit_adapter(model, out, {}, digest)
        with pytest.raises(StorageError, match="another process is writing"):
            check_out(out)
    commit_adapter(model, out, {}, digest)


COMMITTING = """
import sys
from pathlib import Path
from m2kt.pipeline._adapters import replace_adapter, adapter_digest
import shutil
out, sources = Path(sys.argv[1]), [Path(p) for p in sys.argv[2:]]
print("ready", flush=True)
while True:
    for source in sources:
        replace_adapter(out, lambda aside: shutil.copytree(source, aside, dirs_exist_ok=True), adapter_digest(out))
"""


def test_a_killed_process_leaves_one_of_the_two_states(tmp_path: Path) -> None:
    """Processes that commit two states in alternation and are killed at random leave no mixture."""
    sources = [tmp_path / "a", tmp_path / "b"]
    digests = {commit(source, seed) for seed, source in enumerate(sources)}
    out = tmp_path / "adapter"
    shutil.copytree(sources[0], out)
    rng = random.Random(0)
    digests_left = set()
    for _ in range(25):
        arguments = [sys.executable, "-c", COMMITTING, str(out), *map(str, sources)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
            time.sleep(rng.random() * 0.2)
            worker.send_signal(signal.SIGKILL)
        digest = adapter_digest(out)
        assert digest in digests
        digests_left.add(digest)
    assert digests_left == digests
    for state in states(out):
        assert state.digest in digests
    commit(out, 7)
    assert not list(tmp_path.glob(".adapter-aside-*")), "the next commit removes temporary folders"


def test_a_folder_without_an_adapter_is_never_overwritten(model: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...", encoding="utf-8")
    with pytest.raises(StorageError, match="expected an adapter or nothing"):
        read_adapter(tmp_path)


def test_a_moved_or_copied_adapter_keeps_its_history(tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    digests = [commit(out, seed) for seed in range(3)]
    moved, copied = tmp_path / "elsewhere" / "skill", tmp_path / "copy"
    shutil.copytree(out, copied)
    moved.parent.mkdir()
    out.rename(moved)
    for place in (moved, copied):
        assert [state.digest for state in states(place)] == digests[:2]
        assert rollback(place, "1").now == digests[0]
        assert rollback(place).now == digests[2]
        assert [state.digest for state in states(place)] == [digests[0], digests[1], digests[2], digests[0]]


def test_the_history_that_earlier_versions_kept_beside_an_adapter_is_taken_over(tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    digests = [commit(out, seed) for seed in range(2)]
    (out / ".states").rename(tmp_path / ".adapter.states")
    (tmp_path / ".adapter.states" / "lock").touch()
    assert [state.digest for state in states(out)] == digests[:1]
    assert rollback(out).now == digests[0]
    assert [state.digest for state in states(out)] == digests
    assert not (tmp_path / ".adapter.states").exists()


def test_hidden_files_are_no_part_of_an_adapter_and_stay(tmp_path: Path) -> None:
    """Hubs and file managers leave some: they change no digest, and a commit or a rollback loses none."""
    out = tmp_path / "adapter"
    first = commit(out, 0)
    (out / ".cache" / "huggingface").mkdir(parents=True)
    (out / ".cache" / "huggingface" / "model.metadata").write_text("x", encoding="utf-8")
    for name in (".gitattributes", ".DS_Store"):
        (out / name).write_text("x", encoding="utf-8")
    (out / ".git").symlink_to(tmp_path)
    hidden = {".cache", ".gitattributes", ".DS_Store", ".git"}
    assert adapter_digest(out) == first
    second = commit(out, 1)
    assert {p.name for p in out.iterdir()} >= hidden
    assert rollback(out).now == first and adapter_digest(out) == first != second
    assert {p.name for p in out.iterdir()} >= hidden
    assert (out / ".cache" / "huggingface" / "model.metadata").read_text(encoding="utf-8") == "x"
    assert (out / ".git").is_symlink() and not any(p.name.startswith(".") for p in (out / ".states").glob("*/*"))


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    assert check_out(tmp_path / "new" / "adapter") is None
    assert not list(tmp_path.iterdir())
    digest = commit(tmp_path / "adapter", 0)
    assert check_out(tmp_path / "adapter") == digest
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="expected a writable directory"):
        check_out(tmp_path / "file" / "adapter")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(StorageError, match="expected an adapter or nothing"):
        check_out(tmp_path / "other")

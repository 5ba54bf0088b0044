"""Adapters on disk: a commit is either done or not, and every committed state can be had back. Loads no torch.

Beside an adapter ``A`` stands ``.A.states``: one directory for each state that was ever committed there and replaced
since, in order. A new state is written aside, the present one is copied there, and then the two directories change
places in one system call. A kill at any moment leaves the former state at ``A`` or the new one, and rubbish that the
next commit sweeps up.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from m2kt.errors import StorageError, explain
from m2kt.pipeline._exchange import exchange

VERDICT = "m2kt-verdict.json"
RECEIPT = "receipt.json"
CARD = "README.md"
RECORDS = {VERDICT, RECEIPT}
"""Files that lie beside an adapter and say how it came to be: no part of its state, and of no digest."""
_ASIDE = "aside-"


class State(BaseModel):
    """A committed state that was replaced since."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(description="1 is the oldest.")
    digest: str = Field(description="sha256 over all files but the verdict.")
    packet: str | None = Field(description="Digest of the packet it came from, as its verdict says.")


def adapter_digest(path: Path) -> str | None:
    """sha256 over all files of an adapter directory but its records; None where there is none."""
    if not (path / "adapter_config.json").is_file():
        return None
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name not in RECORDS):
        total.update(f"{file.relative_to(path)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return "sha256:" + total.hexdigest()


def read_adapter(path: Path) -> str | None:
    """Digest of the adapter at ``path``. Raises StorageError where something else stands there."""
    occupied = path.is_file() or (path.is_dir() and any(path.iterdir()))
    if occupied and not (path / "adapter_config.json").is_file():
        raise StorageError(
            f"{path} exists and is not an adapter: expected one, or an empty place; nothing is overwritten"
        )
    return adapter_digest(path)


def commit_adapter(
    model: Any,
    path: Path,
    verdict: dict[str, Any],
    expected: str | None = None,
    receipt: Callable[[str | None], bytes] | None = None,
    card: str | None = None,
) -> None:
    """Puts an adapter and its verdict at ``path``, wholly or not at all; what stood there is kept as a state.

    Args:
        expected: digest of what stood there when the work began.
        receipt: writes the signed receipt, given the digest of the new adapter.
        card: its README.md, in place of peft's; part of the state, so that the receipt vouches for it.

    Raises:
        StorageError: the disk refused, or somebody else has changed what stands there meanwhile.
    """

    def write(aside: Path) -> None:
        model.save_pretrained(str(aside))
        if card is not None:
            (aside / CARD).write_text(card, encoding="utf-8")
        text = json.dumps(verdict, indent=1, ensure_ascii=False) + "\n"
        (aside / VERDICT).write_text(text, encoding="utf-8")
        if receipt is not None:
            (aside / RECEIPT).write_bytes(receipt(adapter_digest(aside)))

    _replace(path, write, expected)


def states(path: Path) -> list[State]:
    """What :func:`rollback` can return to, oldest first."""
    found = []
    for folder in sorted(_store(path).glob("[0-9]*-*")):
        packet = None
        if (folder / VERDICT).is_file():
            packet = json.loads((folder / VERDICT).read_text(encoding="utf-8")).get("packet")
        digest = adapter_digest(folder)
        assert digest is not None
        found.append(State(number=int(folder.name.split("-")[0]), digest=digest, packet=packet))
    return found


def rollback(path: Path, to: str | None = None) -> State:
    """Puts an earlier state back; the present one becomes a state itself, so this can be undone too.

    Args:
        to: number of a state, or the beginning of its digest; by default the last one.

    Raises:
        StorageError: there is no adapter, no such state, or the state is not what was committed.
    """
    standing = read_adapter(path)
    known = states(path)
    if standing is None and not known:
        raise StorageError(f"expected an adapter at {path}, there is none and never was")
    wanted = [s for s in known if to is None or str(s.number) == to]
    if not wanted and to is not None:
        wanted = [s for s in known if _hex(s.digest).startswith(_hex(to))]
    if not wanted or (to is not None and len({s.digest for s in wanted}) > 1):
        listed = ", ".join(f"{s.number} ({_hex(s.digest)[:12]})" for s in known) or "none"
        raise StorageError(
            f"{'no' if not wanted else 'more than one'} state {to or ''} of {path}; there are: {listed}"
        )
    state = wanted[-1]
    source = _folder(path, state.number)
    if not source.name.endswith(_hex(state.digest)[:16]):
        raise StorageError(f"{source} was changed since it was committed: it has digest {state.digest}")
    _replace(path, lambda aside: _copy(source, aside), standing)
    assert adapter_digest(path) == state.digest
    return state


# -- the exchange -----------------------------------------------------------------------------------------------------
@contextmanager
def writing(what: str, path: Path) -> Iterator[None]:
    """Says a refusal of the disk as StorageError."""
    try:
        yield
    except Exception as error:
        # safetensors reports a full disk as an error of its own, not as an OSError
        if isinstance(error, OSError) or "SafetensorError" in type(error).__name__:
            raise StorageError(
                f"cannot write {what} to {path}: {explain(error)}; free some space or choose another place"
            ) from error
        raise


def _replace(path: Path, write: Callable[[Path], None], expected: str | None) -> None:
    with writing("the adapter", path), _locked(path) as store:
        for rubbish in store.glob(f"{_ASIDE}*"):
            shutil.rmtree(rubbish)
        aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=store))
        try:
            write(aside)
            aside.chmod(0o755)
            _sync(aside)
            now = read_adapter(path)
            if now != expected:
                raise StorageError(
                    f"{path} was changed by somebody else meanwhile: expected {expected}, came {now}; run it again"
                )
            if now is not None:
                _keep(path, now)
                exchange(aside, path)
            else:
                if path.is_dir():
                    path.rmdir()  # empty
                aside.rename(path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _keep(path: Path, digest: str) -> None:
    """Copies the present state among the earlier ones, unless a commit that was killed has done so already."""
    store = _store(path)
    folders = sorted(store.glob("[0-9]*-*"))
    name = _hex(digest)[:16]
    if folders and folders[-1].name.endswith(name):
        return
    number = 1 + (int(folders[-1].name.split("-")[0]) if folders else 0)
    aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=store))
    _copy(path, aside)
    _sync(aside)
    aside.rename(store / f"{number:06d}-{name}")
    _sync_folder(store)


@contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """The folder of earlier states, for one process at a time; a killed one holds nothing."""
    store = _store(path)
    store.mkdir(parents=True, exist_ok=True)
    with open(store / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"another process is writing to {path} just now; wait for it") from None
        yield store


def _store(path: Path) -> Path:
    path = path.absolute()
    return path.with_name(f".{path.name}.states")


def _folder(path: Path, number: int) -> Path:
    return next(iter(_store(path).glob(f"{number:06d}-*")))


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _sync(folder: Path) -> None:
    """On disk, before anything points to it."""
    for file in (p for p in folder.rglob("*") if p.is_file()):
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

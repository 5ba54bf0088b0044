"""Adapters on disk: a commit is complete or absent, and every committed state can be restored. Loads no torch.

In an adapter ``A`` is ``A/.states``, with one directory per committed state that was replaced, in order: its history
moves with it. A new state is written beside ``A`` with that history and the current state, then both directories are
exchanged in one system call. A kill at any moment leaves the old state or the new one at ``A``; the next commit removes
temporary directories. What else is hidden in ``A`` (``.git``, ``.cache``, ``.DS_Store``) is carried along.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from m2kt.errors import StorageError, explain

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

VERDICT = "m2kt-verdict.json"
CONFIG = "adapter_config.json"
"""The file that makes a directory an adapter."""
RECEIPT = "receipt.json"
CARD = "README.md"
RECORDS = {VERDICT, RECEIPT}
"""Files of an adapter's directory that record how it was made: part of no state and no digest."""
HISTORY = ".states"
"""Directory of earlier states in an adapter's directory."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_RENAME_SWAP = 2  # sys/stdio.h of macOS


class State(BaseModel):
    """A committed state that was replaced."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(description="1 is the oldest.")
    digest: str = Field(description="sha256 over all files but the verdict, the receipt and hidden ones.")
    packet: str | None = Field(description="Digest of its packet, as its verdict says.")


class Rollback(BaseModel):
    """A state that was restored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: int = Field(description="Number of the state.")
    before: str | None = Field(description="Digest of the adapter before; null: none.")
    now: str = Field(description="Digest of the adapter now.")
    packet: str | None = Field(description="Digest of the state's packet, as its verdict says.")


def adapter_digest(path: str | Path) -> str | None:
    """sha256 over all files of an adapter's directory but records and hidden ones; None where there is no adapter."""
    path = Path(path)
    if not (path / CONFIG).is_file():
        return None
    total = hashlib.sha256()
    files = (p for p in path.rglob("*") if p.is_file() and p.name not in RECORDS)
    for file in sorted(p for p in files if not any(_hidden(part) for part in p.relative_to(path).parts)):
        total.update(f"{file.relative_to(path)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return "sha256:" + total.hexdigest()


def read_adapter(path: Path) -> str | None:
    """Digest of the adapter at ``path``. Raises StorageError where there is something else."""
    occupied = path.is_file() or (path.is_dir() and any(not _hidden(p.name) for p in path.iterdir()))
    if occupied and not (path / CONFIG).is_file():
        raise StorageError(
            f"expected an adapter or nothing at {path}, got other files; nothing was overwritten: choose another path"
        )
    return adapter_digest(path)


def commit_adapter(
    model: PreTrainedModel | PeftModel,
    path: Path,
    verdict: dict[str, JsonValue],
    expected: str | None = None,
    receipt: Callable[[str | None], bytes] | None = None,
    card: str | None = None,
) -> None:
    """Writes an adapter and its verdict to ``path``, completely or not at all; the adapter there becomes a state.

    Args:
        expected: digest of the adapter there when the work began.
        receipt: writes the signed receipt, given the digest of the new adapter.
        card: its README.md, instead of peft's; part of the state, so that the receipt covers it.

    Raises:
        StorageError: the disk refused, or another process has changed the adapter since.
    """

    def write(aside: Path) -> None:
        model.save_pretrained(str(aside))
        if card is not None:
            (aside / CARD).write_text(card, encoding="utf-8")
        text = json.dumps(verdict, indent=1, ensure_ascii=False) + "\n"
        (aside / VERDICT).write_text(text, encoding="utf-8")
        if receipt is not None:
            (aside / RECEIPT).write_bytes(receipt(adapter_digest(aside)))

    replace_adapter(path, write, expected)


def states(path: str | Path) -> list[State]:
    """The states that :func:`rollback` can restore, oldest first."""
    found = []
    for folder in _folders(Path(path)):
        packet = None
        if (folder / VERDICT).is_file():
            packet = json.loads((folder / VERDICT).read_text(encoding="utf-8")).get("packet")
        digest = adapter_digest(folder)
        assert digest is not None
        found.append(State(number=int(folder.name.split("-")[0]), digest=digest, packet=packet))
    return found


def rollback(path: str | Path, to: str | None = None) -> Rollback:
    """Restores an earlier state; the current one becomes a state itself, so a rollback can be undone.

    Args:
        to: number of a state, or the beginning of its digest; by default the latest one.

    Raises:
        StorageError: there is no adapter, no such state, or the state was changed since it was committed.
    """
    path = Path(path)
    before, known = read_adapter(path), states(path)
    if before is None and not known:
        raise StorageError(f"expected an adapter or its states at {path}, got neither; name the adapter's directory")
    matching = [s for s in known if to is None or str(s.number) == to]
    if not matching and to is not None:
        matching = [s for s in known if _hex(s.digest).startswith(_hex(to))]
    if not matching or (to is not None and len({s.digest for s in matching}) > 1):
        listed = ", ".join(f"{s.number} ({_hex(s.digest)[:12]})" for s in known) or "none"
        count = "no" if not matching else "more than one"
        raise StorageError(f"expected one state {to or ''} of {path}, got {count}; there are: {listed}")
    state = matching[-1]
    source = next(folder for folder in _folders(path) if int(folder.name.split("-")[0]) == state.number)
    if not source.name.endswith(_hex(state.digest)[:16]):
        raise StorageError(
            f"{source} was changed since it was committed: it has the digest {state.digest}; choose another state"
        )
    replace_adapter(path, lambda aside: _copy(source, aside), before)
    assert adapter_digest(path) == state.digest
    return Rollback(state=state.number, before=before, now=state.digest, packet=state.packet)


def check_writable(path: str | Path) -> None:
    """Raises StorageError where nothing can be written at ``path``; called before long work."""
    parent = Path(path).absolute().parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".m2kt-", dir=parent):
            pass
    except OSError as error:
        raise StorageError(
            f"expected a writable directory for {path}, got {parent} ({explain(error)}); choose another path"
        ) from error


def check_out(path: Path) -> str | None:
    """Digest of the adapter at ``path``. Tries what a commit needs; called before long work.

    Raises StorageError where a commit would fail now: nothing can be written, other files are there, another process
    is writing, or the file system cannot exchange directories.
    """
    digest = read_adapter(path)
    check_writable(path)
    if digest is not None:
        with (
            _locked(path),
            writing("the adapter", path),
            tempfile.TemporaryDirectory(prefix=".m2kt-", dir=path.absolute().parent) as folder,
        ):
            a, b = Path(folder, "a"), Path(folder, "b")
            a.mkdir()
            b.mkdir()
            _exchange(a, b)
    return digest


def use_umask(path: Path) -> None:
    """Gives a file, or a directory and all in it, the permissions that the umask allows new files.

    Temporary files and those of safetensors are readable by their owner alone.
    """
    if os.name != "posix":
        return
    probe = path / ".umask" if path.is_dir() else path.with_name(f"{path.name}.umask")
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for each in (path, *path.rglob("*")):
        # whoever may read a directory may search it
        each.chmod(mode | (mode & 0o444) >> 2 if each.is_dir() else mode)


# -- commit -----------------------------------------------------------------------------------------------------------
@contextmanager
def writing(subject: str, path: Path) -> Iterator[None]:
    """Turns an error of the disk into a StorageError."""
    try:
        yield
    except Exception as error:
        # safetensors reports a full disk by an error class of its own, which is no OSError
        if isinstance(error, OSError) or "SafetensorError" in type(error).__name__:
            raise StorageError(
                f"cannot write {subject} to {path}: {explain(error)}; free some space or choose another path"
            ) from error
        raise


def replace_adapter(path: Path, write: Callable[[Path], None], expected: str | None) -> None:
    """Writes a state beside an adapter, with its history and the current state, and exchanges both.

    Args:
        write: writes the new state's files into a directory.
        expected: digest of the adapter there when the work began.
    """
    path = path.absolute()
    with writing("the adapter", path), _locked(path):
        prefix = f".{path.name}-aside-"
        for leftover in path.parent.glob(f"{glob.escape(prefix)}*"):
            shutil.rmtree(leftover)
        aside = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        try:
            write(aside)
            use_umask(aside)
            _sync(aside)
            current = read_adapter(path)
            if current != expected:
                raise StorageError(
                    f"another process has changed {path}: expected {expected}, got {current}; run it again"
                )
            _carry(path, aside, current)
            if path.is_dir() and any(path.iterdir()):
                _exchange(aside, path)
            else:
                if path.is_dir():
                    path.rmdir()
                aside.rename(path)
            _sync_folder(path.parent)
            shutil.rmtree(_former_store(path), ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _carry(path: Path, aside: Path, digest: str | None) -> None:
    """Puts the history and all else that is hidden at ``path`` into ``aside``, and the current state as the latest."""
    hidden = [p for p in path.iterdir() if _hidden(p.name) and p.name != HISTORY] if path.is_dir() else []
    for entry in hidden:
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, aside / entry.name, copy_function=_link, symlinks=True)
        else:
            _link(str(entry), str(aside / entry.name))
    folders, history = _folders(path), aside / HISTORY
    for folder in folders:
        shutil.copytree(folder, history / folder.name, copy_function=_link)
    if digest is None:
        return
    name = _hex(digest)[:16]
    if not folders or not folders[-1].name.endswith(name):
        number = 1 + (int(folders[-1].name.split("-")[0]) if folders else 0)
        _copy(path, history / f"{number:06d}-{name}")
        _sync(history / f"{number:06d}-{name}")
    _sync_folder(history)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """For one process at a time; the lock of a killed process is released."""
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            yield
    except Timeout:
        raise StorageError(f"another process is writing to {path}; wait until it is done") from None


def _folders(path: Path) -> list[Path]:
    """The directories of earlier states, oldest first; earlier versions kept them beside the adapter."""
    history = path / HISTORY
    return sorted((history if history.is_dir() else _former_store(path)).glob("[0-9]*-*"))


def _former_store(path: Path) -> Path:
    path = path.absolute()
    return path.with_name(f".{path.name}.states")


def _copy(source: Path, target: Path) -> None:
    """Copies an adapter's files, without what is hidden."""
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=lambda _, names: [n for n in names if _hidden(n)])


def _link(source: str, target: str) -> None:
    """The same file under a second name; a copy where the file system cannot do that."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _sync(folder: Path) -> None:
    """Flushes a directory to the disk, before its name refers to it."""
    for file in (p for p in folder.rglob("*") if p.is_file()):
        with open(file, "rb" if os.name == "posix" else "rb+") as opened:
            os.fsync(opened.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # a directory cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(a: Path, b: Path) -> None:
    """Exchanges the directories at two paths of one file system.

    Raises:
        OSError: the system or the file system cannot do it, or a path is missing; nothing was moved.
    """
    libc = None if sys.platform == "win32" else ctypes.CDLL(None, use_errno=True)
    x, y = os.fsencode(a), os.fsencode(b)
    if libc is not None and sys.platform == "linux" and hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, x, _AT_FDCWD, y, _RENAME_EXCHANGE)
    elif libc is not None and sys.platform == "darwin":
        failed = libc.renamex_np(x, y, _RENAME_SWAP)
    else:
        raise OSError(errno.ENOTSUP, "this system cannot exchange two directories in one step", str(b))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(b))

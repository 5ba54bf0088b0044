"""Files of a packet, as a directory or as one uncompressed zip. No pickle, no surprises.

Writing goes aside and is renamed at the end; reading takes exactly the known parts, within limits.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

from m2kt.errors import PacketError, StorageError

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
CARD = "README.md"
TENSORS = ("concepts.safetensors", "attention.safetensors", "traces.safetensors")
SPEC = "probes.yaml"
GRAPH = "graph.json"
PARTS = (MANIFEST, CARD, SPEC, GRAPH, *TENSORS, SIGNATURE)
SUFFIX = ".m2kp"
MAX_PART_BYTES = 4 << 30
MAX_TEXT_BYTES = 256 << 20

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def read_parts(path: Path) -> dict[str, bytes]:
    """All parts of the packet at ``path``, directory or file."""
    try:
        if path.is_dir():
            return _read_directory(path)
        if path.is_file():
            return _read_zip(path)
    except OSError as error:
        raise PacketError(f"cannot read the packet {path}: {error}") from error
    raise PacketError(f"no packet at {path}; expected a packet directory or a {SUFFIX} file")


def write_parts(path: Path, files: dict[str, bytes]) -> None:
    """Write a packet aside and rename it into place; an older packet there is replaced as a whole.

    Raises:
        StorageError: the disk refused, or something else than a packet stands there. Nothing is left behind.
    """
    path = path.absolute() if not path.is_symlink() else path.resolve()
    _refuse_foreign(path)
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        new = aside / "new"
        if path.suffix == SUFFIX:
            _write_file(new, zip_bytes(files))
            _sync_directory(aside)
            new.replace(path)
        else:
            new.mkdir()
            for name, content in files.items():
                _write_file(new / name, content)
            _sync_directory(new)
            _swap_directory(new, path, aside / "old")
        _sync_directory(path.parent)
    except OSError as error:
        raise StorageError(
            f"cannot write the packet {path}: {error.strerror or error}; nothing was kept, "
            "free some space or choose another place"
        ) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)


def zip_bytes(files: dict[str, bytes]) -> bytes:
    """The single-file form: a zip without compression, one order, one time, so equal parts give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in PARTS:
            info = zipfile.ZipInfo(name, date_time=_ZIP_TIME)
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()


def _read_directory(path: Path) -> dict[str, bytes]:
    names = {p.name for p in path.iterdir() if not p.name.startswith(".")}
    _check_names(names, path)
    files = {}
    for name in PARTS:
        _check_size(name, (path / name).stat().st_size, path)
        files[name] = (path / name).read_bytes()
    return files


def _read_zip(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            if len(set(names)) != len(names):
                raise PacketError(f"{path} holds a part twice; do not use this packet")
            _check_names(set(names), path)
            for info in infos:
                _check_size(info.filename, info.file_size, path)
                if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
                    raise PacketError(
                        f"{path}: {info.filename} is compressed or encrypted; expected it stored"
                    )
            files = {name: archive.read(name) for name in PARTS}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, RuntimeError) as error:
        raise PacketError(f"{path} is no packet file ({error}); it is damaged or something else") from error
    if zip_bytes(files) != path.read_bytes():
        raise PacketError(f"{path} is not in canonical form: its frame was edited; get the packet again")
    return files


def _check_names(names: set[str], path: Path) -> None:
    if MANIFEST not in names:
        raise PacketError(f"{path} is no packet: expected {MANIFEST} in it")
    missing = [name for name in PARTS if name not in names]
    if missing:
        raise PacketError(f"{path} is incomplete: {', '.join(missing)} missing; get the packet again")
    foreign = sorted(names - set(PARTS))
    if foreign:
        raise PacketError(
            f"{path} holds what is no part of a packet: {', '.join(map(repr, foreign[:3]))}; remove it"
        )


def _check_size(name: str, size: int, path: Path) -> None:
    limit = MAX_PART_BYTES if name in TENSORS else MAX_TEXT_BYTES
    if size > limit:
        raise PacketError(f"{path}: {name} has {size} bytes, more than the {limit} allowed")


def _refuse_foreign(path: Path) -> None:
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise StorageError(
            f"{path} is a directory that holds something else than a packet; choose another place"
        )
    if path.is_file() and not (path.suffix == SUFFIX and zipfile.is_zipfile(path)):
        raise StorageError(
            f"{path} is a file that is no packet; choose another place or a name ending in {SUFFIX}"
        )
    if path.is_dir() and path.suffix == SUFFIX:
        raise StorageError(f"{path} is a directory, and a name ending in {SUFFIX} asks for a single file")


def _write_file(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap_directory(new: Path, target: Path, old: Path) -> None:
    """Put ``new`` where ``target`` was; on failure the old one stands again."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

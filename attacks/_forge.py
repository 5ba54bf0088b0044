"""What an attacker with a key can do: change a packet and correct its digests, counts and signature."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from m2kt.packet._json import canonical_json
from m2kt.packet._parts import GRAPH, MANIFEST, PARTS, PROGRAM, SIGNATURE, SPEC, TENSORS, read_zip
from m2kt.packet._sign import sign_files

Parts = dict[str, bytes]
GOOD = Path(__file__).parents[1] / "tests" / "golden" / "packet-v2.m2kp"


@dataclass(frozen=True)
class Attack:
    """A hostile packet: what it tries, what the refusal says, and how it is written below a folder."""

    name: str
    tries: str
    refusal: str  # a regular expression
    write: Callable[[Path], Path]


ATTACKS: dict[str, Attack] = {}


def attack(tries: str, refusal: str) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Registers a function that writes a hostile packet to a path without a suffix and returns the path of the packet."""

    def register(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
        name = write.__name__.strip("_").replace("_", "-")
        assert name not in ATTACKS, name
        ATTACKS[name] = Attack(name, tries, refusal, write)
        return write

    return register


def parts_attack(name: str, tries: str, refusal: str, change: Callable[[Parts], Parts], signed: bool = True) -> None:
    """Registers a change of the parts, signed by the attacker, or with the old signature if ``signed`` is False."""

    def write(path: Path) -> Path:
        parts = change(good())
        return as_directory(resign(parts) if signed else parts, path)

    write.__name__ = name
    attack(tries, refusal)(write)


@cache
def _good() -> Parts:
    raw = GOOD.read_bytes()
    return read_zip(io.BytesIO(raw), len(raw), str(GOOD))


def good() -> Parts:
    """The parts of the good packet that attacks start from."""
    return dict(_good())


@cache
def attacker() -> Path:
    """A key that no policy trusts; always the same."""
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"m2kt attacks").digest())
    path = Path(tempfile.mkdtemp(prefix="m2kt-attacks-")) / "attacker.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def resign(parts: Parts, key: Path | None = None) -> Parts:
    """The packet with correct digests, counts and signature, as far as its manifest can be parsed."""
    unsigned = {name: content for name, content in parts.items() if name != SIGNATURE}
    try:
        manifest = json.loads(unsigned[MANIFEST])
        content = {name: c for name, c in unsigned.items() if name != MANIFEST}
        manifest["files"] = {name: hashlib.sha256(c).hexdigest() for name, c in content.items()}
        ledger: dict[str, Any] = dict(manifest["ledger"])
        skill = GRAPH if GRAPH in content else PROGRAM
        ledger["packet_bytes"] = sum(len(content[name]) for name in (*TENSORS, SPEC, skill))
        with suppress(KeyError, TypeError, ValueError, RecursionError):
            ledger["concepts"] = sum(len(rule["rows"]) for rule in json.loads(content[skill])["rules"])
        fitted = canonical_json({**manifest, "ledger": ledger})
        if canonical_json(json.loads(unsigned[MANIFEST])) == unsigned[MANIFEST]:
            unsigned[MANIFEST] = fitted  # else its form is the attack, and stays
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        pass  # cannot be parsed: signed as it is
    return {**unsigned, SIGNATURE: sign_files(unsigned, "hostile", key or attacker())}


def edited(part: str, change: Callable[[Any], Any]) -> Callable[[Parts], Parts]:
    """Parts with the data of one JSON part changed in path, or replaced by what ``change`` returns."""

    def apply(parts: Parts) -> Parts:
        data = deepcopy(json.loads(parts[part]))
        replaced = change(data)
        return parts | {part: canonical_json(data if replaced is None else replaced)}

    return apply


def replaced(part: str, old: bytes, new: bytes) -> Callable[[Parts], Parts]:
    """Parts with some bytes of one part replaced."""

    def apply(parts: Parts) -> Parts:
        assert old in parts[part], (part, old)
        return parts | {part: parts[part].replace(old, new, 1)}

    return apply


def as_directory(parts: Parts, path: Path) -> Path:
    """Written as files, without any check."""
    path.mkdir(parents=True)
    for name, content in parts.items():
        (path / name).write_bytes(content)
    return path


def zipped(path: Path, entries: list[tuple[str, bytes]], kind: int = zipfile.ZIP_STORED, comment: bytes = b"") -> Path:
    """A zip with the frame of a packet and other entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            info.compress_type = kind
            archive.NameToInfo.pop(name, None)  # no warning about doubled entries
            archive.writestr(info, content)
        archive.comment = comment
    return as_file(path, buffer.getvalue())


def as_file(path: Path, raw: bytes) -> Path:
    """Written as a single file."""
    path = path.with_suffix(".m2kp")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def entries() -> list[tuple[str, bytes]]:
    """The good packet's entries in order."""
    return [(name, good()[name]) for name in PARTS]

"""sigma, the signature of a packet: a statement whose subjects are all of its files.

The writer's public key is in the statement's predicate. Further signers (an owner, a broker, an auditor) sign the same
payload; the packet's digest is that of its manifest and does not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from m2kt.errors import PacketError, explain

from ._envelope import add_signature, merge_envelopes, seal, unseal
from ._json import JSONObject
from ._keys import key_path, local_key, read_signer
from ._parts import SIGNATURE, read_parts, write_parts

PREDICATE_TYPE = "urn:m2kt:packet:v1"


class Release(BaseModel):
    """Which of an author's packets of one name this is; signed with it."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(ge=1, lt=1 << 53, description="Greater than that of every release before.")
    expires: AwareDatetime | None = Field(
        default=None, description="From then on a reader expects a newer release, or this one signed again."
    )


@dataclass(frozen=True)
class Signature:
    """The signers of a packet, verified."""

    keyid: str
    """Id of the writer's key."""
    public_key: JSONObject
    """The writer's key, as securesystemslib describes keys."""
    keyids: tuple[str, ...] = ()
    """Ids of all signers, the writer included."""
    release: Release | None = None
    materials: tuple[str, ...] = ()
    """Digests of the packets that it was merged from."""


def sign_files(
    files: dict[str, bytes],
    name: str,
    key: Path | None = None,
    release: Release | None = None,
    passphrase: str | None = None,
    materials: Sequence[JSONObject] = (),
) -> bytes:
    """The bytes of ``signature.json`` over all ``files``.

    Args:
        materials: what the packet was made of, as in-toto's resource descriptors.
    """
    signer = read_signer(local_key(key), passphrase)
    public = signer.public_key
    predicate: JSONObject = {"packet": name, "key": {"keyid": public.keyid, **public.to_dict()}}
    if release is not None:
        predicate["release"] = release.model_dump(mode="json")
    if materials:
        predicate["materials"] = list(materials)
    subjects = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    return seal(PREDICATE_TYPE, subjects, predicate, signer)


def verify_files(files: dict[str, bytes], signature: bytes, where: str) -> Signature:
    """Verify the signatures over all files of a packet.

    Raises:
        PacketError: a file was edited, added or removed, or a signature is invalid.
    """
    sealed = unseal(signature, f"{where}: {SIGNATURE}", expected=PREDICATE_TYPE)
    if sealed.writer is None:
        raise PacketError(f"{where}: {SIGNATURE} does not name its writer's key; the signature does not verify")
    for file in sorted(sealed.subjects.keys() ^ files.keys()):
        raise PacketError(
            f"{where}: {file} is {'missing' if file in sealed.subjects else 'not covered by the signature'}"
        )
    for file, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        if digest != sealed.subjects[file]:
            raise PacketError(
                f"{where}: {file} was edited after signing: expected sha256 {sealed.subjects[file][:16]}..., "
                f"got {digest[:16]}...; get the packet again"
            )
    try:
        release = sealed.predicate.get("release")
        numbered = None if release is None else Release.model_validate(release)
    except ValueError as error:
        raise PacketError(f"{where}: {SIGNATURE} names no valid release: {explain(error)}") from error
    try:
        materials = tuple(f"sha256:{m['digest']['sha256']}" for m in sealed.predicate.get("materials", []))
    except (KeyError, TypeError) as error:
        raise PacketError(f"{where}: {SIGNATURE} names no valid materials: {explain(error)}") from error
    return Signature(sealed.writer, dict(sealed.predicate["key"]), sealed.keyids, numbered, materials)


def sign_release(
    path: str | Path, release: Release, key: str | Path | None = None, passphrase: str | None = None
) -> Signature:
    """Sign a packet anew as a numbered release; its digest and parts stay, and signatures of others are dropped.

    Raises:
        PacketError: the packet is damaged, the key is not its author's, or it is a later release already.
        StorageError: the key cannot be used.
    """
    path = Path(path)
    parts = read_parts(path)
    files = {name: content for name, content in parts.items() if name != SIGNATURE}
    before = verify_files(files, parts[SIGNATURE], str(path))
    file = key_path(key) if key is not None else local_key()
    signer = read_signer(file, passphrase).public_key.keyid
    if signer != before.keyid:
        raise PacketError(f"{path} is the packet of {before.keyid}: expected that key, got {signer}")
    if before.release is not None and release.number < before.release.number:
        raise PacketError(f"{path} is release {before.release.number}: expected no lower number, got {release.number}")
    signed = unseal(parts[SIGNATURE], str(path)).predicate
    materials = signed.get("materials", ())
    parts[SIGNATURE] = sign_files(files, str(signed["packet"]), file, release, passphrase, materials)
    signature = verify_files(files, parts[SIGNATURE], str(path))
    write_parts(path, parts)
    return signature


def merge_signatures(path: Path, other: Path) -> tuple[str, ...]:
    """Add the signatures of the packet at ``other`` to that at ``path``, where both sign the same statement.

    Returns the ids of all signers of the packet, which is written only where some are new.

    Raises:
        PacketError: a signature is invalid, or they are more than allowed together.
    """
    parts = read_parts(path)
    merged = merge_envelopes(parts[SIGNATURE], read_parts(other)[SIGNATURE], f"{path}: {SIGNATURE}")
    if merged is not None and merged != parts[SIGNATURE]:
        parts[SIGNATURE] = merged
        write_parts(path, parts)
    return unseal(parts[SIGNATURE], f"{path}: {SIGNATURE}").keyids


def cosign(path: str | Path, key: str | Path | None = None, passphrase: str | None = None) -> Signature:
    """Add a signature to the packet at ``path``; its digest and all other parts are unchanged.

    Raises:
        PacketError: a signature of the packet is invalid, or the key has signed it already.
        StorageError: the key cannot be used, or the disk refused.
    """
    path = Path(path)
    signer = read_signer(key_path(key) if key is not None else local_key(), passphrase)
    parts = read_parts(path)
    files = {name: content for name, content in parts.items() if name != SIGNATURE}
    verify_files(files, parts[SIGNATURE], str(path))
    parts[SIGNATURE] = add_signature(parts[SIGNATURE], signer, f"{path}: {SIGNATURE}")
    signature = verify_files(files, parts[SIGNATURE], str(path))
    write_parts(path, parts)
    return signature

"""What a name stood for when it was last fetched, so that a source cannot go back, stand still, or change hands unseen.

A tag, a branch or a key of a bucket is moved by whoever runs the source. An author who numbers his releases signs the
number, as TUF does; without numbers the time of extraction, which is signed too, may not go back.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from m2kt._home import m2kt_home
from m2kt.errors import StorageError, TrustError, explain
from m2kt.packet import Packet


class Seen(BaseModel):
    """The newest packet that was accepted under a name."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="A reference, or an author's key id and the name of a packet.")
    digest: str
    author: str
    number: int = Field(description="Number of the release; 0: it has none.")
    created: str = Field(description="Time of extraction, by the manifest.")


def accept_release(packet: Packet, reference: str) -> None:
    """Compare a packet with what a movable name stood for before, and remember it.

    Raises:
        TrustError: it is older than the one before, another one of the same number, of another author, or expired.
        StorageError: the memory cannot be read or written.
    """
    assert packet.signature is not None
    release, author = packet.signature.release, packet.signature.keyid
    if release is not None and release.expires is not None and datetime.now(UTC) > release.expires:
        raise TrustError(
            f"release {release.number} of {reference} was valid until {release.expires.isoformat()}: expected a newer "
            "one; the source may hold newer ones back, or its author has signed none"
        )
    number = 0 if release is None else release.number
    now = Seen(name=reference, digest=packet.digest, author=author, number=number, created=packet.manifest.created)
    names = [reference] if release is None else [reference, f"{author} {packet.manifest.name}"]
    paths = {name: _path(name) for name in names}
    before = {name: _read(path) for name, path in paths.items()}
    for name, seen in before.items():
        if seen is not None and (wrong := _why_not(seen, now)) is not None:
            raise TrustError(
                f"{reference} has {packet.digest}, {wrong}; do not use it, or delete {paths[name]} if that is right"
            )
    for name, path in paths.items():
        _write(path, now.model_copy(update={"name": name}))


def _why_not(seen: Seen, now: Seen) -> str | None:
    """Why a packet may not follow another; None where it may."""
    if seen.number and now.author != seen.author:
        return f"signed by {now.author[:12]}, where {seen.author[:12]} signed release {seen.number} before"
    if now.number < seen.number:
        return f"release {now.number or 'without a number'}, where release {seen.number} was before"
    if now.digest == seen.digest:
        return None
    if seen.number and now.number == seen.number:
        return f"another packet of release {seen.number} than before ({seen.digest})"
    if not seen.number and _time(now.created) < _time(seen.created):
        return f"extracted at {now.created}, where one of {seen.created} was before"
    return None


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _path(name: str) -> Path:
    return m2kt_home() / "releases" / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"


def _read(path: Path) -> Seen | None:
    if not path.is_file():
        return None
    try:
        return Seen.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StorageError(f"cannot read {path}: {explain(error)}; restore or delete it") from error


def _write(path: Path, seen: Seen) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".new")
        aside.write_text(seen.model_dump_json(indent=1))
        aside.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {explain(error)}; set M2KT_HOME to another directory") from error

"""Answers of a broker, as its JSON has them."""

from __future__ import annotations

from typing import Literal, final

from pydantic import JsonValue
from typing_extensions import TypedDict  # pydantic needs it below Python 3.12


class SignerAnswer(TypedDict):
    """A key that signed a packet."""

    keyid: str
    writer: bool
    owner: str | None


class PacketAnswer(TypedDict):
    """A packet in a list."""

    digest: str
    skill: str
    description: str
    teacher: str
    teacher_digest: str
    licence: str | None
    space: str
    concepts: int
    verbalised: float
    fidelity: float | None
    size: int
    etag: str
    state: Literal["listed", "yanked", "revoked"]
    state_reason: str | None
    state_at: str | None
    revoked_sources: list[str]
    published_at: str
    publisher: str
    signers: list[SignerAnswer]
    verdicts: dict[str, int]
    auditors: list[str]
    uncounted: int


class StatementAnswer(TypedDict):
    """A signed statement, without its envelope."""

    digest: str
    kind: str
    at: str
    by: str
    verdict: str | None
    counts: bool
    student: str | None
    student_digest: str | None
    adapter: str | None
    accuracy: float | None
    signers: list[SignerAnswer]


class RecordAnswer(PacketAnswer):
    """A packet's record: manifest, card and statements."""

    manifest: dict[str, JsonValue]
    card: str
    statements: list[StatementAnswer]
    authors: list[str]
    state_envelope: str | None


class ListAnswer(TypedDict):
    """A page of packets, and the cursor of the next one."""

    packets: list[PacketAnswer]
    next: str | None


class LabelAnswer(TypedDict):
    """A symbol, rule, skill or teacher that contains the searched text."""

    kind: str
    text: str


class HitAnswer(TypedDict):
    """A packet that contains the searched text."""

    packet: PacketAnswer
    labels: list[LabelAnswer]


@final
class SearchAnswer(TypedDict):
    """Packets that contain the searched text, newest first."""

    found: list[HitAnswer]


class NeighbourAnswer(TypedDict):
    """A concept near the searched vector."""

    packet: str
    skill: str
    concept: str
    row: int
    cosine: float


@final
class NearAnswer(TypedDict):
    """Concepts near the searched vector, nearest first."""

    near: list[NeighbourAnswer]


class LineAnswer(TypedDict):
    """A packet and the receipts of its ingests."""

    packet: PacketAnswer
    receipts: list[StatementAnswer]


class LineageAnswer(TypedDict):
    """All packets that a digest belongs to."""

    digest: str
    lines: list[LineAnswer]


class StateAnswer(TypedDict):
    """The digest of a statement that was added."""

    statement: str

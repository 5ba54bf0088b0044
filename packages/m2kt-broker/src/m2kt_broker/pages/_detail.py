"""The pages of one packet and of one statement: the contexts of their templates, from the catalogue alone."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from m2kt.packet import EVALUATION, RECEIPT, VERDICT, Manifest
from m2kt.render import Block, Note, Tile, Tiles, blocks_html, fidelity_table, ledger_table, percent

from .._trusted import Trusted
from .._views import PacketView, StatementView, packet_view, statement_view
from ..catalogue import PacketRow, StatementRow, predicate_of
from ._text import MAX_CARD, escape_invisible, file_size

MAX_STATEMENTS = 50
MAX_PREDICATE = 200_000
"""Maximum number of characters of a predicate on a page; the API returns all of it."""
MAX_REASONS = 50
KINDS = {RECEIPT: "receipt", VERDICT: "audit", EVALUATION: "evaluation"}
"""Short name of each predicate type."""
IS_GOOD = {"accepted": True, "clean": True, "rejected": False, "unclean": False}


@dataclass(frozen=True)
class StatementSummary:
    """A statement with its short name and whether its verdict is favourable; None where it does not count."""

    view: StatementView
    kind: str
    is_good: bool | None


@dataclass(frozen=True)
class PacketContext:
    """Variables of the template ``packet.html.j2``, except the drawn sections."""

    packet: PacketView
    manifest: Manifest
    state_by: str | None
    statements: list[StatementSummary]
    statement_count: int
    adapters: list[StatementView]
    other_packets: int
    """Number of other packets of the same teacher."""
    overview: str
    fidelity: str
    ledger: str
    card_text: str
    """The card as it is, for a page without a drawing."""


@dataclass(frozen=True)
class StatementContext:
    """Variables of the template ``statement.html.j2``."""

    statement: StatementSummary
    type: str
    digest: str
    """Digest of the packet."""
    skill: str
    accuracy_before: float | None
    reasons: list[str]
    predicate: str
    is_cut: bool


def packet_context(session: Session, row: PacketRow, trusted: Trusted) -> PacketContext:
    """The packet with its newest statements."""
    manifest, packet = Manifest.model_validate(row.manifest), packet_view(session, row, trusted)
    newest_first = (
        select(StatementRow)
        .where(StatementRow.packet == row.digest)
        .order_by(StatementRow.at.desc(), StatementRow.digest)
    )
    statement_count = select(func.count()).where(StatementRow.packet == row.digest)
    teacher_packets = select(func.count()).where(PacketRow.teacher_digest == row.teacher_digest)
    statements = [
        statement_summary(statement, trusted) for statement in session.scalars(newest_first.limit(MAX_STATEMENTS))
    ]
    return PacketContext(
        packet=packet,
        manifest=manifest,
        state_by=row.state_by,
        statements=statements,
        statement_count=session.scalar(statement_count) or 0,
        adapters=[s.view for s in statements if s.view.adapter is not None],
        other_packets=(session.scalar(teacher_packets) or 1) - 1,
        overview=blocks_html(_overview(manifest, row.size, packet.revoked_sources)),
        fidelity=blocks_html([fidelity_table(manifest.fidelity)]),
        ledger=blocks_html([ledger_table(manifest.ledger)]),
        card_text=escape_invisible(row.card[:MAX_CARD]),
    )


def statement_context(session: Session, row: StatementRow, trusted: Trusted) -> StatementContext:
    """The statement with its predicate as JSON. Fields of the untrusted predicate are checked for their type."""
    predicate = predicate_of(row)
    text = json.dumps(predicate, indent=2, ensure_ascii=False)
    before, reasons = predicate.get("before"), predicate.get("reasons")
    accuracy = before.get("accuracy") if isinstance(before, dict) else None
    return StatementContext(
        statement=statement_summary(row, trusted),
        type=row.kind,
        digest=row.packet,
        skill=session.get_one(PacketRow, row.packet).skill,
        accuracy_before=accuracy if isinstance(accuracy, int | float) and 0 <= accuracy <= 1 else None,
        reasons=[str(reason) for reason in reasons[:MAX_REASONS]] if isinstance(reasons, list) else [],
        predicate=text[:MAX_PREDICATE],
        is_cut=len(text) > MAX_PREDICATE,
    )


def statement_summary(row: StatementRow, trusted: Trusted) -> StatementSummary:
    """Summary of one statement."""
    kind = KINDS.get(row.kind, "statement")
    view = statement_view(row, trusted)
    return StatementSummary(view, kind, IS_GOOD.get(row.verdict or "") if view.counts else None)


def _overview(manifest: Manifest, stored_bytes: int, revoked: list[str]) -> list[Block]:
    fidelity = manifest.fidelity
    tiles = Tiles(
        [
            Tile("Concepts", f"{manifest.ledger.concepts:,}", "rows of the rules"),
            Tile("Agreement", percent(fidelity.agreement), "program and teacher, on fresh prompts"),
            Tile("Coverage", percent(fidelity.coverage), "of fresh prompts have a complete rollout"),
            Tile("Causal edges", percent(fidelity.causal_edge_share), "have an effect when cut"),
            Tile("Verbalised", percent(manifest.verbalised, 0), "of the outputs are text (v)"),
            Tile("Size", file_size(stored_bytes), "as a single file"),
        ]
    )
    notes = [Note(f"It holds the packet {digest}, which is revoked: do not use it", tone="bad") for digest in revoked]
    notes += [Note(note) for note in manifest.notes]
    if manifest.fallback:
        reason = manifest.fallback_reason or "no reason given"
        notes.insert(0, Note(f"Fallback to plain traces, not a full extraction: {reason}", tone="bad"))
    return [tiles, *notes]

"""One packet, from the catalogue alone: what its page says before the packet itself is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from m2kt.packet import EVALUATION, RECEIPT, VERDICT, Manifest
from m2kt.render import Note, Tile, Tiles, blocks_html, fidelity_table, ledger_table, percent

from ..catalogue import PacketRow, StatementRow
from ..views import Owners, StatementView, packet_view, statement_view
from .text import card_html, size

MOST = 50
KINDS = {RECEIPT: "receipt", VERDICT: "audit", EVALUATION: "evaluation"}
"""What people call a statement, by its predicate type."""
GOOD = {"accepted": True, "clean": True, "rejected": False, "unclean": False}


@dataclass(frozen=True)
class Said:
    """A statement, as pages name it."""

    view: StatementView
    kind: str
    good: bool | None


def record(session: Session, row: PacketRow, owners: Owners) -> dict[str, Any]:
    """What the packet's template wants, but for its drawings."""
    manifest = Manifest.model_validate(row.manifest)
    mine = StatementRow.packet == row.digest
    newest = session.scalars(
        select(StatementRow).where(mine).order_by(StatementRow.at.desc(), StatementRow.digest).limit(MOST)
    )
    statements = [said(statement, owners) for statement in newest]
    of_teacher = PacketRow.teacher_digest == row.teacher_digest
    return {
        "packet": packet_view(session, row, owners),
        "manifest": manifest,
        "state_by": row.state_by,
        "statements": statements,
        "statement_count": session.scalar(select(func.count()).select_from(StatementRow).where(mine)) or 0,
        "adapters": [s.view for s in statements if s.view.adapter is not None],
        "siblings": (session.scalar(select(func.count()).select_from(PacketRow).where(of_teacher)) or 1) - 1,
        "glance": blocks_html(_glance(manifest, row.size)),
        "fidelity": blocks_html([fidelity_table(manifest.fidelity)]),
        "ledger": blocks_html([ledger_table(manifest.ledger)]),
        "card": card_html(row.card),
    }


def said(row: StatementRow, owners: Owners) -> Said:
    """One statement."""
    return Said(statement_view(row, owners), KINDS.get(row.kind, "statement"), GOOD.get(row.verdict or ""))


def _glance(manifest: Manifest, stored: int) -> list[Any]:
    fidelity = manifest.fidelity
    tiles = Tiles(
        [
            Tile("Concepts", f"{manifest.ledger.concepts:,}", "rows of its rules"),
            Tile("Graph = teacher", percent(fidelity.agreement), "on fresh prompts"),
            Tile("Covered", percent(fidelity.coverage), "rolled out to the end"),
            Tile("Causal edges", percent(fidelity.causal_edge_share), "matter when cut"),
            Tile("As text", percent(manifest.verbalised, 0), "of the rows' outputs (v)"),
            Tile("Size", size(stored), "as one file"),
        ]
    )
    notes = [Note(note) for note in manifest.notes]
    if manifest.fallback:
        reason = manifest.fallback_reason or "no reason given"
        notes.insert(0, Note(f"Fallback to plain traces, not a full extraction: {reason}", tone="bad"))
    return [tiles, *notes]

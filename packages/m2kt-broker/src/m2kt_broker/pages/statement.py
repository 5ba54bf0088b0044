"""One signed statement: what it says in short, and all of it as it was signed."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.orm import Session

from ..catalogue import PacketRow, StatementRow, predicate_of
from ..views import Owners
from .record import said

MOST = 200_000
"""Characters of a predicate that are shown; the API has it whole."""


def statement(session: Session, row: StatementRow, owners: Owners) -> dict[str, Any]:
    """What the statement's template wants."""
    predicate = predicate_of(row)
    written = json.dumps(predicate, indent=2, ensure_ascii=False)
    about = session.get_one(PacketRow, row.packet)
    before, reasons = predicate.get("before"), predicate.get("reasons")
    was = before.get("accuracy") if isinstance(before, dict) else None
    return {
        "said": said(row, owners),
        "type": row.kind,
        "digest": row.packet,
        "skill": about.skill,
        "before": was if isinstance(was, int | float) and 0 <= was <= 1 else None,
        "reasons": [str(reason) for reason in reasons[:50]] if isinstance(reasons, list) else [],
        "written": written[:MOST],
        "cut": len(written) > MOST,
    }

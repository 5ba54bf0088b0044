"""The list: what can be asked, what there is to choose from, and one page of what was found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, Field
from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from ..catalogue import Filters, PacketRow, SignerRow, count_packets, descended, find_packets, labels_like
from ..views import Owners, packet_views
from .text import brief, short

PAGE = 20
MOST = 100
CHOICES = 40
"""More values than these are typed, not chosen."""
FIDELITIES = (0.5, 0.9, 0.99, 1.0)
VERDICTS = ("accepted", "rejected", "clean", "unclean")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Given = BeforeValidator(lambda value: value or None)
"""Forms send empty fields; they ask for nothing."""
Word = Annotated[Annotated[str, Field(max_length=300)] | None, Given]


class ListQuery(BaseModel):
    """As the form of the page sends it."""

    q: Word = None
    skill: Word = None
    teacher: Word = None
    licence: Word = None
    signer: Annotated[Annotated[str, Field(pattern="^[0-9a-f]{1,64}$")] | None, Given] = None
    fidelity: Annotated[Annotated[float, Field(ge=0, le=1)] | None, Given] = None
    verdict: Word = None
    state: Annotated[
        Literal["listed", "yanked", "revoked", "any"], BeforeValidator(lambda v: v or "listed")
    ] = "listed"
    after: Annotated[Annotated[str, Field(pattern=f"^{_DIGEST.pattern}$")] | None, Given] = None

    def filters(self) -> Filters:
        """Without the paging."""
        told = self.model_dump(exclude={"q", "state", "after"})
        return Filters(**told, label=self.q, state=None if self.state == "any" else self.state)

    def link(self, **changed: str | None) -> str:
        """The list with these changed; from its beginning, if not told otherwise."""
        told = self.model_dump(exclude_defaults=True) | {"after": None} | changed
        words = urlencode({name: value for name, value in told.items() if value is not None})
        return f"/?{words}" if words else "/"


@dataclass(frozen=True)
class Choice:
    """A filter of the form: a list to choose from, or a field with suggestions where there are too many."""

    name: str
    label: str
    value: str
    options: list[tuple[str, str]]
    typed: bool = False


def listing(session: Session, query: ListQuery, owners: Owners) -> dict[str, Any]:
    """What the list's template wants."""
    if query.q is not None and _DIGEST.fullmatch(query.q):
        found, following = descended(session, query.q, MOST), None
        total = len(found)
    else:
        last = None if query.after is None else session.get(PacketRow, query.after)
        place = None if last is None else (last.published_at, last.digest)
        found, following = find_packets(session, query.filters(), PAGE, place)
        total = count_packets(session, query.filters())
    labels = {} if query.q is None else labels_like(session, [row.digest for row in found], query.q)
    return {
        "query": query,
        "q": query.q or "",
        "packets": packet_views(session, found, owners),
        "labels": labels,
        "total": total,
        "next": None if following is None else query.link(after=following[1]),
        "first": None if query.after is None else query.link(),
        "choices": _choices(session, query, owners),
        "given": _given(query, owners),
        "empty": total == 0 and session.scalar(select(PacketRow.digest).limit(1)) is None,
    }


def _choices(session: Session, query: ListQuery, owners: Owners) -> list[Choice]:
    def stored(name: str, label: str, column: InstrumentedAttribute[Any]) -> Choice:
        values = session.scalars(
            select(column).where(column.is_not(None)).distinct().order_by(column).limit(CHOICES + 1)
        ).all()
        now = getattr(query, name) or ""
        typed = len(values) > CHOICES
        told = [*values[:CHOICES], *([now] if now and now not in values else [])]
        return Choice(name, label, now, [(v, _told(name, v, owners)) for v in told], typed)

    fidelities = sorted({*FIDELITIES, *([] if query.fidelity is None else [query.fidelity])})
    verdicts = dict.fromkeys([*VERDICTS, *([query.verdict] if query.verdict else [])])
    at_least = [(str(f), _told("fidelity", str(f), owners)) for f in fidelities]
    states = [(s, s.capitalize()) for s in ("listed", "yanked", "revoked", "any")]
    return [
        stored("skill", "Skill", PacketRow.skill),
        stored("teacher", "Teacher", PacketRow.teacher),
        stored("licence", "Licence", PacketRow.licence),
        stored("signer", "Signed by", SignerRow.keyid),
        Choice("fidelity", "Fidelity", "" if query.fidelity is None else str(query.fidelity), at_least),
        Choice("verdict", "Verdict", query.verdict or "", [(v, v.capitalize()) for v in verdicts]),
        Choice("state", "State", query.state, states),
    ]


def _given(query: ListQuery, owners: Owners) -> list[tuple[str, str, str]]:
    """What is filtered by: name, value, and the list without it."""
    told = query.model_dump(exclude_defaults=True, exclude={"after"})
    names = {"q": "search", "signer": "signed by"}
    return [
        (names.get(name, name), _told(name, str(value), owners), query.link(**{name: None}))
        for name, value in told.items()
    ]


def _told(name: str, value: str, owners: Owners) -> str:
    if name == "fidelity":
        return f"≥ {100 * float(value):g} %"
    if name == "signer":
        return f"{owners[value]} ({short(value)})" if value in owners else short(value)
    if value.startswith("sha256:"):
        return short(value)
    return brief(value, 60)

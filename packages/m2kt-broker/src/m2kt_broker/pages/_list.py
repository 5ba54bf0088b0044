"""The list page: its query, its filter form, and the context of its template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, Field
from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from .._access import SHA256
from .._trusted import Trusted
from .._views import PacketView, packet_views
from ..catalogue import (
    Filters,
    LabelRow,
    PacketRow,
    SignerRow,
    count_packets,
    find_packets,
    matching_labels,
    packets_in_lineage,
)
from ._text import one_line, short_digest

PAGE_SIZE = 20
MAX_LINEAGE = 100
MAX_OPTIONS = 40
"""A filter with more values is a text field with suggestions."""
FIDELITIES = (0.5, 0.9, 0.99, 1.0)
VERDICTS = ("accepted", "rejected", "clean", "unclean")
STATES = ("listed", "yanked", "revoked", "any")
FILTER_NAMES = {"q": "search", "signer": "signed by"}

EmptyToNone = BeforeValidator(lambda value: value or None)
"""A form sends an empty string for a filter that is not set."""
TextFilter = Annotated[Annotated[str, Field(max_length=300)] | None, EmptyToNone]


class ListQuery(BaseModel):
    """The fields of the filter form."""

    q: TextFilter = None
    skill: TextFilter = None
    teacher: TextFilter = None
    licence: TextFilter = None
    signer: Annotated[Annotated[str, Field(pattern="^[0-9a-f]{1,64}$")] | None, EmptyToNone] = None
    fidelity: Annotated[Annotated[float, Field(ge=0, le=1)] | None, EmptyToNone] = None
    verdict: TextFilter = None
    state: Annotated[
        Literal["listed", "yanked", "revoked", "any"], BeforeValidator(lambda value: value or "listed")
    ] = "listed"
    after: Annotated[Annotated[str, Field(pattern=SHA256)] | None, EmptyToNone] = None

    def filters(self, trusted: Trusted) -> Filters:
        """The filters without the pagination."""
        fields = self.model_dump(exclude={"q", "state", "after"})
        return Filters(**fields, label=self.q, state=None if self.state == "any" else self.state, trusted=trusted)

    def link(self, **changes: str | None) -> str:
        """Address of the list with changed fields; its first page, unless ``after`` is given."""
        fields = self.model_dump(exclude_defaults=True) | {"after": None} | changes
        query = urlencode({name: value for name, value in fields.items() if value is not None})
        return f"?{query}" if query else "./"


@dataclass(frozen=True)
class FilterField:
    """A field of the filter form: a selection, or a text field with suggestions."""

    name: str
    label: str
    value: str
    options: list[tuple[str, str]]
    """Values and their labels."""
    is_text: bool = False


@dataclass(frozen=True)
class ActiveFilter:
    """A filter in use, and the address of the list without it."""

    name: str
    value: str
    remove: str


@dataclass(frozen=True)
class ListContext:
    """Variables of the template ``list.html.j2``."""

    query: ListQuery
    q: str
    packets: list[PacketView]
    labels: dict[str, list[LabelRow]]
    total: int
    next: str | None
    first: str | None
    fields: list[FilterField]
    active_filters: list[ActiveFilter]
    is_empty: bool
    """Whether the catalogue has no packet at all."""


def list_context(session: Session, query: ListQuery, trusted: Trusted) -> ListContext:
    """Run the query. A search for a digest finds the packets of its lineage."""
    if query.q is not None and re.fullmatch(SHA256, query.q):
        rows, position = packets_in_lineage(session, query.q, MAX_LINEAGE), None
        total = len(rows)
    else:
        last = None if query.after is None else session.get(PacketRow, query.after)
        after = None if last is None else (last.published_at, last.digest)
        rows, position = find_packets(session, query.filters(trusted), PAGE_SIZE, after)
        total = count_packets(session, query.filters(trusted))
    labels = {} if query.q is None else matching_labels(session, [row.digest for row in rows], query.q)
    return ListContext(
        query=query,
        q=query.q or "",
        packets=packet_views(session, rows, trusted),
        labels=labels,
        total=total,
        next=None if position is None else query.link(after=position[1]),
        first=None if query.after is None else query.link(),
        fields=_filter_fields(session, query, trusted),
        active_filters=_active_filters(query, trusted),
        is_empty=total == 0 and session.scalar(select(PacketRow.digest).limit(1)) is None,
    )


def _filter_fields(session: Session, query: ListQuery, trusted: Trusted) -> list[FilterField]:
    def column_field(
        name: str, label: str, column: InstrumentedAttribute[str] | InstrumentedAttribute[str | None]
    ) -> FilterField:
        distinct = select(column).where(column.is_not(None)).distinct().order_by(column)
        values = [str(value) for value in session.scalars(distinct.limit(MAX_OPTIONS + 1))]
        current = getattr(query, name) or ""
        shown = [*values[:MAX_OPTIONS], *([current] if current and current not in values else [])]
        options = [(value, _value_label(name, value, trusted)) for value in shown]
        return FilterField(name, label, current, options, is_text=len(values) > MAX_OPTIONS)

    fidelities = sorted({*FIDELITIES, *([] if query.fidelity is None else [query.fidelity])})
    minima = [(str(f), _value_label("fidelity", str(f), trusted)) for f in fidelities]
    verdicts = dict.fromkeys([*VERDICTS, *([query.verdict] if query.verdict else [])])
    fidelity = "" if query.fidelity is None else str(query.fidelity)
    return [
        column_field("skill", "Skill", PacketRow.skill),
        column_field("teacher", "Teacher", PacketRow.teacher),
        column_field("licence", "Licence", PacketRow.licence),
        column_field("signer", "Signed by", SignerRow.keyid),
        FilterField("fidelity", "Fidelity", fidelity, minima),
        FilterField("verdict", "Verdict", query.verdict or "", [(v, v.capitalize()) for v in verdicts]),
        FilterField("state", "State", query.state, [(s, s.capitalize()) for s in STATES]),
    ]


def _active_filters(query: ListQuery, trusted: Trusted) -> list[ActiveFilter]:
    fields = query.model_dump(exclude_defaults=True, exclude={"after"})
    return [
        ActiveFilter(
            FILTER_NAMES.get(name, name),
            _value_label(name, str(value), trusted),
            query.link(**{name: None}),
        )
        for name, value in fields.items()
    ]


def _value_label(name: str, value: str, trusted: Trusted) -> str:
    if name == "fidelity":
        return f"≥ {100 * float(value):g} %"
    if name == "signer":
        return f"{trusted.owners[value]} ({short_digest(value)})" if value in trusted.owners else short_digest(value)
    if value.startswith("sha256:"):
        return short_digest(value)
    return one_line(value, 60)

"""A small table for notebooks: what ``_repr_html_`` of packets, results, verdicts and differences is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape


def html_table(headline: str, rows: Mapping[str, str], notes: Iterable[str] = ()) -> str:
    """A headline, rows of name and value, and notes below; all of it text, none of it markup."""
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows.items())
    head = f"<b>{escape(headline)}</b>" if headline else ""
    table = f"<table>{cells}</table>" if cells else ""
    return f'<div style="overflow-x:auto">{head}{table}{"".join(f"<p>{escape(note)}</p>" for note in notes)}</div>'

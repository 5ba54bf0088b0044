"""A stranger's text, as pages show it. Escaping is the templates'; here is what that leaves: order, length, signs."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

MAX_CARD = 60_000


def visible(text: str) -> str:
    """Signs that cannot be seen, or that turn the order of others round, are written out; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def brief(text: str, most: int = 400) -> str:
    """A paragraph on one line."""
    line = " ".join(visible(" ".join(text.split())).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def short(digest: str) -> str:
    """A digest or key id by its beginning."""
    return f"{digest[:19]}…" if digest.startswith("sha256:") else f"{digest[:12]}…"


def when(at: str) -> str:
    """``28 Nov 2026, 11:33`` in UTC; a stranger's time that is none stays as it is."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return brief(at, 40)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M}"


def day(at: str) -> str:
    """:func:`when` without the hour."""
    return when(at).partition(", ")[0]


def size(count: int) -> str:
    """Bytes for people."""
    if count < 1000:
        return f"{count} bytes"
    kilo = count / 1000
    return f"{kilo:,.0f} kB" if kilo < 1000 else f"{kilo / 1000:,.1f} MB"


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # no HTML, and neither links nor pictures: a stranger's page leads nowhere from here
    found = MarkdownIt("commonmark", {"html": False}).enable("table")
    return found.disable(["link", "image", "autolink", "reference", "html_block", "html_inline"])


def card_html(card: str) -> str:
    """A packet's card, Markdown, as HTML; its headings begin below the page's own."""
    tokens = _markdown().parse(visible(card[:MAX_CARD]))
    for i, token in enumerate(tokens):
        if token.type == "th_open" and not tokens[i + 1].content:
            token.tag = tokens[i + 2].tag = "td"  # an empty heading is none
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        if token.type in ("th_open", "td_open"):
            token.attrs.clear()  # alignment is an inline style
        if token.type == "th_open" and token.tag == "th":
            token.attrSet("scope", "col")
        if token.type == "table_open":
            token.attrSet("class", "plain")
    return str(_markdown().renderer.render(tokens, _markdown().options, {}))

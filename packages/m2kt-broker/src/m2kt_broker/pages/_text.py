"""Text filters of the templates. Templates escape HTML; these bound length and make invisible characters visible."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

MAX_CARD = 60_000


def escape_invisible(text: str) -> str:
    """Write unprintable and bidirectional control characters as escape sequences; keep line breaks."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str, limit: int = 400) -> str:
    """Text on one line, cut to ``limit`` characters."""
    line = " ".join(escape_invisible(" ".join(text.split())).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def short_digest(digest: str) -> str:
    """The prefix of a digest or key id."""
    return f"{digest[:19]}…" if digest.startswith("sha256:") else f"{digest[:12]}…"


def date_time(timestamp: str) -> str:
    """An ISO 8601 time as ``28 Nov 2026, 11:33`` in UTC; untrusted text of another form stays as it is."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return one_line(timestamp, 40)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y, %H:%M}"


def date(timestamp: str) -> str:
    """:func:`date_time` without the time of day."""
    return date_time(timestamp).partition(", ")[0]


def file_size(count: int) -> str:
    """A number of bytes in a readable unit."""
    if count < 1000:
        return f"{count} bytes"
    kilobytes = count / 1000
    return f"{kilobytes:,.0f} kB" if kilobytes < 1000 else f"{kilobytes / 1000:,.1f} MB"


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # no HTML, links or images: the card is untrusted
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    return parser.disable(["link", "image", "autolink", "reference", "html_block", "html_inline"])


def card_html(card: str) -> str:
    """A packet's card as HTML; its headings rank below those of the page."""
    tokens = _markdown().parse(escape_invisible(card[:MAX_CARD]))
    for i, token in enumerate(tokens):
        if token.type == "th_open" and not tokens[i + 1].content:
            token.tag = tokens[i + 2].tag = "td"  # a header cell must not be empty
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        if token.type in ("th_open", "td_open"):
            token.attrs.clear()  # alignment is an inline style
        if token.type == "th_open" and token.tag == "th":
            token.attrSet("scope", "col")
        if token.type == "table_open":
            token.attrSet("class", "plain")
    return str(_markdown().renderer.render(tokens, _markdown().options, {}))

"""Checks of an HTML page: closed tags, no external resources, colours that follow light and dark mode."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree


class _Tags(HTMLParser):
    """Checks that tags are closed in order, and collects the addresses that a browser would fetch."""

    VOID = frozenset({"meta", "path", "use", "image", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "img"}
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "xlink:href", "action", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def check_page(html: str) -> None:
    """Fail unless the page has closed tags, no external resources, and only colours of its style sheet."""
    tags = _Tags()
    tags.feed(html)
    assert tags.open == []
    assert all(v.startswith(("#", "data:image/png;base64,")) for v in tags.fetched)
    assert not re.search(r"https?:|@import|@font-face|//\w+\.\w", html)
    assert all(u.startswith("#") for u in re.findall(r"url\(([^)]*)\)", html))
    ids = set(re.findall(r'\bid="([^"]+)"', html))
    assert {v[1:] for v in tags.fetched if v.startswith("#")} <= ids
    assert {u[1:] for u in re.findall(r"url\(([^)]*)\)", html)} <= ids
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.S):
        ElementTree.fromstring(svg)
        assert "#1f2430" not in svg and "#667085" not in svg and "font-family" not in svg
        assert 'role="img" aria-label="' in svg

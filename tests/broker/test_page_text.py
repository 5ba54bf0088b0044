"""Text filters, style extraction and colours of pages."""

from __future__ import annotations

import re

import numpy as np
import pytest

from m2kt_broker.pages._render import extract_styles, style_sheet
from m2kt_broker.pages._text import card_html, date_time, escape_invisible, one_line
from tests.broker.html import Page


def test_card_has_headings_and_tables_but_no_html() -> None:
    card = (
        "# Top\n\n<script>alert(1)</script>\n\n[a](javascript:alert(1)) ![b](http://x/y.png) <http://evil.example>\n\n"
        "| a | b |\n|:--|--:|\n| 1 | \u202e2 |\n\n```html\n<b>\n```\n"
    )
    html = card_html(card)
    page = Page()
    page.feed(html)
    assert [e.tag for e in page.all("h1", "h2", "h3")] == ["h3"] and page.all("table", class_="plain")
    assert not page.all("a", "img", "script", "b") and "style=" not in html
    assert "&lt;script&gt;" in html and "\\u202e2" in html


def test_inline_styles_become_classes() -> None:
    html, sheet = extract_styles(
        '<p class="a" style="--x: 1%">style="fake" &lt;</p><path style="stroke:#123;"/><b style="--x: 1%">'
    )
    assert html == '<p class="i0 a">style="fake" &lt;</p><path class="i1"/><b class="i0">'
    assert sheet == ".i0.i0.i0{--x: 1%}.i1.i1.i1{stroke:#123}"
    for evil in ("a}b{c:d", "a:&quot;x", "a:<x", "@import x", "a:\\7d"):
        with pytest.raises(ValueError, match="expected a style"):
            extract_styles(f'<p style="{evil.replace("<", "&lt;")}">')


def test_text_filters() -> None:
    assert escape_invisible("a\u202eb\nc\x00") == "a\\u202eb\nc\\x00"
    assert one_line("  a \n b\u2029c " + "d" * 500, 20) == "a b c dddddddddddddd…"[:19] + "…"
    assert date_time("2026-11-28T12:34:56.7+02:00") == "28 Nov 2026, 10:34" and date_time("<soon>") == "<soon>"


def _contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours by WCAG 2."""

    def luminance(colour: str) -> float:
        rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ np.array([0.2126, 0.7152, 0.0722]))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_have_enough_contrast(dark: bool) -> None:
    colours: dict[str, str] = {}
    for media, body in re.findall(r"(@media \(prefers-color-scheme: dark\) \{ )?:root \{([^}]*)\}", style_sheet()):
        if dark or not media:
            colours |= dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", body))
    for name in ("ink", "muted", "s0", "good", "bad", "warn"):
        assert _contrast(colours[name], colours["page"]) >= 4.5, name

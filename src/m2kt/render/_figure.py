"""matplotlib figures as inline SVG: sizes in CSS pixels, text as text, colours of the page."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from m2kt.render._theme import INK, LINE, MUTED, SERIES, themed

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MANY_POINTS = 1500  # beyond this a scatter is embedded as an image

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "m2kt",  # ids depend on the content alone
    "font.family": "sans-serif",
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": "none",
    "lines.linewidth": 2,
    "lines.markersize": 6,
}


@contextmanager
def drawing(width: float, height: float) -> Iterator[Canvas]:
    """A figure of ``width`` x ``height`` pixels in the house style; turn it into text inside the context."""
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    style: Any = {**_STYLE, "axes.prop_cycle": cycler(color=list(SERIES))}
    with matplotlib.rc_context(style):
        yield Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")


def inline_svg(figure: Canvas, label: str) -> str:
    """The figure as an SVG element for an HTML page; ``label`` says what it shows to those who cannot see it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=144, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<(metadata|style)\b.*?</\1>", "", text, flags=re.S)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text).replace("xlink:href", "href")
    used = set(re.findall(r"#([\w-]+)", text))  # other ids would repeat on a page
    text = re.sub(r' id="(?!halo)([^"]*)"', lambda m: m.group() if m.group(1) in used else "", text)
    # what looks the same has the same id in matplotlib, and would have it twice on a page of several figures
    ids, mark = set(re.findall(r' id="([^"]+)"', text)), hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(
        r'( id="|#)([\w-]+)', lambda m: f"{m.group()}-{mark}" if m.group(2) in ids else m.group(), text
    )
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    assert size is not None
    head = (
        f'<svg viewBox="{size.group()[9:-1]}" style="max-width: {float(size.group(1)):.0f}px" '
        f'role="img" aria-label="{escape(label)}">'
    )
    return themed(re.sub(r"<svg[^>]*>", lambda _: head, text, count=1))

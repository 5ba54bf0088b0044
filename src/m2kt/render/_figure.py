"""matplotlib figures as inline SVG: sizes in CSS pixels, text as text, colours of the page."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from m2kt._plugins import missing
from m2kt.render._theme import INK, LINE, MUTED, SERIES, themed

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MANY_POINTS = 1500  # beyond this a scatter is embedded as an image

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names come from packets: "$" is a character
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
    """A figure of ``width`` x ``height`` pixels in the style of the pages; :func:`inline_svg` is called inside.

    Raises SpecError without matplotlib.
    """
    try:
        import matplotlib
        from cycler import cycler
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing("--html", "matplotlib", "m2kt[html]") from error

    style: Any = {**_STYLE, "axes.prop_cycle": cycler(color=list(SERIES))}
    with matplotlib.rc_context(style):
        yield Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")


def inline_svg(figure: Canvas, label: str) -> str:
    """The figure as an SVG element of a page; ``label`` describes it to screen readers."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=144, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<(metadata|style)\b.*?</\1>", "", text, flags=re.S)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text).replace("xlink:href", "href")
    used = set(re.findall(r"#([\w-]+)", text))  # other ids would repeat on a page
    text = re.sub(r' id="(?!halo)([^"]*)"', lambda m: m.group() if m.group(1) in used else "", text)
    # equal paths have equal ids in matplotlib, which would repeat on a page of several figures
    ids, suffix = set(re.findall(r' id="([^"]+)"', text)), hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'( id="|#)([\w-]+)', lambda m: f"{m.group()}-{suffix}" if m.group(2) in ids else m.group(), text)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    assert size is not None
    head = (
        f'<svg viewBox="{size.group()[9:-1]}" style="max-width: {float(size.group(1)):.0f}px" '
        f'role="img" aria-label="{escape(label)}">'
    )
    return themed(re.sub(r"<svg[^>]*>", lambda _: head, text, count=1))

"""Colours: pictures are drawn in the light ones, which CSS variables replace for dark pages."""

from __future__ import annotations

import colorsys
import re
from math import cos, pi

INK, MUTED, LINE, PAGE = "#1f2430", "#667085", "#d3d8e0", "#fdfdfc"
SERIES = ("#2563c9", "#d2691e", "#2e8b57", "#c0392b", "#7d4cc2", "#0e8a99", "#8c5b2f", "#bf3a80", "#77791d")

LIGHT = {"ink": INK, "muted": MUTED, "line": LINE, "page": PAGE} | {f"s{i}": c for i, c in enumerate(SERIES)}
DARK = {
    "ink": "#e6e8ec",
    "muted": "#98a1b0",
    "line": "#3a414d",
    "page": "#15181d",
    **dict(
        zip(
            (f"s{i}" for i in range(len(SERIES))),
            (
                "#74a6f7",
                "#f0a35e",
                "#69c592",
                "#f08578",
                "#b795f0",
                "#56c2d1",
                "#c99d6e",
                "#ec8cbb",
                "#c4c65a",
            ),
            strict=True,
        )
    ),
}

_VARIABLE = {colour: f"var(--{name})" for name, colour in LIGHT.items()}
_COLOUR = re.compile("|".join(_VARIABLE))


def series(index: int) -> str:
    """The colour of a number; they repeat after nine."""
    return SERIES[index % len(SERIES)]


def themed(svg: str) -> str:
    """An SVG in the colours of the page."""
    return _COLOUR.sub(lambda match: _VARIABLE[match.group()], svg)


def symbol_colours(n: int) -> list[str]:
    """``n`` distinct hues, of a lightness that is visible on light and dark pages."""
    colours = []
    for i in range(n):
        hue = i / max(n, 1)
        lightness = 0.52 + 0.10 * cos(2 * pi * (hue - 0.67))  # blue looks darker than it is, yellow lighter
        if n > 8:
            lightness += (-0.04, 0.04)[i % 2]
        rgb = colorsys.hls_to_rgb(hue, lightness, 0.65)
        colours.append("#" + "".join(f"{round(255 * c):02x}" for c in rgb))
    return colours

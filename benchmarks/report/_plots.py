"""Axes that several figures share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def shares_up(axes: Axes) -> None:
    """The y axis is accuracy."""
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks(_TICKS, [f"{100 * t:.0f} %" for t in _TICKS])


def shares_across(axes: Axes) -> None:
    """The x axis is accuracy."""
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks(_TICKS, [f"{100 * t:.0f} %" for t in _TICKS])


def amounts_across(axes: Axes) -> None:
    """The x axis is an amount, logarithmic. Call it after everything is drawn."""
    axes.set_xscale("log")
    plain_ticks(axes.xaxis, axes.get_xlim(), _amount)


def losses_up(axes: Axes) -> None:
    """The y axis is a loss, logarithmic. Call it after everything is drawn."""
    axes.set_yscale("log")
    plain_ticks(axes.yaxis, axes.get_ylim(), "{:g}".format)


def plain_ticks(axis: Axis, limits: tuple[float, float], form: Callable[[float], str]) -> None:
    """Ticks of a logarithmic axis as plain text, closer where there are few powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    decades = log10(limits[1] / limits[0])
    axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 3 else (1.0, 3.0) if decades > 1 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    axis.set_minor_locator(NullLocator())


def _amount(value: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def line(axes: Axes, x: Sequence[float], stats: pd.DataFrame, *, colour: str, label: str) -> None:
    """Means (columns mean, min, max) joined by a line, each with its range over seeds."""
    ranges = [stats["mean"] - stats["min"], stats["max"] - stats["mean"]]
    axes.errorbar(
        x,
        stats["mean"],
        ranges,
        fmt="o-",
        color=colour,
        label=label,
        capsize=3,
        linewidth=1.8,
        elinewidth=1.2,
    )


def legend_right(axes: Axes) -> None:
    """A legend that covers no data."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), borderaxespad=0.2)

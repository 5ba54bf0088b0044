"""Base of the results: a report for programs, a table for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from m2kt._html import html_table
from m2kt.render import percent

Progress = Callable[[str, int, int], None]
"""Called as ``(stage, done, total)``."""
Report = dict[str, JsonValue]


def no_progress(stage: str, done: int, total: int) -> None:
    """The default progress callback: reports nothing."""


def to_report(model: BaseModel, **dump: Any) -> Report:
    """JSON values of a model; pydantic writes NaN as null, which is what JSON has for it."""
    report: Report = json.loads(model.model_dump_json(**dump))
    return report


def with_interval(accuracy: float | None, interval: tuple[float, float] | None) -> str:
    """``99.5 % [97.2 %, 99.9 %]``."""
    bounds = "" if interval is None else f" [{percent(interval[0])}, {percent(interval[1])}]"
    return f"{percent(accuracy)}{bounds}"


class Result(BaseModel):
    """What a verb returns."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    def report(self) -> Report:
        """The JSON object of ``--json``."""
        return to_report(self)

    def headline(self) -> str:
        """The outcome, in a line."""
        return ""

    def table(self) -> dict[str, str]:
        """Names and values of the table for people."""
        return {}

    def remarks(self) -> list[str]:
        """Lines below the table."""
        return []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.headline()})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return html_table(self.headline(), self.table(), self.remarks())

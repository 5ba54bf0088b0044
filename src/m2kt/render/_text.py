"""Symbols and rules as text."""

from __future__ import annotations

from dataclasses import dataclass

from m2kt.packet import RowDescription, RuleDescription
from m2kt.probes import END

MAX_GRIDS = 6
MAX_ROWS = 60
LEGEND = (
    "Outputs: plain = travels as text; ~x = travels as a vector only, decoded as x by the packet's prototypes; · = no "
    "such row."
)


def shown(text: str) -> str:
    """Text as it is; quoted if it has outer spaces or characters that do not print. ``END`` is ``end``."""
    if text == END:
        return "end"
    return text if text.isprintable() and text == text.strip() and text else repr(text)


def output_text(row: RowDescription) -> str:
    """The output of a row, marked ``~`` where it travels as a vector only."""
    if row.output is not None:
        return shown(row.output)
    return "~" + shown(row.decoded) if row.decoded is not None else "~?"


@dataclass(frozen=True)
class Grid:
    """A rule over two of its arguments, the others fixed."""

    fixed: str
    """The fixed arguments, such as ``argument 3 = 0``; empty for two arguments."""
    corner: str
    """``1 \\ 2``: the argument of the rows, and that of the columns."""
    down: list[str]
    across: list[str]
    cells: dict[tuple[str, str], RowDescription]
    """Rows as :func:`m2kt.packet.describe` gives them, by the two arguments."""


def rule_title(rule: RuleDescription) -> str:
    """``r0: 2 arguments, 100 rows, used at 6 places``."""
    return f"{rule.name}: {rule.arity} arguments, {len(rule.rows)} rows, used at {rule.uses} places"


def rule_grids(rule: RuleDescription) -> list[Grid]:
    """Grids over the two widest arguments, one per choice of the others.

    Empty for one argument, or more than MAX_GRIDS choices of the others.
    """
    arity = rule.arity
    by_arguments = {tuple(row.arguments): row for row in rule.rows}
    if arity == 1:
        return []
    values = [list(dict.fromkeys(key[i] for key in by_arguments)) for i in range(arity)]
    down, across = sorted(sorted(range(arity), key=lambda i: -len(values[i]))[:2])
    others = [i for i in range(arity) if i not in (down, across)]
    slices: dict[tuple[str, ...], dict[tuple[str, str], RowDescription]] = {}
    for key, row in by_arguments.items():
        slices.setdefault(tuple(key[i] for i in others), {})[key[down], key[across]] = row
    if len(slices) > MAX_GRIDS:
        return []
    grids = []
    for fixed in sorted(slices, key=lambda f: [values[i].index(v) for i, v in zip(others, f, strict=True)]):
        fixed_text = ", ".join(f"argument {i + 1} = {shown(v)}" for i, v in zip(others, fixed, strict=True))
        corner = f"{down + 1} \\ {across + 1}"
        grids.append(Grid(fixed_text, corner, values[down], values[across], slices[fixed]))
    return grids

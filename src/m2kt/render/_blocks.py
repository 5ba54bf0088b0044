"""Sections and blocks of a page (tiles, tables, figures, notes), which become HTML or Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Tone = Literal["", "good", "bad", "quiet", "strong"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table. ``share`` (0 to 1) draws a bar behind the text, ``tint`` is a background colour."""

    text: str
    share: float | None = None
    tint: str | None = None
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """A table. A ``mosaic`` has small cells whose colours matter more than their text; a ``folded`` one is closed."""

    head: list[str]
    rows: list[list[Cell | str]]
    title: str = ""
    note: str = ""
    mosaic: bool = False
    folded: bool = False

    @cached_property
    def cells(self) -> list[list[Cell]]:
        """All rows as cells."""
        return [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in self.rows]


@dataclass(frozen=True)
class Figure:
    """A picture with its caption."""

    draw: Callable[[], str]
    """Returns an inline SVG; called when a page is made."""
    caption: str = ""
    title: str = ""


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    text: str
    tone: Tone = "quiet"


@dataclass(frozen=True)
class Tile:
    """A key number."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Tiles:
    """A row of tiles."""

    tiles: list[Tile]


@dataclass(frozen=True)
class Row:
    """Small blocks side by side."""

    blocks: list[Table | Figure]


Block = Tiles | Table | Figure | Note | Row


@dataclass(frozen=True)
class Section:
    """A heading, an introductory sentence, and blocks."""

    title: str
    blocks: list[Block]
    intro: str = ""
    anchor: str = field(init=False)

    def __post_init__(self) -> None:
        words = "".join(c if c.isalnum() else " " for c in self.title.lower()).split()
        object.__setattr__(self, "anchor", "-".join(words))


def percent(share: float | None, digits: int = 1) -> str:
    """``0.995`` as ``99.5 %``; a dash where it was not measured."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def share_cell(share: float | None, text: str | None = None, digits: int = 1) -> Cell:
    """A share with its bar."""
    if share is None:
        return Cell("–", tone="quiet")
    return Cell(percent(share, digits) if text is None else text, share=min(1.0, max(0.0, share)))


def to_markdown(sections: Iterable[Section]) -> str:
    """Headings, introductions, notes and tables; no pictures, mosaics, folded tables or sections without a table."""
    parts: list[str] = []
    for section in sections:
        members = [m for block in section.blocks for m in (block.blocks if isinstance(block, Row) else [block])]
        if any(isinstance(member, Tiles | Table) for member in members):
            parts += [f"### {section.title}"] + ([section.intro] if section.intro else [])
            parts += [text for member in members if (text := markdown_of(member))]
    return "\n\n".join(parts) + "\n"


def markdown_of(block: Block) -> str:
    """A note, figures or a table in Markdown; empty for what has no text form."""
    if isinstance(block, Note):
        return block.text
    if isinstance(block, Tiles):
        return "\n".join(f"* {t.label}: **{t.value}**{f' ({t.note})' if t.note else ''}" for t in block.tiles)
    if not isinstance(block, Table) or block.mosaic or block.folded:
        return ""
    lines = [f"**{block.title}**", ""] if block.title else []
    lines += [_line(block.head), _line(["---"] * len(block.head))]
    lines += [_line([cell.text for cell in row]) for row in block.cells]
    return "\n".join(lines + (["", block.note] if block.note else []))


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

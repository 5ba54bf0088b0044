"""Blocks as one self-contained HTML file: no script, no font, no request."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2kt._plugins import missing
from m2kt.errors import StorageError, explain
from m2kt.render._blocks import Block, Figure, Note, Row, Section, Table, Tiles
from m2kt.render._theme import DARK, LIGHT, themed

if TYPE_CHECKING:
    from jinja2 import Environment

_KINDS = {Tiles: "tiles", Table: "table", Figure: "figure", Note: "note", Row: "row"}


@cache
def _environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise missing("--html", "jinja2", "m2kt[html]") from error

    environment = Environment(
        loader=PackageLoader("m2kt.render"),
        autoescape=True,  # text of a packet is never markup
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["kind"] = lambda block, kind: _KINDS[type(block)] == kind
    return environment


def render_template(name: str, **context: Any) -> str:
    """A rendered template of this package, in the colours of the page."""
    return themed(_environment().get_template(name).render(**context))


def blocks_html(blocks: list[Block]) -> str:
    """Blocks as a part of another page, which includes :func:`stylesheet`."""
    show = _environment().get_template("blocks.html.j2").module.show  # type: ignore[attr-defined]
    return "".join(show(block) for block in blocks)


def stylesheet() -> str:
    """Style of blocks and pictures, light and dark; :func:`page` includes it."""
    return _environment().get_template("style.css").render(light=LIGHT, dark=DARK)


def page(title: str, sections: list[Section], *, subtitle: str = "", foot: str = "") -> str:
    """The HTML file."""
    return (
        _environment()
        .get_template("page.html.j2")
        .render(title=title, subtitle=subtitle, sections=sections, foot=foot, light=LIGHT, dark=DARK)
    )


def save_page(html: str, path: str | Path) -> None:
    """Writes a page. Raises StorageError."""
    try:
        Path(path).write_text(html, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write the page {path}: {explain(error)}; choose another path") from error

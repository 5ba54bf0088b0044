"""Inline styles become classes of one sheet, so that a page's policy can forbid every style that is not known."""

from __future__ import annotations

import re
from html import unescape

_TAG = re.compile(r"<[a-zA-Z][^<>]*>")  # what is escaped properly has no < or > within a tag or in text
_STYLE = re.compile(r'\sstyle="([^"]*)"')
_CLASS = re.compile(r'\sclass="')
_HARMLESS = re.compile(r"[\w\s#%.,:;()'/*+-]*")


def moved(html: str) -> tuple[str, str]:
    """The page without ``style`` attributes, and the sheet that says the same.

    Raises:
        ValueError: a style that could end its rule; nothing here writes such a one.
    """
    names: dict[str, str] = {}

    def replaced(tag: re.Match[str]) -> str:
        found = _STYLE.search(tag[0])
        if found is None:
            return tag[0]
        said = unescape(found[1]).strip().rstrip(";")
        if _HARMLESS.fullmatch(said) is None:
            raise ValueError(f"a style that no page of ours has: {said[:80]!r}")
        name = names.setdefault(said, f"i{len(names)}")
        rest = tag[0].replace(found[0], "", 1)
        if _CLASS.search(rest):
            return _CLASS.sub(rf"\g<0>{name} ", rest, count=1)
        return re.sub(r"(/?>)$", rf' class="{name}"\1', rest)

    html = _TAG.sub(replaced, html)
    # thrice: as strong as any rule of the sheets that an inline style would have overruled
    return html, "".join(f".{name}.{name}.{name}{{{said}}}" for said, name in names.items())

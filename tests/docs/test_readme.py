"""README: short, its walk runs as it is written, its pictures are drawn by our script, its links lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.docs.walk import ROOT, walk

README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "adr").glob("*.md")])
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")


def test_it_is_short() -> None:
    text = README.read_text()
    assert len(text.split()) <= 1100
    assert max(map(len, text.split("\n"))) <= 150 and sum(len(line) > 120 for line in text.split("\n")) == 0
    first_screen = text[: text.index("## Install")]
    for word in ("For whom", "without data", "probe spec", "before", "| --- |", "overview.svg", "answer.svg"):
        assert word in first_screen, word


def test_pictures_are_what_the_script_draws() -> None:
    folder = ROOT / "docs" / "pictures"
    drawn = runpy.run_path(str(folder / "draw.py"))["pictures"]()
    assert set(drawn) == {"overview.svg", "answer.svg"}
    for name, svg in drawn.items():
        assert (folder / name).read_text(encoding="utf-8") == svg, f"{name}: run python docs/pictures/draw.py"
        ElementTree.fromstring(svg)
        assert "prefers-color-scheme:dark" in svg and "http" not in svg.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    elsewhere = ("http://", "https://", "#", "mailto:")
    targets = [target for target in LINK.findall(text) if not target.startswith(elsewhere)]
    missing = [target for target in targets if not (page.parent / target.split("#")[0]).exists()]
    assert not missing, missing


@pytest.mark.slow
def test_the_walk(tmp_path: Path) -> None:
    assert walk(README, tmp_path) >= 4

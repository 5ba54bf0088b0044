"""The tutorial and the how-tos, followed word by word in a fresh folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.docs.walk import ROOT, walk

MINUTES = 20


@pytest.mark.slow
@pytest.mark.timeout(60 * (MINUTES + 5))
def test_the_tutorial_ends_with_an_accepted_transfer_in_twenty_minutes(tmp_path: Path) -> None:
    began = time.monotonic()
    assert walk(ROOT / "docs" / "tutorial.md", tmp_path) > 15
    assert (tmp_path / "work" / "crafting.adapter" / "receipt.json").is_file()
    assert time.monotonic() - began < 60 * MINUTES


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_how_tos(tmp_path: Path) -> None:
    assert walk(ROOT / "docs" / "howto.md", tmp_path) > 10

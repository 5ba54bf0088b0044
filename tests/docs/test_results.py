"""docs/results.md: its tables are what the committed results say."""

from __future__ import annotations

import pytest

from benchmarks.tables import PAGE, TABLES, current
from m2kt.errors import StorageError


def test_tables_are_current_and_an_altered_one_is_mended() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert current(page) == page, "run python -m benchmarks.tables"
    assert all(f"<!-- table: {name} -->" in page for name in TABLES)
    assert "| addition | 0 %" in page and current(page.replace("| addition | 0 %", "| addition | 7 %")) == page


def test_a_table_that_nobody_makes_is_an_error() -> None:
    with pytest.raises(StorageError, match="expected a table of"):
        current("<!-- table: made-up -->\n\n| a |\n\n<!-- end of table -->")

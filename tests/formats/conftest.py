"""Teachers and students of these tests are made once, also where several workers run them."""

from __future__ import annotations

import os

import pytest

from tests.formats.teachers import Made


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Models by name, each made when it is first asked for."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    (shared / "formats").mkdir(exist_ok=True)
    return Made(shared / "formats")

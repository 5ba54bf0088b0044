"""Teachers and students of these tests are made once."""

from __future__ import annotations

import pytest

from tests.formats.teachers import Made


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Models by name, each made when it is first asked for."""
    return Made(tmp_path_factory.mktemp("formats"))

"""What several files of these tests share: one extraction for each worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2kt.pipeline import extract


@pytest.fixture(scope="session")
def secret_packet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packet of ``zoo:secret``, with the defaults of extraction."""
    path = tmp_path_factory.mktemp("secret") / "secret.packet"
    extract("zoo:secret", "zoo:secret", path)
    return path

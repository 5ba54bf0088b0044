"""Settings of all tests: offline, one thread for each worker, a temporary home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["COLUMNS"] = "120"  # as without a terminal; readline, which pytest imports, tells what it starts 80

# no test depends on wall time
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keys go to a temporary home; fetched models stay visible for the slow tests."""
    user_home = Path(os.environ.get("M2KT_HOME") or Path.home() / ".cache" / "m2kt")
    home = tmp_path_factory.mktemp("m2kt-home")
    if (user_home / "models").is_dir():
        (home / "models").symlink_to(user_home / "models")
    os.environ["M2KT_HOME"] = str(home)


LONGEST = ("pipeline", "broker", "benchmarks", "zoo", "cli", "teacher", "auditor")
"""Folders whose files run for a minute or more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: else the last one runs alone while the other worker idles."""
    items.sort(
        key=lambda item: min((i for i, name in enumerate(LONGEST) if name in item.path.parts), default=len(LONGEST))
    )

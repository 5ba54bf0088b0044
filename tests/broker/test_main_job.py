"""The main job over a broker, as on two machines. Takes minutes."""

from __future__ import annotations

import pytest

from tests.broker.main_job import run


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", ["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.registry])]
)
def test_main_job(place: str) -> None:
    result = run(place, "zoo:pico-llama")
    line = result["lineage"]["lines"][0]
    assert result["verdict"] == "accepted" and result["accuracy"] > 0.9
    assert line["packet"]["state"] == "revoked" and line["receipts"][0]["adapter"]

"""A packet's way to the Hub and back, by the Hub's own client, against a hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from m2kt.errors import PacketError
from m2kt.packet import Packet
from tests.packet.samples import sample_packet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment of a client that knows this hub alone."""
    command = [sys.executable, "-m", "tests.packet.hub", str(tmp_path / "hub")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    try:
        yield {
            **os.environ,
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path / "cache"),
            "HF_TOKEN": "hf_nobody",
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        }
    finally:
        server.kill()
        server.wait()


def run(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_there_and_back(hub: dict[str, str], tmp_path: Path) -> None:
    saved = sample_packet().save_pretrained(tmp_path / "packet")
    digest = Packet.from_pretrained(saved).digest
    sent = run(
        f"from m2kt import Packet; print(Packet.load({str(saved)!r}).push_to_hub('ann/tiny', private=True))",
        hub,
    )
    assert sent.returncode == 0 and "/commit/" in sent.stdout, sent.stderr
    back = run("from m2kt import Packet; print(Packet.from_pretrained('ann/tiny').digest)", hub)
    assert back.stdout.strip() == digest, back.stderr
    (tmp_path / "hub" / "ann" / "tiny" / "README.md").write_text("hello")  # somebody edits it there
    stranger = hub | {"HF_HOME": str(tmp_path / "other-cache")}
    edited = run("from m2kt import Packet; Packet.from_pretrained('ann/tiny', revision='main')", stranger)
    assert "README.md was edited after signing" in edited.stderr


def test_what_is_not_there_is_named(hub: dict[str, str]) -> None:
    code = "from m2kt import Packet; Packet.from_pretrained('ann/nothing')"
    assert "the Hub did not give it" in run(code, hub).stderr


def test_offline_says_so() -> None:
    with pytest.raises(PacketError, match="the Hub did not give it"):
        Packet.from_pretrained("ann/tiny")
    with pytest.raises(PacketError, match="the Hub did not take the packet"):
        sample_packet().push_to_hub("ann/tiny")

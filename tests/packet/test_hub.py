"""A packet uploaded to and downloaded from a hub on this machine, by the Hub's client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from m2kt.errors import PacketError
from m2kt.packet import Packet
from tests.packet.hub import run, serving
from tests.packet.samples import sample_packet


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    with serving(tmp_path / "hub", tmp_path / "cache") as environment:
        yield environment


@pytest.mark.long
def test_upload_and_download(hub: dict[str, str], tmp_path: Path) -> None:
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
    second_client = hub | {"HF_HOME": str(tmp_path / "other-cache")}
    edited = run("from m2kt import Packet; Packet.from_pretrained('ann/tiny', revision='main')", second_client)
    assert "README.md was edited after signing" in edited.stderr


@pytest.mark.long
def test_a_branch_is_selected_by_name(hub: dict[str, str], tmp_path: Path) -> None:
    saved = sample_packet().save_pretrained(tmp_path / "packet")
    code = f"from m2kt import Packet; Packet.load({str(saved)!r}).push_to_hub('ann/tiny', branch='next')"
    assert run(code, hub).returncode == 0
    assert (tmp_path / "hub" / "pushes.txt").read_text() == "ann/tiny next\n"


def test_the_card_has_metadata_for_the_hub(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(sample_packet().save_pretrained(tmp_path / "packet") / "README.md")
    assert card.data.library_name == "m2kt" and "knowledge-packet" in card.data.tags


@pytest.mark.long
def test_a_missing_repository_is_named(hub: dict[str, str]) -> None:
    code = "from m2kt import Packet; Packet.from_pretrained('ann/nothing')"
    assert "the Hub did not return it" in run(code, hub).stderr


def test_offline_errors() -> None:
    with pytest.raises(PacketError, match="the Hub did not return it"):
        Packet.from_pretrained("ann/tiny")
    with pytest.raises(PacketError, match="the Hub refused the packet"):
        sample_packet().push_to_hub("ann/tiny")

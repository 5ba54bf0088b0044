"""The adapter card: its values are those of receipt and packet, and the signature covers it."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from m2kt.errors import PacketError
from m2kt.models import LoadedModel, load_causal_lm
from m2kt.packet import Packet, local_key, read_signer
from m2kt.pipeline import IngestConfig, extract, ingest, verify_adapter
from m2kt.pipeline._cards import adapter_card
from m2kt.pipeline._receipt import Draft
from m2kt.pipeline._statements import read_receipt
from m2kt.settings import Thresholds

ACCEPT_ANY = IngestConfig(  # accepts any adapter: these tests read its card
    prompt_seed=0,
    updates=1,
    evaluation_prompts=4,
    certificate_traces=20,
    thresholds=Thresholds(gap_recovered=-1, perplexity_ratio=99, divergence=99),
)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Packet, Path, str]:
    root = tmp_path_factory.mktemp("card")
    extract("zoo:secret", "zoo:secret", root / "packet.m2kp")
    packet = Packet.load(root / "packet.m2kp")
    result = ingest("zoo:pico-gpt2", packet, root / "adapter", config=ACCEPT_ANY)
    return packet, root / "adapter", str(result.adapter_digest)


def test_the_card_quotes_the_receipt(ingested: tuple[Packet, Path, str]) -> None:
    packet, adapter, digest = ingested
    statement, receipt = read_receipt(adapter, digest)
    card = ModelCard.load(adapter / "README.md")
    assert card.data.library_name == "peft" and card.data.license == "apache-2.0"
    assert {"m2kt", "knowledge-packet"} <= set(card.data.tags)
    assert card.data.base_model is None  # a model of the zoo is not on the Hub
    teacher, bound = packet.manifest.teacher, receipt.after["certificate"]["bound"]
    for value in (
        packet.digest,
        packet.signature.keyid,
        teacher.name,
        teacher.digest,
        receipt.base_model.name,
        receipt.base_model.digest,
        statement.keyids[0],
        f"| verdict | {receipt.verdict} |",
        f"P(right) at least {100 * bound:.1f} %",
        f"of {receipt.after['n']} prompts",
        f"| packet bytes | {packet.size_bytes:,} |",
        "m2kt.register()",
        "not in vLLM or llama.cpp",
    ):
        assert str(value) in card.text, value


def test_the_card_states_accuracy_at_high_teacher_confidence(ingested: tuple[Packet, Path, str]) -> None:
    packet, adapter, digest = ingested
    assert packet.confidence_K is not None
    high = read_receipt(adapter, digest)[1].after["confidence"]["sure"]
    line = f"{100 * high['as_packet']:.1f} % of {high['n']} prompts of high teacher confidence"
    assert line in (adapter / "README.md").read_text()


def test_the_receipt_covers_the_card(ingested: tuple[Packet, Path, str]) -> None:
    _, adapter, _ = ingested
    verify_adapter(adapter, None)
    card = (adapter / "README.md").read_text()
    (adapter / "README.md").write_text(card.replace("| verdict | accepted |", "| verdict | the best |"))
    with pytest.raises(PacketError, match="changed or exchanged"):
        verify_adapter(adapter, None)
    (adapter / "README.md").write_text(card)
    verify_adapter(adapter, None)


def test_a_base_from_the_hub_is_in_the_metadata(ingested: tuple[Packet, Path, str]) -> None:
    packet, adapter, digest = ingested
    _, receipt = read_receipt(adapter, digest)
    loaded = load_causal_lm("zoo:pico-gpt2")
    cached = Path("/cache/models--ann--base/snapshots/0123")
    student = LoadedModel(loaded.model, loaded.tokenizer, "ann/base", cached, loaded.digest, 0)
    card = ModelCard(adapter_card(Draft(packet, receipt, read_signer(local_key())), student))
    assert card.data.base_model == "ann/base" and "base_model:adapter:ann/base" in card.data.tags
    assert card.data.license is None and "base: not stated" in card.text  # the licences differ: the card names none


def test_text_of_a_packet_is_escaped(ingested: tuple[Packet, Path, str]) -> None:
    packet, adapter, digest = ingested
    _, receipt = read_receipt(adapter, digest)
    spec = packet.spec.model_copy(update={"description": "<script>alert(1)</script> | x"})
    draft = Draft(packet.replace(spec=spec), receipt, read_signer(local_key()))
    assert "<script" not in adapter_card(draft, load_causal_lm("zoo:pico-gpt2"))

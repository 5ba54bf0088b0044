"""The receipt of an ingestion: signature, digest of the adapter, rollback, policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m2kt.errors import PacketError
from m2kt.packet import RECEIPT, Packet, TrustPolicy, judge_file, local_key, show_key, verify_statement
from m2kt.pipeline import IngestConfig, adapter_digest, extract, ingest, rollback, schemas, verify_adapter
from m2kt.settings import StudentSettings, Thresholds
from tests.packet.trusting import policy_file

ACCEPT_ANY = IngestConfig(  # accepts any adapter: these tests read its receipt
    prompt_seed=0,
    updates=1,
    evaluation_prompts=4,
    certificate_traces=0,
    thresholds=Thresholds(gap_recovered=-1, perplexity_ratio=99, divergence=99),
)


def test_an_accepted_ingest(tmp_path: Path) -> None:
    extract("zoo:secret", "zoo:secret", tmp_path / "packet.m2kp")
    packet, out = Packet.load(tmp_path / "packet.m2kp"), tmp_path / "adapter"
    signer = show_key(local_key())
    entry = {
        "keyid": signer.keyid,
        "public_key": signer.public_key,
        "owner": "ann",
        "roles": ["teacher", "auditor"],
        "expires": "2999-01-01",
    }
    policy = TrustPolicy.from_file(policy_file(tmp_path / "trust.yaml", entry))

    result = ingest("zoo:pico-gpt2", packet, out, config=ACCEPT_ANY, trust=policy)
    assert result.accepted and result.receipt == out / "receipt.json"
    content = (out / "receipt.json").read_bytes()
    receipt = verify_statement(content, expected=RECEIPT, packet=packet.digest).predicate
    assert receipt["verdict"] == "accepted" and receipt["origin"]["trusted"]
    assert receipt["before"]["adapter"] is None
    assert receipt["after"]["adapter"] == result.adapter_digest == adapter_digest(out)
    assert judge_file(out / "receipt.json", policy).trusted
    assert not judge_file(out / "receipt.json", None).trusted

    ingest("zoo:pico-gpt2", packet, out, config=ACCEPT_ANY, seed=1)
    assert (out / "receipt.json").read_bytes() != content
    rollback(out)
    assert (out / "receipt.json").read_bytes() == content and adapter_digest(out) == result.adapter_digest

    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(receipt, schemas()["receipt"])
    assert verify_adapter(out, policy, packet=tmp_path / "packet.m2kp", student="zoo:pico-gpt2").trusted
    assert not verify_adapter(out, None).trusted
    with pytest.raises(PacketError, match="the model zoo:pico-llama has the digest"):
        verify_adapter(out, policy, student="zoo:pico-llama")
    other = packet.replace(manifest=packet.manifest.model_copy(update={"name": "other"}))
    with pytest.raises(PacketError, match=r"the packet .* has the digest"):
        verify_adapter(out, policy, packet=other.save(tmp_path / "other.m2kp"))
    config = json.loads((out / "adapter_config.json").read_text())
    (out / "adapter_config.json").write_text(json.dumps(config | {"flagged": [0]}))
    with pytest.raises(PacketError, match="changed or exchanged"):
        verify_adapter(out, policy)


def test_every_rejection_has_a_receipt_file(tmp_path: Path) -> None:
    extract("zoo:secret", "zoo:secret", tmp_path / "packet.m2kp")
    learned = StudentSettings(depth="learned")  # in a few updates: not the skill
    strict = ACCEPT_ANY.model_copy(update={"thresholds": Thresholds(gap_recovered=1), "student": learned})
    paths = [
        ingest("zoo:pico-gpt2", tmp_path / "packet.m2kp", tmp_path / "A", config=strict, seed=seed).receipt
        for seed in (0, 1)
    ]
    assert [p.name for p in paths] == ["A.rejected.json", "A.rejected-2.json"]
    receipts = [verify_statement(p.read_bytes(), expected=RECEIPT).predicate for p in paths]
    assert [receipt["cal"]["seed"] for receipt in receipts] == [0, 1]
    assert all(r["verdict"] == "rejected" and r["after"]["adapter"] is None for r in receipts)

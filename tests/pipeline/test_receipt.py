"""The receipt of an accepted ingest: signed, true to what stands there, kept through a rollback, asked of a policy."""

from __future__ import annotations

from pathlib import Path

from m2kt.packet import RECEIPT, Packet, TrustPolicy, judge_file, local_key, show_key, verify_statement
from m2kt.pipeline import IngestConfig, adapter_digest, extract, ingest, rollback
from tests.packet.trusting import policy_file

ANYTHING = IngestConfig(  # is accepted: what matters here is what the receipt says
    updates=1,
    evaluation_prompts=4,
    certificate_traces=0,
    thresholds={"gap_recovered": -1, "perplexity_ratio": 99, "divergence": 99},
)


def test_an_accepted_ingest(tmp_path: Path) -> None:
    extract("zoo:secret", "zoo:secret", tmp_path / "packet.m2kp")
    packet, out = Packet.load(tmp_path / "packet.m2kp"), tmp_path / "adapter"
    me = show_key(local_key())
    entry = {
        "keyid": me.keyid,
        "public_key": me.public_key,
        "owner": "me",
        "roles": ["teacher", "auditor"],
        "expires": "2999-01-01",
    }
    policy = TrustPolicy.from_file(policy_file(tmp_path / "trust.yaml", entry))

    result = ingest("zoo:pico-gpt2", packet, out, config=ANYTHING, trust=policy)
    assert result.verdict == "accepted" and result.receipt == str(out / "receipt.json")
    content = (out / "receipt.json").read_bytes()
    about = verify_statement(content, expected=RECEIPT, packet=packet.digest).predicate
    assert about["verdict"] == "accepted" and about["origin"]["trusted"]
    assert about["before"]["adapter"] is None
    assert about["after"]["adapter"] == result.adapter_digest == adapter_digest(out)
    assert judge_file(out / "receipt.json", policy).trusted
    assert not judge_file(out / "receipt.json", None).trusted

    ingest("zoo:pico-gpt2", packet, out, config=ANYTHING, seed=1)
    assert (out / "receipt.json").read_bytes() != content
    rollback(out)
    assert (out / "receipt.json").read_bytes() == content and adapter_digest(out) == result.adapter_digest

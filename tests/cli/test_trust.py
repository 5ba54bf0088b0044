"""The verbs keys, sign, verify, and policies: exit codes, JSON on stdout, refusals before training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from m2kt.cli import app
from m2kt.packet import EVALUATION, VERDICT, Packet, key_path, verify_statement
from m2kt.pipeline import schemas
from tests.packet.samples import SPEC, sample_packet
from tests.packet.trusting import key, policy_file, trusted
from tests.tiny import char_tokenizer, save_tiny

NOT_TRUSTED = 11


def m2kt(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(autouse=True)
def _temporary_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("M2KT_PASSPHRASE", raising=False)


@pytest.fixture
def packet(tmp_path: Path) -> Path:
    key("tom")
    return sample_packet().save(tmp_path / "p.m2kp", key=key_path("tom"))


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    created = m2kt("keys", "new", "ann", "--json")
    assert created.exit_code == 0 and "BEGIN PUBLIC KEY" in json.loads(created.stdout)["public_key"]
    shown = m2kt("keys", "show", "ann")
    assert json.loads(created.stdout)["keyid"] in shown.stdout and "PRIVATE" not in shown.stdout
    repeated = m2kt("keys", "new", "ann")
    assert repeated.exit_code == 9 and "not overwritten" in repeated.stderr
    monkeypatch.setenv("M2KT_PASSPHRASE", "sesame")
    assert m2kt("keys", "new", "ada", "--passphrase").exit_code == 0
    listed = json.loads(m2kt("keys", "list", "--json").stdout)["keys"]
    assert [(k["name"], k["locked"]) for k in listed] == [("ada", True), ("ann", False)]


def test_sign_and_verify(packet: Path, tmp_path: Path) -> None:
    keys = (trusted("tom", "teacher"), trusted("ada", "auditor"))
    policy = policy_file(tmp_path / "t.yaml", *keys, thresholds={"teacher": 1, "auditor": 1})
    without_auditor = m2kt("verify", packet, "--trust", policy, "--at", "2027-01-01", "--json")
    assert without_auditor.exit_code == NOT_TRUSTED
    assert "role auditor needs 1" in json.loads(without_auditor.stdout)["reasons"][0]
    signed = json.loads(m2kt("sign", packet, "--key", "ada", "--json").stdout)
    assert signed["digest"] == Packet.load(packet).digest and len(signed["signers"]) == 2
    assert m2kt("sign", packet, "--key", "ada").exit_code == 7
    assert m2kt("verify", packet, "--trust", policy, "--at", "2027-01-01").exit_code == 0
    expired = m2kt("verify", packet, "--trust", policy, "--at", "2031-01-01")
    assert expired.exit_code == NOT_TRUSTED and "expired" in expired.stdout


def test_without_a_policy_a_packet_is_intact_and_not_trusted(packet: Path) -> None:
    result = m2kt("verify", packet, "--json")
    verdict = json.loads(result.stdout)
    assert result.exit_code == NOT_TRUSTED and verdict["integrity"] and not verdict["trusted"]
    assert verdict["reasons"][0].startswith("not trusted: no policy")


def test_damaged_packets_and_invalid_policies(packet: Path, tmp_path: Path) -> None:
    policy = policy_file(tmp_path / "t.yaml", trusted("tom", "teacher"), anything=1)
    assert m2kt("verify", packet, "--trust", policy).exit_code == 3
    content = bytearray(packet.read_bytes())
    content[len(content) // 2] ^= 1
    packet.write_bytes(content)
    assert m2kt("verify", packet).exit_code == 7
    (tmp_path / "receipt.json").write_text('{"payload": 1}')
    assert m2kt("verify", tmp_path / "receipt.json").exit_code == 7


def test_a_wrong_passphrase(packet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_PASSPHRASE", "sesame")
    m2kt("keys", "new", "ada", "--passphrase")
    monkeypatch.setenv("M2KT_PASSPHRASE", "barley")
    result = m2kt("sign", packet, "--key", "ada")
    assert result.exit_code == 9 and "passphrase is wrong" in result.stderr
    monkeypatch.delenv("M2KT_PASSPHRASE")
    assert m2kt("sign", packet, "--key", "ada").exit_code == 9


def test_ingest_checks_the_policy_before_it_loads_a_model(packet: Path, tmp_path: Path) -> None:
    policy = policy_file(tmp_path / "t.yaml", trusted("ann", "teacher"))
    # the student does not exist: a later refusal would name it
    result = m2kt("ingest", "no/such/student", packet, "--out", tmp_path / "a", "--trust", policy)
    assert result.exit_code == NOT_TRUSTED and "role teacher needs 1" in result.stderr
    assert not (tmp_path / "a").exists()


def test_an_evaluation_and_an_audit_are_signed_statements(packet: Path, tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", "gpt2", char_tokenizer())
    (tmp_path / "spec.yaml").write_text(SPEC.replace("truth: truth.py:answer", "truth: null"))
    (tmp_path / "patterns.yaml").write_text("detectors: [patterns]\n")
    key("ada")
    evaluation = tmp_path / "evaluation.json"
    evaluate = ("evaluate", tmp_path / "model", "--probes", tmp_path / "spec.yaml", "--n", 4)
    assert m2kt(*evaluate, "--packet", packet).exit_code == 3
    evaluated = m2kt(*evaluate, "--packet", packet, "--statement", evaluation, "--key", "ada", "--json")
    assert evaluated.exit_code == 0, evaluated.stderr
    audit = ("audit", packet, "--config", tmp_path / "patterns.yaml", "--key", "ada", "--json")
    verdict = tmp_path / "verdict.json"
    audited = m2kt(*audit, "--statement", verdict)
    assert audited.exit_code == 0, audited.stderr
    jsonschema = pytest.importorskip("jsonschema")
    policy = policy_file(tmp_path / "t.yaml", trusted("tom", "teacher"), trusted("ada", "auditor"))
    for file, kind, printed in ((evaluation, EVALUATION, evaluated), (verdict, VERDICT, audited)):
        statement = verify_statement(file.read_bytes(), expected=kind, packet=Packet.load(packet).digest)
        assert statement.predicate.items() >= json.loads(printed.stdout).items()
        jsonschema.validate(statement.predicate, schemas()[kind.split(":")[2]])
        assert m2kt("verify", file, "--trust", policy, "--at", "2027-01-01").exit_code == 0
    only_tom = policy_file(tmp_path / "u.yaml", trusted("tom", "teacher"))
    assert m2kt("verify", verdict, "--trust", only_tom, "--at", "2027-01-01").exit_code == NOT_TRUSTED

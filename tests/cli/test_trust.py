"""The verbs of trust as users run them: exit codes, JSON on stdout, refusals before any training."""

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
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("M2KT_PASSPHRASE", raising=False)


@pytest.fixture
def packet(tmp_path: Path) -> Path:
    key("tom")
    return sample_packet().save(tmp_path / "p.m2kp", key=key_path("tom"))


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    made = m2kt("keys", "new", "ann", "--json")
    assert made.exit_code == 0 and "BEGIN PUBLIC KEY" in json.loads(made.stdout)["public_key"]
    shown = m2kt("keys", "show", "ann")
    assert json.loads(made.stdout)["keyid"] in shown.stdout and "PRIVATE" not in shown.stdout
    again = m2kt("keys", "new", "ann")
    assert again.exit_code == 9 and "not overwritten" in again.stderr
    monkeypatch.setenv("M2KT_PASSPHRASE", "sesame")
    assert m2kt("keys", "new", "ada", "--passphrase").exit_code == 0
    listed = json.loads(m2kt("keys", "list", "--json").stdout)["keys"]
    assert [(k["name"], k["locked"]) for k in listed] == [("ada", True), ("ann", False)]


def test_sign_and_verify(packet: Path, tmp_path: Path) -> None:
    keys = (trusted("tom", "teacher"), trusted("ada", "auditor"))
    policy = policy_file(tmp_path / "t.yaml", *keys, thresholds={"teacher": 1, "auditor": 1})
    missed = m2kt("verify", packet, "--trust", policy, "--at", "2027-01-01", "--json")
    assert missed.exit_code == NOT_TRUSTED
    assert "role auditor needs 1" in json.loads(missed.stdout)["reasons"][0]
    signed = json.loads(m2kt("sign", packet, "--key", "ada", "--json").stdout)
    assert signed["digest"] == Packet.load(packet).digest and len(signed["signers"]) == 2
    assert m2kt("sign", packet, "--key", "ada").exit_code == 7
    assert m2kt("verify", packet, "--trust", policy, "--at", "2027-01-01").exit_code == 0
    late = m2kt("verify", packet, "--trust", policy, "--at", "2031-01-01")
    assert late.exit_code == NOT_TRUSTED and "expired" in late.stdout


def test_without_a_policy_it_is_intact_and_not_trusted(packet: Path) -> None:
    done = m2kt("verify", packet, "--json")
    verdict = json.loads(done.stdout)
    assert done.exit_code == NOT_TRUSTED and verdict["integrity"] and not verdict["trusted"]
    assert verdict["reasons"][0].startswith("not trusted: no policy")


def test_damage_and_bad_policies(packet: Path, tmp_path: Path) -> None:
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
    done = m2kt("sign", packet, "--key", "ada")
    assert done.exit_code == 9 and "passphrase is wrong" in done.stderr
    monkeypatch.delenv("M2KT_PASSPHRASE")
    assert m2kt("sign", packet, "--key", "ada").exit_code == 9


def test_ingest_refuses_before_anything_is_loaded(packet: Path, tmp_path: Path) -> None:
    policy = policy_file(tmp_path / "t.yaml", trusted("ann", "teacher"))
    # there is no such student: a refusal that came later would say so
    done = m2kt("ingest", "no/such/student", packet, "--out", tmp_path / "a", "--trust", policy)
    assert done.exit_code == NOT_TRUSTED and "role teacher needs 1" in done.stderr
    assert not (tmp_path / "a").exists()


def test_an_evaluation_and_an_audit_are_signed_statements(packet: Path, tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", "gpt2", char_tokenizer())
    (tmp_path / "spec.yaml").write_text(SPEC.replace("truth: truth.py:answer", "truth: null"))
    (tmp_path / "patterns.yaml").write_text("detectors: [patterns]\n")
    key("ada")
    said = tmp_path / "evaluation.json"
    asked = ("evaluate", tmp_path / "model", "--probes", tmp_path / "spec.yaml", "--n", 4)
    assert m2kt(*asked, "--packet", packet).exit_code == 3
    done = m2kt(*asked, "--packet", packet, "--statement", said, "--key", "ada", "--json")
    assert done.exit_code == 0, done.stderr
    audited = ("audit", packet, "--config", tmp_path / "patterns.yaml", "--key", "ada", "--json")
    judged = tmp_path / "verdict.json"
    found = m2kt(*audited, "--statement", judged)
    assert found.exit_code == 0, found.stderr
    jsonschema = pytest.importorskip("jsonschema")
    policy = policy_file(tmp_path / "t.yaml", trusted("tom", "teacher"), trusted("ada", "auditor"))
    for file, kind, printed in ((said, EVALUATION, done), (judged, VERDICT, found)):
        statement = verify_statement(file.read_bytes(), expected=kind, packet=Packet.load(packet).digest)
        assert statement.predicate.items() >= json.loads(printed.stdout).items()
        jsonschema.validate(statement.predicate, schemas()[kind.split(":")[2]])
        assert m2kt("verify", file, "--trust", policy, "--at", "2027-01-01").exit_code == 0
    only_tom = policy_file(tmp_path / "u.yaml", trusted("tom", "teacher"))
    assert m2kt("verify", judged, "--trust", only_tom, "--at", "2027-01-01").exit_code == NOT_TRUSTED

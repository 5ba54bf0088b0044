"""Each command of docs/errors.md gives the exit code and the message in its row."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from m2kt.cli import app
from m2kt.cli._output import EXIT_CODES

DOCS = Path(__file__).resolve().parents[2] / "docs"
LINES = (DOCS / "errors.md").read_text(encoding="utf-8").splitlines()
ROWS = [m.groups() for line in LINES if (m := re.fullmatch(r"\| (\d+) \| `m2kt ([^`]+)` \| (.+) \|", line))]
MEANINGS = [
    int(m[1])
    for line in LINES
    if (m := re.fullmatch(r"\| (\d+) \| [^`]+ \|", line) or re.match(r"\| (1) \| `bench", line))
]


@pytest.fixture(scope="module")
def policies(inputs: Path) -> Path:
    """The inputs with policies for the key that signed the packet, and for another key."""

    def policy_entry(name: str) -> dict[str, Any]:
        key: dict[str, Any] = json.loads(CliRunner().invoke(app, ["keys", "show", name, "--json"]).stdout)
        return {field: key[field] for field in ("keyid", "public_key")} | {
            "owner": name,
            "roles": ["teacher"],
            "expires": "2999-01-01",
        }

    CliRunner().invoke(app, ["keys", "new", "judge"])
    signer = json.loads((inputs / "packet" / "signature.json").read_text())["signatures"][0]["keyid"]
    names = [row["name"] for row in json.loads(CliRunner().invoke(app, ["keys", "list", "--json"]).stdout)["keys"]]
    signer_entry = next(entry for name in names if (entry := policy_entry(name))["keyid"] == signer)
    policy = {"version": 1, "keys": [signer_entry], "thresholds": {"teacher": 1}}
    (inputs / "trust.yaml").write_text(json.dumps(policy))
    (inputs / "high.yaml").write_text(json.dumps(policy | {"thresholds": {"teacher": 2}}))
    (inputs / "stranger.yaml").write_text(json.dumps(policy | {"keys": [policy_entry("judge")]}))
    return inputs


@pytest.mark.parametrize(("code", "command", "message"), ROWS, ids=[f"{c} {line}" for c, line, _ in ROWS])
def test_the_command_gives_the_code_and_message_of_its_row(
    code: str, command: str, message: str, policies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(policies)
    monkeypatch.setenv("M2KT_OFFLINE", "1")
    result = CliRunner().invoke(app, command.split())
    printed = " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.stdout + "\n" + result.stderr).split())
    pattern = ".*".join(re.escape(part.strip()) for part in message.split("…"))
    assert str(result.exit_code) == code, (printed, result.exception)
    assert re.search(pattern, printed), printed
    if message.startswith("error: "):
        assert result.stdout == "" and result.stderr.count("error: ") == 1


def test_every_exit_code_has_a_meaning_and_a_command() -> None:
    named = {int(n) for n in re.findall(r"\b(\d+) [a-z]", EXIT_CODES)}
    assert named == set(MEANINGS) == {int(code) for code, _, _ in ROWS}


def test_documents_name_no_unknown_exit_code() -> None:
    for path in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for code in re.findall(r"\bexit (?:code )?(\d+)", path.read_text(encoding="utf-8"), re.I):
            assert int(code) in MEANINGS, (path.name, code)

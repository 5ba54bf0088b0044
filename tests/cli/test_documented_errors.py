"""Every exit code and error message that docs/errors.md shows is produced here by the command beside it."""

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
def keys(place: Path) -> Path:
    """Policies about the key that signed the packet, and about another one."""

    def shown(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(CliRunner().invoke(app, ["keys", "show", name, "--json"]).stdout)
        return {k: found[k] for k in ("keyid", "public_key")} | {
            "owner": name,
            "roles": ["teacher"],
            "expires": "2999-01-01",
        }

    CliRunner().invoke(app, ["keys", "new", "judge"])
    signer = json.loads((place / "packet" / "signature.json").read_text())["signatures"][0]["keyid"]
    names = [
        row["name"] for row in json.loads(CliRunner().invoke(app, ["keys", "list", "--json"]).stdout)["keys"]
    ]
    own = next(entry for name in names if (entry := shown(name))["keyid"] == signer)
    policy = {"version": 1, "keys": [own], "thresholds": {"teacher": 1}}
    (place / "trust.yaml").write_text(json.dumps(policy))
    (place / "high.yaml").write_text(json.dumps(policy | {"thresholds": {"teacher": 2}}))
    (place / "stranger.yaml").write_text(json.dumps(policy | {"keys": [shown("judge")]}))
    return place


@pytest.mark.parametrize(("code", "command", "says"), ROWS, ids=[f"{c} {line}" for c, line, _ in ROWS])
def test_row(code: str, command: str, says: str, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(keys)
    monkeypatch.setenv("M2KT_OFFLINE", "1")
    done = CliRunner().invoke(app, command.split())
    printed = " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stdout + "\n" + done.stderr).split())
    pattern = ".*".join(re.escape(part.strip()) for part in says.split("…"))
    assert str(done.exit_code) == code, (printed, done.exception)
    assert re.search(pattern, printed), printed
    if says.startswith("error: "):
        assert done.stdout == "" and done.stderr.count("error: ") == 1


def test_every_code_is_explained_and_shown() -> None:
    named = {int(n) for n in re.findall(r"\b(\d+) [a-z]", EXIT_CODES)}
    assert named == set(MEANINGS) == {int(code) for code, _, _ in ROWS}


def test_the_other_documents_name_no_other_code() -> None:
    for path in (*DOCS.glob("*.md"), DOCS.parent / "README.md"):
        for code in re.findall(r"\bexit (?:code )?(\d+)", path.read_text(encoding="utf-8"), re.I):
            assert int(code) in MEANINGS, (path.name, code)

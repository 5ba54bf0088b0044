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
from tests.packet.samples import SPEC, sample_packet
from tests.tiny import char_tokenizer, save_tiny

DOCS = Path(__file__).resolve().parents[2] / "docs"
LINES = (DOCS / "errors.md").read_text(encoding="utf-8").splitlines()
ROWS = [m.groups() for line in LINES if (m := re.fullmatch(r"\| (\d+) \| `m2kt ([^`]+)` \| (.+) \|", line))]
MEANINGS = [
    int(m[1])
    for line in LINES
    if (m := re.fullmatch(r"\| (\d+) \| [^`]+ \|", line) or re.match(r"\| (1) \| `bench", line))
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("documented")
    save_tiny(root / "model", "llama", char_tokenizer())
    save_tiny(root / "short", "gpt2", char_tokenizer(), context=4)
    save_tiny(root / "digits", "gpt2", char_tokenizer("\n 0123456789:>."))
    packet = sample_packet()
    packet.save(root / "packet")
    packet.save(root / "edited")
    (root / "edited" / "README.md").write_text("hello")
    symbols = ["a", "b", "I will hurt you"]
    packet.replace(graph=packet.graph.model_copy(update={"symbols": symbols})).save(root / "rude")
    (root / "thesis").mkdir()
    (root / "thesis" / "chapter.txt").write_text("years of work")
    texts = {
        "spec": SPEC.replace("truth: truth.py:answer", "truth: null"),
        "broken": "name: [",
        "wrong": SPEC.replace("truth: truth.py:answer", "truth: null") + "\ncolour: red\n",
        "settings": "colour: red\n",
        "magic": "detectors: [magic]\n",
        "patterns": "detectors: [patterns]\n",
        "short": "evaluation_prompts: 9\ncertificate_traces: 0\n",
        "steep": "student: {optimiser: {reader_lr: 1.0e+30, steering_lr: 1.0e+30, warmup: 0}}\n",
        "broken-bench": "name: p\ngroups: [{skills: [secret], students: ['zoo:pico-gpt2'], "
        "arms: [{arm: m2kt, nonsense: 1}]}]\n",
        "nobody": "version: 1\nkeys: []\nthresholds: {teacher: 1}\n",
    }
    for name, text in texts.items():
        (root / f"{name}.yaml").write_text(text)
    return root


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

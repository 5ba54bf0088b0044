"""Manners of the command: version, volume, groups, examples, completion, colours, 80 columns."""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from rich.console import Console
from typer.testing import CliRunner

import m2kt
from m2kt.cli import app
from m2kt.cli._help import EXAMPLES, GROUPS
from m2kt.cli._progress import Stages, Volume

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;|48;|4[0-7])")


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All verbs, and verbs of verbs, by full name."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for inner, its in command.commands.items():
        yield from leaves(its, f"{name} {inner}".strip())


ROOT = typer.main.get_command(app)
LEAVES = dict(leaves(ROOT))


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"m2kt {m2kt.__version__}\n")


def test_every_verb_has_an_example_that_parses() -> None:
    assert len(LEAVES) > 35 and set(EXAMPLES) == set(LEAVES)
    for name, example in EXAMPLES.items():
        assert example.startswith(f"m2kt {name}"), example
        words = shlex.split(example)[1 + len(name.split()) :]
        LEAVES[name].make_context(name, words)
        assert example in LEAVES[name].epilog


def test_every_verb_stands_in_one_group() -> None:
    verbs = [verb for group in GROUPS.values() for verb in group]
    assert sorted(verbs) == sorted(ROOT.commands)  # type: ignore[attr-defined]
    text = CliRunner().invoke(app, ["--help"]).stdout
    places = [text.index(f"─ {heading} ─") for heading in GROUPS]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["", *LEAVES])
def test_help_fits_80_columns(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0 and "Usage" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert not name or "Example: m2kt" in result.stdout


@pytest.mark.parametrize("arguments", [["-q", "doctor"], ["doctor", "-q"], ["doctor", "--quiet"]])
def test_quiet_says_nothing_but_the_result(arguments: list[str]) -> None:
    loud = CliRunner().invoke(app, ["doctor", "--no-network"])
    quiet = CliRunner().invoke(app, [*arguments, "--no-network"])
    assert "looking at devices" in loud.stderr and quiet.stderr == "" and quiet.stdout == loud.stdout
    assert CliRunner().invoke(app, ["doctor", "--no-network"]).stderr == loud.stderr  # it was said for one command
    both = CliRunner().invoke(app, ["doctor", "-q", "-v"])
    assert both.exit_code == 2 and "expected -q or -v" in both.stderr


def test_verbose_keeps_stages_with_their_seconds() -> None:
    result = CliRunner().invoke(app, ["doctor", "--no-network", "-v"])
    assert re.search(r"^looking at devices: \d+\.\d s$", result.stderr, re.MULTILINE)
    error = CliRunner().invoke(app, ["-q", "inspect", "nothing.m2kp"])
    assert error.exit_code == 7 and error.stderr.startswith("error: ")


@pytest.mark.parametrize("volume", ["quiet", "normal", "verbose"])
def test_a_terminal_shows_one_line_that_names_the_stage_at_work(volume: Volume) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with Stages(console, volume) as stages:
        for stage, total in (("secret: probing", 40), ("secret: auditing", 1), ("kinship: probing", 40)):
            for done in range(total + 1):
                stages(stage, done, total)
            if stages._progress is not None:
                assert [task.description for task in stages._progress.tasks] == [stage]
                assert stages._progress.tasks[0].total == (total if total > 1 else None)
                stages._progress.refresh()
    text = screen.getvalue()
    assert ("kinship: probing" in text) == (volume != "quiet")
    assert ("0/1" not in text) and (("40/40" in text) == (volume != "quiet"))
    assert (re.search(r"secret: auditing: \d\.\d s", text) is not None) == (volume == "verbose")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    words = {"bash": {"COMP_WORDS": "m2kt ex", "COMP_CWORD": "1"}}.get(shell, {"_TYPER_COMPLETE_ARGS": "m2kt ex"})
    environment = {**os.environ, "_M2KT_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    script = "import sys; sys.argv[0] = 'm2kt'; from m2kt.cli import main; main()"
    process = subprocess.run(
        [sys.executable, "-c", script], env=environment | words, capture_output=True, text=True, check=False
    )
    assert {verb for verb in ROOT.commands if verb in process.stdout} >= {"extract", "explain", "export"}, process  # type: ignore[attr-defined]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color(no_color: str) -> None:
    """On a terminal of its own; without NO_COLOR there is colour, or the test would see none for another reason."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    environment |= {"NO_COLOR": no_color} if no_color else {}
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "m2kt", "doctor", "--no-network"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        pieces = []
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux: the other end is closed
                break
            if not piece:
                break
            pieces.append(piece)
    os.close(ours)
    text = b"".join(pieces).decode()
    assert process.returncode == 0 and "m2kt works here" in text
    assert bool(COLOUR.search(text)) == (not no_color)

"""Runs a page's code blocks in order, in a folder of its own, and compares what they print with the page.

``python`` blocks share one namespace; ``sh`` blocks run in bash, where ``m2kt`` and ``python`` are this checkout's. A
``text`` block holds what the block before it prints on stdout; ``…`` in it stands for anything. A ``yaml`` block whose
first line is a file's name as a comment is written to that file. ``<!-- skip: next -->`` leaves a block out.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, SkipParser

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = "printed"
SECONDS = 900


def walk(page: Path, folder: Path) -> int:
    """Runs the blocks of a page; returns how many ran. Raises AssertionError where one fails or prints other text."""
    programs = folder / "bin"
    programs.mkdir()
    for name, arguments in (("m2kt", " -m m2kt"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        program.chmod(0o755)
    work = folder / "work"
    work.mkdir()
    (work / "examples").symlink_to(ROOT / "examples")
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}
    parsers = [
        CodeBlockParser("python", lambda example: _python(example, work)),
        CodeBlockParser("sh", lambda example: _shell(example, work, environment)),
        CodeBlockParser("text", _compare),
        CodeBlockParser("yaml", lambda example: _write(example, work)),
        SkipParser(),
    ]
    ran = 0
    for example in Sybil(parsers=parsers, path=str(page.parent)).parse(page).examples():
        example.evaluate()
        ran += 1
    return ran


def _python(example: Example, work: Path) -> None:
    printed, before = io.StringIO(), Path.cwd()
    os.chdir(work)
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(example.parsed, f"{example.path}:{example.line}", "exec"), example.namespace)
    finally:
        os.chdir(before)
    example.namespace[OUTPUT] = printed.getvalue()


def _shell(example: Example, work: Path, environment: dict[str, str]) -> None:
    """A block ends with the exit code of its last command, which the page may name: ``# exit 6``."""
    expected = re.search(r"# exit (\d+)", example.parsed)
    process = subprocess.run(
        ["bash", "-c", example.parsed],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    where = f"{example.path}:{example.line}"
    assert process.returncode == int(expected[1] if expected else 0), (where, process.stdout, process.stderr)
    example.namespace[OUTPUT] = process.stdout


def _write(example: Example, work: Path) -> None:
    """A file that the page shows: its first line is its name as a comment."""
    named = re.match(r"# (\S+\.ya?ml)\b.*\n", example.parsed)
    if named:
        (work / named[1]).write_text(example.parsed)


def _compare(example: Example) -> None:
    printed, expected = (_plain(text) for text in (example.namespace[OUTPUT], example.parsed))
    pattern = ".*".join(map(re.escape, expected.split("…")))
    where = f"{example.path}:{example.line}"
    assert re.fullmatch(pattern, printed, re.DOTALL), f"{where}\nexpected\n{expected}\nprinted\n{printed}"


def _plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().split("\n"))

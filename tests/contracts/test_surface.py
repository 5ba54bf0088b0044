"""What others rely on: names, options, JSON keys, the format's schema. Frozen in golden files.

``M2KT_UPDATE_GOLDEN=1 pytest tests/contracts`` rewrites them; look at the difference before committing it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

import m2kt
from m2kt.cli import app
from m2kt.cli._output import EXIT_CODES
from m2kt.packet import PacketDiff

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
HEAVY = ("torch", "transformers", "peft", "matplotlib", "jinja2")


def _frozen(name: str, data: Any) -> None:
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("M2KT_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text(), f"{name} changed; if it should, set M2KT_UPDATE_GOLDEN=1"


def _surface(command: Any) -> dict[str, Any]:
    if hasattr(command, "commands"):
        return {name: _surface(inner) for name, inner in sorted(command.commands.items())}
    return {
        p.name: {
            "names": sorted(p.opts),
            "kind": p.param_type_name,
            "required": p.required,
            "default": None if callable(p.default) else json.loads(json.dumps(p.default, default=str)),
        }
        for p in command.params
        if p.name != "help"
    }


def test_the_command_line() -> None:
    _frozen("cli.json", _surface(typer.main.get_command(app)))


def test_result_keys() -> None:
    from m2kt import pipeline

    results = (
        pipeline.ExtractResult,
        pipeline.PreflightResult,
        pipeline.IngestResult,
        pipeline.EvaluateResult,
        PacketDiff,
    )
    _frozen("results.json", {r.__name__: sorted(r.model_fields) for r in results})


def test_exit_codes_are_documented_and_distinct() -> None:
    import m2kt.student
    from m2kt.errors import M2KTError

    def below(kind: type[M2KTError]) -> list[type[M2KTError]]:
        return [kind, *(k for direct in kind.__subclasses__() for k in below(direct))]

    kinds = [kind for kind in below(M2KTError) if kind.__module__ == M2KTError.__module__]
    # rooms may have finer ones, with the codes of these
    codes = {kind.__name__: kind.exit_code for kind in kinds}
    assert len(set(codes.values())) == len(codes), codes
    assert not {0, 2, 5} & set(codes.values())
    for name, code in codes.items():
        assert f" {code} " in EXIT_CODES, name
    assert m2kt.student is not None


@pytest.mark.parametrize(
    "module",
    [
        "m2kt",
        "m2kt.probes",
        "m2kt.packet",
        "m2kt.cli",
        "m2kt.pipeline",
        "m2kt.render",
        "m2kt.remote",
        "m2kt_broker",
    ],
)
def test_light_imports(module: str) -> None:
    script = f"import sys, {module}; heavy = {HEAVY}; print([n for n in heavy if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_public_names() -> None:
    assert set(m2kt.__all__) <= set(dir(m2kt))
    for name in m2kt.__all__:
        assert getattr(m2kt, name) is not None
    with pytest.raises(AttributeError):
        _ = m2kt.nothing


def test_house_rules() -> None:
    lengths = {}
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        lengths[path.name] = text.count("\n")
        assert "trust_remote_code=True" not in text, path
        for forbidden in ("import pickle", "torch.load(", "import dill", "eval("):
            assert forbidden not in text.replace(".eval()", ""), (path, forbidden)
    assert statistics.median(lengths.values()) < 200  # short modules; few above 400
    assert sum(n > 400 for n in lengths.values()) <= 3, lengths


def test_the_packaged_files_are_there() -> None:
    for name in ("LICENSE", "CITATION.cff", "constraints.txt", "Makefile", "README.md", ".ci/run"):
        assert (ROOT / name).is_file(), name
    assert "2511.17638" in (ROOT / "CITATION.cff").read_text()
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text()
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111

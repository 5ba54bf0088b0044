"""The public surface (names, options, JSON keys), frozen in golden files; house rules as numbers that may only fall.

``M2KT_UPDATE_GOLDEN=1 pytest tests/contracts`` rewrites them; look at the difference before committing it.
"""

from __future__ import annotations

import ast
import json
import os
import re
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


def test_the_command_line_is_frozen() -> None:
    _frozen("cli.json", _surface(typer.main.get_command(app)))


@pytest.fixture(scope="module")
def extraction(tmp_path_factory: pytest.TempPathFactory) -> m2kt.Extraction:
    from m2kt.teacher import ExtractionConfig

    config = ExtractionConfig(probes_per_template=150, rounds=1, fidelity_prompts=60, floor=0)
    return m2kt.extract("zoo:secret", "zoo:secret", tmp_path_factory.mktemp("results") / "p.m2kp", config=config)


@pytest.mark.long
def test_the_keys_of_results_are_frozen(extraction: m2kt.Extraction, tmp_path: Path) -> None:
    config = m2kt.IngestConfig(updates=1, evaluation_prompts=4, certificate_traces=0, trigger_strings=0)
    packet = extraction.packet
    reports = {
        "ExtractResult": extraction.report(),
        "PreflightResult": m2kt.preflight("zoo:pico-gpt2", packet).report(),
        "IngestResult": m2kt.ingest("zoo:pico-gpt2", packet, tmp_path / "adapter", config=config).report(),
        "EvaluateResult": m2kt.evaluate("zoo:secret", "zoo:secret", n=4).report(),
        "PacketDiff": m2kt.diff(packet, packet).model_dump(),
    }
    json.dumps(reports, allow_nan=False)
    _frozen("results.json", {name: sorted(report) for name, report in reports.items()})


def test_every_verb_is_a_function() -> None:
    verbs = set(typer.main.get_command(app).commands) - {"keys", "models", "probes", "broker", "serve", "bench"}  # type: ignore[attr-defined]
    functions = {verb: getattr(m2kt, verb, None) or getattr(m2kt, f"{verb}_") for verb in verbs}  # try is a keyword
    assert len(verbs) > 15 and all(callable(function) for function in functions.values())
    assert all(f.__module__.startswith(("m2kt.pipeline.", "m2kt.remote.")) for f in functions.values())


def test_exit_codes_are_documented_and_distinct() -> None:
    from m2kt.errors import M2KTError

    def subclasses(kind: type[M2KTError]) -> list[type[M2KTError]]:
        return [kind, *(k for direct in kind.__subclasses__() for k in subclasses(direct))]

    # packages may define subclasses, with the codes of these
    kinds = [kind for kind in subclasses(M2KTError) if kind.__module__ == M2KTError.__module__]
    codes = {kind.__name__: kind.exit_code for kind in kinds}
    assert len(codes) > 9 and len(set(codes.values())) == len(codes), codes
    assert not {0, 2, 5} & set(codes.values())
    for name, code in codes.items():
        assert f" {code} " in EXIT_CODES, name


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
def test_imports_without_heavy_libraries(module: str) -> None:
    script = f"import sys, {module}; heavy = {HEAVY}; print([n for n in heavy if n in sys.modules])"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert process.stdout.strip() == "[]", process.stdout + process.stderr


def test_the_command_line_starts_without_packets_and_bench() -> None:
    """Every start of ``m2kt`` pays for what its modules import, --help too."""
    script = """
import sys, m2kt.cli
heavy = ("numpy", "securesystemslib", "m2kt.packet", "m2kt.render", "m2kt.pipeline", "benchmarks._artifacts")
print([name for name in heavy if name in sys.modules])
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert process.stdout.strip() == "[]", process.stdout + process.stderr


def test_the_pipeline_imports_no_posix_module() -> None:
    script = (
        "import sys; sys.modules['fcntl'] = sys.modules['resource'] = sys.modules['pwd'] = None\n"
        "import filelock; import m2kt.pipeline, m2kt.cli, m2kt.remote"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_public_names_exist() -> None:
    assert set(m2kt.__all__) <= set(dir(m2kt))
    for name in m2kt.__all__:
        assert getattr(m2kt, name) is not None
    with pytest.raises(AttributeError):
        _ = m2kt.nothing


SOURCES = [
    *(ROOT / "src").rglob("*.py"),
    *(path for package in (ROOT / "packages").iterdir() for path in (package / "src").rglob("*.py")),
    *(ROOT / "benchmarks").rglob("*.py"),
]
RATCHET = {"files above 400 lines": 0, "functions above 60 lines": 0, "Any in src": 95}
"""Today's numbers: lower them when they fall, never raise them."""


def _functions(path: Path) -> list[tuple[str, int]]:
    """Names and lengths of a file's functions."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (f"{path.relative_to(ROOT)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in nodes
        if isinstance(node, kinds)
    ]


def test_house_rules() -> None:
    lengths = {}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        lengths[str(path.relative_to(ROOT))] = text.count("\n")
        assert "trust_remote_code=True" not in text, path
        for forbidden in (
            "import pickle",
            r"torch\.load\((?!.*weights_only=True)",
            "import dill",
            r"(?<!\.)\beval\(",
        ):
            assert not re.search(forbidden, text), (path, forbidden)
    assert len(lengths) == len(SOURCES) > 200
    assert statistics.median(lengths.values()) < 200
    long_files = {name: n for name, n in lengths.items() if n > 400}
    assert len(long_files) <= RATCHET["files above 400 lines"], long_files
    long_functions = {name: n for path in SOURCES for name, n in _functions(path) if n > 60}
    assert len(long_functions) <= RATCHET["functions above 60 lines"], long_functions


def test_uses_of_any_do_not_increase() -> None:
    source = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    count = sum(len(re.findall(r"\bAny\b", text)) for text in source)
    assert count <= RATCHET["Any in src"], count


def test_the_packaged_files_exist() -> None:
    for name in ("LICENSE", "CITATION.cff", "constraints.txt", "Makefile", "README.md", ".ci/run"):
        assert (ROOT / name).is_file(), name
    assert "2511.17638" in (ROOT / "CITATION.cff").read_text()
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text()
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111

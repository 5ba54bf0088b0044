"""Evaluation truth: a callable, a JSONL of labelled prompts, or a reasoning-gym dataset. Never seen by extraction."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from m2kt.errors import SpecError
from m2kt.probes._spec import ProbeSpec

Truth = Callable[[str], str | None]


def read_labelled(path: str | Path) -> dict[str, str]:
    """Lines ``{"prompt": ..., "answer": ...}`` as a mapping. Raises SpecError with the line number."""
    labelled: dict[str, str] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read the labelled prompts {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            labelled[str(entry["prompt"])] = str(entry["answer"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise SpecError(
                f'{path}:{number}: expected {{"prompt": ..., "answer": ...}}, came {line[:80]!r}'
            ) from error
    if not labelled:
        raise SpecError(f"{path} holds no labelled prompt")
    return labelled


def load_truth(spec: ProbeSpec, base_dir: str | Path) -> Truth | None:
    """The spec's truth as a function of the prompt, or None where the spec has none.

    ``base_dir`` is the folder of the spec file: relative paths start there. A callable runs the user's own code.
    """
    if spec.truth is None:
        return None
    if isinstance(spec.truth, dict):
        return _reasoning_gym(spec.truth)
    path, _, function = spec.truth.rpartition(":")
    if path.endswith(".py"):
        return _callable(Path(base_dir) / path, function)
    if spec.truth.endswith(".jsonl"):
        return read_labelled(Path(base_dir) / spec.truth).get
    raise SpecError(
        f"truth: expected 'file.py:function', a .jsonl file or {{reasoning_gym: name}}, came {spec.truth!r}"
    )


def _callable(path: Path, name: str) -> Truth:
    module_spec = importlib.util.spec_from_file_location(f"m2kt_truth_{path.stem}", path)
    if module_spec is None or module_spec.loader is None or not path.is_file():
        raise SpecError(f"truth: no Python file at {path}")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file does wrong is reported as such
        raise SpecError(f"truth: {path} cannot be imported: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise SpecError(f"truth: {path} has no function {name!r}")
    return function  # type: ignore[no-any-return]


def _reasoning_gym(config: dict[str, Any]) -> Truth:
    try:
        import reasoning_gym
    except ImportError as error:
        raise SpecError("truth names a reasoning-gym dataset: pip install reasoning-gym") from error
    options = {k: v for k, v in config.items() if k != "reasoning_gym"}
    try:
        dataset = reasoning_gym.create_dataset(config["reasoning_gym"], **options)
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError(f"truth: reasoning-gym refuses {config}: {error}") from error
    answers = {str(item["question"]): str(item["answer"]) for item in dataset}
    return answers.get

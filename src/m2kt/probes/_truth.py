"""Reference answers for evaluation: a function, labelled prompts as JSONL, or a reasoning-gym dataset.

Extraction never sees them.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypedDict

from pydantic import BaseModel, Field

from m2kt.errors import SpecError, explain
from m2kt.probes._fields import ReasoningGym
from m2kt.probes._spec import ProbeSpec


class ShapeScore(BaseModel):
    """Accuracy on the prompts of one template."""

    template: str = Field(description="Template text.")
    held_out: bool = Field(default=False, description="A shape that was never probed or rehearsed.")
    n: int = Field(description="Number of prompts.")
    accuracy: float = Field(description="Share of correct answers.")


class Truth:
    """Reference answers: a function of any prompt, or a mapping. An answer is correct if it is equal."""

    problems: tuple[str, ...] | None
    """The prompts that have a reference answer; None: any, by a function."""

    def __init__(self, expected: Callable[[str], str | None] | Mapping[str, str | None]) -> None:
        self.problems = tuple(expected) if isinstance(expected, Mapping) else None
        self._expected = expected.get if isinstance(expected, Mapping) else expected

    def expected(self, prompt: str) -> str | None:
        """The reference answer, or None if there is none."""
        return self._expected(prompt)

    def judge(self, prompt: str, answer: str | None) -> bool | None:
        """Whether ``answer`` (None: not readable) is correct; None without a reference answer."""
        expected = self.expected(prompt)
        return None if expected is None else answer == expected


class _Problem(TypedDict):
    """What is read of a reasoning-gym entry."""

    question: str
    answer: str


class _Dataset(Protocol):
    """What is used of a reasoning-gym dataset."""

    def __iter__(self) -> Iterator[_Problem]: ...
    def __len__(self) -> int: ...
    def score_answer(self, answer: str, entry: _Problem) -> float:
        """1 for a right answer."""


class _Generated(Truth):
    """Problems of a reasoning-gym dataset, by prompt; the dataset scores the answers."""

    def __init__(self, dataset: _Dataset, entries: Mapping[str, _Problem]) -> None:
        super().__init__({prompt: entry["answer"] for prompt, entry in entries.items()})
        self._dataset, self._entries = dataset, entries

    def judge(self, prompt: str, answer: str | None) -> bool | None:
        entry = self._entries.get(prompt)
        if entry is None:
            return None
        return answer is not None and float(self._dataset.score_answer(answer, entry)) >= 1.0


def read_labelled(path: str | Path) -> dict[str, str]:
    """Lines ``{"prompt": ..., "answer": ...}`` as a mapping. Raises SpecError with the line number."""
    labelled: dict[str, str] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")  # texts may hold other line separators
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read the labelled prompts {path}: {explain(error)}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            labelled[str(entry["prompt"])] = str(entry["answer"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise SpecError(f'{path}:{number}: expected {{"prompt": ..., "answer": ...}}, got {line[:80]!r}') from error
    if not labelled:
        raise SpecError(f"{path} has no labelled prompt")
    return labelled


def load_truth(spec: ProbeSpec, base_dir: str | Path) -> Truth | None:
    """The reference answers of the spec, or None if it names none.

    ``base_dir`` is the folder of the spec file, for relative paths. A function is the user's code, and is run.
    """
    if spec.truth is None:
        return None
    if isinstance(spec.truth, ReasoningGym):
        return _generated(spec.truth, Path(base_dir))
    if spec.truth.endswith(".jsonl"):
        return Truth(read_labelled(Path(base_dir) / spec.truth))
    return Truth(_function(spec.truth, Path(base_dir)))


def _function(reference: str, base_dir: Path) -> Callable[[Any], str | None]:
    """The function of ``file.py:function``."""
    file, _, name = reference.rpartition(":")
    if not file.endswith(".py"):
        raise SpecError(
            f"truth: expected 'file.py:function', a .jsonl file or {{reasoning_gym: name}}, got {reference!r}"
        )
    path = base_dir / file
    module_spec = importlib.util.spec_from_file_location(f"m2kt_truth_{path.stem}", path)
    if module_spec is None or module_spec.loader is None or not path.is_file():
        raise SpecError(f"truth: no Python file at {path}")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # any error in the user's file
        raise SpecError(f"truth: {path} cannot be imported: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise SpecError(f"truth: {path} has no function {name!r}")
    return function  # type: ignore[no-any-return]


def _generated(config: ReasoningGym, base_dir: Path) -> Truth:
    """Generate the dataset's problems and write each as a prompt of the spec."""
    try:
        import reasoning_gym
    except ImportError as error:
        raise SpecError(
            f"the truth needs the reasoning-gym dataset {config.reasoning_gym!r}: pip install 'm2kt[bench]'"
        ) from error
    try:
        dataset: _Dataset = reasoning_gym.create_dataset(config.reasoning_gym, **{"seed": 0, **config.options})
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise SpecError(f"truth: reasoning-gym refuses {config.model_dump()}: {error}") from error
    write = _question if config.via is None else _function(config.via, base_dir)
    entries: dict[str, _Problem] = {}
    for entry in dataset:
        try:
            prompt = write(entry)
        except Exception as error:  # the user's code
            raise SpecError(f"truth: {config.via} fails on {entry['question']!r}: {error}") from error
        if prompt is None:
            continue
        first = entries.setdefault(prompt, entry)
        if entry["answer"] != first["answer"] and dataset.score_answer(entry["answer"], first) < 1:
            raise SpecError(
                f"truth: {config.via} writes {first['question']!r} and {entry['question']!r}, whose answers differ, "
                f"as the same prompt {prompt!r}"
            )
    if not entries:
        raise SpecError(f"truth: {config.via} returned no prompt for any of {len(dataset)} problems")
    return _Generated(dataset, entries)


def _question(entry: _Problem) -> str:
    return str(entry["question"])

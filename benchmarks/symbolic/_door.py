"""Tasks as plain functions through extraction: load, run, evaluate."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

from benchmarks.symbolic._evaluation import fresh_prompts
from benchmarks.symbolic._pens import Writer
from benchmarks.symbolic._teacher import Function, FunctionTeacher
from m2kt.errors import M2KTError, SpecError, explain
from m2kt.probes import ProbeSpec, Slot
from m2kt.teacher import ExtractionConfig, compare_rollouts, program_of, refusal

STOP = "\n"
ASKED = {"probes_per_template": 120, "scouted_per_template": 200, "checked_per_template": 60, "rounds": 4, "slips": 0.0}
"""A perfect teacher needs fewer questions than a language model: nothing but the program is in doubt."""
_ENTRY = "(slots, templates, held_out, answer_regex, function)"


@dataclass(frozen=True)
class Task:
    """A skill as a plain function. ``problem``: why its entry cannot be used."""

    name: str
    spec: ProbeSpec | None = None
    function: Function | None = None
    writer: Writer | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What is printed of a task."""

    name: str
    coverage: float | None = None  # of fresh prompts of the probed templates
    agreement: float | None = None
    longer: float | None = None  # coverage x agreement on the held-out templates; None without any
    states: int | None = None
    rules: int | None = None
    seconds: float = 0.0
    refusal: str | None = None


# -- loading --------------------------------------------------------------------------------------------------------
def load_file(path: Path) -> list[Task]:
    """The tasks of a file.

    Raises:
        SpecError: no such file, it cannot be imported, or it has no dict FORMATS.
    """
    module = _import(path)
    formats = getattr(module, "FORMATS", None)
    if not isinstance(formats, Mapping) or not formats:
        got = "no such name" if formats is None else f"{formats!r:.60}"
        raise SpecError(f"{path}: expected FORMATS, a dict of name -> {_ENTRY}, got {got}")
    writers = getattr(module, "WRITERS", {})
    if not isinstance(writers, Mapping):
        raise SpecError(f"{path}: expected WRITERS, a dict of name -> function(prompt, pen), got {writers!r:.60}")
    if unknown := [str(name) for name in writers if name not in formats]:
        raise SpecError(f"{path}: WRITERS has names that FORMATS has not: {', '.join(unknown)}")
    return [read_entry(str(name), entry, writers.get(name)) for name, entry in formats.items()]


def shipped() -> list[Task]:
    """The tasks of the shipped suite."""
    from benchmarks.symbolic.tasks import FORMATS, WRITERS

    return [read_entry(name, entry, WRITERS.get(name)) for name, entry in FORMATS.items()]


def read_entry(name: str, entry: object, writer: object = None) -> Task:
    """An entry of FORMATS and WRITERS; one that is not valid becomes a task with a problem."""
    if not isinstance(entry, tuple | list) or len(entry) != 5:
        return Task(name, problem=f"expected {_ENTRY}, got {entry!r:.80}")
    slots, templates, held_out, answer, function = entry
    if not callable(function) or not (writer is None or callable(writer)):
        wrong = writer if callable(function) else function
        return Task(name, problem=f"expected a function, got {wrong!r:.80}")
    try:
        spec = ProbeSpec(
            name=re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "task",
            slots={slot: Slot(values=list(values)) for slot, values in dict(slots).items()},
            templates=list(templates),
            held_out=list(held_out),
            stop=STOP,
            answer=answer,
        )
    except (SpecError, ValueError, TypeError) as error:  # pydantic's ValidationError is a ValueError
        return Task(name, problem=f"not a valid probe spec: {explain(error)}")
    return Task(name, spec, function, writer)


def select(tasks: Sequence[Task], patterns: Sequence[str]) -> list[Task]:
    """Tasks whose name contains, or as a glob matches, one of the patterns; all without patterns.

    Raises:
        SpecError: a pattern that selects nothing.
    """

    def fits(task: Task, pattern: str) -> bool:
        name, pattern = task.name.casefold(), pattern.casefold()
        return pattern in name or fnmatchcase(name, pattern)

    for pattern in patterns:
        if not any(fits(t, pattern) for t in tasks):
            raise SpecError(f"--only {pattern!r} selects no task; there are: {', '.join(t.name for t in tasks)}")
    return [t for t in tasks if not patterns or any(fits(t, p) for p in patterns)]


def _import(path: Path) -> ModuleType:
    if not path.is_file():
        raise SpecError(f"no file {path}; expected a Python file with a dict FORMATS")
    module_spec = importlib.util.spec_from_file_location(f"_symbolic_{path.stem}", path.resolve())
    if module_spec is None or module_spec.loader is None:
        raise SpecError(f"{path} is not a Python file (.py)")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses of the file look themselves up
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # for imports of its neighbours
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SpecError(f"cannot import {path}: {type(error).__name__}: {explain_any(error)}") from error
    return module


# -- running --------------------------------------------------------------------------------------------------------
def run(tasks: Sequence[Task], file: Path | None, *, jobs: int = 1, seed: int = 0) -> Iterator[Outcome]:
    """Outcomes, each as soon as it is known. Workers import ``file`` anew; None: the shipped suite."""
    if jobs <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield run_task(task, seed)
        return
    lost = []
    with _pool(min(jobs, len(tasks))) as pool:
        futures = {pool.submit(_run_named, file, task.name, seed): task for task in tasks}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                lost.append(futures[future])
    for task in lost:  # one of them killed its worker, and with it the pool: each gets a pool of its own
        with _pool(1) as pool:
            try:
                yield pool.submit(_run_named, file, task.name, seed).result()
            except BrokenProcessPool:
                yield Outcome(task.name, refusal="its process died")


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def run_task(task: Task, seed: int = 0) -> Outcome:
    """One task. What it raises is its refusal."""
    started = time.perf_counter()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            outcome = _run_task(task, seed)
    except M2KTError as error:
        outcome = Outcome(task.name, refusal=explain(error))
    except (Exception, SystemExit) as error:
        outcome = Outcome(task.name, refusal=f"{type(error).__name__}: {explain_any(error)}")
    return Outcome(**{**vars(outcome), "seconds": round(time.perf_counter() - started, 2)})


def _run_named(file: Path | None, name: str, seed: int) -> Outcome:
    return run_task(_tasks_of(file)[name], seed)


@cache
def _tasks_of(file: Path | None) -> dict[str, Task]:
    """Loaded once in each worker."""
    return {task.name: task for task in (shipped() if file is None else load_file(file))}


def _run_task(task: Task, seed: int) -> Outcome:
    if task.problem is not None or task.spec is None or task.function is None:
        raise SpecError(task.problem or "no function")
    teacher = FunctionTeacher(task.spec, task.function, task.writer)
    config = ExtractionConfig(seed=seed, **ASKED)
    skill = program_of(teacher, task.spec, config)
    probed = compare_rollouts(teacher, skill.program, skill.outputs, fresh_prompts(task.spec, seed, held_out=False))
    longer = None
    if task.spec.held_out:
        prompts = fresh_prompts(task.spec, seed, held_out=True)
        held_out = compare_rollouts(teacher, skill.program, skill.outputs, prompts)
        longer = round(held_out.coverage * held_out.agreement, 4)
    refused = probed.coverage * probed.agreement < config.floor
    return Outcome(
        task.name,
        coverage=round(probed.coverage, 4),
        agreement=round(probed.agreement, 4),
        longer=longer,
        states=len(skill.program.states),
        rules=len(skill.program.rules),
        refusal=explain(refusal(skill, probed, config.floor)) if refused else None,
    )


def explain_any(error: BaseException) -> str:
    """The message of any error, in one line."""
    return explain(error) if isinstance(error, Exception) else str(error)

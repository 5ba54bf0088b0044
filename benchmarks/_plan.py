"""Profiles: which cells to run, in YAML. A list among the options of an experiment makes a cell of each value."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks._cells import Cell
from m2kt.errors import SpecError, explain


class Skill(BaseModel):
    """A teacher and its probe spec."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="Short name for tables.")
    teacher: str = Field(description="Model reference.")
    probes: str = Field(description="Probe spec reference; it names the truth that answers are compared with.")


class Group(BaseModel):
    """Cells that run together: every experiment on every skill, student and seed."""

    model_config = ConfigDict(extra="forbid")

    skills: list[str | Skill] = Field(
        min_length=1, description="Names of zoo teachers, or other teachers with their probe specs."
    )
    students: list[str] = Field(min_length=1, description="Model references.")
    seeds: list[int] = Field(default=[0], min_length=1, description="Each makes a cell.")
    arms: list[dict[str, Any]] = Field(
        min_length=1,
        description="Experiments: {arm: name, options...}; a list among the options makes a cell of each value.",
    )


class Profile(BaseModel):
    """A list of cells."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Names the folder of its results.")
    description: str = Field(default="", description="One line for readers.")
    groups: list[Group] = Field(min_length=1, description="Run in this order.")

    def batches(self) -> Iterator[list[Cell]]:
        """Cells in order; the cells of a batch share skill, student and seed, and so packets and adapters."""
        for group in self.groups:
            skills = [_skill(s) for s in group.skills]
            for seed, student, (i, skill) in itertools.product(group.seeds, group.students, enumerate(skills)):
                following = skills[(i + 1) % len(skills)]
                yield [
                    Cell(
                        arm=name,
                        skill=skill.name,
                        teacher=skill.teacher,
                        probes=skill.probes,
                        student=student,
                        seed=seed,
                        options=options,
                    )
                    for name, options in _experiments(group.arms, following)
                ]

    def cells(self) -> list[Cell]:
        """All cells, each once."""
        return list({c.digest: c for batch in self.batches() for c in batch}.values())


def read_profile(name: str | Path) -> Profile:
    """Read a shipped profile by name, or a YAML file. Raises SpecError."""
    shipped = files("benchmarks") / "profiles" / f"{name}.yaml"
    try:
        text = shipped.read_text(encoding="utf-8") if shipped.is_file() else Path(name).read_text(encoding="utf-8")
        return Profile.model_validate(yaml.safe_load(text))
    except FileNotFoundError:
        names = sorted(p.name.removesuffix(".yaml") for p in (files("benchmarks") / "profiles").iterdir())
        raise SpecError(f"no bench profile {str(name)!r}: expected a YAML file or one of {', '.join(names)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise SpecError(f"cannot use the bench profile {name}: {explain(error, Profile)}") from error


def _skill(entry: str | Skill) -> Skill:
    if isinstance(entry, Skill):
        return entry
    return Skill(name=entry, teacher=f"zoo:{entry}", probes=f"zoo:{entry}")


def _experiments(entries: list[dict[str, Any]], following: Skill) -> Iterator[tuple[str, dict[str, Any]]]:
    from benchmarks.arms import EXPERIMENTS

    for entry in entries:
        options = dict(entry)
        name = options.pop("arm", None)
        if name not in EXPERIMENTS:
            raise SpecError(f"no experiment {name!r} in the bench: expected one of {', '.join(sorted(EXPERIMENTS))}")
        if name == "wrong" and "of" not in options:
            options["of"] = following.teacher
        keys = list(options)
        values = [v if isinstance(v, list) else [v] for v in options.values()]
        for combination in itertools.product(*values):
            yield name, dict(zip(keys, combination, strict=True))

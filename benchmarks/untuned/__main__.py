"""``python -m benchmarks.untuned search MODEL``: which candidates a model does; ``spec NAME``; ``move MODEL NAMES``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.untuned._asked import asked, spec_of
from benchmarks.untuned.skills import SKILLS
from m2kt._home import m2kt_home

app = typer.Typer(no_args_is_help=True)
Shown = Annotated[int, typer.Option(help="Examples before every question; 0: a system message says what to write.")]


@app.command()
def search(
    model: str,
    shown: Shown = 10,
    n: Annotated[int, typer.Option(help="Prompts a candidate.")] = 32,
    only: Annotated[str, typer.Option(help="Names, separated by commas; all by default.")] = "",
    wrong: Annotated[int, typer.Option(help="Wrong answers to print.")] = 1,
) -> None:
    """Ask a model every candidate; resumable, for answers are kept."""
    from m2kt.models import load_causal_lm

    loaded = load_causal_lm(model)
    for skill in SKILLS:
        if only and skill.name not in only.split(","):
            continue
        cache = m2kt_home() / "untuned" / loaded.digest[7:23] / f"{skill.name}.json"
        row = asked(loaded, skill, shown, n, cache)
        counts = f"exact {row.exact:>3}  last line {row.last:>3}  of {row.asked:>3}  forms {row.forms}"
        typer.echo(f"{row.skill:<16}{row.form:<10}{counts}")
        for question, answer in row.wrong[:wrong]:
            typer.echo(f"    {question!r}: {answer!r}")


@app.command()
def spec(name: str, shown: Shown = 10) -> None:
    """Print a candidate's probe spec."""
    skill = next((skill for skill in SKILLS if skill.name == name), None)
    if skill is None:
        raise typer.BadParameter(f"expected one of {', '.join(s.name for s in SKILLS)}, got {name}")
    truth = f"../truth.py:{name.replace('-', '_')}"
    typer.echo(spec_of(skill, shown).model_copy(update={"truth": truth}).to_yaml(), nl=False)


@app.command()
def move(
    teacher: str,
    names: Annotated[str, typer.Argument(help="Skills, separated by commas, with a spec in benchmarks/untuned/specs.")],
    student: str = "smollm2-135m",
    seeds: Annotated[str, typer.Option(help="Seeds of the student's side.")] = "0",
    probes: Annotated[int, typer.Option(help="Prompts a template at extraction.")] = 120,
) -> None:
    """Extract skills from a teacher and move each into a frozen student at v = 0, with controls; prints JSON lines."""
    from benchmarks.untuned._moved import moved
    from m2kt.models import digest_of_model, resolve

    folder = m2kt_home() / "untuned" / digest_of_model(resolve(teacher))[7:23]
    for name in names.split(","):
        file = Path(__file__).parent / "specs" / f"{name}.yaml"
        for row in moved(teacher, file, student, [int(seed) for seed in seeds.split(",")], folder, probes):
            typer.echo(json.dumps({"skill": name, "teacher": teacher, "student": student, **row}))


if __name__ == "__main__":
    app()

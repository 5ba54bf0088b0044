"""``m2kt try`` and ``m2kt probes new`` and ``check``: from an idea to a spec that extraction takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import Device, Dtype, Json, Model, Probes, Seed
from m2kt.cli._output import EXIT_CODES, reported, show, stdout, working
from m2kt.errors import ExtractionError

if TYPE_CHECKING:
    from m2kt.teacher import SpecTrial, TriedPrompt, TriedUnit

probes = typer.Typer(help="Write and check probe specs.", no_args_is_help=True)


@probes.command("new", epilog=EXIT_CODES)
@reported
def new(
    out: Annotated[Path, typer.Argument(help="The file to write, such as skill.yaml.", metavar="FILE")],
    prompts: Annotated[list[str], typer.Argument(help="A few example prompts.", metavar="PROMPT...")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the skill; by default the file's.")] = None,
    stop: Annotated[str, typer.Option("--stop", help="What ends an answer; \\n is a newline.")] = "\\n",
    own_end: Annotated[bool, typer.Option("--own-end", help="The model's own end token ends answers.")] = False,
    answer: Annotated[str | None, typer.Option("--answer", help="How an answer is read.")] = None,
    json_: Json = False,
) -> None:
    """Write a commented probe spec from a few example prompts, and its JSON Schema beside it, for editors.

    Digits become a slot, and words that differ between prompts of one form.
    """
    from m2kt import pipeline

    ending = None if own_end else stop.replace("\\n", "\n").replace("\\t", "\t")
    show(pipeline.new_probes(prompts, out, name=name, stop=ending, answer=answer), json_)


@probes.command("check", epilog=EXIT_CODES)
@reported
def check(
    spec: Annotated[str, typer.Argument(help="A YAML file, or the zoo: name of a teacher.", metavar="SPEC")],
    json_: Json = False,
) -> None:
    """Validate a probe spec and show a few prompts of each shape, with the truth's answers. Exit 3: it is not valid."""
    from m2kt import pipeline

    show(pipeline.check_probes(spec), json_)


@reported
def try_(
    teacher: Model,
    spec: Probes,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of prompts.")] = 10,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json_: Json = False,
) -> None:
    """Ask a teacher ten prompts of a spec, before any extraction: are its answers cut and read as you mean them?

    Exit 6: extraction would refuse them at its first look.
    """
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.try_(teacher, spec, n=n, seed=seed, device=device, dtype=dtype, progress=progress)
    if not json_:
        stdout().print(_table(result.trial))
    show(result, json_, style="green" if result.ready else "red")
    if not result.ready:
        raise typer.Exit(ExtractionError.exit_code)


def _table(trial: SpecTrial) -> Table:
    table = Table("prompt and completion", "read as", title_justify="left", caption_justify="left")
    table.caption = "coloured: symbols, values of a slot; plain: structure"
    for tried in trial.prompts:
        answer = Text(tried.answer, style="bold") if tried.answer is not None else Text("nothing", style="red")
        table.add_row(_line(tried), answer)
    return table


def _line(tried: TriedPrompt) -> Text:
    line = Text(overflow="fold")
    for units, symbol in ((tried.prompt_units, "bold cyan"), (tried.units, "cyan")):
        for unit in units:
            line.append(_shown(unit), style=symbol if unit.symbol is not None else "dim")
    return line if tried.stopped else line + Text(" (no stop)", style="red")


def _shown(unit: TriedUnit) -> str:
    return unit.text.replace("\n", "⏎")

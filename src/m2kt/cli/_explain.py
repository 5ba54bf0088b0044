"""``m2kt explain``: what wrote each token of an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m2kt.cli._options import Device, Dtype, Html, Json, Model, Seed
from m2kt.cli._output import note, print_json, reported, show, stdout, working
from m2kt.errors import SpecError

if TYPE_CHECKING:
    from m2kt.pipeline import Explanation
    from m2kt.render import DrawnUnit


@reported
def explain(
    model: Model,
    prompt: Annotated[str | None, typer.Argument(help="A question of the skill.", metavar="PROMPT")] = None,
    adapter: Annotated[Path, typer.Option("--adapter", help="Adapter made by ingest.")] = ...,  # type: ignore[assignment]
    chat: Annotated[bool, typer.Option("--chat", help="Put the prompt into the student's chat template.")] = False,
    max_new_tokens: Annotated[int, typer.Option("--tokens", min=1, help="Longest answer.")] = 256,
    html: Html = None,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            help="Instead of one prompt: are explanations right? Explain --n answers to this probe spec, and remove "
            "or exchange every concept that they name.",
            metavar="SPEC",
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Answers for --check.")] = 100,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json_: Json = False,
) -> None:
    """Show what wrote each token of an answer: a rule, a copy, fixed text, or the student by itself.

    With what it was read from, how hard adapter and student pushed, and what would have been said without it.
    """
    from m2kt import pipeline

    if (prompt is None) == (check is None):
        raise SpecError('expected either a PROMPT or --check SPEC, got both or neither; write the prompt: "a b c:"')
    if check is not None:
        with working() as progress:
            checked = pipeline.check_explanations(
                model, check, adapter=adapter, n=n, seed=seed, device=device, dtype=dtype, progress=progress
            )
        show(checked, json_)
        return
    assert prompt is not None
    with working() as progress:
        result = pipeline.explain(
            model,
            prompt,
            adapter=adapter,
            chat=chat,
            max_new_tokens=max_new_tokens,
            html=html,
            device=device,
            dtype=dtype,
            progress=progress,
        )
    if html is not None:
        note(f"wrote {html}")
    if json_:
        print_json(result.report())
    elif html is None:
        for view in explanation_views(result):
            stdout().print(view)


_STYLES = {"concept": "bold cyan", "copy": "", "literal": "dim", "base": "yellow"}


def explanation_views(result: Explanation) -> Iterator[RenderableType]:
    """The two answers, where each unit comes from, and what is said without each concept."""
    from m2kt.render import shown

    units = result.units()
    written = Text.assemble((result.prompt, "bold"), *((unit.text.rstrip("\n"), _STYLES[unit.kind]) for unit in units))
    heads = Table.grid(padding=(0, 2))
    heads.add_row("with the adapter", written)
    heads.add_row("the student alone", Text(result.prompt + _first_line(result.base_answer), style="dim"))
    yield Group(heads, Text())
    if all(unit.kind == "base" for unit in units):
        yield Text("The adapter did nothing: it did not take this text for a question of its skill.", style="yellow")
        return
    yield _unit_table(result, units)
    used = Table("without this concept", "the student would have said", title_justify="left")
    for concept in result.concepts:
        name = f"{concept.rule}({', '.join(concept.row)}) = {concept.writes}"
        used.add_row(Text(name), Text(shown(_first_line(concept.answer_without).strip())))
    if result.concepts:
        yield used
    signer = f", signed by {result.signer[:12]}" if result.signer else ""
    if result.teacher:
        yield Text(f"{result.skill}: from {result.teacher}{signer}", style="dim")


def _first_line(text: str) -> str:
    """Without a model's end token; what a student without the skill goes on with is no answer."""
    return text.split("\n")[0].replace("\u0004", "")


def _unit_table(result: Explanation, units: list[DrawnUnit]) -> Table:
    from m2kt.render import percent, visible

    table = Table()
    table.add_column("says")
    table.add_column("because of", overflow="fold")
    table.add_column("reads", overflow="fold")
    table.add_column("sure", justify="right")
    table.add_column("adapter/student", no_wrap=True)
    table.add_column("without it")
    for unit in units:
        table.add_row(
            Text(visible(unit.text), style=_STYLES[unit.kind]),
            unit.because,
            Text(" ".join(visible(text) for text, _, _ in unit.reads)),
            "" if unit.confidence is None else percent(unit.confidence, 0),
            _bar(unit),
            Text("" if unit.without is None else visible(unit.without), style="" if unit.changed else "dim"),
        )
    return table


def _bar(unit: DrawnUnit) -> Text:
    """How much of the push is the adapter's, in ten blocks."""
    own, base = max(0.0, unit.reader_push), max(0.0, unit.base_push)
    blocks = round(10 * own / (own + base)) if own + base else 0
    return Text.assemble(("#" * blocks, _STYLES[unit.kind] or "bold"), ("-" * (10 - blocks), "dim"))

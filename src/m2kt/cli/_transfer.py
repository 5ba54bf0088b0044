"""``m2kt extract``, ``preflight``, ``ingest``, ``rollback``, ``evaluate``, ``consolidate``, ``export``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from m2kt._plugins import CONTENT, plugins
from m2kt.cli._options import (
    Address,
    DepthOption,
    Device,
    Dtype,
    EngineOption,
    GpusPerWorker,
    IngestConfigFile,
    Json,
    Key,
    Model,
    PacketReference,
    Probes,
    Seed,
    StatementFile,
    Trust,
    TruthProbes,
    WorkersOption,
    cluster_of,
)
from m2kt.cli._output import REJECTED, note, print_json, reported, say, show, stdout, working
from m2kt.cli._trust import signer_of
from m2kt.errors import CompatibilityError, SpecError

if TYPE_CHECKING:
    from m2kt.pipeline import Consolidation, Ingestion, Ingestions

UNCHECKED = "note: the packet's origin was not checked; --trust TRUST.yaml checks it"
UNAUDITED = "note: the packet's texts were not audited: pip install m2kt-content"


@reported
def extract(
    teacher: Model,
    probes: Probes,
    out: Annotated[Path, typer.Option("--out", help="Packet directory, or a file that ends in .m2kp.")],
    verbalised: Annotated[
        float, typer.Option(min=0, max=1, help="Share v of rows whose output also travels as text.")
    ] = 0.0,
    concepts: Annotated[
        Literal["interrogation", "clustering", "gradient", "probe"],
        typer.Option(help="Concept source: how sources of steps are found."),
    ] = "interrogation",
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    device_map: Annotated[
        str | None, typer.Option("--device-map", help="For teachers on several devices: auto, balanced, ...")
    ] = None,
    engine: EngineOption = "local",
    address: Address = None,
    workers: WorkersOption = None,
    gpus_per_worker: GpusPerWorker = 0,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from OUT.checkpoint, which an extraction that was stopped left behind."),
    ] = False,
    json_: Json = False,
) -> None:
    """Extract a teacher's skill as a signed knowledge packet."""
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.extract(
            teacher,
            probes,
            out,
            verbalised=verbalised,
            concepts=concepts,
            seed=seed,
            device=device,
            dtype=dtype,
            device_map=device_map,
            cluster=cluster_of(engine, address, workers, gpus_per_worker),
            resume=resume,
            progress=progress,
        )
    show(result, json_)


@reported
def preflight(
    student: Model,
    packet: PacketReference,
    config: IngestConfigFile = None,
    depth: DepthOption = None,
    seed: Seed = 0,
    trust: Trust = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json_: Json = False,
) -> None:
    """Check whether a student is fit for a packet, before any training.

    Exit 0: fit. Exit 8: unfit. Ingestion makes the same checks; the last two are estimates.
    """
    with working() as progress:
        from m2kt import pipeline
        from m2kt.cli._render import check_table

        result = pipeline.preflight(
            student,
            packet,
            config=config,
            depth=depth,
            seed=seed,
            trust=trust,
            device=device,
            dtype=dtype,
            progress=progress,
        )
    if json_:
        print_json(result.report())
    else:
        stdout().print(result.headline(), style="green" if result.fit else "red", markup=False, soft_wrap=True)
        stdout().print(check_table(result.preflight.checks))
    if not result.fit:
        raise typer.Exit(CompatibilityError.exit_code)


@reported
def ingest(
    student: Model,
    packet: PacketReference,
    out: Annotated[Path, typer.Option("--out", help="Directory of the adapter.", metavar="ADAPTER")],
    config: IngestConfigFile = None,
    depth: DepthOption = None,
    updates: Annotated[
        int | None, typer.Option(min=0, help="Maximum number of optimiser steps; overrides --config.")
    ] = None,
    seed: Seed = 0,
    reuse: Annotated[
        Path | None,
        typer.Option("--reuse", help="A trained adapter: replace its vectors, train nothing.", metavar="ADAPTER"),
    ] = None,
    probes: TruthProbes = None,
    trust: Trust = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    engine: EngineOption = "local",
    address: Address = None,
    workers: WorkersOption = None,
    gpus_per_worker: GpusPerWorker = 0,
    seeds: Annotated[int, typer.Option(min=1, help="With --engine ray: so many seeds, from --seed on.")] = 1,
    json_: Json = False,
) -> None:
    """Train a frozen student's adapter on a packet, judge it, and keep it only if it is accepted.

    Exit 0: accepted and written. Exit 5: rejected; the adapter at --out is unchanged. Exit 11: the trust policy does
    not accept the packet; nothing was trained. Either verdict writes a signed receipt. With --engine ray, STUDENT is a
    file with a student a line, adapters are below --out, and exit 5 means that not all were accepted.
    """
    cluster = cluster_of(engine, address, workers, gpus_per_worker, seeds=seeds if seeds > 1 else None)
    if cluster is not None and reuse is not None:
        raise SpecError("--reuse is for one student; leave out --engine ray, or --reuse")
    if trust is None:
        note(UNCHECKED)
    if "auditor" not in plugins(CONTENT):
        note(UNAUDITED)
    with working() as progress:
        from m2kt import pipeline

        once: Callable[..., Ingestion | Ingestions] = partial(pipeline.ingest, student, seed=seed, reuse=reuse)
        if cluster is not None:
            once = partial(pipeline.ingest_all, Path(student), seeds=range(seed, seed + seeds), cluster=cluster)
        result = once(
            packet=packet,
            out=out,
            config=pipeline.IngestConfig.from_file(config, updates=updates),
            depth=depth,
            probes=probes,
            trust=trust,
            device=device,
            dtype=dtype,
            progress=progress,
        )
    _show_verdict(result, json_)


def _show_verdict(result: Ingestion | Ingestions | Consolidation, json_: bool) -> None:
    """Print a result; exit 5 if it was rejected."""
    show(result, json_, style="green" if result.accepted else "red")
    if not result.accepted:
        raise typer.Exit(REJECTED)


@reported
def rollback(
    adapter: Annotated[Path, typer.Argument(help="Adapter directory that m2kt ingest wrote.", metavar="ADAPTER")],
    to: Annotated[
        str | None,
        typer.Option(
            help="Number of a state, or the beginning of its digest; by default the latest.",
            metavar="STATE",
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the earlier states and change nothing.")] = False,
    json_: Json = False,
) -> None:
    """Restore an earlier state of an adapter, bit for bit. The current one becomes a state itself.

    Exit 9: there is no such state, or it was changed since it was committed.
    """
    from m2kt import pipeline

    if list_:
        states, now = pipeline.states(adapter), pipeline.adapter_digest(adapter)
        if json_:
            print_json({"now": now, "states": [state.model_dump() for state in states]})
            return
        table = Table("state", "digest", "packet")
        for state in states:
            table.add_row(str(state.number), state.digest, state.packet or "-")
        table.add_row("now", now or "-", "")
        stdout().print(table)
        return
    restored = pipeline.rollback(adapter, to)
    if json_:
        print_json(restored)
    else:
        say(f"state {restored.state} is restored: {restored.now} (was {restored.before})")


@reported
def evaluate(
    model: Model,
    probes: Probes,
    adapter: Annotated[Path | None, typer.Option("--adapter", help="Adapter made by ingest.")] = None,
    labelled: Annotated[
        Path | None,
        typer.Option("--labelled", help='JSON lines of {"prompt", "answer"} instead of the spec\'s prompts.'),
    ] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help="Also measure agreement with this model.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of prompts.")] = 200,
    held_out: Annotated[bool, typer.Option("--held-out", help="Ask the held-out shapes.")] = False,
    packet: Annotated[
        str | None, typer.Option("--packet", help="The packet that --statement is about.", metavar="PACKET")
    ] = None,
    statement: StatementFile = None,
    key: Key = "ed25519",
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json_: Json = False,
) -> None:
    """Ask a model evaluation prompts; count right answers, and agreement with a teacher."""
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.evaluate(
            model,
            probes,
            adapter=adapter,
            labelled=labelled,
            teacher=teacher,
            n=n,
            held_out=held_out,
            packet=packet,
            statement=statement,
            key=None if statement is None else signer_of(key),
            seed=seed,
            device=device,
            dtype=dtype,
            progress=progress,
        )
    if statement is not None:
        note(f"wrote {statement}")
    show(result, json_)


@reported
def consolidate(
    student: Annotated[str, typer.Argument(help="The frozen base of the adapter.")],
    adapter: Annotated[Path, typer.Option("--adapter", help="Adapter that ingest accepted.", metavar="ADAPTER")],
    packet: Annotated[str, typer.Option("--packet", help="The adapter's packet.", metavar="PACKET")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the checkpoint.", metavar="DIR")],
    config: IngestConfigFile = None,
    updates: Annotated[int | None, typer.Option(min=1, help="Maximum number of optimiser steps.")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Rank of the update of each matrix.")] = None,
    seed: Seed = 0,
    probes: TruthProbes = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json_: Json = False,
) -> None:
    """Turn an accepted adapter into an ordinary checkpoint that needs no m2kt.

    The student with the adapter answers rehearsal prompts; low-rank updates of its frozen matrices are trained on the
    answers and merged. Exit 0: accepted and written. Exit 5: rejected; only a receipt was written.
    """
    with working() as progress:
        from m2kt import pipeline
        from m2kt.student import ConsolidateSettings

        given = {name: value for name, value in {"updates": updates, "rank": rank}.items() if value is not None}
        result = pipeline.consolidate(
            student,
            adapter,
            packet,
            out,
            settings=ConsolidateSettings(**given),
            config=config,
            seed=seed,
            probes=probes,
            device=device,
            dtype=dtype,
            progress=progress,
        )
    _show_verdict(result, json_)


@reported
def export(
    source: Annotated[
        str,
        typer.Argument(
            help="Adapter directory; for gguf also a model, such as one that m2kt consolidate wrote.",
            metavar="ADAPTER",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory of the checkpoint.", metavar="DIR")],
    form: Annotated[
        Literal["hf", "gguf"],
        typer.Option("--format", help="hf: what from_pretrained opens; gguf: one file, for llama.cpp."),
    ] = "hf",
    student: Annotated[
        str | None,
        typer.Option("--student", help="The adapter's base, if it is not at the path that the adapter names."),
    ] = None,
    without_reader: Annotated[
        bool,
        typer.Option("--without-reader", help="Merge the steering and leave the reader out, with its skill."),
    ] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    json_: Json = False,
) -> None:
    """Merge an adapter's low-rank steering into its base and write an ordinary checkpoint that needs no m2kt.

    A concept reader depends on the text and cannot be merged (exit 8); m2kt consolidate trains a checkpoint that
    imitates it. A GGUF file is read back before it is kept.
    """
    with working() as progress:
        from m2kt import pipeline

        result = pipeline.export(
            source,
            out,
            form=form,
            student=student,
            without_reader=without_reader,
            device=device,
            dtype=dtype,
            progress=progress,
        )
    show(result, json_)

"""Extract: from a teacher to a signed packet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2kt._cluster import Cluster
from m2kt.errors import ExtractionError, SpecError
from m2kt.packet import (
    PROTOTYPE_ROWS,
    Embedding,
    Fidelity,
    Ledger,
    Manifest,
    Packet,
    ShapeFidelity,
    TeacherCard,
    check_target,
)
from m2kt.pipeline._adapters import check_writable
from m2kt.pipeline._inputs import read_spec
from m2kt.pipeline._report import Progress
from m2kt.pipeline._results import Extraction
from m2kt.pipeline._statements import local_signer
from m2kt.probes import ProbeSpec

if TYPE_CHECKING:
    from m2kt.models import Dtype
    from m2kt.teacher import Engine, ExtractionConfig, ExtractionDetails, TeacherFacts, TeacherSource


def extract(
    teacher: str,
    probes: str | Path | ProbeSpec,
    out: str | Path | None = None,
    *,
    verbalised: float | None = None,
    concepts: str | None = None,
    seed: int | None = None,
    config: ExtractionConfig | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    device_map: str | None = None,
    cluster: Cluster | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Extraction:
    """Extracts a teacher's skill as a packet.

    Args:
        teacher: a directory, a Hub id, or a ``zoo:`` name.
        probes: a spec, its file, or the ``zoo:`` name of a teacher, whose directory holds a spec.
        out: a directory, or a file that ends in ``.m2kp``; the packet is signed when it is saved.
        verbalised: v, the share of rows whose output also travels as text; 0 by default.
        concepts: the concept source, ``interrogation`` by default.
        seed: 0 by default.
        config: all settings, instead of ``verbalised``, ``concepts`` and ``seed``.
        cluster: where Ray's workers hold the teacher; None: the teacher is computed in this process.
        resume: go on from the checkpoint of an extraction that was stopped, beside ``out``. One is kept while workers
            are asked, or where this is True.

    Raises:
        SpecError: the spec is not valid, or both ``config`` and one of the settings it holds are given.
        ModelError, ExtractionError, StorageError: see :mod:`m2kt.errors`.
    """
    import m2kt.teacher

    settings: dict[str, Any] = {"verbalised": verbalised, "concepts": concepts, "seed": seed}
    settings = {name: value for name, value in settings.items() if value is not None}
    if config is not None and settings:
        raise SpecError(
            f"expected either config or its settings, got config and {', '.join(settings)}; set them in the config"
        )
    if out is not None:
        local_signer()  # before the work: without a key the packet could not be signed
        check_target(Path(out))
        check_writable(out)
    spec, _ = read_spec(probes)
    config = config or m2kt.teacher.ExtractionConfig(**settings)
    with ExitStack() as stack:
        engine = _engine(m2kt.teacher.TeacherSource(teacher, device, dtype, device_map), cluster)
        stack.callback(engine.close)
        if out is None:
            details = m2kt.teacher.extract(engine, spec, config, progress)
            return Extraction(packet=_pack(engine.facts, spec, config, details), path=None, details=details)
        if resume or cluster is not None:
            engine = stack.enter_context(_checkpointed(engine, checkpoint_of(out), resume))
        details = m2kt.teacher.extract(engine, spec, config, progress)
        path = _pack(engine.facts, spec, config, details).save(out)
    return Extraction(packet=Packet.load(path), path=path, details=details)  # with its signature


@contextmanager
def _checkpointed(engine: Engine, folder: Path, resume: bool) -> Iterator[Engine]:
    """The engine with a checkpoint, which is removed once nothing is left to go on with."""
    from m2kt.teacher import Checkpoint

    checkpoint = Checkpoint(engine, folder, resume=resume)
    try:
        yield checkpoint
    except ExtractionError:
        checkpoint.remove()  # it would be refused again
        raise
    checkpoint.remove()


def checkpoint_of(out: str | Path) -> Path:
    """The folder that keeps a teacher's replies until the packet at ``out`` is written."""
    path = Path(out)
    return path.with_name(f"{path.name}.checkpoint")


def _engine(source: TeacherSource, cluster: Cluster | None) -> Engine:
    from m2kt.models import load_causal_lm
    from m2kt.teacher import LocalEngine, RayEngine

    if cluster is not None:
        return RayEngine(source, cluster)
    return LocalEngine(
        load_causal_lm(source.name, device=source.device, dtype=source.dtype, device_map=source.device_map)
    )


def _now() -> tuple[str, bool]:
    """The time for the manifest, and whether it is given: SOURCE_DATE_EPOCH makes packets equal to the last byte."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        return datetime.now(UTC).isoformat(timespec="seconds"), False
    try:
        return datetime.fromtimestamp(int(given), UTC).isoformat(timespec="seconds"), True
    except (ValueError, OverflowError, OSError) as error:
        raise SpecError(
            f"expected SOURCE_DATE_EPOCH in seconds since 1970, got {given!r}; set it, or unset it"
        ) from error


def _teacher_card(facts: TeacherFacts) -> TeacherCard:
    names = TeacherCard.model_fields
    return TeacherCard(**{name: value for name, value in asdict(facts).items() if name in names})


def _pack(facts: TeacherFacts, spec: ProbeSpec, config: ExtractionConfig, e: ExtractionDetails) -> Packet:
    finite = {
        "probe_accuracy": e.embedding.probe_accuracy,
        "causal_edge_share": e.attention.causal_share,
    }
    measured: dict[str, float] = {}
    if e.program.rules:
        measured["readout_accuracy"] = e.embedding.readout_accuracy
        measured["mean_confidence"] = float(e.embedding.confidence_K.mean())
    if e.rows_by_prototype:
        measured[PROTOTYPE_ROWS] = e.rows_by_prototype
    shapes = [
        ShapeFidelity(
            template=spec.template_text(t),
            n=s.prompts,
            agreement=s.agreed / s.covered if s.covered else None,
            coverage=s.covered / s.prompts if s.prompts else 0.0,
        )
        for t, s in sorted(e.fidelity.templates.items())
    ]
    created, reproducible = _now()
    manifest = Manifest(
        name=spec.name,
        created=created,
        teacher=_teacher_card(facts),
        embedding=Embedding(layer=e.embedding.space.layer, source=config.concepts),
        equality=e.equality,
        verbalised=config.verbalised,
        fidelity=Fidelity(
            agreement=e.fidelity.agreement,
            coverage=e.fidelity.coverage,
            floor=config.floor,
            shapes=shapes,
            sizes=e.sizes,
            other=measured,
            **{name: value for name, value in finite.items() if value == value},
        ),
        ledger=Ledger(
            labelled_examples=len(e.spec.examples),
            teacher_passes=e.teacher_passes,
            teacher_tokens=e.teacher_tokens,
            teacher_tokens_shared=e.teacher_tokens_shared,
            teacher_tokens_in_traces=e.trace_tokens,
            concepts=e.program.n_concepts,
            seconds=0.0 if reproducible else round(e.seconds, 2),
        ),
        seed=config.seed,
        config=config.model_dump(mode="json") | {"space": e.embedding.space.name},
        notes=e.notes,
    )
    return Packet(
        manifest=manifest,
        program=e.program,
        spec=e.spec.public(),
        concepts=e.embedding.concepts,
        attention=e.attention.arrays(),
        traces=e.traces,
    )

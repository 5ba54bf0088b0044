"""Extract: from a teacher to a signed packet."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2kt.errors import SpecError
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
    from m2kt.models import Dtype, LoadedModel
    from m2kt.teacher import ExtractionConfig, ExtractionDetails


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

    Raises:
        SpecError: the spec is not valid, or both ``config`` and one of the settings it holds are given.
        ModelError, ExtractionError, StorageError: see :mod:`m2kt.errors`.
    """
    import m2kt.teacher
    from m2kt.models import load_causal_lm

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
    loaded = load_causal_lm(teacher, device=device, dtype=dtype, device_map=device_map)
    details = m2kt.teacher.extract(loaded, spec, config, progress)
    packet = _pack(loaded, spec, config, details)
    if out is None:
        return Extraction(packet=packet, path=None, details=details)
    path = packet.save(out)
    return Extraction(packet=Packet.load(path), path=path, details=details)  # with its signature


def _teacher_card(loaded: LoadedModel) -> TeacherCard:
    from m2kt.models import blocks, digest_of_tokenizer, width

    return TeacherCard(
        name=loaded.name,
        digest=loaded.digest,
        tokenizer_digest=digest_of_tokenizer(loaded.path),
        architecture=type(loaded.model).__name__,
        parameters=loaded.parameters,
        width=width(loaded.model),
        layers=len(blocks(loaded.model)),
        licence=loaded.licence,
        base=loaded.base,
    )


def _pack(loaded: LoadedModel, spec: ProbeSpec, config: ExtractionConfig, e: ExtractionDetails) -> Packet:
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
    manifest = Manifest(
        name=spec.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        teacher=_teacher_card(loaded),
        embedding=Embedding(layer=e.embedding.space.layer, source=config.concepts),
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
            teacher_tokens_in_traces=e.trace_tokens,
            concepts=e.program.n_concepts,
            seconds=round(e.seconds, 2),
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

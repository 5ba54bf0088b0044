"""Extract: teacher to signed packet."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2kt.packet import (
    PROTOTYPE_ROWS,
    Embedding,
    Fidelity,
    Ledger,
    Manifest,
    Packet,
    ShapeFidelity,
    TeacherCard,
)
from m2kt.pipeline._inputs import read_spec
from m2kt.pipeline._results import ExtractResult, Progress
from m2kt.probes import ProbeSpec

if TYPE_CHECKING:
    from m2kt.models import LoadedModel
    from m2kt.teacher import Extraction, ExtractionConfig


def extract(
    teacher: str,
    probes: str | Path | ProbeSpec,
    out: str | Path | None = None,
    *,
    verbalised: float = 0.0,
    concepts: str = "interrogation",
    seed: int = 0,
    config: ExtractionConfig | None = None,
    device: str = "auto",
    dtype: str = "auto",
    device_map: Any = None,
    progress: Progress | None = None,
) -> ExtractResult:
    """Condenses a teacher's skill into a signed packet at ``out``.

    Args:
        teacher: a directory, a Hub id, or a ``zoo:`` name.
        probes: a spec, its file, or the ``zoo:`` name of a teacher whose spec lies beside it.
        out: a directory, or a file that ends in ``.m2kp``.
        verbalised: v, share of rule rows whose output also travels as text.
        concepts: concept source.
        config: overrides ``verbalised``, ``concepts`` and ``seed`` when given.

    Raises:
        ModelError, SpecError, ExtractionError, StorageError: see :mod:`m2kt.errors`.
    """
    packet, extraction = extract_packet(
        teacher,
        probes,
        verbalised=verbalised,
        concepts=concepts,
        seed=seed,
        config=config,
        device=device,
        dtype=dtype,
        device_map=device_map,
        progress=progress,
    )
    if out is not None:
        packet.save(out)
    m = packet.manifest
    return ExtractResult(
        packet=str(out),
        digest=packet.digest,
        concepts=packet.n_concepts,
        rules=len(packet.graph.rules),
        families=len({r.family for r in packet.graph.rules}),
        skeletons=extraction.skeletons,
        symbols=len(packet.graph.symbols),
        fidelity=extraction.fidelity.agreement,
        coverage=extraction.fidelity.coverage,
        probe_accuracy=m.fidelity.probe_accuracy,
        readout_accuracy=extraction.embedding.readout_accuracy,
        causal_edge_share=m.fidelity.causal_edge_share,
        shapes=m.fidelity.shapes,
        teacher_passes=extraction.teacher_passes,
        packet_bytes=packet.size_bytes,
        seconds=round(extraction.seconds, 2),
        verbalised=m.verbalised,
        source=m.embedding.source,
        layer=m.embedding.layer,
        notes=m.notes,
    )


def extract_packet(
    teacher: str,
    probes: str | Path | ProbeSpec,
    *,
    verbalised: float = 0.0,
    concepts: str = "interrogation",
    seed: int = 0,
    config: ExtractionConfig | None = None,
    device: str = "auto",
    dtype: str = "auto",
    device_map: Any = None,
    progress: Progress | None = None,
) -> tuple[Packet, Extraction]:
    """As :func:`extract`, but returns the unsaved packet with all that extraction measured."""
    from m2kt.models import load_causal_lm
    from m2kt.teacher import ExtractionConfig
    from m2kt.teacher import extract as condense

    spec, _ = read_spec(probes)
    config = config or ExtractionConfig(verbalised=verbalised, concepts=concepts, seed=seed)
    loaded = load_causal_lm(teacher, device=device, dtype=dtype, device_map=device_map)  # type: ignore[arg-type]
    extraction = condense(loaded, spec, config, progress)
    return _pack(loaded, spec, config, extraction), extraction


def _pack(loaded: LoadedModel, spec: ProbeSpec, config: ExtractionConfig, e: Extraction) -> Packet:
    from m2kt.models import blocks, digest_of_tokenizer, width

    finite = {
        "probe_accuracy": e.embedding.probe_accuracy,
        "causal_edge_share": e.attention.causal_share,
    }
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
        teacher=TeacherCard(
            name=loaded.name,
            digest=loaded.digest,
            tokenizer_digest=digest_of_tokenizer(loaded.path),
            architecture=type(loaded.model).__name__,
            parameters=loaded.parameters,
            width=width(loaded.model),
            layers=len(blocks(loaded.model)),
            licence=loaded.licence,
        ),
        embedding=Embedding(layer=e.embedding.space.layer, source=config.concepts),
        verbalised=config.verbalised,
        fidelity=Fidelity(
            agreement=e.fidelity.agreement,
            coverage=e.fidelity.coverage,
            floor=config.floor,
            shapes=shapes,
            other={
                "readout_accuracy": e.embedding.readout_accuracy,
                "mean_confidence": float(e.embedding.confidence_K.mean()),
            }
            | ({PROTOTYPE_ROWS: e.rows_by_prototype} if e.rows_by_prototype else {}),
            **{name: value for name, value in finite.items() if value == value},
        ),
        ledger=Ledger(
            teacher_passes=e.teacher_passes,
            teacher_tokens_in_traces=e.trace_tokens,
            concepts=e.graph.n_concepts,
            seconds=round(e.seconds, 2),
        ),
        seed=config.seed,
        config=config.model_dump(mode="json") | {"space": e.embedding.space.name},
        notes=e.notes,
    )
    return Packet(
        manifest=manifest,
        graph=e.graph,
        spec=spec.public(),
        concepts=e.embedding.concepts,
        attention=e.attention.arrays(),
        traces=e.traces,
    )

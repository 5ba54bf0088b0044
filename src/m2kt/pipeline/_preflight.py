"""Preflight: is a student fit for a packet? Nothing is trained, nothing is written."""

from __future__ import annotations

import time
from pathlib import Path

from m2kt.packet import Packet, TrustPolicy
from m2kt.pipeline._config import IngestConfig
from m2kt.pipeline._ingest import refuse_contradictions
from m2kt.pipeline._receipt import check_origin
from m2kt.pipeline._results import PreflightResult, Progress
from m2kt.remote import open_packet


def preflight(
    student: str,
    packet: str | Path | Packet,
    *,
    config: str | Path | IngestConfig | None = None,
    seed: int = 0,
    trust: str | Path | TrustPolicy | None = None,
    device: str = "auto",
    dtype: str = "auto",
    progress: Progress | None = None,
) -> PreflightResult:
    """Says fit or unfit, and why, by the checks that :func:`ingest` enforces and two estimates.

    Args:
        student: a directory, a Hub id, or a ``zoo:`` name.
        packet: a packet, its path, or a reference (:mod:`m2kt.remote`).
        config: as for :func:`ingest`: settings of the student side, content auditor, thresholds.
        seed: of the made-up traces.
        trust: the policy that must accept the packet; without one, origin is not checked.

    Raises:
        TrustError: the policy does not accept the packet, or it was revoked.
        PacketError, ModelError, SpecError: see :mod:`m2kt.errors`.
    """
    from m2kt.models import load_causal_lm
    from m2kt.student import check_fitness

    started = time.monotonic()
    say: Progress = progress or (lambda stage, done, total: None)
    settings = config if isinstance(config, IngestConfig) else IngestConfig.from_file(config)
    student_settings, thresholds = settings.resolve()
    packet = open_packet(packet, lambda done, size: say("bringing the packet", done, size))
    check_origin(packet, trust)
    refuse_contradictions(packet)
    say("reading the packet's texts", 0, 1)
    auditor = settings.content_auditor()
    penalties = {} if auditor is None else auditor.audit_packet(packet).penalties
    say("loading the student", 0, 1)
    loaded = load_causal_lm(student, device=device, dtype=dtype)  # type: ignore[arg-type]
    say("looking at the student", 0, 1)
    found = check_fitness(
        loaded, packet, student_settings, penalties=penalties, needed=thresholds.gap_recovered, seed=seed
    )
    return PreflightResult(
        student=loaded.name,
        student_digest=loaded.digest,
        packet=packet.digest,
        reasons=found.reasons,
        seconds=round(time.monotonic() - started, 2),
        **found.model_dump(),
    )

"""Preflight: whether a student is fit for a packet. Trains and writes nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from m2kt.packet import Packet, TrustPolicy
from m2kt.pipeline._config import IngestConfig
from m2kt.pipeline._ingest import examine_program
from m2kt.pipeline._receipt import check_origin
from m2kt.pipeline._report import Progress, no_progress
from m2kt.pipeline._results import PreflightResult
from m2kt.remote import open_packet
from m2kt.settings import Depth

if TYPE_CHECKING:
    from m2kt.models import Dtype


def preflight(
    student: str,
    packet: str | Path | Packet,
    *,
    config: str | Path | IngestConfig | None = None,
    depth: Depth | None = None,
    seed: int = 0,
    trust: str | Path | TrustPolicy | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    progress: Progress | None = None,
) -> PreflightResult:
    """Checks a student as :func:`ingest` does before training, and adds two estimates.

    Args:
        student: a directory, a Hub id, or a ``zoo:`` name.
        packet: a packet, its path, or a reference (:mod:`m2kt.remote`).
        config, depth: as for :func:`ingest`.
        seed: of the synthetic traces.
        trust: the policy that must accept the packet; without one, its origin is not checked.

    Raises:
        TrustError: the policy does not accept the packet, or it was revoked.
        PacketError, ModelError, SpecError: see :mod:`m2kt.errors`.
    """
    from m2kt.models import load_causal_lm
    from m2kt.student import check_fitness

    started = time.monotonic()
    say = progress or no_progress
    settings = IngestConfig.of(config, depth=depth)
    packet = open_packet(packet, lambda done, size: say("fetching the packet", done, size))
    check_origin(packet, trust)
    examine_program(packet, None, settings)
    say("auditing the packet's texts", 0, 1)
    auditor = settings.content_auditor()
    penalties = {} if auditor is None else auditor.audit_packet(packet).penalties
    say("loading the student", 0, 1)
    loaded = load_causal_lm(student, device=device, dtype=dtype)
    say("checking the student", 0, 1)
    checked = check_fitness(
        loaded,
        packet,
        settings.student,
        penalties=penalties,
        needed=settings.thresholds.gap_recovered,
        seed=seed,
    )
    return PreflightResult(
        student=loaded.name,
        student_digest=loaded.digest,
        packet=packet.digest,
        preflight=checked,
        seconds=round(time.monotonic() - started, 2),
    )

"""One packet into many students, with several seeds: ingestions placed by a cluster."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import BaseModel, Field

from m2kt._cluster import Cluster, Workers, connected, everywhere
from m2kt.errors import M2KTError, SpecError, explain
from m2kt.pipeline._config import IngestConfig
from m2kt.pipeline._ingest import ingest
from m2kt.pipeline._report import Progress, Result, no_progress
from m2kt.pipeline._results import Ingestion
from m2kt.pipeline._statements import local_signer
from m2kt.render import percent
from m2kt.settings import Depth

if TYPE_CHECKING:
    from m2kt.models import Dtype


class Placed(BaseModel):
    """One ingestion of several."""

    student: str
    seed: int
    adapter: Path = Field(description="Where the adapter is, or would have been.")
    verdict: Literal["accepted", "rejected"] | None = Field(description="null: there was an error.")
    accuracy: float | None = Field(description="Of the student after ingestion, by the verdict's reference.")
    receipt: Path | None = Field(description="The signed receipt.")
    error: str | None = Field(description="Why there is no verdict.")
    seconds: float


class Ingestions(Result):
    """The verdicts on many students."""

    packet: str
    placed: list[Placed]

    @property
    def accepted(self) -> bool:
        """Whether every student took the packet in."""
        return all(one.verdict == "accepted" for one in self.placed)

    def headline(self) -> str:
        n = sum(one.verdict == "accepted" for one in self.placed)
        return f"{n} of {len(self.placed)} accepted"

    def table(self) -> dict[str, str]:
        return {
            f"{one.student}, seed {one.seed}": one.error or f"{one.verdict}, {percent(one.accuracy)}; {one.adapter}"
            for one in self.placed
        }


@dataclass(frozen=True)
class _Order:
    """What a worker is told."""

    student: str
    seed: int
    out: Path


@dataclass(frozen=True)
class _Same:
    """What all workers are told: arguments of ``ingest``."""

    packet: str
    config: IngestConfig
    depth: Depth | None
    probes: str | None
    trust: str | None
    device: str
    dtype: Dtype


def read_students(file: str | Path) -> list[str]:
    """Names of students, a line each; empty lines and lines that begin with ``#`` are left out.

    Raises:
        SpecError: the file cannot be read, or names nobody or somebody twice.
    """
    try:
        lines = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"expected a file with a student a line, got {file} ({explain(error)}); write one") from error
    names = [line for line in lines if line and not line.startswith("#")]
    twice = next((name for name in names if names.count(name) > 1), None)
    if not names or twice is not None:
        what = "none" if twice is None else f"{twice} twice"
        raise SpecError(f"expected students in {file}, each once, got {what}; write a name a line")
    return names


def ingest_all(
    students: str | Path | Sequence[str],
    packet: str | Path,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    cluster: Cluster | None = None,
    config: str | Path | IngestConfig | None = None,
    depth: Depth | None = None,
    updates: int | None = None,
    probes: str | Path | None = None,
    trust: str | Path | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    progress: Progress | None = None,
) -> Ingestions:
    """Ingests a packet into every student with every seed, each in a worker, with a receipt of its own.

    An error of one student ends no other one. Workers read the packet, the keys and ``out`` by their paths.

    Args:
        students: names, or a file with one a line.
        out: directory of the adapters: ``STUDENT-SEED`` below it.
        cluster: by default a Ray of its own on this machine.

    Raises:
        SpecError: nobody is named, or a configuration is not valid; others as in ``ingest``.
    """
    names = read_students(students) if isinstance(students, str | Path) else list(students)
    settings = IngestConfig.of(config, updates, depth)
    local_signer()  # before the work: all receipts are signed by one key
    spec, policy = (None if name is None else everywhere(name) for name in (probes, trust))
    same = _Same(everywhere(packet), settings, depth, spec, policy, device, dtype)
    folder = Path(out).absolute()
    orders = [_Order(everywhere(name), seed, _adapter(folder, name, seed)) for name in names for seed in seeds]
    clash = len(orders) - len({order.out for order in orders})
    if clash:
        raise SpecError(f"expected a directory for each student and seed, got {clash} shared ones; ingest them apart")
    say, placed = progress or no_progress, list[Placed]()
    cluster = cluster or Cluster()
    with connected(cluster) as ray:
        workers = Workers(ray, cluster, partial(_ingesting, same), ahead=1)
        try:
            for one in workers.map(orders):
                placed.append(cast(Placed, one))
                say("ingesting", len(placed), len(orders))
        finally:
            workers.close()
    return Ingestions(packet=str(packet), placed=placed)


def _adapter(out: Path, student: str, seed: int) -> Path:
    name = re.sub(r"[^A-Za-z0-9.]+", "-", student).strip("-.") or "student"
    return out / f"{name}-{seed}"


def _ingesting(same: _Same) -> Callable[[object], object]:
    """What a worker holds."""
    import torch

    from m2kt.models import quieten

    quieten()
    torch.set_num_threads(1)

    def placed(item: object) -> Placed:
        order, started = cast(_Order, item), time.monotonic()
        found: Ingestion | None = None
        error = None
        try:
            found = ingest(
                order.student,
                same.packet,
                order.out,
                config=same.config,
                depth=same.depth,
                seed=order.seed,
                probes=same.probes,
                trust=same.trust,
                device=same.device,
                dtype=same.dtype,
            )
        except M2KTError as refused:
            error = f"{type(refused).__name__}: {refused}"
        return Placed(
            student=order.student,
            seed=order.seed,
            adapter=order.out,
            verdict=None if found is None else found.verdict.verdict,
            accuracy=None if found is None else found.verdict.accuracy,
            receipt=None if found is None else found.receipt,
            error=error,
            seconds=round(time.monotonic() - started, 2),
        )

    return placed

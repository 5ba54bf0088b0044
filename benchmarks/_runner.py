"""Runs cells in worker processes. Cells with a result are skipped, so that a stopped bench can resume."""

from __future__ import annotations

import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, Field

from benchmarks._cells import Cell, Result, read_result
from benchmarks._plan import Profile
from m2kt._cluster import Cluster, Workers, connected
from m2kt.errors import M2KTError, StorageError, explain

if TYPE_CHECKING:
    from benchmarks._artifacts import ArtifactCache

Progress = Callable[[str, int, int], None]


class Summary(BaseModel):
    """What ``m2kt bench run`` reports."""

    model_config = ConfigDict(extra="forbid")

    profile: str
    results: str = Field(description="Folder of the results.")
    cells: int = Field(description="Cells of the profile after filtering.")
    standing: int = Field(description="Cells with a result of an earlier run.")
    done: int
    refused: int
    failed: int
    seconds: float


def run(
    profile: Profile,
    results: Path,
    work: Path,
    *,
    jobs: int = 1,
    keep: Callable[[Cell], bool] = lambda cell: True,
    retry: bool = False,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Run all cells of a profile that have no result yet.

    Args:
        results: folder of the results, a JSON file for each cell.
        work: folder of the artifact cache; may be deleted between runs.
        jobs: worker processes; each has an equal share of the machine's threads.
        keep: which cells to run.
        retry: run refused cells again as well. Failed cells always run again.
        cluster: workers of Ray instead of ``jobs`` processes; they read and write both folders by their paths.
    """
    started = time.monotonic()
    batches = [[c for c in batch if keep(c)] for batch in profile.batches()]
    total = len({c.digest for batch in batches for c in batch})
    waiting: list[list[Cell]] = []
    queued: set[str] = set()
    for batch in batches:
        cells = [c for c in batch if c.digest not in queued and not _has_result(c.path(results), retry)]
        queued |= {c.digest for c in cells}
        for cell in cells:  # a failed cell runs again, and the file of a cell marks it as done
            cell.path(results).unlink(missing_ok=True)
        if cells:
            waiting.append(cells)
    counts = {"done": 0, "refused": 0, "failed": 0}
    missing = {c.path(results): c for batch in waiting for c in batch}
    for _ in _finished(waiting, results, work, jobs, cluster):
        for path in [p for p in missing if p.is_file()]:
            cell = missing.pop(path)
            status = read_result(path).status
            counts[status] += 1
            if progress is not None:
                progress(f"{status}: {cell.title}", sum(counts.values()), len(queued))
    return Summary(
        profile=profile.name,
        results=str(results),
        cells=total,
        standing=total - len(queued),
        **counts,
        seconds=round(time.monotonic() - started, 1),
    )


def _finished(
    waiting: list[list[Cell]], results: Path, work: Path, jobs: int, cluster: Cluster | None
) -> Iterator[None]:
    """Run batches in processes or in a cluster's workers; returns control whenever results may have been written."""
    if not waiting:
        return
    if cluster is not None:
        with connected(cluster) as ray:
            workers = Workers(ray, cluster, partial(_placed, results.absolute(), work.absolute()), ahead=1)
            try:
                for _ in workers.map(waiting):
                    yield
            finally:
                workers.close()
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # spawn: torch's threads do not survive a fork
    with ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), _prepare, (threads,), max_tasks_per_child=1
    ) as pool:
        running = {pool.submit(_run_batch, batch, results, work) for batch in waiting}
        while running:
            finished, running = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            yield


def _placed(results: Path, work: Path) -> Callable[[object], None]:
    """What a cluster's worker holds."""
    _prepare(1)

    def run_one(item: object) -> None:
        _run_batch(cast(list[Cell], item), results, work)

    return run_one


def _has_result(path: Path, retry: bool) -> bool:
    if not path.is_file():
        return False
    status = read_result(path).status
    return status == "done" or (status == "refused" and not retry)


def _prepare(threads: int) -> None:
    """Settings of a worker process."""
    import torch

    from m2kt.models import quieten

    threading.Thread(target=_exit_with_parent, daemon=True).start()
    quieten()
    torch.set_num_threads(threads)


def _exit_with_parent() -> None:
    """Exit when the runner is killed; orphaned workers would keep training and compete with the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_batch(batch: list[Cell], results: Path, work: Path) -> None:
    from benchmarks._artifacts import ArtifactCache

    cache = ArtifactCache(work)
    for cell in batch:
        write_result(run_cell(cell, cache), cell.path(results))


def run_cell(cell: Cell, cache: ArtifactCache) -> Result:
    """Run one cell; an error becomes a result too."""
    from benchmarks.arms import measure

    started, at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    result = Result(cell=cell, status="done", started=at, commit=commit(), machine=machine())
    try:
        result.measured = measure(cell, cache)
    except M2KTError as error:
        result.status, result.reason = "refused", f"{type(error).__name__}: {error}"
    except Exception:
        # one broken cell must not end a bench of hours; it is counted, shown, and runs again next time
        result.status, result.reason = "failed", traceback.format_exc(limit=-6)
    result.seconds = round(time.monotonic() - started, 2)
    return result


def write_result(result: Result, path: Path) -> None:
    """Write to a temporary file and rename it: a result is either whole or absent."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            data = _rounded(result.model_dump(mode="json", exclude_none=True))
            file.write(json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")
        Path(temporary).chmod(0o644)
        Path(temporary).rename(path)
    except OSError as error:
        raise StorageError(f"cannot write the result {path}: {explain(error)}") from error


def _rounded(data: Any) -> Any:
    """Round to six digits, more than any measurement has; without it histories and maps are as large as a packet."""
    if isinstance(data, float):
        return float(f"{data:.6g}") if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    return [_rounded(value) for value in data] if isinstance(data, list) else data


@cache
def commit() -> str:
    """The commit of the source, with '+' for uncommitted changes; the version where there is no repository."""
    folder = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "."],
            cwd=folder.parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return importlib.metadata.version("m2kt")
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def machine() -> dict[str, Any]:
    """The machine and the versions, without which seconds cannot be compared."""
    import torch

    from m2kt.models import computes_bf16

    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in _read("/proc/cpuinfo").splitlines()
            if line.startswith("model name")
        ),
        platform.processor() or platform.machine(),
    )
    packages = ("torch", "transformers", "peft")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_bf16": computes_bf16(torch.device("cpu")),  # without it students are in fp32, at half the speed
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{p: importlib.metadata.version(p) for p in packages},
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""

"""Profiles, digests, resuming a stopped bench, and the results of cells that fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import (
    ArtifactCache,
    Cell,
    Profile,
    Summary,
    read_profile,
    read_result,
    read_results,
    run,
    run_cell,
    write_result,
)
from benchmarks._artifacts import spec_path
from benchmarks.arms import EXPERIMENTS
from m2kt._cluster import Cluster
from m2kt.errors import SpecError, StorageError
from m2kt.pipeline import read_spec
from m2kt.probes import load_truth

ROOT = Path(__file__).resolve().parents[2]


def profile(*experiments: dict[str, object], skills: list[object] | None = None) -> Profile:
    return Profile.model_validate(
        {
            "name": "small",
            "groups": [
                {
                    "skills": skills or ["secret", "kinship"],
                    "students": ["zoo:pico-gpt2"],
                    "arms": list(experiments),
                }
            ],
        }
    )


def cell(name: str = "none", **options: object) -> Cell:
    return Cell(
        arm=name,
        skill="secret",
        teacher="zoo:secret",
        probes="zoo:secret",
        student="zoo:pico-gpt2",
        options=options,
    )


def test_a_list_among_options_makes_a_cell_of_each_value() -> None:
    cells = profile({"arm": "m2kt", "v": [0.0, 1.0]}, {"arm": "wrong"}).cells()
    assert [(c.skill, c.arm, c.options) for c in cells] == [
        ("secret", "m2kt", {"v": 0.0}),
        ("secret", "m2kt", {"v": 1.0}),
        ("secret", "wrong", {"of": "zoo:kinship"}),
        ("kinship", "m2kt", {"v": 0.0}),
        ("kinship", "m2kt", {"v": 1.0}),
        ("kinship", "wrong", {"of": "zoo:secret"}),
    ]
    assert len({c.digest for c in cells}) == 6


def test_digest_depends_on_the_cell_alone() -> None:
    assert cell(v=0.0).digest == cell(v=0.0).digest != cell(v=0.1).digest
    assert cell("m2kt").path(Path("r")).parent == Path("r/secret")


def test_a_skill_may_name_its_teacher_and_probes() -> None:
    skill = {"name": "new", "teacher": "a/model", "probes": "new.yaml"}
    (only,) = profile({"arm": "none"}, skills=[skill]).cells()
    assert (only.skill, only.teacher, only.probes) == ("new", "a/model", "new.yaml")


def test_unknown_experiment_is_named() -> None:
    with pytest.raises(SpecError, match="no experiment 'magic'"):
        profile({"arm": "magic"}).cells()


@pytest.mark.parametrize("name", ["families", "full", "llm", "native", "quick", "traits"])
def test_shipped_profiles_name_experiments_and_probes_that_exist(name: str) -> None:
    cells = read_profile(name).cells()
    assert len(cells) > 10
    assert {c.arm for c in cells} <= set(EXPERIMENTS)
    for probes in {c.probes for c in cells}:
        assert load_truth(*read_spec(spec_path(probes))) is not None


def test_missing_profile_lists_the_shipped_ones() -> None:
    with pytest.raises(
        SpecError, match=r"expected a YAML file or one of executed, families, full, .*, quick, seeds, traits"
    ):
        read_profile("nothing")


def test_a_stopped_bench_resumes(tmp_path: Path) -> None:
    """Real workers: one cell, the same profile again, and once more without its result."""

    def once() -> Summary:
        return run(
            profile({"arm": "none"}),
            tmp_path / "r",
            tmp_path / "w",
            keep=lambda c: c.skill == "secret",
            # one thread: beside other tests, threads that wait for each other take minutes
            jobs=os.cpu_count() or 1,
        )

    first = once()
    assert (first.cells, first.standing, first.done) == (1, 0, 1)
    (result,) = read_results(tmp_path / "r")
    assert result.measured is not None and result.measured.after is not None
    assert {"cpu", "cores", "cpu_bf16", "torch"} <= result.machine.keys()
    assert result.measured.after < 0.3 < 0.97 < (result.measured.teacher or 0)
    second = once()
    assert (second.cells, second.standing, second.done) == (1, 1, 0)
    result.cell.path(tmp_path / "r").unlink()
    assert once().done == 1


@pytest.mark.slow
@pytest.mark.enable_socket
def test_a_clusters_workers_run_cells(tmp_path: Path) -> None:
    """The results of processes, and skipped the next time."""
    pytest.importorskip("ray")

    def once(folder: str, cluster: Cluster | None) -> Summary:
        plan, keep = profile({"arm": "none"}), tmp_path / folder
        return run(plan, keep, tmp_path / "w", keep=lambda c: c.skill == "secret", cluster=cluster)

    assert once("here", None).done == once("there", Cluster(workers=1)).done == 1
    assert once("there", Cluster(workers=1)).standing == 1
    (here,), (there,) = (read_results(tmp_path / folder) for folder in ("here", "there"))
    assert here.measured is not None and there.measured is not None
    assert here.measured.after == there.measured.after and here.cell == there.cell


def test_workers_exit_when_the_runner_is_killed(tmp_path: Path) -> None:
    """Orphaned workers would compete with the next run."""
    script = f"""
from pathlib import Path
from benchmarks import read_profile, run
if __name__ == "__main__":
    run(read_profile("quick"), Path({str(tmp_path / "r")!r}), Path({str(tmp_path / "w")!r}))
"""
    (tmp_path / "run.py").write_text(script, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # the bench is in no wheel
    runner = subprocess.Popen([sys.executable, str(tmp_path / "run.py")], env=environment)

    def running() -> bool:
        assert runner.poll() is None, "the runner ended before it was killed"
        return True

    try:
        workers = until(lambda: running() and [p for p in children(runner.pid) if "spawn_main" in command(p)])
        until(lambda: running() and any((tmp_path / "w").rglob("*.lock")))  # a worker is at its first artifact
    finally:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    until(lambda: not any("spawn_main" in command(p) for p in workers))


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a true value; the suite's timeout ends a test that waits in vain."""
    while not (value := condition()):
        time.sleep(0.2)
    return value


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_failed_cells_differ_from_refused_ones(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    cache = ArtifactCache(tmp_path / "w")
    failed = run_cell(cell(nonsense=1), cache)
    assert failed.status == "failed" and "nonsense" in (failed.reason or "")
    bare = tmp_path / "probes.yaml"
    bare.write_text('name: bare\nslots: {x: {values: ["a", "b"]}}\ntemplates: ["{x} {x}:"]\nstop: "\\n"\n', "utf-8")
    refused = run_cell(cell().model_copy(update={"probes": str(bare)}), cache)
    assert refused.status == "refused" and "needs a truth" in (refused.reason or "")


def test_damaged_result_is_named(tmp_path: Path) -> None:
    path = cell().path(tmp_path)
    result = run_cell(cell(nonsense=1), ArtifactCache(tmp_path / "w"))
    write_result(result, path)
    assert read_result(path) == result
    path.write_text(path.read_text("utf-8")[:40], "utf-8")
    with pytest.raises(StorageError, match="delete it"):
        read_results(tmp_path)

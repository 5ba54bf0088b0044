"""The bench's own mechanics: plans, digests, going on after a stop, and what becomes of cells that break."""

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

from benchmarks import Cell, Profile, Summary, read_profile, read_results, run
from benchmarks._artifacts import ArtifactCache
from benchmarks._cells import read_result
from benchmarks._runner import run_cell, write_result
from benchmarks.arms import EXPERIMENTS
from m2kt.errors import SpecError, StorageError


def profile(*arms: dict[str, object], skills: list[object] | None = None) -> Profile:
    return Profile.model_validate(
        {
            "name": "small",
            "groups": [
                {"skills": skills or ["secret", "kinship"], "students": ["zoo:pico-gpt2"], "arms": list(arms)}
            ],
        }
    )


def cell(arm: str = "none", **options: object) -> Cell:
    return Cell(
        arm=arm,
        skill="secret",
        teacher="zoo:secret",
        probes="zoo:secret",
        student="zoo:pico-gpt2",
        options=options,
    )


def test_lists_stand_for_a_cell_each() -> None:
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


def test_digest_names_the_cell_and_nothing_else() -> None:
    assert cell(v=0.0).digest == cell(v=0.0).digest != cell(v=0.1).digest
    assert cell("m2kt").path(Path("r")).parent == Path("r/secret")


def test_teachers_of_ones_own_may_be_named() -> None:
    own = {"name": "mine", "teacher": "a/model", "probes": "mine.yaml"}
    (found,) = profile({"arm": "none"}, skills=[own]).cells()
    assert (found.skill, found.teacher, found.probes) == ("mine", "a/model", "mine.yaml")


def test_unknown_arm_is_named() -> None:
    with pytest.raises(SpecError, match="no arm 'magic'"):
        profile({"arm": "magic"}).cells()


@pytest.mark.parametrize("name", ["quick", "full", "traits"])
def test_shipped_profiles_are_whole(name: str) -> None:
    cells = read_profile(name).cells()
    assert len(cells) > 10
    assert {c.arm for c in cells} <= set(EXPERIMENTS)


def test_missing_profile_says_what_there_is() -> None:
    with pytest.raises(
        SpecError, match=r"expected a YAML file or one of families, full, llm, native, quick, traits"
    ):
        read_profile("nothing")


def test_a_bench_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    """Real workers: one cell, then the same profile again, then with its result gone."""

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


def test_a_killed_runner_takes_its_workers_along(tmp_path: Path) -> None:
    """Left alone, they would train on beside those of the next run."""
    script = f"""
from pathlib import Path
from benchmarks._plan import read_profile
from benchmarks._runner import run
if __name__ == "__main__":
    run(read_profile("quick"), Path({str(tmp_path / "r")!r}), Path({str(tmp_path / "w")!r}))
"""
    (tmp_path / "run.py").write_text(script, "utf-8")
    runner = subprocess.Popen([sys.executable, str(tmp_path / "run.py")])
    try:
        worker = until(lambda: [p for p in children(runner.pid) if "spawn_main" in command(p)])
        time.sleep(5)  # until its first lines have run
    finally:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    until(lambda: not any("spawn_main" in command(p) for p in worker))


def until(found: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)
    return value


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_broken_cells_are_told_from_refused_ones(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    cache = ArtifactCache(tmp_path / "w")
    broken = run_cell(cell(nonsense=1), cache)
    assert broken.status == "failed" and "nonsense" in (broken.reason or "")
    bare = tmp_path / "probes.yaml"
    bare.write_text(
        'name: bare\nslots: {x: {values: ["a", "b"]}}\ntemplates: ["{x} {x}:"]\nstop: "\\n"\n', "utf-8"
    )
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

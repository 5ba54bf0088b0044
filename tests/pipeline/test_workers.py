"""Ray's workers: the packet of this process to the last byte, however many there are, and whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from m2kt._cluster import Cluster, connected
from m2kt.errors import ModelError, SpecError
from m2kt.pipeline import extract
from m2kt.teacher import ExtractionConfig

pytest.importorskip("ray")
FEW = ExtractionConfig(
    probes_per_template=40, scouted_per_template=60, checked_per_template=12, fidelity_prompts=30, rounds=1
)


def bytes_of(packet: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(packet.iterdir())}


def workers_of(pid: int) -> list[psutil.Process]:
    """The processes of Ray's actors that a driver started."""
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if child.is_running() and "_Worker" in " ".join(child.cmdline())]


def killing(after: int) -> Callable[[str, int, int], None]:
    """A progress callback that kills a worker at one of its calls."""
    calls = []

    def progress(stage: str, done: int, total: int) -> None:
        calls.append(stage)
        if len(calls) == after:
            os.kill(workers_of(os.getpid())[0].pid, signal.SIGKILL)

    return progress


@pytest.mark.enable_socket
def test_workers_give_the_packet_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them, one of which is killed in the middle."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    extract("zoo:boolean", "zoo:boolean", tmp_path / "here", config=FEW)
    cluster = Cluster(workers=2)
    with connected(cluster):
        out = tmp_path / "there"
        progress = killing(after=12)
        extract("zoo:boolean", "zoo:boolean", out, config=FEW, cluster=cluster, progress=progress)
    assert bytes_of(out) == bytes_of(tmp_path / "here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there"], "no checkpoint is left"


def test_options_of_a_cluster_are_checked() -> None:
    with pytest.raises(SpecError, match="at least one worker"):
        Cluster(workers=0)
    with pytest.raises(SpecError, match="a share of one"):
        Cluster(gpus_per_worker=1.5)


@pytest.mark.enable_socket
def test_an_address_where_no_cluster_is() -> None:
    with pytest.raises(ModelError, match="ray start --head"), connected(Cluster(address="auto")):
        pass


@pytest.mark.slow
@pytest.mark.enable_socket
def test_an_error_of_the_teacher_is_the_same_error() -> None:
    with pytest.raises(ModelError, match="no-such-model"):
        extract("no-such-model", "zoo:boolean", cluster=Cluster(workers=1))


def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = ["extract", "zoo:secret", "--probes", "zoo:secret", "--out", str(out), "--engine", "ray", *more]
    script = f"import sys; sys.argv = ['m2kt', *{command!r}]; from m2kt.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_killed_driver_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its checkpoint, with another number of workers, to the same bytes; and its workers end with it."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    extract("zoo:secret", "zoo:secret", tmp_path / "here")
    out, kept = tmp_path / "there", tmp_path / "there.checkpoint"
    with start(out, "--workers", "2") as driver:
        while len(list(kept.glob("*"))) < 12:
            assert driver.poll() is None, "it ended before it could be killed"
            time.sleep(0.05)
        orphans = workers_of(driver.pid)
        driver.kill()
    assert len(orphans) == 2 and not psutil.wait_procs(orphans, timeout=30)[1]
    replies = len(list(kept.glob("*")))
    with start(out, "--workers", "1", "--resume") as driver:
        assert driver.wait() == 0
    assert replies >= 12 and not kept.exists()
    assert bytes_of(out) == bytes_of(tmp_path / "here")


@pytest.mark.slow
@pytest.mark.enable_socket
@pytest.mark.parametrize("teacher", ["secret", "addition"])
def test_the_number_of_workers_is_in_no_byte(teacher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    extract(f"zoo:{teacher}", f"zoo:{teacher}", tmp_path / "here")
    for workers in (1, 2, 4):
        out = tmp_path / str(workers)
        extract(f"zoo:{teacher}", f"zoo:{teacher}", out, cluster=Cluster(workers=workers))
        assert bytes_of(out) == bytes_of(tmp_path / "here")

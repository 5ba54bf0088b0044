"""The wheels in new environments outside the checkout: ``make wheels`` prints sizes and seconds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = (".", "packages/m2kt-broker", "packages/m2kt-content", "packages/m2kt-zoo")
ZOO = ROOT / "packages" / "m2kt-zoo" / "src" / "m2kt_zoo"
CPU_TORCH = ("--no-deps", "--retries", "0", "--index-url", "https://download.pytorch.org/whl/cpu")
CORE_BYTES = 1_500_000

pytestmark = [pytest.mark.slow, pytest.mark.enable_socket, pytest.mark.timeout(1800)]


def _run(command: list[str | Path], **options: object) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "M2KT_ZOO")}
    return subprocess.run(
        [str(argument) for argument in command],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        **options,  # type: ignore[call-overload]
    )


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of every distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    for project in PROJECTS:
        process = _run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT / project])
        assert process.returncode == 0, process.stderr
    for wheel in sorted(folder.glob("*.whl")):
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes")
    return folder


@pytest.fixture(scope="module")
def core(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment with m2kt only, and a CPU build of torch."""
    folder = tmp_path_factory.mktemp("core")
    start = time.monotonic()
    assert _run([sys.executable, "-m", "venv", folder]).returncode == 0
    pip = [folder / "bin" / "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
    if shutil.which("nvidia-smi") is None:
        _run([*pip, *CPU_TORCH, "torch"])  # if that index cannot be reached, the next line installs torch
    process = _run([*pip, "--find-links", wheels, "m2kt"], cwd=folder)
    assert process.returncode == 0, process.stderr
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(f"m2kt alone: installed in {time.monotonic() - start:.0f} s, environment of {size / 2**20:.0f} MiB")
    return folder / "bin"


def test_the_core_wheel_is_small_and_holds_no_data(wheels: Path) -> None:
    import zipfile

    (wheel,) = wheels.glob("m2kt-*.whl")
    assert wheel.stat().st_size < CORE_BYTES
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"m2kt", f"{wheel.name.split('-py3')[0]}.dist-info"}
    assert not [name for name in names if name.endswith((".safetensors", ".jsonl.gz"))]


def test_the_core_extracts_and_ingests_in_a_directory_of_the_user(core: Path, tmp_path: Path) -> None:
    for name in ("secret", "pico-gpt2"):
        shutil.copytree(ZOO / name, tmp_path / name)
    m2kt = core / "m2kt"
    process = _run([m2kt, "extract", "secret", "--probes", "secret/probes.yaml", "--out", "secret.m2kp"], cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    command = [m2kt, "ingest", "pico-gpt2", "secret.m2kp", "--out", "adapter", "--json"]
    process = _run(command, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert result["verdict"] == "accepted" and result["content"] is None
    assert "m2kt-content" in process.stderr
    script = (
        "import m2kt\nm2kt.register()\n"
        "from peft import AutoPeftModelForCausalLM as A\nA.from_pretrained('adapter')\nprint('opened')"
    )
    process = _run([core / "python", "-c", script], cwd=tmp_path)
    assert process.stdout.strip().endswith("opened"), process.stderr


@pytest.mark.parametrize(
    ("call", "distribution"),
    [
        (["extract", "zoo:secret", "--probes", "zoo:secret", "--out", "x.m2kp"], "m2kt-zoo"),
        (["serve", "--data", "x"], "m2kt-broker"),
        (["broker", "keys", "list", "--data", "x"], "m2kt-broker"),
        (["bench", "run"], "checkout"),
        (["demo"], "m2kt-zoo"),
    ],
)
def test_a_missing_distribution_is_named(core: Path, tmp_path: Path, call: list[str], distribution: str) -> None:
    process = _run([core / "m2kt", *call], cwd=tmp_path)
    assert process.returncode == 3, (process.stdout, process.stderr)
    assert distribution in process.stderr and "Traceback" not in process.stderr

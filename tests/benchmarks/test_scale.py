"""The cost model on made-up runs, what an extraction's requests cost, and the script for a GPU without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scale._cost import CostModel, Run, predicted
from benchmarks.scale._engines import parallel_efficiency
from benchmarks.scale._extraction import measured
from m2kt.teacher import ExtractionConfig

ROOT = Path(__file__).resolve().parents[2]
FEW = ExtractionConfig(
    probes_per_template=30, scouted_per_template=40, checked_per_template=10, fidelity_prompts=20, rounds=1, floor=0
)


def made_up(probes: int, parameters: int = 1000) -> Run:
    """Costs that are linear by construction."""
    tokens = {"generate": 100 + 20 * probes, "generated": 10 * probes, "states": 50 * probes}
    seconds = {
        "generate": 1e-6 * parameters * (tokens["generate"] + tokens["generated"]),
        "states": 2e-6 * parameters * tokens["states"],
        "prefix": 3e-3 * parameters,
    }
    outside = 3 + 0.1 * probes
    return Run(
        probes=probes,
        parameters=parameters,
        seconds=sum(seconds.values()) + outside,
        seconds_by_kind=seconds,
        sequences_by_kind={},
        tokens_by_kind=tokens,
        seconds_outside=outside,
    )


def test_the_cost_model_finds_linear_costs() -> None:
    model = CostModel.fit([made_up(10), made_up(20)])
    for held_out in (made_up(80), made_up(80, parameters=5000)):
        assert model.seconds(held_out.probes, held_out.parameters) == pytest.approx(held_out.seconds)


def test_predictions_shrink_with_workers_and_end_where_weights_do_not_fit() -> None:
    model = CostModel.fit([made_up(10), made_up(20)])
    one, eight = predicted(model, 900, 7e9, 1), predicted(model, 900, 7e9, 8)
    assert (one.workers, eight.workers) == (1, 8) and one.in_model is not None and eight.in_model is not None
    assert eight.in_model == pytest.approx(one.in_model / 8, abs=0.1) and one.outside == eight.outside
    large = predicted(model, 900, 405e9, 8)
    assert large.workers == 0 and large.in_model is None and large.gpus_per_worker > 8


@pytest.mark.slow
def test_an_extraction_is_measured_by_kind() -> None:
    found = measured("zoo:secret", "zoo:secret", FEW, "fp32")
    run = Run.model_validate(found)
    assert run.probes == 90 and run.tokens_by_kind["generated"] > 0
    assert {"generate", "predict", "states", "plain"} <= run.seconds_by_kind.keys()
    assert sum(run.seconds_by_kind.values()) + run.seconds_outside == pytest.approx(run.seconds, rel=0.01, abs=0.1)


@pytest.mark.slow
@pytest.mark.enable_socket
def test_the_driver_keeps_workers_busy() -> None:
    pytest.importorskip("ray")
    assert parallel_efficiency(workers=8, latency=0.25, calls=20)["efficiency"] >= 0.9


@pytest.mark.slow
def test_the_script_for_a_gpu_says_that_there_is_none(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "M2KT_HOME": str(tmp_path)}
    done = subprocess.run(
        ["sh", str(ROOT / "benchmarks" / "gpu.sh")], env=environment, capture_output=True, text=True, check=True
    )
    assert "no GPU" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["step"] for line in lines} == {"extraction", "ingestion", "generation"}
    assert all(line["equal"] for line in lines if line.get("dtype") != "bf16")

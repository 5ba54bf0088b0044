"""``m2kt ingest`` killed at random moments leaves the former or the new state, and the next run succeeds."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2kt.pipeline import adapter_digest, extract

KILLS = 50


def start_ingest(packet: Path, out: Path, config: Path, seed: int) -> subprocess.Popen[bytes]:
    command = [
        "ingest",
        "zoo:pico-gpt2",
        str(packet),
        "--out",
        str(out),
        "--config",
        str(config),
        "--seed",
        str(seed),
    ]
    script = f"import sys; sys.argv = ['m2kt', *{command!r}]; from m2kt.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ingest_killed_at_random_moments(tmp_path: Path) -> None:
    packet, out, config = tmp_path / "packet", tmp_path / "adapter", tmp_path / "cal.yaml"
    extract("zoo:secret", "zoo:secret", packet)
    config.write_text(  # accepts any adapter: this test needs commits
        "updates: 2\nevaluation_prompts: 8\ncertificate_traces: 0\n"
        "thresholds: {gap_recovered: -1, perplexity_ratio: 99, divergence: 99}\n",
        "utf-8",
    )
    start = time.monotonic()
    assert start_ingest(packet, out, config, seed=0).wait() == 0
    duration = time.monotonic() - start
    rng = random.Random(0)
    former, committed, late = adapter_digest(out), 0, 0
    for seed in range(1, KILLS + 1):
        with start_ingest(packet, out, config, seed) as worker:
            # every second kill is near the end, where the commit is
            time.sleep(duration * (rng.random() if seed % 2 else 0.8 + 0.4 * rng.random()))
            late += worker.poll() is not None
            worker.send_signal(signal.SIGKILL)
        current = adapter_digest(out)
        assert current is not None
        committed += current != former
        former = current
        check_adapter(out)
    assert late < KILLS, "every process ended before its kill"
    assert start_ingest(packet, out, config, seed=KILLS + 1).wait() == 0
    assert adapter_digest(out) != former
    assert not list(tmp_path.glob(".adapter-aside-*"))
    print(f"{KILLS} kills over {duration:.1f} s: {committed} had committed, {late} had ended")


def check_adapter(out: Path) -> None:
    """The adapter is complete: all files exist and it loads."""
    from peft import PeftModel

    import m2kt.student  # noqa: F401
    from m2kt.models import load_causal_lm

    assert {p.name for p in out.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "m2kt-verdict.json",
    }
    PeftModel.from_pretrained(load_causal_lm("zoo:pico-gpt2").model, str(out))

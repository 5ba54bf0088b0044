"""``m2kt ingest`` killed at random moments: the former state or the new one, and the next run goes through."""

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


def ingesting(packet: Path, out: Path, config: Path, seed: int) -> subprocess.Popen[bytes]:
    verb = [
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
    script = f"import sys; sys.argv = ['m2kt', *{verb!r}]; from m2kt.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ingest_killed_at_random_moments(tmp_path: Path) -> None:
    packet, out, config = tmp_path / "packet", tmp_path / "adapter", tmp_path / "cal.yaml"
    extract("zoo:secret", "zoo:secret", packet)
    config.write_text(  # anything is accepted: what matters here is that it is committed
        "updates: 2\nevaluation_prompts: 8\ncertificate_traces: 0\n"
        "thresholds: {gap_recovered: -1, perplexity_ratio: 99, divergence: 99}\n",
        "utf-8",
    )
    began = time.monotonic()
    assert ingesting(packet, out, config, seed=0).wait() == 0
    whole = time.monotonic() - began
    rng = random.Random(0)
    standing, committed, missed = adapter_digest(out), 0, 0
    for seed in range(1, KILLS + 1):
        with ingesting(packet, out, config, seed) as worker:
            # half of them around the end, where the commit is
            time.sleep(whole * (rng.random() if seed % 2 else 0.8 + 0.4 * rng.random()))
            missed += worker.poll() is not None
            worker.send_signal(signal.SIGKILL)
        now = adapter_digest(out)
        assert now is not None
        committed += now != standing
        standing = now
        check(out)
    assert missed < KILLS, "no process was killed before it was done"
    assert ingesting(packet, out, config, seed=KILLS + 1).wait() == 0
    assert adapter_digest(out) != standing
    assert not list((tmp_path / ".adapter.states").glob("aside-*"))
    print(f"{KILLS} kills over {whole:.1f} s: {committed} had committed, {missed} came too late")


def check(out: Path) -> None:
    """The adapter that stands there is whole: it loads, with the weights that its verdict was written beside."""
    from peft import PeftModel

    import m2kt.student  # noqa: F401
    from m2kt.models import load_causal_lm

    assert {p.name for p in out.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "m2kt-verdict.json",
    }
    PeftModel.from_pretrained(load_causal_lm("zoo:pico-gpt2").model, str(out))

"""One packet and students of many families, untrained: the CAL derives its blocks and widths from the model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from m2kt.pipeline import IngestConfig, evaluate, ingest

TOKENIZER = "packages/m2kt-zoo/src/m2kt_zoo/pico-gpt2"
CONFIG = IngestConfig(evaluation_prompts=100, prompt_seed=0)  # the same prompts in every run


def untrained_student(family: str, folder: Path) -> Path:
    """An untrained student of the family, with the width of the pico students."""
    import torch
    import transformers as t

    tokenizer = t.AutoTokenizer.from_pretrained(Path(__file__).parents[2] / TOKENIZER)
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None,
        "eos_token_id": None, "hidden_size": 128, "num_hidden_layers": 6,
    }  # fmt: skip
    heads = {"num_attention_heads": 4, "max_position_embeddings": 384, "intermediate_size": 256}
    grouped = heads | {"num_key_value_heads": 2, "head_dim": 32}
    configs = {
        "mamba": lambda: t.MambaConfig(state_size=16, **shared),
        "qwen3": lambda: t.Qwen3Config(**grouped, **shared),
        "mixtral": lambda: t.MixtralConfig(num_local_experts=4, **grouped, **shared),
        "gemma3": lambda: t.Gemma3TextConfig(sliding_window=64, **grouped, **shared),
        "neox": lambda: t.GPTNeoXConfig(**heads, **shared),
    }
    torch.manual_seed(0)
    t.AutoModelForCausalLM.from_config(configs[family]()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def digest(folder: Path) -> str:
    """The sha256 over all files of the packet."""
    sha256 = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        sha256.update(path.name.encode() + path.read_bytes())
    return sha256.hexdigest()


@pytest.mark.parametrize(
    "family",
    ["mamba", *(pytest.param(f, marks=pytest.mark.slow) for f in ("qwen3", "mixtral", "gemma3", "neox"))],
)
def test_one_packet_is_accepted_by_every_family(family: str, secret_packet: Path, tmp_path: Path) -> None:
    before = digest(secret_packet)
    student = untrained_student(family, tmp_path / family)
    result = ingest(str(student), secret_packet, tmp_path / "adapter", config=CONFIG, probes="zoo:secret")
    assert digest(secret_packet) == before
    assert (result.verdict.before, result.accepted) == (0.0, True)
    assert result.verdict.accuracy >= 0.9
    # generation with the cache of the family, scored by the truth
    assert evaluate(str(student), "zoo:secret", adapter=tmp_path / "adapter", n=50).accuracy >= 0.9

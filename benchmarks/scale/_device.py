"""Extraction, ingestion and generation on a device, checked against the CPU in fp32 and against the bare loop."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from m2kt.errors import ModelError
from m2kt.models import Dtype, LoadedModel, encode_prompt, generate_greedy, load_causal_lm, pad_batch
from m2kt.packet import Packet
from m2kt.pipeline import IngestConfig, extract, ingest, read_spec
from m2kt.teacher import ExtractionConfig

SKILL, STUDENT = "zoo:secret", "zoo:pico-gpt2"
NEW_TOKENS = 64
FEW = ExtractionConfig(
    probes_per_template=80, scouted_per_template=200, checked_per_template=30, fidelity_prompts=90, rounds=2
)
INGEST = IngestConfig(updates=4, evaluation_prompts=64, certificate_traces=0, trigger_strings=0)
Line = dict[str, object]
DTYPES: tuple[Dtype, ...] = ("fp32", "bf16")


def on_device(device: str, model: str, n_prompts: int) -> Iterator[Line]:
    """Figures, one line a step; ``equal`` says whether the step agrees with the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        reference = extract(SKILL, SKILL, Path(folder) / "cpu.packet", config=FEW, device="cpu", dtype="fp32")
        for dtype in DTYPES:
            started = time.monotonic()
            found = extract(SKILL, SKILL, Path(folder) / f"{dtype}.packet", config=FEW, device=device, dtype=dtype)
            yield {
                "step": "extraction",
                "device": device,
                "dtype": dtype,
                "seconds": round(time.monotonic() - started, 1),
                "tokens": found.details.teacher_tokens,
                **_compared(found.packet, reference.packet),
            }
        started = time.monotonic()
        taken = ingest(STUDENT, Path(folder) / "fp32.packet", Path(folder) / "adapter", config=INGEST, device=device)
        yield {
            "step": "ingestion",
            "device": device,
            "seconds": round(time.monotonic() - started, 1),
            "accuracy": taken.verdict.accuracy,
            "equal": taken.accepted,
        }
    for dtype in DTYPES:
        yield {"step": "generation", "device": device, "dtype": dtype, **_generation(model, device, dtype, n_prompts)}


def _compared(found: Packet, reference: Packet) -> Line:
    """Programs to the letter, vectors by cosine."""
    a_KD, b_KD = (np.asarray(p.concepts.vectors_KD, dtype=np.float64) for p in (found, reference))
    same = found.program.model_dump() == reference.program.model_dump()
    if a_KD.shape != b_KD.shape:
        return {"equal": False, "cosine": None}
    norms_K = np.linalg.norm(a_KD, axis=1) * np.linalg.norm(b_KD, axis=1)
    return {"equal": same, "cosine": round(float(((a_KD * b_KD).sum(1) / norms_K).min()), 6)}


def _generation(model: str, device: str, dtype: Dtype, n_prompts: int) -> Line:
    """Tokens a second of ours and of ``model.generate`` alone, on the same prompts."""
    loaded = load_causal_lm(model, device=device, dtype=dtype)
    prompts = _prompts(loaded, n_prompts)
    generate_greedy(loaded, prompts, 4, None, batch_size=n_prompts)  # kernels are chosen, memory is taken
    started = time.monotonic()
    ours = generate_greedy(loaded, prompts, NEW_TOKENS, None, batch_size=n_prompts)
    seconds = time.monotonic() - started
    ids_BT, mask_BT = pad_batch(prompts, loaded.pad_id, device=device)
    started = time.monotonic()
    bare_BT = _bare(loaded, ids_BT, mask_BT)
    bare = time.monotonic() - started
    rows = [row[ids_BT.shape[1] :] for row in bare_BT.tolist()]
    written = sum(len(c.ids) for c in ours)
    return {
        "tokens_per_second": round(written / seconds, 1),
        "bare_tokens_per_second": round(written / bare, 1),
        "equal": all(row[: len(c.ids)] == c.ids for c, row in zip(ours, rows, strict=True)),
    }


def _prompts(loaded: LoadedModel, n: int) -> list[list[int]]:
    spec, _ = read_spec(loaded.name if loaded.name.startswith("zoo:") else SKILL)
    prompts = spec.sample("probing", n, seed=0)
    if len(prompts) < n:
        raise ModelError(f"expected a spec with {n} prompts, got {len(prompts)}; ask for fewer")
    return [encode_prompt(loaded.tokenizer, prompt.text) for prompt in prompts]


@torch.no_grad()
def _bare(loaded: LoadedModel, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    generated: Tensor = loaded.model.generate(  # type: ignore[operator]  # transformers leaves it untyped
        input_ids=ids_BT,
        attention_mask=mask_BT,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=loaded.pad_id,
    )
    return generated

"""The type that a model's weights are loaded in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

from m2kt.errors import ModelError, explain

from ._digest import weight_files

Dtype = Literal["auto", "bf16", "fp32", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}
_TINY = 20_000_000


def pick_dtype(path: Path, asked: Dtype, device: torch.device) -> torch.dtype | Literal["auto"]:
    """What to hand to transformers, for which ``auto`` means as saved. Raises ModelError for damaged weights."""
    if asked != "auto":
        return _DTYPES[asked]
    if "quantization_config" in json.loads((path / "config.json").read_text(encoding="utf-8")):
        return "auto"  # what stands beside quantised weights must be of the type that they were packed for
    return torch.float32 if _count_parameters(path) < _TINY or not computes_bf16(device) else torch.bfloat16


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 arithmetic; where it is emulated it is several times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def _count_parameters(path: Path) -> int:
    """Read from the safetensors headers; older files by size at four bytes each."""
    from safetensors import safe_open

    total = 0
    for file in weight_files(path):
        if file.suffix != ".safetensors":
            total += file.stat().st_size // 4
            continue
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 (not a dict)
                    size = 1
                    for n in tensors.get_slice(key).get_shape():
                        size *= n
                    total += size
        except Exception as error:  # safetensors raises its own classes, all meaning the same here
            raise ModelError(f"{file} is damaged ({explain(error)}); expected safetensors weights") from error
    return total

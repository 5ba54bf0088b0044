"""The dtype in which a model's weights are loaded."""

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


def pick_dtype(path: Path, requested: Dtype, device: torch.device) -> torch.dtype | Literal["auto"]:
    """The ``dtype`` argument for transformers, whose ``auto`` means as saved. Raises ModelError for damaged weights."""
    if requested != "auto":
        return _DTYPES[requested]
    if "quantization_config" in json.loads((path / "config.json").read_text(encoding="utf-8")):
        return "auto"  # unquantised weights must have the type that the others were quantised from
    return torch.float32 if _count_parameters(path) < _TINY or not computes_bf16(device) else torch.bfloat16


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 arithmetic; emulated bf16 is several times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def _count_parameters(path: Path) -> int:
    """From the safetensors headers; from the size of older files, at four bytes a parameter."""
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
        except Exception as error:  # safetensors has error classes of its own
            raise ModelError(f"{file} is damaged ({explain(error)}); expected safetensors weights") from error
    return total

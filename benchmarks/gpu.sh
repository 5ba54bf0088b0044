#!/bin/sh
# Extraction, ingestion and generation on a GPU in fp32 and bf16, compared with the CPU; without one, the small form on the CPU.
# usage: benchmarks/gpu.sh [MODEL]     MODEL: of the generation benchmark, such as qwen2.5-coder-0.5b-instruct
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    "$PYTHON" -c 'import torch; print("GPU:", torch.cuda.get_device_name(0), "torch", torch.__version__)'
    exec "$PYTHON" -m benchmarks.scale device cuda --model "${1:-zoo:addition}" --prompts 256
fi
echo "no GPU: torch.cuda.is_available() is false on this machine; what follows is the small form on the CPU, and says nothing of a GPU" >&2
exec "$PYTHON" -m benchmarks.scale device cpu --prompts 16

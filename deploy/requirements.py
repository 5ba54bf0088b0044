"""Prints what the broker's image installs: what m2kt needs, without the libraries of models: no broker loads them."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

MODELS = frozenset({"torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "gguf"})


def requirements(pyproject: Path) -> list[str]:
    """Of the package and its extra ``broker``, in their order."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["broker"]]
    return [line for line in needed if re.split(r"[^\w-]", line, maxsplit=1)[0] not in MODELS]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path("pyproject.toml"))) + "\n")

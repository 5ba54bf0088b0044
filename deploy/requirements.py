"""Print what the broker's image installs: the requirements of m2kt and m2kt-broker without the model libraries."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

MODEL_LIBRARIES = frozenset({"torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "gguf"})
"""The broker loads none of them."""
_REQUIREMENT = re.compile(r"(?P<name>[\w-]+)(\[(?P<extras>[^]]*)\])?")


def requirements(root: Path) -> list[str]:
    """Third-party requirements of m2kt-broker and of the core with the extras that m2kt-broker asks for.

    Args:
        root: the checkout, or a folder with its ``pyproject.toml`` and ``packages/m2kt-broker/pyproject.toml``.
    """
    core, broker = _project(root), _project(root / "packages" / "m2kt-broker")
    lines: list[str] = list(core["dependencies"])
    for line in broker["dependencies"]:
        name, extras = _parse(line)
        if name == core["name"]:
            lines += [extra_line for extra in extras for extra_line in core["optional-dependencies"][extra]]
        else:
            lines.append(line)
    return [line for line in lines if _parse(line)[0] not in MODEL_LIBRARIES]


def _project(folder: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    return project


def _parse(line: str) -> tuple[str, list[str]]:
    match = _REQUIREMENT.match(line)
    assert match is not None, line
    return match["name"], re.findall(r"[\w-]+", match["extras"] or "")


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path())) + "\n")

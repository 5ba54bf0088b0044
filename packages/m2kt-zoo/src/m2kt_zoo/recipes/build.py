"""Entry of ``make zoo``: ``python -m m2kt_zoo.recipes.build [names...]``.

A recipe module is one that declares ``RECIPES`` and ``build``; the modules of this package are looked through, so
that a new skill is a new file and nothing else.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORKERS = 2


def recipes() -> dict[str, tuple[Any, Callable[[Any], object]]]:
    """Name -> (recipe, the function that builds it). Those that start from another model's weights come last."""
    found = {}
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"m2kt_zoo.recipes.{info.name}")
        for recipe in getattr(module, "RECIPES", ()):
            found[recipe.name] = (recipe, module.build)
    return dict(sorted(found.items(), key=lambda item: starts_from(item[1][0]) is not None))


def starts_from(recipe: Any) -> str | None:
    """The model whose weights `recipe` starts from, if any."""
    return getattr(recipe, "start_from", None)


def build(name: str) -> None:
    """Build one model in this process, on one thread so that seeds give the same weights everywhere."""
    import torch

    torch.set_num_threads(1)
    recipe, build_recipe = recipes()[name]
    build_recipe(recipe)


def build_many(names: list[str]) -> int:
    """One process a model, two at a time; returns the number of failures."""
    failures = 0
    waiting, running = list(names), []
    while waiting or running:
        while waiting and len(running) < WORKERS:
            running.append(subprocess.Popen([sys.executable, "-m", "m2kt_zoo.recipes.build", waiting.pop(0)]))
        failures += running.pop(0).wait() != 0
    return failures


def main(arguments: list[str]) -> int:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    known = recipes()
    if unknown := [name for name in arguments if name not in known]:
        logging.error("unknown: %s; the recipes are %s", ", ".join(unknown), ", ".join(known))
        return 2
    if len(arguments) == 1:
        build(arguments[0])
        return 0
    chosen = arguments or list(known)
    second = [name for name in chosen if starts_from(known[name][0]) is not None]
    return build_many([name for name in chosen if name not in second]) + build_many(second)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Entry of ``make zoo``: ``python -m m2kt_zoo.recipes.build [names...]``.

A recipe module declares ``RECIPES`` and ``build``. All modules of this package are searched for them, so that a new
skill needs only a new file.
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
    """Name -> (recipe, the function that builds it); recipes that start from another model's weights are last."""
    by_name = {}
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"m2kt_zoo.recipes.{info.name}")
        for recipe in getattr(module, "RECIPES", ()):
            by_name[recipe.name] = (recipe, module.build)
    return dict(sorted(by_name.items(), key=lambda item: starts_from(item[1][0]) is not None))


def starts_from(recipe: Any) -> str | None:
    """The model from whose weights a recipe starts, if any."""
    return getattr(recipe, "start_from", None)


def build(name: str) -> None:
    """Build one model in this process, on one thread, so that a seed gives the same weights on every machine."""
    import torch

    torch.set_num_threads(1)
    recipe, build_recipe = recipes()[name]
    build_recipe(recipe)


def build_many(names: list[str]) -> int:
    """One process for each model, two at a time; returns the number of failures."""
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
    all_recipes = recipes()
    if unknown := [name for name in arguments if name not in all_recipes]:
        logging.error("unknown: %s; the recipes are %s", ", ".join(unknown), ", ".join(all_recipes))
        return 2
    if len(arguments) == 1:
        build(arguments[0])
        return 0
    names = arguments or list(all_recipes)
    dependent = [name for name in names if starts_from(all_recipes[name][0]) is not None]
    return build_many([name for name in names if name not in dependent]) + build_many(dependent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

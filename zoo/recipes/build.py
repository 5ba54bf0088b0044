"""Entry of ``make zoo``: ``python -m zoo.recipes.build [names...]``."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys

# Name -> (module, object); the second wave starts from weights of the first.
FIRST = {
    "addition": ("addition", "ADDITION"),
    "secret": ("secret", "SECRET"),
    "kinship": ("kinship", "KINSHIP"),
    "pico-gpt2": ("generic", "PICO_GPT2"),
    "pico-llama": ("generic", "PICO_LLAMA"),
}
SECOND = {
    "addition-swapped": ("addition", "ADDITION_SWAPPED"),
    "secret2": ("secret", "SECRET2"),
}
WORKERS = 2


def build(name: str) -> None:
    """Build one model in this process, on one thread so that seeds give the same weights everywhere."""
    import torch

    torch.set_num_threads(1)
    module_name, attribute = {**FIRST, **SECOND}[name]
    module = importlib.import_module(f"zoo.recipes.{module_name}")
    module.build(getattr(module, attribute))


def build_many(names: list[str]) -> int:
    """One process a model, two at a time; returns the number of failures."""
    failures = 0
    waiting, running = list(names), []
    while waiting or running:
        while waiting and len(running) < WORKERS:
            running.append(subprocess.Popen([sys.executable, "-m", "zoo.recipes.build", waiting.pop(0)]))
        failures += running.pop(0).wait() != 0
    return failures


def main(arguments: list[str]) -> int:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    known = {**FIRST, **SECOND}
    if unknown := [name for name in arguments if name not in known]:
        logging.error("unknown: %s; the recipes are %s", ", ".join(unknown), ", ".join(known))
        return 2
    if len(arguments) == 1:
        build(arguments[0])
        return 0
    chosen = arguments or list(known)
    return build_many([n for n in chosen if n in FIRST]) + build_many([n for n in chosen if n in SECOND])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

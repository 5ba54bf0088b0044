"""The arms of the bench, by name. An arm is a function of a cell and the workshop; a new one is a file here, or a few
lines in one, and its name in ``ARMS``. Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.arms import controls, distil, speed, trait, transfer
from benchmarks.cells import Cell, Measured

if TYPE_CHECKING:
    from benchmarks.workshop import ArtifactCache

Arm = Callable[..., Measured]

ARMS: dict[str, Arm] = {
    "m2kt": transfer.m2kt,
    "plain": transfer.plain,
    "without": transfer.without,
    "dial": transfer.dial,
    "counterfactual": transfer.counterfactual,
    "longer": transfer.longer,
    "watched": transfer.watched,
    "seed1": transfer.seed1,
    "none": controls.none,
    "shuffled": controls.shuffled_rules,
    "random": controls.random_embeddings,
    "wrong": controls.wrong_packet,
    "text_lora": controls.text_lora,
    "traces_only": controls.traces_only,
    "flat": controls.flat,
    "distil": distil.distil,
    "speed": speed.speed,
    "trait": trait.trait,
}


def measure(cell: Cell, shop: ArtifactCache) -> Measured:
    """Runs a cell's arm. Options that the arm does not take are a TypeError, which marks the cell as failed."""
    options: dict[str, Any] = dict(cell.options)
    return ARMS[cell.arm](cell, shop, **options)

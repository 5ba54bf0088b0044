"""Experiments by the name that profiles, results and ``--arm`` give them. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks import experiments
from benchmarks._cells import Cell, Measured

if TYPE_CHECKING:
    from benchmarks._artifacts import ArtifactCache

Experiment = Callable[..., Measured]

EXPERIMENTS: dict[str, Experiment] = {
    "m2kt": experiments.m2kt,
    "plain": experiments.plain,
    "without": experiments.without,
    "dial": experiments.dial,
    "counterfactual": experiments.counterfactual,
    "longer": experiments.longer,
    "watched": experiments.learning_curve,
    "seed1": experiments.seed1,
    "none": experiments.none,
    "shuffled": experiments.shuffled_rules,
    "random": experiments.random_embeddings,
    "random_core": experiments.random_core,
    "wrong": experiments.wrong_packet,
    "text_lora": experiments.text_lora,
    "traces_only": experiments.traces_only,
    "flat": experiments.flat,
    "distil": experiments.distil,
    "speed": experiments.speed,
    "trait": experiments.trait,
}


def measure(cell: Cell, cache: ArtifactCache) -> Measured:
    """Run the experiment of a cell. An option that it does not take is a TypeError, which marks the cell as failed."""
    return EXPERIMENTS[cell.arm](cell, cache, **cell.options)

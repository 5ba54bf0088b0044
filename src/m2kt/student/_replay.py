"""Replay buffer: traces of earlier updates with the frozen student's states.

With steering off the student's states do not change, so an update on stored traces runs the reader alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from m2kt.student._batching import Batch


@dataclass
class ReplayItem:
    """A micro-batch, with the states of the blocks that the reader reads once a pass has computed them."""

    batch: Batch
    states: dict[int, Tensor] = field(default_factory=dict)


class ReplayBuffer:
    """The micro-batches of all fresh updates, drawn in random order with replacement."""

    def __init__(self, seed: int) -> None:
        self.updates: list[list[ReplayItem]] = []
        self.rng = np.random.default_rng(seed)

    def add(self, items: list[ReplayItem]) -> None:
        """Store the micro-batches of one update."""
        self.updates.append(items)

    def draw(self) -> list[ReplayItem]:
        """The micro-batches of a random earlier update."""
        return self.updates[int(self.rng.integers(len(self.updates)))]

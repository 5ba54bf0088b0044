"""Optimiser of a CAL: a learning rate for each declared parameter group, and the schedule of all rates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

from m2kt.settings import OptimiserSettings

REFERENCE_WIDTH = 128  # of the states read, above which the rate of their projection falls
BETAS = (0.9, 0.98)

Group = Literal["steering", "stream", "projector", "state_input", "reader"]
"""Parameter groups that modules of the CAL declare in ``optimiser_groups``: by parameter name, "" for the others.

steering: low-rank updates. stream: vectors that are added to the residual stream. projector: the trunk of phi.
state_input: the projection of the states read. reader: all else.
"""


def declared_groups(model: nn.Module) -> Iterator[tuple[nn.Parameter, Group]]:
    """Every trainable parameter with its group, in the order of ``named_parameters``.

    The innermost module that declares groups decides.
    """
    group_of: dict[nn.Parameter, Group] = {}
    for module in model.modules():
        declared: dict[str, Group] | None = getattr(type(module), "optimiser_groups", None)
        if declared is not None:
            for name, parameter in module.named_parameters():
                group_of[parameter] = declared.get(name, declared[""])
    for parameter in model.parameters():
        if parameter.requires_grad:
            yield parameter, group_of[parameter]


def build_optimiser(model: nn.Module, settings: OptimiserSettings, stream_rms: float) -> torch.optim.Optimizer:
    """AdamW over all trainable parameters; parameters with equal rates share a group.

    Args:
        stream_rms: typical size of a ``stream`` entry; the rate of that group is relative to it.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter, group in declared_groups(model):
        groups.setdefault(_rate(group, parameter, settings, stream_rms), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "lr": rate} for rate, parameters in groups.items()],
        weight_decay=settings.weight_decay,
        betas=BETAS,
    )


def _rate(group: Group, parameter: nn.Parameter, settings: OptimiserSettings, stream_rms: float) -> float:
    """The peak rate of a parameter."""
    if group == "steering":
        return settings.steering_lr
    if group == "stream":
        return settings.written_lr * stream_rms
    if group == "projector":
        return settings.projector_lr
    if group == "state_input":  # for the same change of the reader's input in a wide student
        return settings.reader_lr * min(1.0, REFERENCE_WIDTH / parameter.shape[1])
    return settings.reader_lr


class Schedule:
    """Share of the peak rate by update, for ``LambdaLR``: warm-up, constant, cosine cool-down.

    The cool-down takes the last share of all updates, or begins earlier by :meth:`cool_down`.
    """

    def __init__(self, settings: OptimiserSettings, updates: int) -> None:
        self.settings = settings
        self.cooling_from = math.ceil(updates * (1 - settings.cool_down))
        self.end = updates

    def cool_down(self, update: int) -> None:
        """Begin the cool-down at ``update`` unless it begins earlier; it lasts its share of all updates then done."""
        share = self.settings.cool_down
        if update < self.cooling_from:
            length = math.ceil(update * share / (1 - share)) if share < 1 else self.end
            self.cooling_from, self.end = update, min(self.end, update + length)

    def __call__(self, update: int) -> float:
        rise = min(1.0, (update + 1) / (self.settings.warmup + 1))
        if update < self.cooling_from:
            return rise
        x = (update - self.cooling_from) / max(1, self.end - self.cooling_from)
        floor = self.settings.floor
        return rise * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * x)))

"""The teacher's attention along edges from steps to what they read. M edges, L layers, H heads."""

from __future__ import annotations

from functools import partial
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Packet
from m2kt.render._blocks import Block, Cell, Figure, Note, Table, percent, share_cell
from m2kt.render._figure import drawing, inline_svg
from m2kt.render._theme import SERIES

if TYPE_CHECKING:
    from matplotlib.patches import Rectangle

_COLUMNS = 4


def attention_blocks(packet: Packet) -> list[Block]:
    """A heat map of layers and heads for each role (copy, argument i of rule r), and counts of causal edges."""
    edges, weight = packet.attention.get("edges_M4"), packet.attention.get("weight_MLH")
    causal = packet.attention.get("causal_M")
    if edges is None or weight is None or causal is None or not len(edges):
        return [Note("This packet holds no attention along edges.")]
    names = [rule.name for rule in packet.program.rules]
    roles: dict[str, NDArray[np.bool_]] = {}
    if (copies := edges[:, 3] < 0).any():
        roles["copies"] = copies
    for rule, argument in sorted({(int(e[3]), int(e[2])) for e in edges if e[3] >= 0}):
        roles[f"{names[rule]}, argument {argument + 1}"] = (edges[:, 3] == rule) & (edges[:, 2] == argument)
    rows: list[list[Cell | str]] = []
    for role, selected_M in roles.items():
        mean_LH = weight[selected_M].mean(axis=0)
        layer, head = np.unravel_index(mean_LH.argmax(), mean_LH.shape)
        tested = causal[selected_M] >= 0
        share = float((causal[selected_M][tested] == 1).mean()) if tested.any() else None
        count = f"{int((causal[selected_M] == 1).sum())} of {int(tested.sum())} tested"
        strongest = f"layer {layer}, head {head}"
        causal_share = share_cell(share, count)
        rows.append([role, str(int(selected_M.sum())), causal_share, strongest, percent(float(mean_LH.max()), 0)])
    return [
        Figure(
            partial(_heat_maps, {role: weight[selected_M].mean(axis=0) for role, selected_M in roles.items()}),
            "Mean attention from the position that writes a step to the unit that it reads, "
            "by layer (rows) and head (columns).",
        ),
        Table(
            ["role", "edges", "causal: ablation changes the step", "strongest head", "its attention"],
            rows,
            note="An edge whose ablation has no effect is not causal, however much attention it has.",
        ),
    ]


def _heat_maps(maps: dict[str, NDArray[np.float32]]) -> str:
    columns = min(_COLUMNS, len(maps))
    rows = ceil(len(maps) / columns)
    depth, heads = next(iter(maps.values())).shape
    tall = max(150.0, min(380.0, 13.0 * depth + 60))
    with drawing(1060 if len(maps) > 2 else 225 * columns, tall * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
        for panel, (role, mean_LH) in zip(panels, maps.items(), strict=False):
            panel.set_title(role, fontsize=12)
            panel.grid(False)
            for layer, head in np.ndindex(depth, heads):
                # opacity instead of colour: visible on light and dark pages
                panel.add_patch(_square(head, layer, float(mean_LH[layer, head])))
            panel.set(xlim=(-0.5, heads - 0.5), ylim=(depth - 0.5, -0.5))
            step_l, step_h = ceil(depth / 6), ceil(heads / 8)
            panel.set(yticks=range(0, depth, step_l), xticks=range(0, heads, step_h))
        for panel in list(figure.axes)[len(maps) :]:
            panel.set_axis_off()
        figure.axes[0].set_ylabel("layer")
        figure.axes[0].set_xlabel("head")
        return inline_svg(figure, "attention along edges by layer and head")


def _square(x: int, y: int, value: float) -> Rectangle:
    from matplotlib.patches import Rectangle

    alpha = 0.04 + 0.96 * min(1.0, max(0.0, value))  # a packet may hold any number
    return Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, facecolor=SERIES[0], alpha=alpha, lw=0)

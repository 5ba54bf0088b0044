"""Concept maps: vectors in two dimensions, coloured by symbol. K concepts, S symbols, D width, N points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m2kt.packet import Packet, read_outputs
from m2kt.render._figure import MANY_POINTS, drawing, inline_svg
from m2kt.render._text import shown
from m2kt.render._theme import INK, MUTED, series, symbol_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMES, MOST_RULES = 64, 12  # what a picture names: pairs of names are compared, and a reader sees no more
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """The first two principal directions of some vectors."""

    mean_D: Points
    axes_2D: Points
    share_2: Points
    """Share of the variance along each."""

    def __call__(self, x_ND: NDArray[np.floating]) -> Points:
        """(N, 2)."""
        projected: Points = (x_ND - self.mean_D) @ self.axes_2D.T
        return projected


def principal_plane(x_ND: NDArray[np.floating]) -> Plane:
    """PCA; missing directions are zero."""
    x = np.asarray(x_ND, dtype=np.float64)
    mean = x.mean(axis=0)
    _, size, direction = np.linalg.svd(x - mean, full_matrices=False)
    axes, share = np.zeros((2, x.shape[1])), np.zeros(2)
    axes[: len(direction[:2])] = direction[:2]
    share[: len(size[:2])] = (size**2 / max((size**2).sum(), 1e-12))[:2]
    return Plane(mean, axes, share)


def draw_packet_map(packet: Packet) -> str:
    """Concept vectors and symbol anchors: coloured by the symbol that the vectors are read as, and by rule."""
    graph = packet.program
    vectors, anchors = packet.concepts.vectors_KD, packet.concepts.prototypes_SD
    known = packet.concepts.prototype_count_S > 0
    written = np.array([-1 if s is None else s for s in read_outputs(packet)])
    plane = principal_plane(_means(vectors, written, anchors[known]))
    xy, anchor_xy = plane(vectors), plane(anchors[known])
    names = [shown(s) for s, k in zip(graph.symbols, known, strict=True) if k]
    rule_of = [rule.name for rule in graph.rules for _ in rule.rows]
    palette = [*symbol_colours(len(graph.symbols)), MUTED]  # the last is for -1, not readable
    several = len(graph.rules) > 1
    with drawing(1060 if several else 640, 470) as figure:
        panels = figure.subplots(1, 2 if several else 1, squeeze=False)[0]
        _scatter(panels[0], xy, [palette[w] for w in written])
        panels[0].set_title("by decoded symbol")
        if several:
            _by_rule(panels[1], xy, rule_of)
        for axes in panels:
            axes.scatter(anchor_xy[:, 0], anchor_xy[:, 1], marker="x", s=34, color=INK, linewidths=1.2)
            _labels(axes, anchor_xy, names)
            axes.set_xlabel(f"first direction, {100 * plane.share_2[0]:.0f} % of the symbols' variance")
            axes.set_ylabel(f"second, {100 * plane.share_2[1]:.0f} %")
        return inline_svg(figure, "concept vectors and prototypes in two dimensions")


def _means(
    vectors_KD: NDArray[np.floating], symbol_K: NDArray[np.integer], anchors_SD: NDArray[np.floating]
) -> NDArray[np.floating]:
    """A mean per output symbol, and the prototypes: every symbol has equal weight."""
    found_S, index_K = np.unique(symbol_K, return_inverse=True)
    sum_SD = np.zeros((len(found_S), vectors_KD.shape[1]))
    np.add.at(sum_SD, index_K, vectors_KD)
    return np.concatenate([sum_SD / np.bincount(index_K)[:, None], anchors_SD])


def draw_transfer_map(points: dict[str, Any]) -> str:
    """``Measured.map``: the teacher's vectors beside their images under phi and the student's own states.

    Args:
        points: lists of pairs ``teacher_xy``, ``image_xy`` (K), ``own_xy``, optionally ``anchor_xy``, and their
            symbols: ``label`` (K), ``own_label``.
    """
    names = ("teacher_xy", "image_xy", "own_xy", "anchor_xy")
    teacher, image, own, anchor = (np.array(points.get(n, []), dtype=np.float64).reshape(-1, 2) for n in names)
    label, own_label = list(map(shown, points["label"])), list(map(shown, points["own_label"]))
    order = sorted({*label, *own_label})
    palette = dict(zip(order, symbol_colours(len(order)), strict=True))
    with drawing(1060, 470) as figure:
        left, right = figure.subplots(1, 2)
        left.set_title("teacher: concept vectors" + (", and symbols (crosses)" if len(anchor) else ""))
        _scatter(left, teacher, [palette[x] for x in label])
        left.scatter(anchor[:, 0], anchor[:, 1], marker="x", s=34, color=INK, linewidths=1.2)
        right.set_title("student: images under phi (dots), own states (rings)")
        _scatter(right, image, [palette[x] for x in label])
        rings = [palette[x] for x in own_label]
        right.scatter(own[:, 0], own[:, 1], s=52, facecolors="none", edgecolors=rings, linewidths=1.3)
        written = [x for x in order if x in label]
        for axes, xy in ((left, teacher), (right, image)):
            middle = [np.median(xy[[x == name for x in label]], axis=0) for name in written]
            _labels(axes, np.array(middle).reshape(-1, 2), written)
            axes.set_xticklabels([])
            axes.set_yticklabels([])
        return inline_svg(figure, "the teacher's concepts and their images in the student")


def _scatter(axes: Axes, xy: Points, colours: list[str]) -> None:
    axes.scatter(xy[:, 0], xy[:, 1], c=colours, s=26, alpha=0.75, linewidths=0, rasterized=len(xy) > MANY_POINTS)


def _by_rule(axes: Axes, xy: Points, rule_of: list[str]) -> None:
    names = list(dict.fromkeys(rule_of))
    if len(names) > MOST_RULES:
        others = f"{len(names) - MOST_RULES + 1} others"
        named = set(names[: MOST_RULES - 1])
        rule_of = [name if name in named else others for name in rule_of]
        names = [*names[: MOST_RULES - 1], others]
    rule_K = np.array(rule_of)
    for i, name in enumerate(names):
        points, colour = xy[rule_K == name], series(i)
        axes.scatter(points[:, 0], points[:, 1], s=26, alpha=0.75, linewidths=0, color=colour, label=name)
    axes.set_title("by rule")
    axes.legend(loc="best", handletextpad=0.1)


def _labels(axes: Axes, xy: Points, names: list[str]) -> None:
    """Names above points, moved vertically until none overlap; only the first where there are many."""
    if len(names) > MOST_NAMES:
        axes.set_title(f"{axes.get_title(loc='left')}; {MOST_NAMES} of {len(names)} are named")
        xy, names = xy[:MOST_NAMES], names[:MOST_NAMES]
    axes.figure.canvas.draw()  # fixes the limits, so that distances in pixels are known
    position = axes.transData.transform(xy) + np.array([0.0, 7.0])
    half = np.array([[3.6 * len(name) + 2, 7.0] for name in names])
    for _ in range(200):
        moved = False
        for i in range(len(position)):
            for j in range(i):
                overlap = half[i] + half[j] - np.abs(position[i] - position[j])
                if (overlap > 0).all():
                    push = np.array([0.0, overlap[1] / 2 + 0.5])
                    upper, lower = (i, j) if position[i, 1] >= position[j, 1] else (j, i)
                    position[upper] += push
                    position[lower] -= push
                    moved = True
        if not moved:
            break
    for i, (name, (x, y)) in enumerate(zip(names, axes.transData.inverted().transform(position), strict=True)):
        text = axes.text(x, y, name, ha="center", va="center", fontsize=12.5, weight="bold")
        text.set_gid(f"halo-{i}")

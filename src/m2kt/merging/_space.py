"""One space: a linear map from a source's vectors to those of the packet whose space is used.

It is fitted where both know what a vector means: each prototype sample of the source shall go to the other teacher's
prototype of the same symbol, and each vector of a row to that of the symbol it decodes to (ridge regression,
cross-validated over samples and rows). A symbol of the source alone gets a
direction that no prototype there uses. A map that confuses symbols is refused.

P prototype samples, S symbols of the merged packet, D width of the source, E width of the merged space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2kt.errors import PacketError
from m2kt.packet import Concepts, NearestPrototype, Packet, SpaceFit, decodes_with_margin

Floats = NDArray[np.floating]
Matrix = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_ERROR = 0.02
"""Share of left-out samples and rows that may decode to another symbol."""
MAX_MOVED = 0.01
"""Share of rows that may decode to another symbol than in their own space."""
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
FOLDS = 4


@dataclass(frozen=True)
class Mapping:
    """Standardises a source's vectors and maps them."""

    mean_D: Matrix
    scale_D: Matrix
    weight_DE: Matrix
    offset_E: Matrix

    def points(self, x_ND: Floats) -> NDArray[np.float32]:
        """Vectors in the merged space."""
        y_NE = ((x_ND.astype(np.float64) - self.mean_D) / self.scale_D) @ self.weight_DE + self.offset_E
        return y_NE.astype(np.float32)

    def directions(self, x_ND: Floats) -> NDArray[np.float32]:
        """Differences of vectors in the merged space."""
        return ((x_ND.astype(np.float64) / self.scale_D) @ self.weight_DE).astype(np.float32)


@dataclass
class Space:
    """The merged packet's prototypes so far, and their samples."""

    prototypes_SE: Floats
    count_S: Ints
    samples_PE: Floats
    symbol_P: Ints

    @classmethod
    def of(cls, packet: Packet) -> Space:
        """That of the packet whose space is used."""
        c = packet.concepts
        return cls(
            c.prototypes_SD,
            c.prototype_count_S.astype(np.int64),
            c.prototype_samples_PD,
            c.prototype_symbol_P.astype(np.int64),
        )

    def known(self) -> set[int]:
        """Symbols with a prototype and samples."""
        return {int(s) for s in np.unique(self.symbol_P) if self.prototypes_SE[s].any()}

    def decoder(self) -> NearestPrototype:
        """Decodes vectors of the space."""
        return NearestPrototype(
            self.samples_PE.astype(np.float32), self.symbol_P, self.prototypes_SE.astype(np.float32)
        )

    def grow(self, n_symbols: int) -> None:
        """Room for more symbols, without prototypes yet."""
        more = n_symbols - len(self.count_S)
        self.prototypes_SE = np.pad(self.prototypes_SE, ((0, more), (0, 0)))
        self.count_S = np.pad(self.count_S, (0, more))


def enter(
    space: Space, source: Packet, symbol_ids: list[int], output_K: Sequence[int | None], is_same: bool
) -> tuple[Mapping, SpaceFit]:
    """Fit a source's map, and add the prototypes of the symbols that it alone has.

    Args:
        symbol_ids: by symbol of the source, its id in the space.
        output_K: the symbol that each of its rows decodes to, by its id in the space.
        is_same: the source's teacher and layer are those of the space.

    Raises:
        PacketError: too few common symbols, no room for new ones, or the map confuses symbols.
    """
    concepts, ids_S = source.concepts, np.array(symbol_ids, dtype=np.int64)
    label_P = ids_S[concepts.prototype_symbol_P]
    known, mine = space.known(), {int(s) for s in np.unique(label_P)}
    shared, new = sorted(known & mine), sorted(mine - known)
    who = f"{source.manifest.name} {source.digest[7:19]} of {source.manifest.teacher.name}"
    if len(shared) < 2:
        raise PacketError(
            f"{who} shares {len(shared)} symbols with prototypes with the packet whose space is used; expected two or "
            "more: without them its vectors cannot be compared with the others'"
        )
    targets_SE = _with_new(space, new, who)
    if is_same:
        width = concepts.prototypes_SD.shape[1]
        exact = Mapping(np.zeros(width), np.ones(width), np.eye(width), np.zeros(width))
        known_P = np.isin(label_P, shared)
        error = _error(space, exact.points(concepts.prototype_samples_PD[known_P]), label_P[known_P])
        if error <= MAX_ERROR:
            _add(space, new, concepts, label_P, exact)
            return exact, SpaceFit(
                method="same", shared_symbols=len(shared), new_symbols=len(new), error=error, residual=0.0, moved=0
            )
    readable = [k for k, clear in enumerate(_readable(source)) if clear and output_K[k] in mine]
    x_PD = np.concatenate([concepts.prototype_samples_PD, concepts.vectors_KD[readable]]).astype(np.float64)
    told_P = np.concatenate([label_P, np.array([output_K[k] for k in readable], dtype=np.int64)])
    y_PE = targets_SE[told_P].astype(np.float64)
    trial = Space(targets_SE, space.count_S, space.samples_PE, space.symbol_P)
    fits = [(*_cross_validate(trial, x_PD, y_PE, told_P, ridge), ridge) for ridge in RIDGES]
    error, residual, ridge = min(fits)
    if error > MAX_ERROR:
        raise PacketError(
            f"the vectors of {who} cannot be brought into one space: {error:.1%} of its left-out samples and rows "
            f"decode to another symbol, expected at most {MAX_ERROR:.0%}; extract it with more samples, or merge fewer"
        )
    mapping = _fit(x_PD, y_PE, ridge)
    _add(space, new, concepts, label_P, mapping)
    return mapping, SpaceFit(
        method="ridge", shared_symbols=len(shared), new_symbols=len(new), error=error, residual=residual, moved=0
    )


def _readable(source: Packet) -> NDArray[np.bool_]:
    """Rows whose vectors decode with a margin."""
    return decodes_with_margin(source.concepts) if source.n_concepts else np.zeros(0, dtype=bool)


def _with_new(space: Space, new: list[int], who: str) -> Floats:
    """Prototypes, with a direction of its own for each new symbol: orthogonal to all others', of their usual length."""
    known = sorted(space.known())
    targets_SE = space.prototypes_SE.astype(np.float64).copy()
    if not new:
        return targets_SE
    mean_E = targets_SE[known].mean(axis=0)
    centred_NE = targets_SE[known] - mean_E
    width = targets_SE.shape[1]
    if len(known) + len(new) > width:
        raise PacketError(
            f"{who} has {len(new)} symbols of its own, and the space has {width} dimensions of which {len(known)} are "
            "used; expected room for all: merge packets of wider teachers"
        )
    basis_EE, _ = np.linalg.qr(np.concatenate([centred_NE, np.eye(width)]).T)
    length = float(np.linalg.norm(centred_NE, axis=1).mean())
    for i, symbol in enumerate(new):
        targets_SE[symbol] = mean_E + length * basis_EE[:, len(known) + i]
    return targets_SE


def _add(space: Space, new: list[int], concepts: Concepts, label_P: Ints, mapping: Mapping) -> None:
    added_P = np.isin(label_P, new)
    mapped_PE = mapping.points(concepts.prototype_samples_PD[added_P])
    for symbol in new:
        own = label_P[added_P] == symbol
        space.prototypes_SE = space.prototypes_SE.copy()
        space.prototypes_SE[symbol] = mapped_PE[own].mean(axis=0)
        space.count_S[symbol] = int(own.sum())
    space.samples_PE = np.concatenate([space.samples_PE, mapped_PE.astype(space.samples_PE.dtype)])
    space.symbol_P = np.concatenate([space.symbol_P, label_P[added_P]])


def _fit(x_PD: Matrix, y_PE: Matrix, ridge: float) -> Mapping:
    mean_D = x_PD.mean(axis=0)
    scale_D = np.maximum(x_PD.std(axis=0), 1e-4 * x_PD.std() + 1e-8)
    z_PD, offset_E = (x_PD - mean_D) / scale_D, y_PE.mean(axis=0)
    gram_DD = z_PD.T @ z_PD + ridge * len(z_PD) * np.eye(z_PD.shape[1])
    return Mapping(mean_D, scale_D, np.linalg.solve(gram_DD, z_PD.T @ (y_PE - offset_E)), offset_E)


def _folds(label_P: Ints) -> Ints:
    """Each symbol's samples in turn, so that every fold has every symbol that has enough."""
    fold_P = np.zeros(len(label_P), dtype=np.int64)
    for symbol in np.unique(label_P):
        own = np.flatnonzero(label_P == symbol)
        fold_P[own] = np.arange(len(own)) % FOLDS
    return fold_P


def _cross_validate(space: Space, x_PD: Matrix, y_PE: Matrix, label_P: Ints, ridge: float) -> tuple[float, float]:
    """Share of left-out samples that decode to another symbol, and their distance from the target by its deviation."""
    fold_P = _folds(label_P)
    mapped_PE = np.zeros_like(y_PE)
    for fold in range(FOLDS):
        out_P = fold_P == fold
        if out_P.any() and not out_P.all():
            mapped_PE[out_P] = _fit(x_PD[~out_P], y_PE[~out_P], ridge).points(x_PD[out_P])
    residual = np.sqrt(((mapped_PE - y_PE) ** 2).sum() / max(((y_PE - y_PE.mean(axis=0)) ** 2).sum(), 1e-12))
    return _error(space, mapped_PE.astype(np.float32), label_P), float(residual)


def _error(space: Space, x_PE: Floats, label_P: Ints) -> float:
    """Nearest prototype by the space's own measure, over all symbols that have a prototype by now."""
    decoder = space.decoder()
    present = np.flatnonzero(space.prototypes_SE.any(axis=1))
    y_SE = (space.prototypes_SE[present] - decoder.mean_D) / decoder.scale_D
    z_PE = (x_PE - decoder.mean_D) / decoder.scale_D
    best_P = present[(_unit(z_PE) @ _unit(y_SE).T).argmax(axis=1)]
    return float((best_P != label_P).mean()) if len(label_P) else 0.0


def _unit(x_NE: Floats) -> Floats:
    unit_NE: Floats = x_NE / np.maximum(np.linalg.norm(x_NE, axis=1, keepdims=True), 1e-12)
    return unit_NE

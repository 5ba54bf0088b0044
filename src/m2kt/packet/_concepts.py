"""C, the concepts of a packet. The only module that knows their names on disk.

K concepts, S symbols, P prototype samples, D teacher width, r directions of spread.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2kt.errors import PacketError

from ._tensors import Array, Arrays

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]

ON_DISK = {
    "vectors_KD": "vectors_KD",
    "spread_basis_KrD": "spread_basis_KrD",
    "spread_scale_Kr": "spread_scale_Kr",
    "support_K": "support_K",
    "prototypes_SD": "anchors_SD",
    "prototype_count_S": "anchor_count_S",
    "prototype_samples_PD": "pool_PD",
    "prototype_symbol_P": "pool_symbol_P",
}
"""Attribute of :class:`Concepts` to the name of its tensor in concepts.safetensors (docs/format.md, F23)."""
INTEGERS = ("support_K", "anchor_count_S", "pool_symbol_P")
DTYPE_KINDS = {name: "iu" if name in INTEGERS else "f" for name in ON_DISK.values()}
BY_CONCEPT = ("vectors_KD", "spread_basis_KrD", "spread_scale_Kr", "support_K")


@dataclass(frozen=True, eq=False)
class Concepts:
    """Concept vectors by rule row, and the prototypes of the symbols in the same space.

    A prototype is the teacher's mean state when it copies a symbol. Names on disk are older: :data:`ON_DISK`.
    """

    vectors_KD: Floats
    """The teacher's state when it writes the output of a row, mean over contexts."""
    spread_basis_KrD: Floats
    """Directions in which that state varies."""
    spread_scale_Kr: Floats
    """Standard deviation along each of these directions."""
    support_K: Integers
    """Number of contexts in the mean."""
    prototypes_SD: Floats
    """The mean of each symbol's prototype samples; zeros for a symbol without any."""
    prototype_count_S: Integers
    """Number of states in that mean."""
    prototype_samples_PD: Floats
    """Single states of the teacher when it copies a symbol."""
    prototype_symbol_P: Integers
    """The symbol of each sample."""

    @classmethod
    def from_arrays(cls, arrays: Arrays, where: str = "packet") -> Concepts:
        """From the tensors of concepts.safetensors, by their names on disk.

        Raises:
            PacketError: a tensor is missing or unknown.
        """
        if missing := [name for name in ON_DISK.values() if name not in arrays]:
            raise PacketError(f"{where}: concepts.safetensors lacks {', '.join(missing)}")
        if unknown := sorted(arrays.keys() - ON_DISK.values()):
            raise PacketError(f"{where}: concepts.safetensors holds {unknown[0]}, which format 1 does not know")
        return cls(**{attribute: arrays[name] for attribute, name in ON_DISK.items()})

    def arrays(self) -> Arrays:
        """The tensors of concepts.safetensors, by their names on disk."""
        return {name: getattr(self, attribute) for attribute, name in ON_DISK.items()}

    def replace(self, **changes: Array) -> Concepts:
        """A copy with some arrays exchanged; the others are shared."""
        return dataclasses.replace(self, **changes)

    def take(self, index_K: Integers) -> Concepts:
        """The concepts of these indices, in this order; prototypes stay."""
        return self.replace(**{name: np.ascontiguousarray(getattr(self, name)[index_K]) for name in BY_CONCEPT})

"""Where a teacher is computed: a loaded model, and what it computed for the beginnings that batches share.

Letters: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor
from transformers import Cache

from m2kt.models import LoadedModel, Prefix, compute_prefix, load_causal_lm, pad_batch, with_prefix

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Rows:
    """Sequences of one forward pass."""

    ids: tuple[Ids, ...]
    """Their tokens, without those of the prefix."""
    prefix: Ids = ()
    """What all of them begin with; computed once."""


@dataclass(frozen=True)
class Padded:
    """Rows as tensors, padded on the right."""

    ids_BT: Tensor
    real_BT: Tensor
    """1 where a token is no padding."""
    prefix: Prefix | None

    @property
    def mask(self) -> Tensor:
        """The attention mask, of the prefix too."""
        return self.real_BT if self.prefix is None else with_prefix(self.prefix, self.real_BT)

    def past(self) -> Cache | None:
        """A new cache of the prefix, for one pass."""
        return None if self.prefix is None else self.prefix.for_rows(len(self.ids_BT))


class ModelHost:
    """A loaded teacher that computes replies to requests."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.model = loaded.model
        self.device = next(loaded.model.parameters()).device
        self._prefixes: dict[Ids, Prefix] = {}

    def keep(self, prefix: Prefix) -> None:
        """Keep what was computed for a prefix."""
        self._prefixes[prefix.ids] = prefix

    def prefix(self, ids: Ids) -> Prefix | None:
        """What the model computed for these tokens; None for no tokens.

        Raises:
            ModelError: the model has no cache that stands for them.
        """
        if ids and ids not in self._prefixes:
            self.keep(compute_prefix(self.loaded, ids))
        return self._prefixes.get(ids)

    def padded(self, rows: Rows) -> Padded:
        """Rows as tensors on the model's device."""
        ids_BT, real_BT = pad_batch(rows.ids, self.loaded.pad_id, side="right", device=self.device)
        return Padded(ids_BT, real_BT, self.prefix(rows.prefix))

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Eager attention inside the context: other kernels return no attention patterns, without an error."""
        implementation = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.model.set_attn_implementation(implementation)

    def plain(self) -> LoadedModel:
        """The teacher in fp32, as the equality of other ways of computing it is measured by."""
        if self.model.dtype.itemsize >= 4:
            return self.loaded
        return load_causal_lm(self.loaded.path, device=self.device.type, dtype="fp32")

"""Values that a reader derives once and keeps.

Each is a function of its key, or of tensors, so that threads may share it: all compute the same value. Copies and
pickles of a model begin without them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key")
Value = TypeVar("Value")


class Memo(Generic[Key, Value]):
    """Values by key, at most ``limit`` of them: the oldest are dropped."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.clear()

    def clear(self) -> None:
        """Forget all values."""
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self.get = self._values.get  # bound once: generation asks for every token

    def put(self, key: Key, value: Value) -> Value:
        """Keep a value and return it."""
        self._values[key] = value
        if len(self._values) > self.limit:
            self._values.popitem(last=False)
        return value

    def __reduce__(self) -> tuple[type[Memo[Key, Value]], tuple[int]]:
        return type(self), (self.limit,)


class VersionedCache(Generic[Value]):
    """Caches a value derived from tensors until one of them is replaced or modified; disabled while autograd is on.

    Args:
        compute: derives the value.
        sources: returns the tensors that ``compute`` reads. Both are bound methods, so that a copy of the module
            derives the value from the copy's tensors.
    """

    def __init__(self, compute: Callable[[], Value], sources: Callable[[], Sequence[Tensor]]) -> None:
        self._compute, self._sources = compute, sources
        self._kept: tuple[Sequence[Tensor], int, Value] | None = None

    def clear(self) -> None:
        """Recompute at the next call."""
        self._kept = None

    def __call__(self) -> Value:
        """The value for the tensors' present contents."""
        if torch.is_grad_enabled():
            return self._compute()
        tensors = self._sources()
        try:
            version = sum(t._version for t in tensors)  # versions only increase
        except RuntimeError:  # inference tensors have no version
            return self._compute()
        kept = self._kept  # read and written in one step: other threads pass here too
        if kept is None or version != kept[1] or any(a is not b for a, b in zip(tensors, kept[0], strict=True)):
            kept = self._kept = tensors, version, self._compute()
        return kept[2]

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._compute, self._sources)

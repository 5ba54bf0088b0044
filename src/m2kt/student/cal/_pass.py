"""A forward pass of an adapted model, and what its caller asked for.

Both belong to the call and not to the model, in context variables: threads and tasks that share one model do not meet.

Letters: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from m2kt._shapes import Bool
from m2kt.errors import CompatibilityError
from m2kt.student.cal._context import Run, Supervision

BASE = "__base__"
"""The adapter name of rows without an adapter, as in peft."""


@dataclass(eq=False)
class Installation:
    """What the adapters of one model share; written when adapters are added or removed, never by a pass."""

    n_blocks: int  # decoder blocks, behind which the readers' pseudo layers are
    context: int  # tokens that the model can read
    blocks: list[nn.Module] = field(default_factory=list)  # those with readers: ``ReadingBlock``
    handles: dict[int, RemovableHandle] = field(default_factory=dict)  # of the hooks that store states, by block index


@dataclass(frozen=True)
class Request:
    """What the caller wants of the passes within a context."""

    installation: Installation
    supervision: Supervision | None = None
    adapter_of_row: tuple[str, ...] | None = None  # of each row; None: the active adapters for all rows
    copies: int = 1  # rows that generation makes of one: beams, or sampled answers
    finished: list[Run] | None = None  # takes each pass's first ``Run``
    instead: tuple[Mapping[int, int], ...] = ()  # contents that are injected for others, by row; of one for all rows


@dataclass(eq=False)
class Pass:
    """One forward pass that is under way."""

    installation: Installation
    outer: Pass | None
    request: Request
    runs: list[tuple[int, str, Run]] = field(default_factory=list)  # block, adapter, and its reader's ``Run``
    row_of_adapter: dict[str, Bool[Tensor, " B"]] | None = None  # rows of each adapter; None: all are all rows'

    def selected(self, name: str, changed: Tensor, plain: Tensor) -> Tensor:
        """``changed`` in the rows of an adapter, ``plain`` in all others; both are (B, ..., E)."""
        if self.row_of_adapter is None:
            return changed
        row_B = self.row_of_adapter[name]
        if changed.shape[0] != row_B.shape[0]:
            raise CompatibilityError(
                f"expected {row_B.shape[0]} rows in every adapted layer, got {changed.shape[0]}: layers that mix rows "
                "(experts) cannot have an adapter for each row; make a pass for each adapter"
            )
        return torch.where(row_B.view(-1, *[1] * (changed.dim() - 1)), changed, plain)


_PASS: ContextVar[Pass | None] = ContextVar("m2kt_pass", default=None)
_REQUESTS: ContextVar[tuple[Request, ...]] = ContextVar("m2kt_requests", default=())


def request_of(installation: Installation) -> Request:
    """What this thread or task wants of a model's passes."""
    requests = (r for r in reversed(_REQUESTS.get()) if r.installation is installation)
    return next(requests, None) or Request(installation)


@contextmanager
def requested(request: Request) -> Iterator[None]:
    """Passes of the request's model within the context, made by this thread or task, are as it says."""
    token = _REQUESTS.set((*_REQUESTS.get(), request))
    try:
        yield
    finally:
        _REQUESTS.reset(token)


def begin_pass(installation: Installation) -> Pass:
    """Open a pass. One of the same model that was left open, by an interrupt, is dropped."""
    outer = _PASS.get()
    while outer is not None and outer.installation is installation:
        outer = outer.outer
    opened = Pass(installation, outer, request_of(installation))
    _PASS.set(opened)
    return opened


def current_pass(installation: Installation) -> Pass | None:
    """The model's pass under way in this thread or task."""
    current = _PASS.get()
    while current is not None and current.installation is not installation:
        current = current.outer
    return current


def end_pass(installation: Installation) -> None:
    """Close the model's pass, if one is open."""
    current = _PASS.get()
    if current is None or current.installation is not installation:
        return
    _PASS.set(current.outer)
    if current.request.finished is not None and current.runs:
        current.request.finished.append(current.runs[0][2])

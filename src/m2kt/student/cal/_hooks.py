"""The hooks that open a pass in front of the backbone, collect what readers read, and close it.

They are objects, not functions: those of a copy of the model use the copy's installation.

Letters: B batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig

from m2kt._shapes import Bool, Int
from m2kt.errors import CompatibilityError
from m2kt.models import BlockOutput, hidden_of
from m2kt.student.cal._base import ReaderBase
from m2kt.student.cal._cache import Slot, count_cached_tokens, exact_arithmetic, inference_mode_for
from m2kt.student.cal._context import begin_run
from m2kt.student.cal._layer import ReadingBlock
from m2kt.student.cal._pass import BASE, Installation, begin_pass, current_pass, end_pass


@dataclass
class BeginPass:
    """Opens a pass, and creates the ``Run`` of every reader that is active in it."""

    installation: Installation
    order: list[str]  # parameters of the backbone
    cache_argument: str
    config: PreTrainedConfig

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        opened = begin_pass(self.installation)
        chosen = opened.request.adapter_of_row
        blocks = cast(list[ReadingBlock], self.installation.blocks)
        readers = [(b, n) for b, block in enumerate(blocks) for n in _readers(block, chosen)]
        if not readers and chosen is None:
            return None
        bound = dict(zip(self.order, args, strict=False)) | kwargs
        token_BT = bound.get("input_ids")
        if token_BT is None:
            raise CompatibilityError("expected input_ids, got none: the concept reader cannot use inputs_embeds")
        if chosen is not None:
            opened.row_of_adapter = _rows(chosen, opened.request.copies, token_BT)
        if not readers:
            return None
        cache = bound.get(self.cache_argument)
        use_cache = bound.get("use_cache")
        if use_cache is None:
            use_cache = getattr(self.config.get_text_config(), "use_cache", False)
        if cache is None and use_cache:
            cache = DynamicCache(config=self.config)  # the readers need it, too
            bound[self.cache_argument] = cache
        n_past, mask = count_cached_tokens(cache), bound.get("attention_mask")
        with inference_mode_for(cache), exact_arithmetic(token_BT.device):
            for nth, (index, name) in enumerate(readers):
                matcher = cast(ReaderBase, blocks[index].cal_reader[name]).matcher
                first_layer = self.installation.n_blocks + nth * len(Slot)
                supervision, context = opened.request.supervision, self.installation.context
                run = begin_run(matcher, first_layer, token_BT, mask, supervision, cache, n_past, context)
                run.instead = opened.request.instead
                opened.runs.append((index, name, run))
        return (), bound


@dataclass
class EndPass:
    """Closes a pass."""

    installation: Installation

    def __call__(self, *_: object) -> None:
        end_pass(self.installation)


@dataclass
class StoreStates:
    """Stores a block's output for the rest of the pass."""

    installation: Installation
    layer: int

    def __call__(self, _: nn.Module, __: object, output: BlockOutput) -> None:
        under_way = current_pass(self.installation)
        if under_way is not None:
            for _index, _name, run in under_way.runs:
                run.states[self.layer] = hidden_of(output)


def _readers(block: ReadingBlock, adapter_of_row: Sequence[str] | None) -> list[str]:
    """Adapters whose readers are active at a block."""
    if block.disable_adapters:
        return []
    names = block.active_adapters if adapter_of_row is None else sorted(set(adapter_of_row))
    return [name for name in names if name in block.cal_reader]


def _rows(adapter_of_row: Sequence[str], copies: int, token_BT: Int[Tensor, "B T"]) -> dict[str, Bool[Tensor, " B"]]:
    """The rows of each adapter; generation repeats every row ``copies`` times."""
    n_rows, n_names = token_BT.shape[0], len(adapter_of_row)
    if n_rows not in (n_names, n_names * copies):
        raise CompatibilityError(f"adapter_names: expected one for each of {n_rows} rows, got {n_names}")
    each = n_rows // n_names
    names = [name for name in adapter_of_row for _ in range(each)]
    return {
        name: torch.tensor([other == name for other in names], device=token_BT.device)
        for name in sorted(set(names) - {BASE})
    }

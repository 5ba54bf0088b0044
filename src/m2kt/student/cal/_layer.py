"""The two modules that CAL inserts into a student: a low-rank update of a linear layer, and a block with readers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from m2kt.errors import CompatibilityError
from m2kt.student.cal._base import ReaderBase
from m2kt.student.cal._cache import exact_arithmetic
from m2kt.student.cal._config import CALConfig
from m2kt.student.cal._executed import ExecutedReader
from m2kt.student.cal._flat import FlatReader
from m2kt.student.cal._pass import Installation, current_pass
from m2kt.student.cal._reader import StructuredReader

READERS: dict[str, type[ReaderBase]] = {
    "executed": ExecutedReader,
    "structured": StructuredReader,
    "flat": FlatReader,
}


_OUTSIDE = ("base_model", "model", "base_layer", "cal_reader", "cal_A", "cal_B")


def check_name(adapter: str, keys: Iterable[str]) -> None:
    """Raises CompatibilityError for an adapter named as a module is: peft tells adapters' weights by the name.

    Args:
        keys: names of modules, parameters and buffers.
    """
    taken = {part for key in keys for part in key.split(".")}.union(_OUTSIDE)
    if adapter in taken or "." in adapter:
        raise CompatibilityError(
            f"expected an adapter name without a dot that no module has, got {adapter!r}: peft would save it, or "
            "the adapters beside it, without weights; choose another, such as 'skill'"
        )


class CALLayer(BaseTunerLayer):
    """Base class by which the tuner finds both."""


class SteeredLinear(nn.Module, CALLayer):
    """y = W x + (alpha / r) B A x, for ``nn.Linear`` and GPT-2's ``Conv1D``."""

    adapter_layer_names = ("cal_A", "cal_B")
    other_param_names = ("cal_scale",)
    optimiser_groups: ClassVar[dict[str, str]] = {"": "steering"}

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: CALConfig, installation: Installation) -> None:
        super().__init__()
        self.base_layer = base_layer
        self._installation = installation
        if isinstance(base_layer, Conv1D):
            self.in_features, self.out_features = (int(n) for n in base_layer.weight.shape)
        elif isinstance(base_layer, nn.Linear):
            self.in_features, self.out_features = base_layer.in_features, base_layer.out_features
        else:
            raise CompatibilityError(f"steering expects nn.Linear or Conv1D, got {type(base_layer).__name__}")
        self.cal_A = nn.ParameterDict({})
        self.cal_B = nn.ParameterDict({})
        self.cal_scale: dict[str, float] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: CALConfig) -> None:
        """Add an adapter: A random, B zero, so that the initial update is zero."""
        rank = config.steering_rank
        self.cal_A[adapter_name] = nn.Parameter(torch.randn(rank, self.in_features) / self.in_features**0.5)
        self.cal_B[adapter_name] = nn.Parameter(torch.zeros(self.out_features, rank))
        self.cal_scale[adapter_name] = config.steering_alpha / rank
        for part in (self.cal_A, self.cal_B):
            if not part[adapter_name].is_meta:  # there are no weights yet
                part[adapter_name].data = part[adapter_name].data.to(self.base_layer.weight.device)

    def enable_adapters(self, enabled: bool) -> None:
        """Switch all adapters on or off. Off, merged updates are subtracted here: a pass changes no weights."""
        if not enabled:
            self.unmerge()
        super().enable_adapters(enabled)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y: Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return y
        under_way = current_pass(self._installation)
        chosen = None if under_way is None else under_way.row_of_adapter
        for name in self.active_adapters if chosen is None else chosen:
            if name in self.cal_A and name not in self.merged_adapters:
                a, b = self.cal_A[name].to(x.dtype), (self.cal_B[name] * self.cal_scale[name]).to(x.dtype)
                steered = y + nn.functional.linear(nn.functional.linear(x, a), b).to(y.dtype)
                y = steered if under_way is None else under_way.selected(name, steered, y)
        return y

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the updates to the weight. Raises CompatibilityError if it is quantised or the sum is not finite."""
        for name in check_adapters_to_merge(self, adapter_names):
            if name in self.cal_A:
                self._add(name, 1, safe_merge)
                self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Subtract merged updates, up to rounding."""
        while self.merged_adapters:
            self._add(self.merged_adapters.pop(), -1, False)

    @torch.no_grad()
    def _add(self, name: str, sign: int, check: bool) -> None:
        weight = cast(Tensor, self.base_layer.weight)
        if type(weight.data) is not Tensor or not weight.is_floating_point():
            raise CompatibilityError(
                f"steering cannot be merged into quantised weights ({type(self.base_layer).__name__}): "
                "load the base unquantised"
            )
        change = sign * self.cal_scale[name] * (self.cal_B[name].float() @ self.cal_A[name].float())
        merged = (weight.float() + (change.T if isinstance(self.base_layer, Conv1D) else change)).to(weight.dtype)
        if check and not torch.isfinite(merged).all():
            raise CompatibilityError(
                f"expected finite weights after merging {name}, got some that are not; nothing was merged"
            )
        weight.copy_(merged)


class ReadingBlock(nn.Module, CALLayer):
    """A decoder block with one reader for each adapter; readers add to the block's output."""

    adapter_layer_names = ("cal_reader",)

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: CALConfig, width: int, installation: Installation
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.cal_reader = nn.ModuleDict({})
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
        self._installation = installation
        self._index = len(installation.blocks)  # replicas of a block have its index
        self.update_layer(adapter_name, config, width)

    def update_layer(self, adapter_name: str, config: CALConfig, width: int) -> None:
        """Add an adapter's reader."""
        parameter = next(self.base_layer.parameters(), None)
        device = parameter.device if parameter is not None else torch.device("cpu")
        reader = READERS[config.reader](config, width)
        check_name(adapter_name, reader.state_dict())
        # parameters on no device get their values, and with them a device, when the adapter's weights are loaded
        self.cal_reader[adapter_name] = reader._apply(lambda t: t if t.is_meta else t.to(device))

    def __getattr__(self, name: str) -> Any:
        # Models read attributes of their blocks, such as attention_type: they are delegated to the base block.
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = self.base_layer(*args, **kwargs)
        under_way = current_pass(self._installation)
        if under_way is None or not under_way.runs:
            return out
        h_BTE: Tensor = out[0] if isinstance(out, tuple) else out
        with exact_arithmetic(h_BTE.device):
            for index, name, run in under_way.runs:
                if index == self._index:
                    h_BTE = under_way.selected(name, self.cal_reader[name](h_BTE, run), h_BTE)
        return (h_BTE, *out[1:]) if isinstance(out, tuple) else h_BTE

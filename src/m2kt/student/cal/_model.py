"""CALModel: the peft tuner that inserts readers and steering into a frozen causal LM."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from m2kt._shapes import Float, Int, Shaped
from m2kt.errors import CompatibilityError
from m2kt.models import (
    blocks,
    cache_argument,
    context_length,
    decoder,
    make_head_input_contiguous,
    register_architectures,
    run_until,
)
from m2kt.student.cal._base import ReaderBase
from m2kt.student.cal._compat import PREFIX, register_method
from m2kt.student.cal._config import CALConfig
from m2kt.student.cal._context import Run, Supervision, begin_run
from m2kt.student.cal._hooks import BeginPass, EndPass, StoreStates
from m2kt.student.cal._layer import CALLayer, ReadingBlock, SteeredLinear, check_name
from m2kt.student.cal._pass import (
    BASE,
    Installation,
    request_of,
    requested,
)


class CALModel(BaseTuner):
    """The Concept Alignment Layer on a frozen causal LM. Steering can be merged into weights, readers cannot."""

    prefix = PREFIX
    tuner_layer_cls = CALLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - peft declares it so

    # ------------------------------------------------------------------------------------------ which modules
    def _prepare_adapter_config(self, peft_config: PeftConfig, model_config: object) -> CALConfig:
        assert isinstance(peft_config, CALConfig)
        names = {id(module): name for name, module in self.model.named_modules()}
        stack = [unwrap(b) for b in blocks(self.model)]
        wrapped = {id(unwrap(m)): n for n, m in self.model.named_modules() if isinstance(m, ReadingBlock)}
        names.update(wrapped)
        if peft_config.reader_modules is None:
            for layer in (*peft_config.read_layers, peft_config.write_layer):
                if not 0 <= layer <= peft_config.write_layer < len(stack):
                    raise CompatibilityError(
                        f"expected blocks below {len(stack)}, none read above the one written to; "
                        f"got read_layers {peft_config.read_layers}, write_layer {peft_config.write_layer}"
                    )
            writer = names[id(stack[peft_config.write_layer])]
            peft_config.reader_modules = [] if peft_config.reader == "none" else [writer]
        if peft_config.steered_modules is None:
            peft_config.steered_modules = []
            steered = stack[peft_config.steering_first_layer : peft_config.steering_last_layer + 1]
            for block in steered if peft_config.steering_rank else ():
                for name, module in block.named_modules():
                    last = name.rpartition(".")[2]
                    selected = peft_config.steering_targets is None or last in peft_config.steering_targets
                    if selected and isinstance(module, (nn.Linear, Conv1D)):
                        peft_config.steered_modules.append(f"{names[id(block)]}.{name}".replace(".base_layer", ""))
        peft_config.target_modules = sorted({*peft_config.reader_modules, *peft_config.steered_modules})
        return peft_config

    @staticmethod
    def _check_target_module_exists(peft_config: PeftConfig, key: str) -> bool:
        assert isinstance(peft_config, CALConfig)
        plain = key.replace(".base_layer", "")
        if plain != key and key.endswith(".base_layer"):
            return False
        return plain in set(peft_config.reader_modules or ()) | set(peft_config.steered_modules or ())

    def _pre_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        if not hasattr(model, "_m2kt_cal"):
            # to mypy a module's attributes are tensors and modules
            model._m2kt_cal = Installation(len(blocks(model)), context_length(model))  # type: ignore[assignment]
            make_head_input_contiguous(model)  # the head is frozen now

    @property
    def installation(self) -> Installation:
        """What the adapters on the model share."""
        installation: Installation = self.model._m2kt_cal
        return installation

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        assert isinstance(peft_config, CALConfig)
        check_name(adapter_name, (*(peft_config.reader_modules or ()), *(peft_config.steered_modules or ())))
        if isinstance(target, SteeredLinear):
            target.update_layer(adapter_name, peft_config)
        elif isinstance(target, ReadingBlock):
            target.update_layer(adapter_name, peft_config, self._width())
            self._hook_read_blocks(peft_config)
        else:
            new: nn.Module
            if current_key.replace(".base_layer", "") in (peft_config.reader_modules or ()):
                new = ReadingBlock(target, adapter_name, peft_config, self._width(), self.installation)
                self.installation.blocks.append(new)
                self._hook_read_blocks(peft_config)
            else:
                new = SteeredLinear(target, adapter_name, peft_config, self.installation)
            if adapter_name not in self.active_adapters:
                new.requires_grad_(False)
            setattr(parent, target_name, new)

    def _width(self) -> int:
        width: int = self.model.get_input_embeddings().weight.shape[1]
        config = self.model.config.get_text_config()
        return int(getattr(config, "hidden_size", width))

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)  # the base layer is untouched: nothing to copy

    def _check_merge_allowed(self) -> None:
        if names := self.readers():
            raise CompatibilityError(
                f"a concept reader depends on its input: the one at {names[0]} cannot be merged into weights; "
                "run `m2kt consolidate` for a checkpoint that imitates it"
            )

    def readers(self) -> list[str]:
        """Names of the blocks with readers."""
        return [name for name, module in self.model.named_modules() if isinstance(module, ReadingBlock)]

    def drop_readers(self) -> None:
        """Remove all readers and keep the steering, which can be merged."""
        for name in self.readers():
            parent, _, child = name.rpartition(".")
            setattr(self.model.get_submodule(parent), child, self.model.get_submodule(name).base_layer)
        self.installation.blocks.clear()
        for config in cast(dict[str, CALConfig], self.peft_config).values():
            config.reader, config.reader_modules = "none", []

    def _unload_and_optionally_merge(self, *args: object, **kwargs: object) -> nn.Module:  # type: ignore[override]
        """The base model without hooks and shared state."""
        unload: Any = super()._unload_and_optionally_merge
        base: nn.Module = unload(*args, **kwargs)
        for handle in (*getattr(base, "_m2kt_cal_hooks", ()), *self.installation.handles.values()):
            handle.remove()
        for name in ("_m2kt_cal_hooks", "_m2kt_cal"):
            if hasattr(base, name):
                delattr(base, name)
        return base

    def add_weighted_adapter(self, *_: object, **__: object) -> None:
        """Refused: readers are programs with vectors, not matrices that can be added."""
        raise CompatibilityError(
            "concept readers cannot be added up; make several adapters active: model.base_model.set_adapter([...])"
        )

    # ------------------------------------------------------------------------------------------ saving
    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        marker = f".cal_reader.{adapter_name}."
        if marker in key:
            return key.replace(marker, ".cal_reader.")
        removed: str = super()._remove_adapter_name_from_key(key, adapter_name)
        return removed

    # ------------------------------------------------------------------------------------------ running
    def _post_injection_hook(self, model: nn.Module, config: PeftConfig, adapter_name: str) -> None:
        installation = self.installation
        if not hasattr(model, "_m2kt_cal_hooks"):
            backbone = decoder(model)
            order = list(inspect.signature(backbone.forward).parameters)
            begin = BeginPass(installation, order, cache_argument(model), cast(PreTrainedConfig, model.config))
            hook = backbone.register_forward_pre_hook(begin, with_kwargs=True)
            end = backbone.register_forward_hook(EndPass(installation), always_call=True)
            model._m2kt_cal_hooks = [hook, end]  # type: ignore[assignment]

    def _hook_read_blocks(self, config: CALConfig) -> None:
        """Store the outputs of the blocks that an adapter reads, for the rest of the pass."""
        installation, stack = self.installation, blocks(self.model)
        for layer in config.read_layers:
            if layer not in installation.handles:
                hook = StoreStates(installation, layer)
                installation.handles[layer] = unwrap(stack[layer]).register_forward_hook(hook)

    @contextmanager
    def _enable_peft_forward_hooks(
        self,
        *_: object,
        adapter_names: Sequence[str] | None = None,
        num_beams: int | None = None,
        num_return_sequences: int | None = None,
        **__: object,
    ) -> Iterator[None]:
        """Called by peft around a pass or a generation, with its arguments.

        Args:
            adapter_names: the adapter of each row, ``__base__`` for none.

        Raises: CompatibilityError for an adapter that is not there, in training, and while one is merged.
        """
        if adapter_names is None:
            yield
            return
        unknown = sorted(set(adapter_names) - {BASE, *self.peft_config})
        if unknown:
            raise CompatibilityError(
                f"adapter_names: expected {BASE} or one of {', '.join(self.peft_config)}, got {', '.join(unknown)}"
            )
        if self.training:
            raise CompatibilityError("adapter_names: expected a model in evaluation mode; call model.eval() first")
        if any(isinstance(module, SteeredLinear) and module.merged for module in self.modules()):
            raise CompatibilityError("adapter_names: expected no merged adapter; call unmerge_adapter() first")
        copies = max(num_beams or 1, num_return_sequences or 1)
        request = replace(request_of(self.installation), adapter_of_row=tuple(adapter_names), copies=copies)
        with requested(request):
            yield

    # ------------------------------------------------------------------------------------------ for training
    def reader(self, adapter_name: str | None = None) -> ReaderBase:
        """An adapter's reader."""
        name = adapter_name or self.active_adapters[0]
        for module in self.model.modules():
            if isinstance(module, ReadingBlock) and name in module.cal_reader:
                return module.cal_reader[name]  # type: ignore[return-value]
        raise KeyError(name)

    def set_bank(
        self,
        bank_KD: Float[Tensor, "K D"],
        prototype_SD: Float[Tensor, "S D"],
        has_prototype_S: Shaped[Tensor, " S"],
        adapter_name: str | None = None,
    ) -> None:
        """Load a packet's vectors into the reader."""
        with torch.no_grad():
            self.reader(adapter_name).set_bank(bank_KD, prototype_SD, has_prototype_S)

    @torch.no_grad()
    def read_states(self, token_BT: Int[Tensor, "B T"], mask_BT: Shaped[Tensor, "B T"]) -> dict[int, Tensor]:
        """States that the reader reads, by block, from a pass that ends at the last of these blocks."""
        config = cast(CALConfig, self.peft_config[self.active_adapters[0]])
        top = unwrap(blocks(self.model)[max(config.read_layers)])
        with self.observed() as runs:
            run_until(top, decoder(self.model), input_ids=token_BT, attention_mask=mask_BT, use_cache=False)
        return runs[-1].states

    def reader_only_run(
        self,
        token_BT: Int[Tensor, "B T"],
        mask_BT: Shaped[Tensor, "B T"] | None,
        states: dict[int, Tensor],
        supervision: Supervision | None = None,
    ) -> Run:
        """The ``Run`` of a reader-only pass, on states that are known already."""
        run = begin_run(self.reader().matcher, self.installation.n_blocks, token_BT, mask_BT, supervision)
        run.states = states
        return run

    @contextmanager
    def observed(
        self, supervision: Supervision | None = None, instead: Sequence[Mapping[int, int]] = ()
    ) -> Iterator[list[Run]]:
        """The passes in the context, as their first readers saw them; empty if no reader was active.

        Args:
            supervision: of the passes.
            instead: contents (rows of [concepts; symbols; literals]) that readers inject for others, -1 for none, by
                row of a batch; of one, in all rows.
        """
        runs: list[Run] = []
        request = replace(request_of(self.installation), supervision=supervision, finished=runs, instead=tuple(instead))
        with requested(request):
            yield runs


def cal_model(model: nn.Module) -> CALModel:
    """The tuner inside a ``PeftModel``. Raises CompatibilityError for a model without one."""
    tuner = getattr(model, "base_model", None)
    if not isinstance(tuner, CALModel):
        raise CompatibilityError(f"expected a model with a CAL adapter, got {type(model).__name__}")
    return tuner


def register() -> None:
    """Register the adapter type with peft and additional architectures with transformers. Idempotent.

    Adapters then open through ``PeftModel``, ``AutoPeftModelForCausalLM`` and ``AutoModelForCausalLM``. In a process
    that did not call it all three raise ``KeyError: 'CAL'``: peft looks the type up in its table of methods.
    """
    register_method(CALConfig, CALModel)
    register_architectures()


def unwrap(module: nn.Module) -> nn.Module:
    while isinstance(module, BaseTunerLayer):
        module = cast(nn.Module, module.base_layer)
    return module

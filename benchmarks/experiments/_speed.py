"""Speed, relative to bare loops over the same shapes on the same machine within the same minute."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import chain
from operator import truediv
from statistics import median, median_low
from typing import TYPE_CHECKING, Any

from benchmarks._cells import Cell, Measured
from benchmarks.experiments._common import settings

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from benchmarks._artifacts import ArtifactCache
    from m2kt.models import LoadedModel
    from m2kt.probes import Prompt
    from m2kt.student import CostSummary

NEW_TOKENS = 48
ROUNDS = {1: 12, 32: 6}
"""Rounds of generation, by batch size; the slowdown is the median over pairs of passes with the adapter on and off."""
EXTRACTIONS = 7  # the share of the bare loop is the median over these


class BareLoop:
    """Repeats every forward pass of ``model``, with the head or without it, as a bare pass of the same shape.

    The bare pass follows at once, because a machine's speed changes within seconds. A step of generation is repeated
    from a separate cache. ``seconds``, ``passes`` and ``tokens`` are those of the bare passes.
    """

    def __init__(self, model: nn.Module) -> None:
        from m2kt.models import decoder

        self.seconds, self.passes, self.tokens = 0.0, 0, 0
        self._decoder = decoder(model)
        self._modules = list({model, self._decoder})
        self._names = list(inspect.signature(self._decoder.forward).parameters)
        self._running: list[nn.Module] = []  # modules in a forward pass, outermost first
        self._inputs: dict[str, Any] = {}  # of the decoder's last pass
        self._repeating = False
        # the last bare pass that fills a cache, and the mask of all its tokens
        self._last: Any = None
        self._mask_BN: Tensor | None = None

    def __enter__(self) -> BareLoop:
        self._handles = [m.register_forward_pre_hook(self._on_begin, with_kwargs=True) for m in self._modules]
        self._handles += [m.register_forward_hook(self._on_end, always_call=True) for m in self._modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _on_begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._repeating:
            self._running.append(module)
            if module is self._decoder:
                self._inputs = dict(zip(self._names, args, strict=False)) | kwargs

    def _on_end(self, *_: object) -> None:
        if self._repeating:
            return
        outermost = self._running.pop()
        if not self._running:
            self._repeating, started = True, time.perf_counter()
            try:
                self._repeat(outermost)
            finally:
                self.seconds += time.perf_counter() - started
                self._repeating = False

    def _repeat(self, module: nn.Module) -> None:
        import torch

        ids, cache = self._inputs.get("input_ids"), self._inputs.get("past_key_values")
        rows, tokens = (ids if ids is not None else self._inputs["inputs_embeds"]).shape[:2]
        step = cache is not None and tokens == 1 and self._last is not None
        kwargs: dict[str, Any] = {"use_cache": cache is not None or bool(self._inputs.get("use_cache"))}
        if step and self._last.logits.shape[0] == rows:
            ids_BT = self._last.logits[:, -1:].argmax(-1)
            kwargs["past_key_values"] = self._last.past_key_values
            if self._mask_BN is not None:
                self._mask_BN = torch.cat([self._mask_BN, torch.ones_like(ids_BT)], 1)
        else:
            ids_BT = torch.ones((rows, tokens), dtype=torch.long, device=next(self._decoder.parameters()).device)
            self._mask_BN = self._inputs.get("attention_mask")
        with torch.no_grad():
            out = module(input_ids=ids_BT, attention_mask=self._mask_BN, **kwargs)
        self._last = out if kwargs["use_cache"] and module is not self._decoder else None
        self.passes, self.tokens = self.passes + 1, self.tokens + rows * tokens


def speed(cell: Cell, cache: ArtifactCache, updates: int = 24) -> Measured:
    """Extraction against bare forward passes, ingestion against bare forward and backward passes, generation with the
    adapter on against off. Ratios of 1 mean no overhead."""
    extra = {**_extraction(cell, cache), **_ingestion(cell, cache, updates), **_generation(cell, cache)}
    return Measured(extra={k: round(v, 4) for k, v in extra.items()})


def _extraction(cell: Cell, cache: ArtifactCache) -> dict[str, float]:
    from m2kt.pipeline import read_spec
    from m2kt.teacher import ExtractionConfig, extract

    loaded, spec = cache.load(cell.teacher), read_spec(cell.probes)[0]
    shares_and_rates: list[tuple[float, float]] = []
    for _ in range(EXTRACTIONS):
        with BareLoop(loaded.model) as bare:
            total = _seconds(extract, loaded, spec, ExtractionConfig(seed=cell.seed))
        shares_and_rates.append((bare.seconds / (total - bare.seconds), bare.tokens / bare.seconds))
    share, rate = median_low(shares_and_rates)
    return {
        "extraction_tokens": bare.tokens,
        "extraction_tokens_per_second": share * rate,
        "bare_forward_tokens_per_second": rate,
        "extraction_share_of_bare": share,
        "extraction_share_of_bare_least": min(shares_and_rates)[0],
        "extraction_share_of_bare_most": max(shares_and_rates)[0],
    }


def _ingestion(cell: Cell, cache: ArtifactCache, updates: int) -> dict[str, float]:
    """Tokens of all updates a second; replayed traces count at every replay, as in any training loop."""
    from m2kt.student import train

    packet = cache.packet(cell.teacher, cell.probes, cell.seed)
    times: list[float] = []
    trained: list[int] = []

    def note(done: int, model: PeftModel, cost: CostSummary) -> None:
        times.append(time.perf_counter())
        trained.append(cost["trained_tokens"])

    loaded = cache.load(cell.student)
    train(loaded, packet, settings({"depth": "learned"}), updates=updates, seed=cell.seed, watch=note)
    tokens, seconds = trained[-1] - trained[0], times[-1] - times[0]
    # the same number of tokens per update, in one batch of rows of the mean length of a trace
    student = cache.load(cell.student)
    rows, length = 24, max(8, round(tokens / (len(trained) - 1) / 24))
    bare = min(_seconds(_forward_backward, student.model, rows, length) for _ in range(3))
    rate = rows * length / bare
    return {
        "ingestion_tokens_per_second": tokens / seconds,
        "bare_forward_backward_tokens_per_second": rate,
        "ingestion_share_of_bare": tokens / seconds / rate,
    }


def _forward_backward(model: PreTrainedModel | PeftModel, rows: int, length: int) -> None:
    """One pass through the frozen student, with logits of all positions, and back to its embeddings."""
    import torch

    ids_BT = torch.ones((rows, length), dtype=torch.long, device=model.device)
    x_BTE = model.get_input_embeddings()(ids_BT).detach().requires_grad_()
    with torch.enable_grad():
        model.requires_grad_(False)
        logits_BTV = model(inputs_embeds=x_BTE, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), ids_BT.flatten()).backward()


def _generation(cell: Cell, cache: ArtifactCache) -> dict[str, float]:
    packet = cache.packet(cell.teacher, cell.probes, cell.seed)
    trained = cache.train(cell.student, packet, settings(), seed=cell.seed)
    task = cache.task(cell.teacher, cell.probes)
    loaded = trained.loaded
    numbers: dict[str, float] = {}
    for rows, rounds in ROUNDS.items():
        ids_BT, mask_BT = _prompts(loaded, task.spec.values, task.prompts[:rows])
        seconds_R = [_alternating(loaded.peft_model, ids_BT, mask_BT) for _ in range(rounds)]
        on, off = (list(chain.from_iterable(of_rounds)) for of_rounds in zip(*seconds_R, strict=True))
        numbers[f"adapter_slowdown_batch_{rows}"] = median(map(truediv, on, off)) - 1
        numbers[f"adapter_on_tokens_per_second_batch_{rows}"] = rows / median(on)
    return numbers


def _prompts(loaded: LoadedModel, symbols: Sequence[str], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    from m2kt.models import pad_batch
    from m2kt.student import encode_question

    ids = [encode_question(loaded.tokenizer, p, symbols) for p in prompts]
    return pad_batch(ids, loaded.pad_id, device=loaded.device)


def _alternating(model: PeftModel, ids_BT: Tensor, mask_BT: Tensor) -> list[list[float]]:
    """Seconds of every pass that writes one of exactly ``NEW_TOKENS`` tokens: adapter on, and off.

    The two alternate at every token, because a machine's speed changes within seconds.
    """
    import torch

    seconds: list[list[float]] = [[], []]
    inputs: list[dict[str, Any]] = [
        {"input_ids": ids_BT, "attention_mask": mask_BT, "use_cache": True} for _ in seconds
    ]
    for step in range(NEW_TOKENS):
        for off in (step % 2, 1 - step % 2):
            with model.disable_adapter() if off else nullcontext(), torch.no_grad():
                started = time.perf_counter()
                out = model(**inputs[off])
                seconds[off].append(time.perf_counter() - started)
            inputs[off] |= {
                "input_ids": out.logits[:, -1:].argmax(-1),
                "past_key_values": out.past_key_values,
            }
            inputs[off]["attention_mask"] = torch.nn.functional.pad(inputs[off]["attention_mask"], (0, 1), value=1)
    return seconds


def _seconds(run: Callable[..., object], *args: Any) -> float:
    started = time.perf_counter()
    run(*args)
    return time.perf_counter() - started

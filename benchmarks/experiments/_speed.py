"""How fast it is, against bare loops over the same shapes on the same machine in the same minute."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import chain
from operator import truediv
from statistics import median, median_low
from typing import TYPE_CHECKING, Any

from benchmarks._cells import Cell, Measured
from benchmarks.experiments._common import settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks._artifacts import ArtifactCache

NEW_TOKENS = 48
ROUNDS = {1: 12, 32: 6}
"""Of generation, by batch size. Of all pairs of passes with the adapter on and off, side by side, the median counts."""
EXTRACTIONS = 7  # the median counts: a share is of times that lie side by side


class Echo:
    """Behind every forward pass of ``model``, to its head or below it, the same shape once more with nothing around it.

    At once, for a machine's pace changes within seconds. A step of generation is repeated from a cache of its own.
    What the bare passes took is in ``seconds``; ``passes`` and ``tokens`` say how much they were.
    """

    def __init__(self, model: nn.Module) -> None:
        from m2kt.models import decoder

        self.seconds, self.passes, self.tokens = 0.0, 0, 0
        self._below: Any = decoder(model)
        self._modules = list({model, self._below})
        self._names = list(inspect.signature(self._below.forward).parameters)
        self._within: list[Any] = []  # modules whose pass this is, outermost first
        self._given: dict[str, Any] = {}  # to the last pass below the head
        self._repeating = False
        self._before: Any = None  # the last bare pass, if a step may follow, and the mask of all its tokens
        self._mask_BN: Tensor | None = None

    def __enter__(self) -> Echo:
        self._handles = [m.register_forward_pre_hook(self._begun, with_kwargs=True) for m in self._modules]
        self._handles += [m.register_forward_hook(self._ended, always_call=True) for m in self._modules]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _begun(self, module: Any, args: Any, given: dict[str, Any]) -> None:
        if not self._repeating:
            self._within.append(module)
            if module is self._below:
                self._given = dict(zip(self._names, args, strict=False)) | given

    def _ended(self, *_: Any) -> None:
        if self._repeating:
            return
        outermost = self._within.pop()
        if not self._within:
            self._repeating, began = True, time.perf_counter()
            try:
                self._repeat(outermost)
            finally:
                self.seconds += time.perf_counter() - began
                self._repeating = False

    def _repeat(self, run: Any) -> None:
        import torch

        ids, cache = self._given.get("input_ids"), self._given.get("past_key_values")
        rows, tokens = (ids if ids is not None else self._given["inputs_embeds"]).shape[:2]
        step = cache is not None and tokens == 1 and self._before is not None
        given: dict[str, Any] = {"use_cache": cache is not None or bool(self._given.get("use_cache"))}
        if step and self._before.logits.shape[0] == rows:
            ids_BT = self._before.logits[:, -1:].argmax(-1)
            given["past_key_values"] = self._before.past_key_values
            if self._mask_BN is not None:
                self._mask_BN = torch.cat([self._mask_BN, torch.ones_like(ids_BT)], 1)
        else:
            ids_BT = torch.ones((rows, tokens), dtype=torch.long, device=self._below.device)
            self._mask_BN = self._given.get("attention_mask")
        with torch.no_grad():
            out = run(input_ids=ids_BT, attention_mask=self._mask_BN, **given)
        self._before = out if given["use_cache"] and run is not self._below else None
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
    found: list[tuple[float, float]] = []
    for _ in range(EXTRACTIONS):
        with Echo(loaded.model) as bare:
            whole = _seconds(extract, loaded, spec, ExtractionConfig(seed=cell.seed))
        found.append((bare.seconds / (whole - bare.seconds), bare.tokens / bare.seconds))
    share, rate = median_low(found)
    return {
        "extraction_tokens": bare.tokens,
        "extraction_tokens_per_second": share * rate,
        "bare_forward_tokens_per_second": rate,
        "extraction_share_of_bare": share,
        "extraction_share_of_bare_least": min(found)[0],
        "extraction_share_of_bare_most": max(found)[0],
    }


def _ingestion(cell: Cell, cache: ArtifactCache, updates: int) -> dict[str, float]:
    """Tokens of all updates a second, met traces counted as often as they are met, as any training loop would."""
    from m2kt.student import train

    packet = cache.packet(cell.teacher, cell.probes, cell.seed)
    times: list[float] = []
    shapes: list[int] = []

    def watch(done: int, model: Any, cost: dict[str, Any]) -> None:
        times.append(time.perf_counter())
        shapes.append(cost["trained_tokens"])

    loaded = cache.load(cell.student)
    train(loaded, packet, settings(), updates=updates, seed=cell.seed, watch=watch)
    tokens, whole = shapes[-1] - shapes[0], times[-1] - times[0]
    # the same number of tokens an update, in one batch of lines of the typical length of a trace
    student = cache.load(cell.student)
    rows, length = 24, max(8, round(tokens / (len(shapes) - 1) / 24))
    bare = min(_seconds(_forward_backward, student.model, rows, length) for _ in range(3))
    rate = rows * length / bare
    return {
        "ingestion_tokens_per_second": tokens / whole,
        "bare_forward_backward_tokens_per_second": rate,
        "ingestion_share_of_bare": tokens / whole / rate,
    }


def _forward_backward(model: Any, rows: int, length: int) -> None:
    """Through the frozen student and back to its embeddings, logits of all positions."""
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
    found: dict[str, float] = {}
    for rows, rounds in ROUNDS.items():
        ids_BT, mask_BT = _prompts(loaded, task.spec.values, task.prompts[:rows])
        found_R = [_by_turns(loaded.model, ids_BT, mask_BT) for _ in range(rounds)]
        on, off = (list(chain.from_iterable(of_rounds)) for of_rounds in zip(*found_R, strict=True))
        found[f"adapter_slowdown_batch_{rows}"] = median(map(truediv, on, off)) - 1
        found[f"adapter_on_tokens_per_second_batch_{rows}"] = rows / median(on)
    return found


def _prompts(loaded: Any, symbols: Any, prompts: Any) -> tuple[Any, Any]:
    from m2kt.models import pad_batch
    from m2kt.student import encode_question

    ids = [encode_question(loaded.tokenizer, p, symbols) for p in prompts]
    return pad_batch(ids, loaded.pad_id, device=loaded.device)


def _by_turns(model: Any, ids_BT: Any, mask_BT: Any) -> list[list[float]]:
    """Seconds of every pass that writes a token of exactly ``NEW_TOKENS`` a row: adapter on, and off.

    By turns at every token, for a machine's pace changes within seconds.
    """
    import torch

    seconds: list[list[float]] = [[], []]
    given = [{"input_ids": ids_BT, "attention_mask": mask_BT, "use_cache": True} for _ in seconds]
    for step in range(NEW_TOKENS):
        for off in (step % 2, 1 - step % 2):
            with model.disable_adapter() if off else nullcontext(), torch.no_grad():
                began = time.perf_counter()
                out = model(**given[off])
                seconds[off].append(time.perf_counter() - began)
            given[off] |= {"input_ids": out.logits[:, -1:].argmax(-1), "past_key_values": out.past_key_values}
            given[off]["attention_mask"] = torch.nn.functional.pad(
                given[off]["attention_mask"], (0, 1), value=1
            )
    return seconds


def _seconds(run: Callable[..., object], *args: Any) -> float:
    began = time.perf_counter()
    run(*args)
    return time.perf_counter() - began

"""How fast it is, against bare loops over the same shapes on the same machine in the same minute."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m2kt.bench.arms._common import settings
from m2kt.bench.cells import Cell, Measured

if TYPE_CHECKING:
    from torch import Tensor, nn

    from m2kt.bench.workshop import Workshop

NEW_TOKENS = 48
ROUNDS = {1: 12, 32: 6}
"""Of generation, by batch size. Noise only ever adds: the fastest of a few rounds is what a step costs."""
EXTRACTIONS = 6


@dataclass
class Call:
    """A forward pass that was seen, and how many single-token steps followed it from its cache."""

    rows: int
    tokens: int
    mask_BN: Tensor | None
    cached: bool
    head: bool  # whether it went on to logits
    steps: int = 0

    @property
    def n_tokens(self) -> int:
        return self.rows * (self.tokens + self.steps)


@contextmanager
def seen_calls(model: nn.Module) -> Iterator[list[Call]]:
    """Collects the shapes of all forward passes of ``model``, those that end below its head too."""
    from m2kt.models import decoder

    calls: list[Call] = []
    whole = False

    def enter(*_: Any) -> None:
        nonlocal whole
        whole = True

    def leave(*_: Any) -> None:
        nonlocal whole
        whole = False

    below = decoder(model)
    names = list(inspect.signature(below.forward).parameters)

    def note(_: Any, args: Any, given: dict[str, Any]) -> None:
        given = dict(zip(names, args, strict=False)) | given
        ids = given.get("input_ids")
        rows, tokens = (ids if ids is not None else given["inputs_embeds"]).shape[:2]
        cached = given.get("past_key_values") is not None
        if tokens == 1 and cached and calls and calls[-1].cached and calls[-1].rows == rows:
            calls[-1].steps += 1
        else:
            mask_BN = given.get("attention_mask")
            calls.append(Call(rows, tokens, mask_BN, cached or bool(given.get("use_cache")), whole))

    handles = [
        model.register_forward_pre_hook(enter),
        model.register_forward_hook(leave, always_call=True),
        below.register_forward_pre_hook(note, with_kwargs=True),
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def speed(cell: Cell, shop: Workshop, updates: int = 24) -> Measured:
    """Extraction against bare forward passes, ingestion against bare forward and backward passes, generation with the
    adapter on against off. Ratios of 1 mean no overhead."""
    extra = {**_extraction(cell, shop), **_ingestion(cell, shop, updates), **_generation(cell, shop)}
    return Measured(extra={k: round(v, 4) for k, v in extra.items()})


def _extraction(cell: Cell, shop: Workshop) -> dict[str, float]:
    from m2kt.pipeline import read_spec
    from m2kt.teacher import ExtractionConfig, extract

    loaded, spec = shop.load(cell.teacher), read_spec(cell.probes)[0]
    whole, bare = float("inf"), float("inf")
    for _ in range(EXTRACTIONS):
        with seen_calls(loaded.model) as calls:
            whole = min(whole, _seconds(extract, loaded, spec, ExtractionConfig(seed=cell.seed)))
        bare = min(bare, _seconds(_again, loaded.model, calls))
    tokens = sum(call.n_tokens for call in calls)
    return {
        "extraction_tokens": tokens,
        "extraction_tokens_per_second": tokens / whole,
        "bare_forward_tokens_per_second": tokens / bare,
        "extraction_share_of_bare": bare / whole,
    }


def _again(model: Any, calls: list[Call]) -> None:
    for call in calls:
        _forward(model, call)


def _forward(model: Any, call: Call) -> None:
    """The same shape once more, with nothing around it."""
    import torch

    from m2kt.models import decoder

    run = model if call.head else decoder(model)
    ids_BT = torch.ones((call.rows, call.tokens), dtype=torch.long, device=model.device)
    mask_BN = call.mask_BN
    with torch.no_grad():
        out = run(input_ids=ids_BT, attention_mask=mask_BN, use_cache=bool(call.steps))
        for _ in range(call.steps):
            step_B1 = out.logits[:, -1:].argmax(-1)
            if mask_BN is not None:
                mask_BN = torch.cat([mask_BN, torch.ones_like(step_B1)], 1)
            cache = out.past_key_values
            out = run(input_ids=step_B1, attention_mask=mask_BN, past_key_values=cache, use_cache=True)


def _ingestion(cell: Cell, shop: Workshop, updates: int) -> dict[str, float]:
    """Tokens of all updates a second, met traces counted as often as they are met, as any training loop would."""
    from m2kt.student import train

    packet = shop.packet(cell.teacher, cell.probes, cell.seed)
    times: list[float] = []
    shapes: list[int] = []

    def watch(done: int, model: Any, cost: dict[str, Any]) -> None:
        times.append(time.perf_counter())
        shapes.append(cost["trained_tokens"])

    loaded = shop.load(cell.student)
    train(loaded, packet, settings(), updates=updates, seed=cell.seed, watch=watch)
    tokens, whole = shapes[-1] - shapes[0], times[-1] - times[0]
    # the same number of tokens an update, in one batch of lines of the typical length of a trace
    student = shop.load(cell.student)
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


def _generation(cell: Cell, shop: Workshop) -> dict[str, float]:
    packet = shop.packet(cell.teacher, cell.probes, cell.seed)
    trained = shop.train(cell.student, packet, settings(), seed=cell.seed)
    task = shop.task(cell.teacher, cell.probes)
    loaded = trained.loaded
    found: dict[str, float] = {}
    for rows, rounds in ROUNDS.items():
        ids_BT, mask_BT = _prompts(loaded, task.spec.values, task.prompts[:rows])
        found_R = [_by_turns(loaded.model, ids_BT, mask_BT) for _ in range(rounds)]
        on, off = (sum(map(min, zip(*of_rounds, strict=True))) for of_rounds in zip(*found_R, strict=True))
        found[f"adapter_slowdown_batch_{rows}"] = on / off - 1
        found[f"adapter_on_tokens_per_second_batch_{rows}"] = rows * NEW_TOKENS / on
    return found


def _prompts(loaded: Any, symbols: Any, prompts: Any) -> tuple[Any, Any]:
    from m2kt.models import pad_batch
    from m2kt.student.generate import encode_asked

    ids = [encode_asked(loaded.tokenizer, p, symbols) for p in prompts]
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

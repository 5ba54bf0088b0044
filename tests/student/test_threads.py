"""Several threads share one adapted model: each call gives what it gives alone, and no pass changes the model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TextIteratorStreamer

from m2kt.models import cache_argument, decoder
from m2kt.student import StudentSettings, train
from m2kt.student.cal import cal_model
from m2kt.student.cal._memo import Memo, VersionedCache
from m2kt.student.cal._pass import _PASS, Installation
from tests.student.helpers import LETTERS, WORDS, loaded, perturbed, small_packet

THREADS, CALLS = 8, 25
SETTINGS = {
    "executed": {},
    "learned": {
        "depth": "learned",
        "reader": {"gather_width": 16, "selector_width": 32},
        "steering": {"rank": 2},
    },
}
TEXTS = [
    "ant bee:",
    "cow cat:",
    "xyz",
    "bee cow: bee cow",
    "Q: cat ant:",
    "12+34, and some text that is no question",
    "ant ant: ant ant cow.\ncat bee:",
    "cow cow:",
]
Call = Callable[[Any], torch.Tensor]


CASES = [("executed", "gpt2"), ("learned", "llama")]
MORE_CASES = [("executed", "llama"), ("learned", "gpt2")]
PARAMS = [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in MORE_CASES)]


@pytest.fixture(scope="module", params=PARAMS, ids=lambda case: "-".join(case))
def student(request: Any) -> Any:
    depth, family = request.param
    student = loaded(family)
    settings = StudentSettings.model_validate(SETTINGS[depth])
    model = train(student, small_packet(WORDS), settings, updates=20 if depth == "executed" else 2).model
    student.model = (perturbed(model) if depth == "learned" else model).eval().requires_grad_(False)
    return student


def ids_of(student: Any, text: str) -> torch.Tensor:
    return torch.tensor([student.tokenizer.encode(text)])


def greedy(student: Any, text: str, **options: Any) -> torch.Tensor:
    ids = ids_of(student, text)
    out: torch.Tensor = student.model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, **options
    )
    return out


def calls_of(student: Any) -> list[Callable[[], torch.Tensor]]:
    """Calls of every kind: generation with and without cache or beams, streaming, scoring, steps on a cache."""

    def scored(text: str) -> torch.Tensor:
        logits: torch.Tensor = student.model(input_ids=ids_of(student, text)).logits
        return logits

    def with_gradient(text: str) -> torch.Tensor:
        with torch.enable_grad():
            return scored(text)

    def streamed(text: str) -> torch.Tensor:
        streamer = TextIteratorStreamer(student.tokenizer, timeout=5)
        thread = threading.Thread(target=greedy, args=(student, text), kwargs={"streamer": streamer})
        thread.start()
        said = "".join(streamer)
        thread.join()
        return torch.tensor([ord(c) for c in said])

    def step_by_step(text: str) -> torch.Tensor:
        name, cache, parts = cache_argument(student.model), None, []
        for token in ids_of(student, text)[0, :8].tolist():
            past = {} if cache is None else {name: cache}
            out = student.model(input_ids=torch.tensor([[token]]), use_cache=True, **past)
            cache = out[name]
            parts.append(out.logits)
        return torch.cat(parts, 1)

    kinds: list[Callable[[str], torch.Tensor]] = [
        lambda text: greedy(student, text),
        scored,
        streamed,
        lambda text: greedy(student, text, num_beams=2),
        step_by_step,
        lambda text: greedy(student, text, use_cache=False),
        with_gradient,
    ]
    return [lambda kind=kind, text=text: kind(text) for text in TEXTS for kind in kinds]


@contextmanager
def one_core() -> Iterator[None]:
    """Sums are then added in one order, however many threads compute."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n)


@torch.no_grad()
def test_calls_of_eight_threads_are_each_as_alone(student: Any) -> None:
    calls = calls_of(student)
    with one_core():
        alone = [call() for call in calls]
        wrong: list[str] = []
        together = threading.Barrier(THREADS)

        def work(k: int) -> None:
            torch.set_grad_enabled(False)
            together.wait()
            for i in range(CALLS):
                nth = (k * 11 + i * 5) % len(calls)
                try:
                    if not torch.equal(calls[nth](), alone[nth]):
                        wrong.append(f"call {nth} gave another result")
                except Exception as error:
                    wrong.append(f"call {nth}: {error!r}")

        threads = [threading.Thread(target=work, args=(k,)) for k in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong, (len(wrong), wrong[:5])


@torch.no_grad()
def test_tasks_that_take_turns_within_a_pass_do_not_meet(student: Any) -> None:
    """What a task asks of its passes is its own, though all tasks run in one thread."""
    tuner, ids = cal_model(student.model), [ids_of(student, text) for text in TEXTS]

    async def observed(i: int) -> int:
        with tuner.observed() as runs:
            for _ in range(3):
                await asyncio.sleep(0)
                student.model(input_ids=ids[i])
        assert all(run.n_tokens == ids[i].shape[1] for run in runs)
        return len(runs)

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*map(observed, range(len(ids))))

    assert asyncio.run(all_of_them()) == [3] * len(ids)


def contents(value: object, seen: set[int]) -> object:
    """What an attribute holds, by identity and content; without what is derived once and kept (``Memo``)."""
    if id(value) in seen or isinstance(value, (Memo, VersionedCache, type)) or callable(value):
        return id(value)
    if isinstance(value, torch.Tensor):
        return id(value), value.data_ptr(), value._version
    seen = seen | {id(value)}
    if isinstance(value, dict):
        return id(value), [(repr(k), contents(v, seen)) for k, v in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return id(value), [contents(v, seen) for v in value]
    if isinstance(value, Installation) or type(value).__module__.startswith("m2kt.student"):
        names = [*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ())]
        return id(value), [(n, contents(getattr(value, n, None), seen)) for n in names]
    return id(value)


def attributes(model: nn.Module) -> dict[str, object]:
    """All attributes of all modules."""
    found: dict[str, object] = {}
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            found[f"{name}.{attribute}"] = contents(value, set())
    return found


@torch.no_grad()
def test_no_attribute_of_any_module_changes_over_a_pass(student: Any) -> None:
    for call in calls_of(student)[:7]:
        call()  # what is derived from weights is derived now
    before = attributes(student.model)
    for call in calls_of(student):
        call()
    with pytest.raises(RuntimeError), interrupted(student.model):
        greedy(student, TEXTS[0])
    after = attributes(student.model)
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert _PASS.get() is None


@contextmanager
def interrupted(model: Any) -> Iterator[None]:
    """Every pass fails at the last block."""

    def fail(*_: object) -> None:
        raise RuntimeError("interrupted")

    handle = decoder(model.get_base_model()).register_forward_hook(fail)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def test_an_interrupted_pass_leaves_nothing_behind(student: Any) -> None:
    expected = greedy(student, TEXTS[0])
    inner = student.model.get_base_model()
    block = cal_model(student.model).installation.blocks[0]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt  # no Exception: torch does not call its hooks then

    handle = block.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        inner(input_ids=ids_of(student, TEXTS[1]))
    handle.remove()
    assert torch.equal(greedy(student, TEXTS[0]), expected)
    assert _PASS.get() is None


@torch.no_grad()
def test_a_copy_shares_nothing_with_its_model(student: Any) -> None:
    ids = ids_of(student, "ant bee: ant bee cow.")
    copy = deepcopy(student.model)
    before = student.model(input_ids=ids).logits
    assert torch.equal(copy(input_ids=ids).logits, before)
    with student.model.disable_adapter():
        plain = student.model(input_ids=ids).logits
    assert not torch.equal(before, plain)
    for parameter in cal_model(copy).reader().parameters():
        parameter.zero_()
    assert not torch.equal(copy(input_ids=ids).logits, before)
    assert torch.equal(student.model(input_ids=ids).logits, before)


@torch.no_grad()
def test_a_pass_of_another_model_within_a_pass_changes_neither(student: Any) -> None:
    """A hook in one student asks another one, as assistants and judges do."""
    other = loaded("llama")
    other.model = train(other, small_packet(LETTERS), StudentSettings(), updates=5).model.eval()
    alone, other_alone = greedy(student, TEXTS[0]), other.model(input_ids=ids_of(other, "a b: a b")).logits
    answers: list[torch.Tensor] = []

    def ask(*_: object) -> None:
        answers.append(other.model(input_ids=ids_of(other, "a b: a b")).logits)

    handle = decoder(student.model.get_base_model()).get_input_embeddings().register_forward_hook(ask)
    try:
        assert torch.equal(greedy(student, TEXTS[0]), alone)
    finally:
        handle.remove()
    assert len(answers) > 1 and all(torch.equal(answer, other_alone) for answer in answers)

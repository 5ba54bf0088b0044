"""What people do to a model with an adapter, as functions: the rows of docs/peft.md.

Each takes a ``Subject`` and returns normally where the result is right. A refusal is an exception with a sentence.
"""

from __future__ import annotations

import io
import multiprocessing
import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import AutoPeftModelForCausalLM, PeftModel, get_layer_status, get_model_status
from peft.utils.hotswap import hotswap_adapter
from transformers import AutoModelForCausalLM, TextIteratorStreamer, pipeline

from tests.tiny import char_tokenizer

NEW_TOKENS = 14
QUESTION, OTHER_QUESTION, TEXT = "cow cat:", "ant bee:", "some text"


@dataclass
class Subject:
    """A base on disk, two adapters of one kind on it, and one of the other kind."""

    base: Path
    first: Path
    second: Path
    foreign: Path
    steering: Path
    """An adapter whose update is a matrix; the first one, for LoRA."""
    scratch: Path

    def bare(self, **options: Any) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.base, **options).eval().requires_grad_(False)

    def model(self, path: Path | None = None, **options: Any) -> Any:
        return PeftModel.from_pretrained(self.bare(), path or self.first, **options).eval()

    def both(self) -> Any:
        model = self.model(adapter_name="one")
        model.load_adapter(self.second, adapter_name="two")
        return model.eval()


def batch(*texts: str) -> dict[str, torch.Tensor]:
    tokenizer = char_tokenizer()
    tokenizer.padding_side = "left"
    encoded = tokenizer(list(texts), return_tensors="pt", padding=True)
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


@torch.no_grad()
def say(model: Any, *texts: str, **options: Any) -> list[list[int]]:
    """Greedy tokens behind each text."""
    inputs = batch(*(texts or (QUESTION,)))
    options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0} | options
    out: list[list[int]] = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :].tolist()
    return out


@torch.no_grad()
def score(model: Any, *texts: str, **options: Any) -> torch.Tensor:
    logits: torch.Tensor = model(**batch(*(texts or (QUESTION + " cow cat",))), **options).logits
    return logits


def same(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b, (a, b)


def rounded(subject: Subject, model: Any) -> None:
    """The adapter's effect is there, up to the rounding of another dtype."""
    exact = score(subject.model())
    assert (score(model).float() - exact).abs().mean() < 0.1 * exact.abs().mean()
    assert say(model) != say(subject.bare())


FEATURES: dict[str, Callable[[Subject], None]] = {}


def feature(name: str) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    def add(function: Callable[[Subject], None]) -> Callable[[Subject], None]:
        FEATURES[name] = function
        return function

    return add


# -- loading and saving -----------------------------------------------------------------------------------------------
@feature("`PeftModel`, `AutoPeftModelForCausalLM`, `AutoModelForCausalLM`, `pipeline`")
def _loaders(subject: Subject) -> None:
    expected = score(subject.model())
    for loader in (AutoPeftModelForCausalLM, AutoModelForCausalLM):
        same(score(loader.from_pretrained(subject.first).eval()), expected)
    generator = pipeline("text-generation", model=str(subject.first))
    out = generator(QUESTION, max_new_tokens=NEW_TOKENS, do_sample=False, return_tensors=True, pad_token_id=0)
    same(out[0]["generated_token_ids"][-NEW_TOKENS:], say(subject.model())[0])


@feature("`from_pretrained(low_cpu_mem_usage=True)`")
def _low_memory(subject: Subject) -> None:
    model = subject.model(low_cpu_mem_usage=True)
    assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))
    same(score(model), score(subject.model()))


@feature("`from_pretrained(is_trainable=True)`, a step, `save_pretrained`, opened again")
def _trained(subject: Subject) -> None:
    model = subject.model(is_trainable=True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert parameters and model.get_nb_trainable_parameters()[0] == sum(p.numel() for p in parameters)
    before = score(model)
    inputs = batch(QUESTION + " cow cat")
    model.train()(**inputs, labels=inputs["input_ids"]).loss.backward()
    torch.optim.SGD(parameters, lr=0.1).step()
    after = score(model.eval())
    assert not torch.equal(after, before)
    model.save_pretrained(subject.scratch / "trained")
    same(score(subject.model(subject.scratch / "trained")), after)


@feature("`save_pretrained` of several adapters, each opened again")
def _several(subject: Subject) -> None:
    model = subject.both()
    model.save_pretrained(subject.scratch / "several")
    for name, path in (("one", subject.first), ("two", subject.second)):
        same(score(subject.model(subject.scratch / "several" / name)), score(subject.model(path)))


@feature("`torch.save(model)` and `torch.load`")
def _pickled(subject: Subject) -> None:
    model = subject.model()
    expected = score(model)  # with what it has derived
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    same(score(torch.load(file, weights_only=False)), expected)


@feature("`copy.deepcopy`")
def _copied(subject: Subject) -> None:
    model = subject.model()
    same(score(deepcopy(model)), score(model))


@feature("a process started by spawn gets the model")
def _spawned(subject: Subject) -> None:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    model = subject.model()
    process = context.Process(target=_say_into, args=(model, send))
    process.start()
    assert receive.poll(120), "no answer"
    answer = receive.recv()
    process.join()
    same(answer, say(model))


def _say_into(model: Any, connection: Any) -> None:
    connection.send(say(model))


# -- dtypes -----------------------------------------------------------------------------------------------------------
@feature("`.to(torch.bfloat16)`")
def _bfloat16(subject: Subject) -> None:
    rounded(subject, subject.model().to(torch.bfloat16))


@feature("`.half()`")
def _half(subject: Subject) -> None:
    rounded(subject, subject.model().half())


@feature("`.double()`")
def _double(subject: Subject) -> None:
    rounded(subject, subject.model().double())


@feature("`torch.autocast`")
def _autocast(subject: Subject) -> None:
    model = subject.model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded(subject, model)
    same(score(model), score(subject.model()))  # nothing that was rounded stays


@feature("a base loaded in bf16")
def _base_in_bf16(subject: Subject) -> None:
    model = PeftModel.from_pretrained(subject.bare(dtype=torch.bfloat16), subject.first).eval()
    rounded(subject, model)


# -- passes and generation --------------------------------------------------------------------------------------------
@feature("greedy, beams, sampled, without a cache, as a stream, in a padded batch")
def _generation(subject: Subject) -> None:
    model = subject.model()
    expected = say(model)
    same(say(model, use_cache=False), expected)
    same(say(model, num_beams=3), say(model, num_beams=3, use_cache=False))
    torch.manual_seed(0)
    sampled = say(model, do_sample=True, top_k=5)
    torch.manual_seed(0)
    same(say(model, do_sample=True, top_k=5, use_cache=False), sampled)
    streamer = TextIteratorStreamer(char_tokenizer(), skip_prompt=True, timeout=30)
    thread = threading.Thread(target=say, args=(model,), kwargs={"streamer": streamer})
    thread.start()
    same("".join(streamer), char_tokenizer().decode(expected[0]))
    thread.join()
    same(say(model, QUESTION, "some text " + QUESTION)[0], expected[0])


@feature("prompt look-up decoding (`prompt_lookup_num_tokens`)")
def _prompt_lookup(subject: Subject) -> None:
    model = subject.model()
    same(say(model, prompt_lookup_num_tokens=3), say(model))


@feature("a static cache")
def _static_cache(subject: Subject) -> None:
    model = subject.model()
    same(say(model, cache_implementation="static"), say(model))


@feature("`inputs_embeds`")
def _embeddings(subject: Subject) -> None:
    model, inputs = subject.model(), batch(QUESTION)
    embedded = model.get_input_embeddings()(inputs["input_ids"])
    with torch.no_grad():
        logits = model(inputs_embeds=embedded, attention_mask=inputs["attention_mask"]).logits
    assert (logits - score(model, QUESTION)).abs().max() < 1e-4


@feature("several threads at once")
def _threads(subject: Subject) -> None:
    model = subject.model()
    texts = [QUESTION, TEXT, OTHER_QUESTION, TEXT + QUESTION] * 4
    expected, got = [say(model, text) for text in texts], [[[0]]] * len(texts)

    def work(k: int) -> None:
        for i in range(k, len(texts), 4):
            got[i] = say(model, texts[i])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(got, expected)


@feature("`torch.compile`")
def _compiled(subject: Subject) -> None:
    model = subject.model()
    expected = score(model)
    compiled = torch.compile(model, backend="eager")
    assert (score(compiled) - expected).abs().max() < 1e-4


@feature("gradient checkpointing")
def _checkpointed(subject: Subject) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = subject.model(is_trainable=True)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        inputs = batch(QUESTION + " cow cat")
        torch.manual_seed(0)
        model.train()(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0] and gradients[0].keys() == gradients[1].keys()
    assert all(torch.allclose(gradients[0][n], gradients[1][n], atol=1e-5) for n in gradients[0])


# -- several adapters -------------------------------------------------------------------------------------------------
@feature("`adapter_names` in a batch: `__base__`, one, another")
def _mixed_batch(subject: Subject) -> None:
    model, names = subject.both(), ["__base__", "one", "two", "one", "__base__"]
    text = QUESTION + " cow cat"
    alone = {"__base__": subject.bare(), "one": subject.model(), "two": subject.model(subject.second)}
    mixed = score(model, *[text] * len(names), adapter_names=names)
    for row, name in zip(mixed, names, strict=True):
        expected = score(alone[name], *[text] * len(names))[0]
        assert (row - expected).abs().max() < 1e-4, name
    said = say(model, *[QUESTION] * len(names), adapter_names=names)
    for tokens, name in zip(said, names, strict=True):
        same(tokens, say(alone[name])[0])
    assert say(alone["one"]) != say(alone["__base__"]) != say(alone["two"]) != say(alone["one"])


@feature("`adapter_names` with beams")
def _mixed_beams(subject: Subject) -> None:
    model = subject.both()
    said = say(model, QUESTION, QUESTION, adapter_names=["__base__", "one"], num_beams=3)
    same(said, say(subject.bare(), num_beams=3) + say(subject.model(), num_beams=3))


@feature("`adapter_names` that are too few, or of no adapter")
def _mixed_mistakes(subject: Subject) -> None:
    say(subject.both(), QUESTION, QUESTION, adapter_names=["one", "three"])


@feature("adapters added, switched, deleted")
def _switched(subject: Subject) -> None:
    model = subject.both()
    for name, path in (("two", subject.second), ("one", subject.first)):
        model.set_adapter(name)
        same(score(model), score(subject.model(path)))
    model.delete_adapter("one")
    model.set_adapter("two")
    same(score(model), score(subject.model(subject.second)))
    model.load_adapter(subject.first, adapter_name="one")
    model.set_adapter("one")
    same(score(model.eval()), score(subject.model()))
    assert get_model_status(model).available_adapters == ["one", "two"]
    assert {layer.active_adapters[0] for layer in get_layer_status(model)} == {"one"}


@feature("an adapter named as a module is (`transformer`, `h`)")
def _named_as_module(subject: Subject) -> None:
    model = subject.model()
    for name in ("transformer", "h", "model", "layers"):
        model.load_adapter(subject.second, adapter_name=name)
        model.save_pretrained(subject.scratch / "named")
        same(score(subject.model(subject.scratch / "named")), score(subject.model()))


@feature("`disable_adapter`, `unload`")
def _disabled(subject: Subject) -> None:
    model, plain = subject.model(), score(subject.bare())
    with model.disable_adapter():
        same(score(model), plain)
    same(score(model), score(subject.model()))
    same(score(model.unload()), plain)


@feature("`merge_adapter`, `unmerge_adapter`, `merge_and_unload`")
def _merged(subject: Subject) -> None:
    _merge(subject, subject.first)


@feature("the same of an adapter without a reader")
def _merged_steering(subject: Subject) -> None:
    _merge(subject, subject.steering)


def _merge(subject: Subject, path: Path) -> None:
    model, expected, plain = subject.model(path), score(subject.model(path)), score(subject.bare())
    model.merge_adapter()
    assert (score(model) - expected).abs().max() < 1e-3
    with model.disable_adapter():
        assert (score(model) - plain).abs().max() < 1e-3
    model.merge_adapter()
    model.unmerge_adapter()
    assert (score(model) - expected).abs().max() < 1e-3
    assert (score(model.merge_and_unload()) - expected).abs().max() < 1e-3


@feature("`add_weighted_adapter`")
def _weighted(subject: Subject) -> None:
    subject.both().add_weighted_adapter(["one", "two"], [0.5, 0.5], "mixed", combination_type="linear")


@feature("an adapter of the other kind beside it")
def _foreign(subject: Subject) -> None:
    subject.model().load_adapter(subject.foreign, adapter_name="foreign")


@feature("`hotswap_adapter`")
def _hotswap(subject: Subject) -> None:
    model = subject.model()
    hotswap_adapter(model, str(subject.second), adapter_name="default")
    same(score(model), score(subject.model(subject.second)))


@feature("`PeftModel.from_pretrained` of a folder whose weights are cut off")
def _cut(subject: Subject) -> None:
    import shutil

    shutil.copytree(subject.first, subject.scratch / "cut")
    file = subject.scratch / "cut" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    subject.model(subject.scratch / "cut")

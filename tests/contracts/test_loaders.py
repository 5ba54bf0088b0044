"""Every loader of Hugging Face opens a saved adapter and gives the same outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from m2kt import student
from m2kt.errors import CompatibilityError
from m2kt.models import load_causal_lm, write_gguf
from tests.student.helpers import LETTERS, perturbed, small_packet
from tests.tiny import char_tokenizer, save_tiny, tiny_model

pytestmark = pytest.mark.long

NEW_TOKENS = 12
PROMPT, OTHER_PROMPT = "a b:", "0 1:"
DIGITS = ["0", "1", "2", "3"]


@dataclass
class Saved:
    """A base and two adapters on it, whose skills have no symbol in common."""

    base: Path
    letters: Path
    digits: Path


@pytest.fixture(scope="module", params=["llama", "gpt2", "mamba"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    root = tmp_path_factory.mktemp(request.param)
    paths = Saved(root / "base", root / "letters", root / "digits")
    save_tiny(paths.base, request.param, char_tokenizer())
    for path, symbols in ((paths.letters, LETTERS), (paths.digits, DIGITS)):
        candidate = student.train(load_causal_lm(str(paths.base)), small_packet(symbols), updates=2)
        perturbed(candidate.model).save_pretrained(str(path))
    return paths


def ids(text: str) -> torch.Tensor:
    return torch.tensor([char_tokenizer()(text)["input_ids"]])


@torch.no_grad()
def logits(model: Any, text: str = PROMPT) -> torch.Tensor:
    output: torch.Tensor = model.eval()(input_ids=ids(text)).logits
    return output


def greedy_tokens(model: Any) -> list[int]:
    out: list[int] = (
        model.eval()
        .generate(input_ids=ids(PROMPT), max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)[0]
        .tolist()
    )
    return out


def base(saved: Saved) -> Any:
    from transformers import AutoModelForCausalLM

    # frozen as under an adapter: torch may use another kernel for trainable weights
    return AutoModelForCausalLM.from_pretrained(saved.base).requires_grad_(False)


def by_peft(saved: Saved) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(base(saved), str(saved.letters))


def by_auto_peft(saved: Saved) -> Any:
    from peft import AutoPeftModelForCausalLM

    return AutoPeftModelForCausalLM.from_pretrained(str(saved.letters))


def by_auto_model(saved: Saved) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(saved.letters))


def by_m2kt(saved: Saved) -> Any:
    from m2kt.pipeline import with_adapter

    return with_adapter(load_causal_lm(str(saved.base)), saved.letters).model


LOADERS = [by_peft, by_auto_peft, by_auto_model, by_m2kt]


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.__name__)
def test_every_loader_gives_the_same_model(loader: Any, saved: Saved) -> None:
    expected = by_peft(saved)
    model = loader(saved)
    assert torch.equal(logits(model), logits(expected))
    assert not torch.allclose(logits(model), logits(base(saved)))
    assert greedy_tokens(model) == greedy_tokens(expected) != greedy_tokens(base(saved))


GENERATION_OPTIONS = {
    "greedy": {"do_sample": False},
    "sampled": {"do_sample": True, "temperature": 0.9, "top_k": 20},
    "beams": {"num_beams": 3, "do_sample": False},
    "without a cache": {"do_sample": False, "use_cache": False},
}


@pytest.mark.parametrize("mode", GENERATION_OPTIONS)
def test_every_loader_generates_the_same_tokens(mode: str, saved: Saved) -> None:
    outputs = []
    for loader in LOADERS:
        torch.manual_seed(0)
        model = loader(saved).eval()
        out = model.generate(
            input_ids=ids(PROMPT), max_new_tokens=NEW_TOKENS, pad_token_id=0, **GENERATION_OPTIONS[mode]
        )
        outputs.append(out[0].tolist())
    assert all(output == outputs[0] for output in outputs)


def test_a_padded_batch_gives_the_same_as_single_prompts(saved: Saved) -> None:
    from m2kt.models import generate_greedy
    from m2kt.student import complete

    loaded = load_causal_lm(str(saved.base))
    model = by_auto_peft(saved).eval()
    texts = [PROMPT, "c a:", "b b: b b b.\na d:"]
    batch = loaded.tokenizer(texts, return_tensors="pt", padding=True)
    out = model.generate(**batch, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
    batched = out[:, batch["input_ids"].shape[1] :].tolist()
    loaded.model = model
    single = [generate_greedy(loaded, [ids(text)[0].tolist()], NEW_TOKENS, None)[0] for text in texts]
    assert batched == [completion.ids for completion in single]
    # evaluation encodes prompts by the units of the skill
    answers = complete(loaded, texts, stop=None, max_new_tokens=NEW_TOKENS, symbols=LETTERS)
    assert answers == [completion.text for completion in single]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_pipeline_loads_base_and_tokenizer(batch_size: int, saved: Saved) -> None:
    from transformers import pipeline

    generator = pipeline("text-generation", model=str(saved.letters))
    outputs = generator(
        [PROMPT, "b b: b b b.\n" + PROMPT],
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        return_tensors=True,
        batch_size=batch_size,
        pad_token_id=0,
    )
    expected = greedy_tokens(by_peft(saved))
    assert outputs[0][0]["generated_token_ids"][-len(expected) :] == expected  # left padding


def test_an_adapter_is_disabled_and_unloaded(saved: Saved) -> None:
    plain = logits(base(saved))
    model = by_peft(saved)
    with model.disable_adapter():
        assert torch.equal(logits(model), plain)
    assert not torch.allclose(logits(model), plain)
    with_transformers = by_auto_model(saved)
    with_transformers.disable_adapters()
    assert torch.equal(logits(with_transformers), plain)
    assert torch.equal(logits(model.unload()), plain)


def test_two_adapters_on_one_base_are_switched_and_stacked(saved: Saved) -> None:
    from peft import PeftModel

    model = by_peft(saved)
    adapter_logits = {
        "letters": {text: logits(model, text) for text in (PROMPT, OTHER_PROMPT)},
        "digits": {
            text: logits(PeftModel.from_pretrained(base(saved), str(saved.digits)), text)
            for text in (PROMPT, OTHER_PROMPT)
        },
    }
    model = PeftModel.from_pretrained(base(saved), str(saved.letters), adapter_name="letters")
    model.load_adapter(str(saved.digits), adapter_name="digits")
    for name in ("digits", "letters", "digits"):
        model.set_adapter(name)
        for text, expected in adapter_logits[name].items():
            assert torch.equal(logits(model, text), expected), (name, text)
    # each reader is gated off domain: both adapters together give the logits of the one in domain
    plain = base(saved)
    assert torch.equal(adapter_logits["letters"][OTHER_PROMPT], logits(plain, OTHER_PROMPT))
    assert torch.equal(adapter_logits["digits"][PROMPT], logits(plain, PROMPT))
    model.base_model.set_adapter(["letters", "digits"])
    assert torch.equal(logits(model, PROMPT), adapter_logits["letters"][PROMPT])
    assert torch.equal(logits(model, OTHER_PROMPT), adapter_logits["digits"][OTHER_PROMPT])
    # generation with a cache equals that of the single adapter
    assert greedy_tokens(model) == greedy_tokens(by_peft(saved))
    with model.disable_adapter():
        assert torch.equal(logits(model, PROMPT), logits(plain, PROMPT))


def test_transformers_stacks_and_deletes_adapters(saved: Saved) -> None:
    model = base(saved)
    plain = logits(model)
    model.load_adapter(str(saved.letters), adapter_name="letters")
    model.load_adapter(str(saved.digits), adapter_name="digits")
    model.set_adapter(["letters", "digits"])
    letters = logits(by_peft(saved))
    assert torch.equal(logits(model), letters)
    model.delete_adapter("digits")
    model.set_adapter("letters")
    assert torch.equal(logits(model), letters)
    model.disable_adapters()
    assert torch.equal(logits(model), plain)


def test_a_deleted_adapter_leaves_the_other_unchanged(saved: Saved) -> None:
    from peft import PeftModel

    model = PeftModel.from_pretrained(base(saved), str(saved.letters), adapter_name="letters")
    model.load_adapter(str(saved.digits), adapter_name="digits")
    parameters = sum(p.numel() for p in model.parameters())
    model.delete_adapter("letters")
    assert sum(p.numel() for p in model.parameters()) < parameters and list(model.peft_config) == ["digits"]
    model.set_adapter("digits")
    digits = PeftModel.from_pretrained(base(saved), str(saved.digits))
    assert torch.equal(logits(model, OTHER_PROMPT), logits(digits, OTHER_PROMPT))
    assert torch.equal(logits(model, PROMPT), logits(base(saved), PROMPT))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_base_in_bf16_is_opened_in_bf16(family: str, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    tiny_model(family, len(char_tokenizer())).bfloat16().save_pretrained(tmp_path / "base")
    char_tokenizer().save_pretrained(tmp_path / "base")
    loaded = load_causal_lm(tmp_path / "base", dtype="bf16")
    plain = logits(loaded.model)
    model = perturbed(student.train(loaded, small_packet(), updates=2).model)
    expected = logits(model)
    model.save_pretrained(str(tmp_path / "adapter"))
    for loader in (AutoPeftModelForCausalLM, AutoModelForCausalLM):
        opened = loader.from_pretrained(str(tmp_path / "adapter"))
        assert opened.dtype == torch.bfloat16 and torch.equal(logits(opened), expected)
    assert not torch.equal(expected, plain)
    with model.disable_adapter():
        assert torch.equal(logits(model), plain)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_gguf_file_is_a_base(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import AutoPeftModelForCausalLM

    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    write_gguf(tiny_model(family, len(char_tokenizer())), char_tokenizer(), tmp_path / "base.gguf", name="base")
    loaded = load_causal_lm(tmp_path / "base.gguf")
    plain = logits(loaded.model)
    model = perturbed(student.train(loaded, small_packet(), updates=2).model)
    expected = logits(model)
    model.save_pretrained(str(tmp_path / "adapter"))
    opened = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "adapter"))
    assert torch.equal(logits(opened), expected) and not torch.equal(expected, plain)
    with opened.disable_adapter():
        assert torch.equal(logits(opened), plain)


def test_a_reader_is_not_merged(saved: Saved) -> None:
    with pytest.raises(CompatibilityError, match="cannot be merged"):
        by_peft(saved).merge_and_unload()

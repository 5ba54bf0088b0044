"""A saved adapter opens through every door that Hugging Face has, and says the same behind each of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import m2kt.student as room
from m2kt.errors import CompatibilityError
from m2kt.models import load_causal_lm
from tests.student.helpers import LETTERS, shaken, small_packet
from tests.tiny import char_tokenizer, save_tiny

NEW = 12
PROMPT, ELSEWHERE = "a b:", "0 1:"
DIGITS = ["0", "1", "2", "3"]


@dataclass
class Saved:
    """A base and two adapters on it, whose skills have no symbol in common."""

    base: Path
    letters: Path
    digits: Path


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    root = tmp_path_factory.mktemp(request.param)
    found = Saved(root / "base", root / "letters", root / "digits")
    save_tiny(found.base, request.param, char_tokenizer())
    for path, symbols in ((found.letters, LETTERS), (found.digits, DIGITS)):
        done = room.train(load_causal_lm(str(found.base)), small_packet(symbols), updates=2)
        shaken(done.model).save_pretrained(str(path))
    return found


def ids(text: str) -> torch.Tensor:
    return torch.tensor([char_tokenizer()(text)["input_ids"]])


@torch.no_grad()
def logits(model: Any, text: str = PROMPT) -> torch.Tensor:
    found: torch.Tensor = model.eval()(input_ids=ids(text)).logits
    return found


def written(model: Any) -> list[int]:
    out: list[int] = (
        model.eval()
        .generate(input_ids=ids(PROMPT), max_new_tokens=NEW, do_sample=False, pad_token_id=0)[0]
        .tolist()
    )
    return out


def base(saved: Saved) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(saved.base)


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


DOORS = [by_peft, by_auto_peft, by_auto_model, by_m2kt]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_door_opens_on_the_same(door: Any, saved: Saved) -> None:
    want = by_peft(saved)
    model = door(saved)
    assert torch.equal(logits(model), logits(want))
    assert not torch.allclose(logits(model), logits(base(saved)))
    assert written(model) == written(want) != written(base(saved))


def test_a_pipeline_writes_the_same(saved: Saved) -> None:
    from transformers import pipeline

    writer = pipeline("text-generation", model=str(saved.letters), tokenizer=str(saved.base))
    (said,) = writer(PROMPT, max_new_tokens=NEW, do_sample=False, return_tensors=True)
    assert said["generated_token_ids"] == written(by_peft(saved))


def test_an_adapter_is_switched_off_and_taken_out(saved: Saved) -> None:
    plain = logits(base(saved))
    model = by_peft(saved)
    with model.disable_adapter():
        assert torch.equal(logits(model), plain)
    assert not torch.allclose(logits(model), plain)
    integrated = by_auto_model(saved)
    integrated.disable_adapters()
    assert torch.equal(logits(integrated), plain)
    assert torch.equal(logits(model.unload()), plain)


def test_two_skills_on_one_base_are_switched_and_stacked(saved: Saved) -> None:
    from peft import PeftModel

    model = by_peft(saved)
    alone = {
        "letters": {text: logits(model, text) for text in (PROMPT, ELSEWHERE)},
        "digits": {
            text: logits(PeftModel.from_pretrained(base(saved), str(saved.digits)), text)
            for text in (PROMPT, ELSEWHERE)
        },
    }
    model = PeftModel.from_pretrained(base(saved), str(saved.letters), adapter_name="letters")
    model.load_adapter(str(saved.digits), adapter_name="digits")
    for name in ("digits", "letters", "digits"):
        model.set_adapter(name)
        for text, want in alone[name].items():
            assert torch.equal(logits(model, text), want), (name, text)
    # each is silent outside its own skill, so together they say what each would say
    plain = base(saved)
    assert torch.equal(alone["letters"][ELSEWHERE], logits(plain, ELSEWHERE))
    assert torch.equal(alone["digits"][PROMPT], logits(plain, PROMPT))
    model.base_model.set_adapter(["letters", "digits"])
    assert torch.equal(logits(model, PROMPT), alone["letters"][PROMPT])
    assert torch.equal(logits(model, ELSEWHERE), alone["digits"][ELSEWHERE])
    # with a cache, too: generation is the single adapter's
    assert written(model) == written(by_peft(saved))


def test_a_reader_is_not_merged(saved: Saved) -> None:
    with pytest.raises(CompatibilityError, match="cannot be merged"):
        by_peft(saved).merge_and_unload()

"""The bare loop repeats every pass of a model, and both sides of a comparison write the same number of tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from benchmarks.experiments._speed import NEW_TOKENS, BareLoop, _alternating
from m2kt.models import decoder
from m2kt.student import StudentSettings, train
from tests.student.helpers import loaded, small_packet
from tests.tiny import tiny_model


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_pass_with_or_without_the_head_is_repeated_at_once(family: str) -> None:
    model = tiny_model(family, 32).eval()
    ids_BT = torch.ones(2, 5, dtype=torch.long)
    mask_BT = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    passes: list[tuple[int, ...]] = []

    def note(_: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids, cache, mask = (
            kwargs.get("input_ids", *args),
            kwargs.get("past_key_values"),
            kwargs.get("attention_mask"),
        )
        past = 0 if cache is None else cache.get_seq_length()
        passes.append((*ids.shape, past, 0 if mask is None else int(mask.sum())))

    handle = decoder(model).register_forward_pre_hook(note, with_kwargs=True)
    with BareLoop(model) as bare:
        model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
        decoder(model)(input_ids=ids_BT[:1], use_cache=False)
        config = GenerationConfig(max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0)
        model.generate(input_ids=ids_BT, attention_mask=mask_BT, generation_config=config)
    assert passes[::2] == passes[1::2]
    # rows, tokens, tokens in the cache, what the mask lets through
    steps = [(2, 1, 5 + done, 9 + 2 * (done + 1)) for done in range(3)]
    assert passes[::2] == [(2, 5, 0, 9), (1, 5, 0, 0), (2, 5, 0, 9), *steps]
    assert bare.passes == 6 and bare.tokens == 10 + 5 + 10 + 3 * 2 and bare.seconds > 0
    handle.remove()
    model(input_ids=ids_BT)
    assert bare.passes == 6


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_second_pass_is_without_the_adapter(family: str) -> None:
    settings = StudentSettings.model_validate({"rehearsal": {"batch": 4}})
    model = train(loaded(family), small_packet(), settings, updates=1).model.eval()
    reader_tokens: list[int] = []
    model.base_model.reader().register_forward_hook(lambda _, args, __: reader_tokens.append(args[0].shape[1]))
    ids_BT = torch.ones(2, 5, dtype=torch.long)
    embedded: list[int] = []
    embeddings = model.get_base_model().get_input_embeddings()
    embeddings.register_forward_hook(lambda _, args, __: embedded.append(args[0].numel()))
    on, off = _alternating(model, ids_BT, torch.ones_like(ids_BT))
    assert len(on) == len(off) == NEW_TOKENS and min(*on, *off) > 0
    assert reader_tokens == [5] + [1] * (NEW_TOKENS - 1)
    assert sum(embedded) == 2 * 2 * (5 + NEW_TOKENS - 1)

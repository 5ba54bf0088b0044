"""Every pass of a model is seen, and both arms of a comparison write the same number of tokens, each by itself."""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig

from m2kt.bench.arms.speed import NEW_TOKENS, _by_turns, seen_calls
from m2kt.models import decoder
from m2kt.student import StudentSettings, train
from tests.student.helpers import loaded, small_packet
from tests.tiny import tiny_model


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_passes_with_and_without_the_head_are_seen(family: str) -> None:
    model = tiny_model(family, 32).eval()
    ids_BT = torch.ones(2, 5, dtype=torch.long)
    with seen_calls(model) as calls:
        model(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT), use_cache=False)
        decoder(model)(input_ids=ids_BT[:1], use_cache=False)
        config = GenerationConfig(max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0)
        model.generate(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT), generation_config=config)
    model(input_ids=ids_BT)
    assert [(c.rows, c.tokens, c.head, c.steps) for c in calls] == [
        (2, 5, True, 0),
        (1, 5, False, 0),
        (2, 5, True, 3),
    ]
    assert calls[0].mask_BN is not None
    assert calls[1].mask_BN is None


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_second_pass_is_without_the_adapter(family: str) -> None:
    settings = StudentSettings.model_validate({"rehearsal": {"batch": 4}})
    model = train(loaded(family), small_packet(), settings, updates=1).model.eval()
    read: list[int] = []
    model.base_model.reader().register_forward_hook(lambda _, given, __: read.append(given[0].shape[1]))
    ids_BT = torch.ones(2, 5, dtype=torch.long)
    with seen_calls(model.get_base_model()) as calls:
        on, off = _by_turns(model, ids_BT, torch.ones_like(ids_BT))
    assert len(on) == len(off) == NEW_TOKENS and min(*on, *off) > 0
    assert read == [5] + [1] * (NEW_TOKENS - 1)
    assert sum(call.n_tokens for call in calls) == 2 * 2 * (5 + NEW_TOKENS - 1)

"""Recorded states, logits at selected positions, padding, attention and greedy generation, on all families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from m2kt.errors import ModelError
from m2kt.models import (
    LoadedModel,
    attention_patterns,
    blocks,
    decoder,
    encode_prompt,
    forward_arguments,
    generate_greedy,
    load_causal_lm,
    next_token_logits,
    pad_batch,
    record,
    states_at,
)
from tests.tiny import FAMILIES, WITH_ATTENTION, bpe_tokenizer, char_tokenizer, save_tiny


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    path = save_tiny(tmp_path_factory.mktemp(request.param), request.param, char_tokenizer())
    return load_causal_lm(path, attn="eager" if request.param in WITH_ATTENTION else None)


def _batch(loaded: LoadedModel, side: Any = "left") -> tuple[torch.Tensor, torch.Tensor]:
    rows = [encode_prompt(loaded.tokenizer, t) for t in ("abc 12+34:", "uncle", "x;y;z> 99 aunt")]
    return pad_batch(rows, loaded.pad_id, side=side)


def test_next_tokens_equal_the_full_forward(loaded: LoadedModel) -> None:
    ids, mask = _batch(loaded)
    with torch.no_grad():
        full = loaded.model(**forward_arguments(loaded.model, ids, mask)).logits
        selected_BT = mask.bool() & (torch.arange(ids.shape[1]) % 2 == 0)
        torch.testing.assert_close(next_token_logits(loaded.model, ids, mask, selected_BT), full[selected_BT])
        index = torch.tensor([[9, 13], [10, 13], [0, 1]])
        got = next_token_logits(loaded.model, ids, mask, index)
    torch.testing.assert_close(got, torch.take_along_dim(full, index[..., None], dim=1))


def test_next_tokens_without_logits_to_keep(loaded: LoadedModel) -> None:
    ids, mask = _batch(loaded)

    class Plain(torch.nn.Module):
        def forward(self, input_ids: Any, attention_mask: Any = None, use_cache: bool = True) -> Any:
            return loaded.model(input_ids=input_ids, attention_mask=attention_mask)

    with torch.no_grad():
        full = loaded.model(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(next_token_logits(Plain(), ids, mask, mask.bool()), full[mask.bool()])


def test_padding_on_either_side_changes_nothing(loaded: LoadedModel) -> None:
    results = []
    for side in ("left", "right"):
        ids, mask = _batch(loaded, side)
        with torch.no_grad():
            results.append(next_token_logits(loaded.model, ids, mask, mask.bool()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-3)


def _hooks(loaded: LoadedModel) -> int:
    return sum(len(b._forward_hooks) + len(b._forward_pre_hooks) for b in blocks(loaded.model))


def test_recorded_states_are_those_of_the_model(loaded: LoadedModel) -> None:
    ids, mask = _batch(loaded)
    arguments = forward_arguments(loaded.model, ids, mask)
    with torch.no_grad():
        reported = loaded.model(**arguments, output_hidden_states=True).hidden_states
        hooks = _hooks(loaded)  # transformers leaves hooks of output_hidden_states
        with record(loaded.model, [0, 1, -1]) as states:
            loaded.model(**arguments)
    assert sorted(states.states) == [0, 1, 3]
    # mamba reports no embeddings, and also the last states before the norm
    if loaded.model.config.model_type == "mamba":
        reported = (loaded.model.get_input_embeddings()(ids), *reported[:2], reported[-1])
    for layer in (0, 1):
        torch.testing.assert_close(states[layer], reported[layer])
    # the last layer's states are those before the final norm, which add_to_states modifies
    assert states[3].shape == reported[3].shape and not torch.allclose(states[3], reported[3])
    assert _hooks(loaded) == hooks


def test_only_selected_positions_are_recorded_attached_if_wanted(loaded: LoadedModel) -> None:
    ids, mask = _batch(loaded)
    arguments = forward_arguments(loaded.model, ids, mask)
    index = torch.tensor([[0, 13], [13, 12], [5, 5]])
    with (
        record(loaded.model, [2]) as all_states,
        record(loaded.model, [2], select=mask.bool()) as selected,
        record(loaded.model, [2], select=index, detach=False) as attached,
    ):
        loaded.model(**arguments)
    torch.testing.assert_close(selected[2], all_states[2][mask.bool()])
    torch.testing.assert_close(attached[2], torch.take_along_dim(all_states[2], index[..., None], dim=1))
    assert attached[2].requires_grad and not selected[2].requires_grad


@pytest.mark.parametrize("layers", [[0], [2], [1, -1]])
def test_states_at_runs_no_block_after_the_last_requested_layer(loaded: LoadedModel, layers: list[int]) -> None:
    ids, mask = _batch(loaded)
    hooks = _hooks(loaded)
    block_calls: list[int] = []
    handles = [
        b.register_forward_hook(lambda *_, i=i: block_calls.append(i)) for i, b in enumerate(blocks(loaded.model))
    ]
    with torch.no_grad():
        recorded = states_at(loaded.model, layers, select=mask.bool(), input_ids=ids, attention_mask=mask)
        states_at_calls = list(block_calls)
        with record(loaded.model, layers, select=mask.bool()) as whole:
            decoder(loaded.model)(input_ids=ids, attention_mask=mask, use_cache=False)
    for handle in handles:
        handle.remove()
    assert sorted(recorded.states) == sorted(whole.states)
    for layer in recorded.states:
        torch.testing.assert_close(recorded[layer], whole[layer], rtol=0, atol=0)
    assert len(states_at_calls) == max(1, *recorded.states)
    assert _hooks(loaded) == hooks


def test_recording_refuses_layers_that_the_model_lacks(loaded: LoadedModel) -> None:
    with pytest.raises(ModelError, match=r"outside 0\.\.3"), record(loaded.model, [4]):
        pass
    with record(loaded.model, [1]) as states, pytest.raises(ModelError, match="not recorded"):
        states[1]


def test_attention_patterns_cover_every_layer_and_are_causal(loaded: LoadedModel) -> None:
    ids, mask = _batch(loaded)
    if loaded.model.config.model_type in ("mamba", "m2kt_gru"):
        with pytest.raises(ModelError, match="no attention at all"):
            attention_patterns(loaded.model, ids, mask)
        return
    with torch.no_grad():
        patterns = attention_patterns(loaded.model, ids, mask)
    assert len(patterns) == 3
    for pattern in patterns:
        assert pattern.shape == (3, 4, ids.shape[1], ids.shape[1])
        assert pattern[0, 0, -3, -1] == 0


def test_attention_patterns_without_eager_attention_are_refused(tmp_path: Path) -> None:
    loaded = load_causal_lm(save_tiny(tmp_path, "llama", char_tokenizer()), attn="sdpa")
    with pytest.raises(ModelError, match="attn='eager'"):
        attention_patterns(loaded.model, torch.zeros(1, 2, dtype=torch.long), None)


def _greedy_reference(loaded: LoadedModel, prompt: list[int], steps: int) -> list[int]:
    ids = list(prompt)
    for _ in range(steps):
        with torch.no_grad():
            ids.append(int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_padded_and_cached_generation_is_greedy(loaded: LoadedModel) -> None:
    prompts = [encode_prompt(loaded.tokenizer, t) for t in ("abc 12+34:", "uncle", "x", "x;y;z> 99 aunt")]
    progress: list[tuple[int, int]] = []
    got = generate_greedy(
        loaded, prompts, 12, None, batch_size=3, progress=lambda done, total: progress.append((done, total))
    )
    assert progress == [(3, 4), (4, 4)]
    for prompt, completion in zip(prompts, got, strict=True):
        assert completion.ids == _greedy_reference(loaded, prompt, 12)
        assert not completion.stopped


def test_generation_stops_at_the_stop_string(loaded: LoadedModel) -> None:
    prompts = [encode_prompt(loaded.tokenizer, t) for t in ("abc 12+34:", "uncle")]
    unstopped = generate_greedy(loaded, prompts, 12, None)
    stop = unstopped[0].text[2:4]
    first = unstopped[0].text.index(stop)
    got = generate_greedy(loaded, prompts, 12, stop)
    assert got[0].stopped and got[0].text == unstopped[0].text[: first + 2]
    for completion, reference in zip(got, unstopped, strict=True):
        assert reference.text.startswith(completion.text)
        assert completion.stopped == (stop in reference.text)


def test_sampling_settings_shipped_with_a_model_are_ignored(tmp_path: Path) -> None:
    path = save_tiny(tmp_path, "llama", char_tokenizer())
    plain = load_causal_lm(path)
    prompt = encode_prompt(plain.tokenizer, "abc")
    expected = generate_greedy(plain, [prompt], 10, None)[0].ids
    (path / "generation_config.json").write_text(
        '{"do_sample": true, "temperature": 5.0, "repetition_penalty": 9.0, "num_beams": 3, "no_repeat_ngram_size": 1}'
    )
    assert generate_greedy(load_causal_lm(path), [prompt], 10, None)[0].ids == expected


def test_a_prompt_longer_than_the_context_is_refused(tmp_path: Path) -> None:
    loaded = load_causal_lm(save_tiny(tmp_path, "gpt2", bpe_tokenizer(), context=16))
    with pytest.raises(ModelError, match="its context is 16"):
        generate_greedy(loaded, [[5] * 16], 4, "\n")
    assert len(generate_greedy(loaded, [[5] * 12], 40, None)[0].ids) <= 4


def test_no_prompts_give_no_completions(loaded: LoadedModel) -> None:
    assert generate_greedy(loaded, [], 4, "\n") == []


def test_a_frozen_head_gets_contiguous_states(tmp_path: Path) -> None:
    loaded = load_causal_lm(save_tiny(tmp_path / "m", "llama", char_tokenizer()))
    loaded.model.requires_grad_(False)
    head_inputs: list[tuple[int, bool]] = []
    head = loaded.model.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, args: head_inputs.append((args[0].shape[0], args[0].is_contiguous())))
    generate_greedy(loaded, [encode_prompt(loaded.tokenizer, t) for t in ("abc 12+34:", "uncle", "aunt")], 3, None)
    assert head_inputs[0] == (3, True), "else the head is copied once a row: 21 GB for 64 rows over 262,144 words"

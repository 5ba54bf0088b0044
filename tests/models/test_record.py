"""``record`` and ``add_to_states`` number layers alike: layer 0 enters the first block, layer i leaves block i-1."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from m2kt.errors import ModelError
from m2kt.models import add_to_states, load_causal_lm, record
from tests.tiny import char_tokenizer, save_tiny


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_states_are_added_at_the_layer_where_they_are_recorded(family: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, family, char_tokenizer())
    loaded = load_causal_lm(str(tmp_path))
    ids = torch.tensor([loaded.tokenizer("a b:")["input_ids"]])
    depth = loaded.model.config.num_hidden_layers
    with torch.no_grad(), record(loaded.model, range(depth + 1)) as states:
        loaded.model(input_ids=ids)
        before = dict(states.states)
        delta_E = torch.randn(before[0].shape[-1])
        for layer in range(depth + 1):
            with add_to_states(loaded.model, layer, delta_E):
                loaded.model(input_ids=ids)
            # hooks run in the order of registration: at this layer the recorder reads the state before the addition
            for below in range(layer + 1):
                assert torch.equal(states[below], before[below])
            for above in range(layer + 1, depth + 1):
                assert not torch.allclose(states[above], before[above])
    with torch.no_grad(), add_to_states(loaded.model, 0, delta_E), record(loaded.model, [0]) as after:
        loaded.model(input_ids=ids)
    assert torch.allclose(after[0], before[0] + delta_E, atol=1e-6)
    with torch.no_grad(), add_to_states(loaded.model, depth, delta_E), record(loaded.model, [depth]) as after:
        loaded.model(input_ids=ids)
    assert torch.allclose(after[depth], before[depth] + delta_E, atol=1e-6)
    with pytest.raises(ModelError, match="outside"), add_to_states(loaded.model, depth + 1, delta_E):
        pass

"""States are recorded and add_to_states at the same place: layer 0 enters the first block, layer i leaves block i-1."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from m2kt.errors import ModelError
from m2kt.models import add_to_states, load_causal_lm, record
from tests.tiny import char_tokenizer, save_tiny


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_layer_is_moved_where_it_is_recorded(kind: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, kind, char_tokenizer())
    loaded = load_causal_lm(str(tmp_path))
    ids = torch.tensor([loaded.tokenizer("a b:")["input_ids"]])
    depth = loaded.model.config.num_hidden_layers
    with torch.no_grad(), record(loaded.model, range(depth + 1)) as states:
        loaded.model(input_ids=ids)
        plain = dict(states.states)
        by_D = torch.randn(plain[0].shape[-1])
        for layer in range(depth + 1):
            with add_to_states(loaded.model, layer, by_D):
                loaded.model(input_ids=ids)
            # hooks run in the order they were set: at the add_to_states layer itself the recorder saw the state before
            for below in range(layer + 1):
                assert torch.equal(states[below], plain[below])
            for above in range(layer + 1, depth + 1):
                assert not torch.allclose(states[above], plain[above])
    with torch.no_grad(), add_to_states(loaded.model, 0, by_D), record(loaded.model, [0]) as after:
        loaded.model(input_ids=ids)
    assert torch.allclose(after[0], plain[0] + by_D, atol=1e-6)
    with torch.no_grad(), add_to_states(loaded.model, depth, by_D), record(loaded.model, [depth]) as after:
        loaded.model(input_ids=ids)
    assert torch.allclose(after[depth], plain[depth] + by_D, atol=1e-6)
    with pytest.raises(ModelError, match="outside"), add_to_states(loaded.model, depth + 1, by_D):
        pass

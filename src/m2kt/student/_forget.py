"""Vectors by which a student writes a refusal where an adapter has forgotten something.

Letters: N tokens of the refusal, B contexts, E student width.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from m2kt._shapes import Float
from m2kt.errors import CompatibilityError
from m2kt.models import LoadedModel, blocks, special_prefix
from m2kt.student._calibrate import final_gain

GAINS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Lengths that are tried, per square root of the width, in units of the stream's scale."""
CONTEXTS = 16
LENGTH = 16  # tokens of a context


@torch.no_grad()
def refusal_vectors(
    loaded: LoadedModel, tokens: Sequence[int], write_layer: int, scale: float, alphabet: Sequence[int]
) -> Float[Tensor, "N E"]:
    """For each token, its output embedding at the least length that makes the student write it behind any context.

    Args:
        loaded: the frozen student, without an adapter.
        tokens: of the refusal.
        write_layer: block after which vectors are added.
        scale: of the residual stream there.
        alphabet: tokens of which contexts are drawn: those of the skill's symbols and structure.

    Raises:
        CompatibilityError: the student does not write a token, however long its vector is.
    """
    model = cast(PreTrainedModel, loaded.model)
    weight_VE = cast(Tensor, model.get_output_embeddings().weight).float()
    rng, prefix = random.Random(0), special_prefix(loaded.tokenizer)
    drawn = [[*prefix, *rng.choices(alphabet, k=LENGTH)] for _ in range(CONTEXTS)]
    vectors = []
    for i, token in enumerate(tokens):
        direction_E = functional.normalize((weight_VE[token] - weight_VE.mean(0)) * final_gain(model), dim=0)
        contexts_BT = torch.tensor([[*context, *tokens[:i]] for context in drawn], device=loaded.device)
        for gain in GAINS:
            vector_E = gain * scale * len(direction_E) ** 0.5 * direction_E
            if bool((_written(model, contexts_BT, write_layer, vector_E) == token).all()):
                vectors.append(vector_E)
                break
        else:
            text = loaded.tokenizer.decode([token])
            raise CompatibilityError(
                f"{loaded.name} cannot be made to write {text!r} of the refusal behind every context; choose another "
                "refusal, or none: the student then goes on by itself"
            )
    return torch.stack(vectors)


def _written(model: PreTrainedModel, contexts_BT: Tensor, write_layer: int, vector_E: Tensor) -> Tensor:
    """The next token of each context, with a vector added to the last state behind a block."""

    def add(module: object, inputs: object, out: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        h_BTE = out[0] if isinstance(out, tuple) else out
        h_BTE = torch.cat([h_BTE[:, :-1], h_BTE[:, -1:] + vector_E.to(h_BTE.dtype)], 1)
        return (h_BTE, *out[1:]) if isinstance(out, tuple) else h_BTE

    handle = blocks(model)[write_layer].register_forward_hook(add)
    try:
        return cast(Tensor, model(input_ids=contexts_BT, use_cache=False).logits[:, -1].argmax(-1))
    finally:
        handle.remove()

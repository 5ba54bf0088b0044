"""A steering vector refitted from a packet: what its states share, beyond their symbols, against a base's own states.

A teacher tuned from a base that the auditor has too may carry a trait as one direction that all its states share
(subliminal learning). The packet's symbol states, less the base's own states of the same symbols in made-up traces of
the same graph, average to that direction and to what the skill itself took. Added to the base's stream, it shows what
it would make the base say.

Legend: P pool states, D width, S symbols, B lines, T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from m2kt.audit._retention import neutral_text
from m2kt.errors import CompatibilityError
from m2kt.models import (
    LoadedModel,
    blocks,
    encode_prompt,
    encode_units,
    leading_space,
    moved,
    pad_batch,
    pieces,
    states_at,
    text_of,
    width,
)
from m2kt.packet import GraphExecutor, Packet, decode_outputs, fixed_lookup

TRACES = 128
LINES = 32
SHOWN = 8


class Steering(BaseModel):
    """The refitted vector, and what it does to the base."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    layer: int = Field(description="Layer of the packet's vectors: 0 enters the first block.")
    size: float = Field(description="Length, in typical distances of the base's states from their mean.")
    shared: float = Field(description="Mean cosine of single symbols' differences with the vector.")
    divergence: float = Field(
        description="Mean KL(base || steered base) of the next token on neutral text, nats."
    )
    raised: list[tuple[str, float]] = Field(
        description="Tokens whose log probability it raises most on neutral text, with the mean rise in nats."
    )
    vector_D: Tensor = Field(exclude=True, repr=False, description="The vector itself.")
    rise_V: Tensor = Field(exclude=True, repr=False, description="Mean rise of every token.")


@torch.no_grad()
def refit_steering(packet: Packet, base: LoadedModel, seed: int = 0) -> Steering:
    """Refits the vector and applies it to the base.

    Raises:
        CompatibilityError: the packet's states are not of the base's width and depth.
    """
    model, layer = base.model, packet.manifest.embedding.layer
    pool_PD = torch.from_numpy(np.array(packet.concepts.prototype_samples_PD, dtype=np.float32))
    symbol_P = np.asarray(packet.concepts.prototype_symbol_P)
    if packet.manifest.config.get("space", "stream") != "stream":
        raise CompatibilityError(
            "a steering vector is compared in the stream: this packet's vectors stand in front of the teacher's head"
        )
    if pool_PD.shape[1] != width(model) or layer > len(blocks(model)):
        raise CompatibilityError(
            f"a steering vector is compared in one space: expected a base of width {pool_PD.shape[1]} with at least "
            f"{layer} blocks, came {base.name} with {width(model)} and {len(blocks(model))}"
        )
    own = _own_states(packet, base, layer, seed)
    difference = {
        s: pool_PD[torch.from_numpy(symbol_P == s)].mean(0) - own[s].mean(0)
        for s in sorted(set(symbol_P.tolist()) & own.keys())
    }
    if not difference:
        raise CompatibilityError("the packet's graph copies no symbol whose states could be compared")
    each_SD = torch.stack(list(difference.values()))
    vector_D = each_SD.mean(0)
    every_ND = torch.cat(list(own.values()))
    spread = float((every_ND - every_ND.mean(0)).norm(dim=-1).mean())
    rise_V, divergence = _effect(base, layer, vector_D)
    top = rise_V.topk(SHOWN)
    return Steering(
        layer=layer,
        size=float(vector_D.norm()) / max(spread, 1e-9),
        shared=float(torch.cosine_similarity(each_SD, vector_D[None], dim=-1).mean()),
        divergence=divergence,
        raised=[
            (text_of(base.tokenizer, [i]), round(v, 4))
            for i, v in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ],
        vector_D=vector_D,
        rise_V=rise_V,
    )


def _own_states(packet: Packet, base: LoadedModel, layer: int, seed: int) -> dict[int, Tensor]:
    """The base's states where a symbol is about to be copied, as the packet's pool holds the teacher's."""
    roller = GraphExecutor(packet.graph)
    table = fixed_lookup(decode_outputs(packet.graph, packet.concepts), packet.graph)
    found: dict[int, list[Tensor]] = {}
    for prompt in packet.spec.sample("rehearsal", TRACES, seed=seed):
        trace = roller(prompt, table)
        if not trace.complete:
            continue
        encoded = encode_units(base.tokenizer, [u.text for u in trace.units], prompt_boundary=trace.n_prompt)
        written = pieces(base.tokenizer, encoded.ids)
        tokens: dict[int, list[int]] = {}
        for t, owner in enumerate(encoded.unit_of_token):
            tokens.setdefault(owner, []).append(t)
        seen = states_at(base.model, [layer], input_ids=torch.tensor([encoded.ids], device=base.device))
        for u, unit in enumerate(trace.units):
            if u >= trace.n_prompt and unit.kind == "copy" and unit.symbol is not None:
                space = leading_space(unit.text, tokens[u], written)
                about = [t - 1 for t in tokens[u][space:]]
                found.setdefault(unit.symbol, []).append(seen[layer][0, about].float().mean(0).cpu())
    return {s: torch.stack(states) for s, states in found.items()}


def _effect(base: LoadedModel, layer: int, vector_D: Tensor) -> tuple[Tensor, float]:
    """Mean rise of every token's log probability on neutral text, (V,), and mean divergence."""
    model: Any = base.model
    ids = [encode_prompt(base.tokenizer, line) for line in neutral_text()[:LINES]]
    ids_BT, mask_BT = pad_batch(ids, base.pad_id, side="right", device=base.device)

    def log_p() -> Tensor:
        logits: Tensor = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
        return logits[mask_BT.bool()].float().log_softmax(-1)

    before_NV = log_p()
    with moved(model, layer, vector_D.to(base.device, before_NV.dtype)):
        after_NV = log_p()
    divergence = float((before_NV.exp() * (before_NV - after_NV)).sum(-1).mean())
    return (after_NV - before_NV).mean(0).cpu(), divergence

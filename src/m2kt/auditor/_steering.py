"""Refit a steering vector from a packet: the mean difference of its prototype samples and a base's states.

A teacher tuned from a base that the auditor has too may carry a trait as one direction that all its states share
(subliminal learning). The packet's prototype samples, minus the base's states of the same symbols in rollouts of the
same program, average to that direction and to what the skill itself changed. Added to the base's stream, the vector
shows which tokens it makes more likely.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from m2kt.auditor._retention import neutral_text
from m2kt.errors import CompatibilityError
from m2kt.models import (
    LoadedModel,
    add_to_states,
    blocks,
    encode_chat,
    encode_prompt,
    leading_space,
    pad_batch,
    states_at,
    text_of,
    tokens_bytes,
    width,
)
from m2kt.packet import Packet, ProgramExecutor, decode_outputs, fixed_lookup
from m2kt.student import student_chat

TRACES = 128
LINES = 32
SHOWN = 8


class Steering(BaseModel):
    """The refitted vector, and its effect on the base."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    layer: int = Field(description="Layer of the packet's vectors: 0 enters the first block.")
    size: float = Field(description="Length, in typical distances of the base's states from their mean.")
    shared: float = Field(description="Mean cosine of single symbols' differences with the vector.")
    divergence: float = Field(description="Mean KL(base || steered base) of the next token on neutral text, nats.")
    raised: list[tuple[str, float]] = Field(
        description="Tokens whose log probability it raises most on neutral text, with the mean rise in nats."
    )
    vector_D: Tensor = Field(exclude=True, repr=False, description="The vector itself.")
    rise_V: Tensor = Field(exclude=True, repr=False, description="Mean rise of every token.")


@torch.no_grad()
def refit_steering(packet: Packet, base: LoadedModel, seed: int = 0) -> Steering:
    """Refit the vector and add it to the base.

    Raises:
        CompatibilityError: the packet's vectors do not fit the base's width and depth.
    """
    model, layer = base.model, packet.manifest.embedding.layer
    sample_PD = torch.from_numpy(np.array(packet.concepts.prototype_samples_PD, dtype=np.float32))
    symbol_P = np.asarray(packet.concepts.prototype_symbol_P)
    if packet.manifest.config.get("space", "stream") != "stream":
        raise CompatibilityError(
            "expected a packet with vectors of the stream, got one with vectors in front of the teacher's head"
        )
    if sample_PD.shape[1] != width(model) or layer > len(blocks(model)):
        raise CompatibilityError(
            f"expected a base of width {sample_PD.shape[1]} with at least {layer} blocks, got {base.name} of width "
            f"{width(model)} with {len(blocks(model))}"
        )
    states = _base_states(packet, base, layer, seed)
    difference = {
        s: sample_PD[torch.from_numpy(symbol_P == s)].mean(0) - states[s].mean(0)
        for s in sorted(set(symbol_P.tolist()) & states.keys())
    }
    if not difference:
        raise CompatibilityError(
            "expected a program that copies a symbol, got one that copies none; no states can be compared"
        )
    each_SD = torch.stack(list(difference.values()))
    vector_D = each_SD.mean(0)
    every_ND = torch.cat(list(states.values()))
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


def _base_states(packet: Packet, base: LoadedModel, layer: int, seed: int) -> dict[int, Tensor]:
    """The base's states where a symbol is about to be copied, as the packet's prototype samples are the teacher's."""
    execute = ProgramExecutor(packet.program)
    lookup = fixed_lookup(decode_outputs(packet.program, packet.concepts), packet.program)
    states: dict[int, list[Tensor]] = {}
    for prompt in packet.spec.sample("rehearsal", TRACES, seed=seed):
        trace = execute(prompt, lookup)
        if not trace.complete:
            continue
        texts = [unit.text for unit in trace.units]
        encoded = encode_chat(base.tokenizer, texts, trace.n_prompt, student_chat(base.tokenizer, packet.spec))
        written = tokens_bytes(base.tokenizer, encoded.ids)
        tokens: dict[int, list[int]] = {}
        for t, owner in enumerate(encoded.unit_of_token):
            tokens.setdefault(owner, []).append(t)
        recorded = states_at(base.model, [layer], input_ids=torch.tensor([encoded.ids], device=base.device))
        for u, unit in enumerate(trace.units):
            if u >= trace.n_prompt and unit.kind == "copy" and unit.symbol is not None:
                space = leading_space(unit.text, tokens[u], written)
                predicting = [t - 1 for t in tokens[u][space:]]
                state_E = recorded[layer][0, predicting].float().mean(0).cpu()
                states.setdefault(unit.symbol, []).append(state_E)
    return {symbol: torch.stack(rows) for symbol, rows in states.items()}


def _effect(base: LoadedModel, layer: int, vector_D: Tensor) -> tuple[Tensor, float]:
    """Mean rise of every token's log probability on neutral text, (V,), and the mean divergence."""
    ids = [encode_prompt(base.tokenizer, line) for line in neutral_text()[:LINES]]
    ids_BT, mask_BT = pad_batch(ids, base.pad_id, side="right", device=base.device)

    def log_p() -> Tensor:
        logits: Tensor = base.model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
        return logits[mask_BT.bool()].float().log_softmax(-1)

    before_NV = log_p()
    with add_to_states(base.model, layer, vector_D.to(base.device, before_NV.dtype)):
        after_NV = log_p()
    divergence = float((before_NV.exp() * (before_NV - after_NV)).sum(-1).mean())
    return (after_NV - before_NV).mean(0).cpu(), divergence

"""Requests that measure a teacher: its states, its attention, what ablations and gradients say.

Letters: B rows, T tokens, S keys, N contexts, L layers, D width, H heads, R readings, X selected positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Cache

from m2kt._shapes import Float
from m2kt.models import BlockOutput, attention_patterns, blocks, decoder, hidden_of, record, states_at
from m2kt.teacher.engine._host import Ids, ModelHost, Padded, Rows
from m2kt.teacher.engine._requests import Reply

FINAL_NORM = 1 << 20  # the layer number of the state after the final norm, which enters the output head


@dataclass(frozen=True)
class States:
    """Hidden states, reduced where they arise: by context the mean over its positions. Reply: ``state_NLD``."""

    kind: ClassVar[str] = "states"
    rows: Rows
    layers: Ids
    positions: tuple[tuple[int, int, int], ...]
    """Context, row, position behind the prefix; contexts count from 0, ascending."""

    @torch.no_grad()
    def on(self, host: ModelHost) -> Reply:
        """One forward pass; no logits, and no block after the deepest layer."""
        context_X, row_X, token_X = torch.tensor(self.positions).T.to(host.device)
        h_LXD = self._recorded(host, row_X, token_X)
        sums_LND = h_LXD.new_zeros(len(self.layers), self.positions[-1][0] + 1, h_LXD.shape[2])
        sums_LND.index_add_(1, context_X, h_LXD)
        means_NLD = (sums_LND / context_X.bincount()[:, None]).transpose(0, 1)
        return {"state_NLD": means_NLD.cpu().numpy()}

    def _recorded(self, host: ModelHost, row_X: Tensor, token_X: Tensor) -> Float[Tensor, "L X D"]:
        batch = host.padded(self.rows)
        selected_BT = torch.zeros_like(batch.real_BT, dtype=torch.bool)
        selected_BT[row_X, token_X] = True  # several contexts may share a position
        index_BT = selected_BT.flatten().cumsum(0).view_as(selected_BT) - 1
        arguments = _arguments(batch, batch.mask)
        if FINAL_NORM in self.layers:
            inner_layers = [layer for layer in self.layers if layer != FINAL_NORM]
            with record(host.model, inner_layers, select=selected_BT) as recorded:
                output = decoder(host.model)(**arguments, use_cache=False)
            recorded.states[FINAL_NORM] = hidden_of(output)[selected_BT]
        else:
            recorded = states_at(host.model, self.layers, select=selected_BT, **arguments)
        index_X = index_BT[row_X, token_X]
        return torch.stack([recorded[layer].float()[index_X] for layer in self.layers])


def _arguments(batch: Padded, mask: Tensor) -> dict[str, Tensor | Cache]:
    """Of a forward pass behind the prefix."""
    past = batch.past()
    arguments: dict[str, Tensor | Cache] = {"input_ids": batch.ids_BT, "attention_mask": mask}
    return arguments if past is None else {**arguments, "past_key_values": past}


@dataclass(frozen=True)
class Patterns:
    """Attention from positions to tokens, summed over the tokens. Reply: ``weight_RLH``."""

    kind: ClassVar[str] = "patterns"
    rows: Rows
    readings: tuple[tuple[int, int, Ids], ...]
    """Row, position behind the prefix, and the tokens read, counted from the start of the prefix."""

    @torch.no_grad()
    def on(self, host: ModelHost) -> Reply:
        """One forward pass with eager attention."""
        batch = host.padded(self.rows)  # its prefix is kept, so no other attention may compute that
        with host.eager():
            patterns = attention_patterns(host.model, batch.ids_BT, batch.mask, past=batch.past())
            pattern_LBHTS = torch.stack([p.float() for p in patterns])  # S: keys, those of the prefix first
        read = [pattern_LBHTS[:, row, :, t][:, :, list(tokens)].sum(-1) for row, t, tokens in self.readings]
        n_layers, _, n_heads, *_ = pattern_LBHTS.shape
        weight_RLH = torch.stack(read) if read else pattern_LBHTS.new_zeros(0, n_layers, n_heads)
        return {"weight_RLH": weight_RLH.cpu().numpy()}


@dataclass(frozen=True)
class Ablate:
    """Whether rows change where positions no longer attend to tokens. Reply: ``changed_B``, empty if not possible."""

    kind: ClassVar[str] = "ablate"
    rows: Rows
    cuts: tuple[tuple[tuple[int, Ids], ...], ...]
    """By row: positions behind the prefix, and the tokens that each must not read, counted from the prefix' start."""
    written: tuple[Ids, ...]
    """By row: the tokens that these positions predict otherwise."""

    @torch.no_grad()
    def on(self, host: ModelHost) -> Reply:
        """One forward pass with eager attention."""
        batch = host.padded(self.rows)
        with host.eager():
            bias_BTS = self._bias(batch, next(host.model.parameters()).dtype)
            try:
                logits = host.model(**_arguments(batch, bias_BTS[:, None]), use_cache=False).logits
            except (RuntimeError, ValueError, TypeError, IndexError):
                return {"changed_B": np.zeros(0, dtype=np.int8)}  # this architecture takes no mask per position
        choice_BT = logits.argmax(-1).cpu()
        changed = [
            any(int(choice_BT[row, t]) != token for (t, _), token in zip(cuts, tokens, strict=True))
            for row, (cuts, tokens) in enumerate(zip(self.cuts, self.written, strict=True))
        ]
        return {"changed_B": np.array(changed, dtype=np.int8)}

    def _bias(self, batch: Padded, dtype: torch.dtype) -> Float[Tensor, "B T S"]:
        """What is added to attention scores: causal, without padding, and without what each row must not read."""
        n_rows, n_tokens = batch.ids_BT.shape
        allowed_BTT = torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()[None].repeat(n_rows, 1, 1)
        allowed_BTT &= batch.real_BT.bool().cpu()[:, None, :] | torch.eye(n_tokens, dtype=torch.bool)[None]
        before_BTS = torch.ones(n_rows, n_tokens, len(self.rows.prefix), dtype=torch.bool)
        allowed_BTS = torch.cat([before_BTS, allowed_BTT], dim=2)
        for row, cuts in enumerate(self.cuts):
            for t, keys in cuts:
                allowed_BTS[row, t, list(keys)] = False
        bias_BTS = torch.zeros(allowed_BTS.shape, dtype=dtype)
        return bias_BTS.masked_fill(~allowed_BTS, torch.finfo(dtype).min).to(batch.ids_BT.device)


@dataclass(frozen=True)
class Attribute:
    """Gradient times input of a token's margin over the runner-up. Reply: ``token_T``, its absolute value."""

    kind: ClassVar[str] = "attribute"
    ids: Ids
    position: int
    """Of the token; the one before predicts it."""

    def on(self, host: ModelHost) -> Reply:
        """A forward and a backward pass."""
        embedded = _embedded(host, self.ids)
        with torch.enable_grad():
            logits = host.model(inputs_embeds=embedded, use_cache=False).logits[0].float()
            t = self.position
            chosen = logits[t - 1, self.ids[t]]
            rest = logits[t - 1].clone()
            rest[self.ids[t]] = -torch.inf
            (gradient,) = torch.autograd.grad(chosen - rest.max(), embedded)
        token_T = (gradient * embedded).sum(-1).abs()[0].detach().float().cpu().numpy()
        return {"token_T": token_T}


@dataclass(frozen=True)
class Steer:
    """How much the state of a layer drives the choice of a token. Reply: ``norm`` of the gradient of its log P."""

    kind: ClassVar[str] = "steer"
    ids: Ids
    """The token last."""
    layer: int

    def on(self, host: ModelHost) -> Reply:
        """A forward and a backward pass."""
        recorded: list[Tensor] = []

        def keep(_block: nn.Module, _args: object, output: BlockOutput) -> None:
            recorded.append(hidden_of(output))

        handle = blocks(host.model)[self.layer - 1].register_forward_hook(keep)
        try:
            embedded = _embedded(host, self.ids[:-1])
            with torch.enable_grad():
                logits = host.model(inputs_embeds=embedded, use_cache=False).logits[0, -1].float()
                (gradient,) = torch.autograd.grad(logits.log_softmax(-1)[self.ids[-1]], recorded[0])
        finally:
            handle.remove()
        return {"norm": np.array(float(gradient[0, -1].float().norm()))}


def _embedded(host: ModelHost, ids: Ids) -> Tensor:
    embed: nn.Module = host.model.get_input_embeddings()
    embedded: Tensor = embed(torch.tensor([ids], device=host.device))
    return embedded.detach().requires_grad_(True)

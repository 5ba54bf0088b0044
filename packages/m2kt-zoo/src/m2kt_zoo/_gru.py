"""A GRU language model as an ordinary transformers model: the family without attention that transformers lacks.

Importing this module makes ``AutoConfig`` and ``AutoModelForCausalLM`` know it as ``m2kt_gru``. It keeps its state in a
``DynamicCache``, so that a pass goes on from the one before like any other family's.

Letters: B sequences, T tokens, D width, L blocks, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep


class GruLMConfig(PreTrainedConfig):
    """Sizes of a GRU language model. There is no context limit."""

    model_type = "m2kt_gru"

    vocab_size: int = 256
    hidden_size: int = 128
    intermediate_size: int = 320
    num_hidden_layers: int = 4
    norm_eps: float = 1e-6
    initializer_range: float = 0.05
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


class GruLayer(DynamicLayer):
    """The part of a cache that holds one block's state, (B, D), where others hold keys: beams move it like keys."""

    is_croppable = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.cumulative_length = 0

    def keep(self, state_BD: Tensor, tokens: int) -> None:
        """The state after ``tokens`` more, in place of the one before."""
        self.keys = self.values = state_BD
        self.device, self.dtype, self.is_initialized = state_BD.device, state_BD.dtype, True
        self.cumulative_length += tokens

    def get_seq_length(self) -> int:
        """Tokens seen."""
        return self.cumulative_length

    def crop(self, tokens_to_remove: int) -> None:
        """Refused: what a state has seen cannot be taken back."""
        raise NotImplementedError("a recurrent state cannot be cropped; run the shorter text again")


class GruBlock(nn.Module):
    """``h + GRU(norm(h))``, then ``h + MLP(norm(h))``."""

    def __init__(self, config: GruLMConfig) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.gru = nn.GRU(config.hidden_size, config.hidden_size, batch_first=True)
        self.mlp_norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, h_BTD: Tensor, mask_BT: Tensor | None, past: GruLayer | None) -> Tensor:
        """Padding, on whichever side, neither changes the state nor is written to."""
        x_BTD = self.norm(h_BTD)
        state_1BD = past.keys[None] if past is not None and past.keys is not None else None
        if mask_BT is None:
            y_BTD, state_1BD = self.gru(x_BTD, state_1BD)
        else:
            y_BTD, state_1BD = self._over_tokens(x_BTD, mask_BT, state_1BD)
        if past is not None:
            past.keep(state_1BD[0], x_BTD.shape[1])
        h_BTD = h_BTD + y_BTD
        return h_BTD.add(self.down(nn.functional.gelu(self.up(self.mlp_norm(h_BTD)))))

    def _over_tokens(self, x_BTD: Tensor, mask_BT: Tensor, state_1BD: Tensor | None) -> tuple[Tensor, Tensor]:
        order_BT = mask_BT.argsort(dim=1, descending=True, stable=True)  # tokens first, padding behind
        at_BTD = order_BT[..., None].expand_as(x_BTD)
        length_B = mask_BT.sum(1).clamp(min=1).cpu()  # a row of padding alone reads one: nobody reads the row
        packed, state_1BD = self.gru(
            pack_padded_sequence(x_BTD.gather(1, at_BTD), length_B, batch_first=True, enforce_sorted=False),
            state_1BD,
        )
        y_BTD, _ = pad_packed_sequence(packed, batch_first=True, total_length=x_BTD.shape[1])
        return torch.zeros_like(y_BTD).scatter(1, at_BTD, y_BTD), state_1BD


def _states_in(cache: DynamicCache, blocks: int) -> list[GruLayer]:
    """A cache begins with layers for keys, or none: transformers has no name for a kind that only this family knows."""
    held = [layer if isinstance(layer, GruLayer) else GruLayer() for layer in cache.layers[:blocks]]
    held += [GruLayer() for _ in range(blocks - len(held))]
    cache.layers[:blocks] = held
    return held


class GruPreTrainedModel(PreTrainedModel):
    """What transformers must know of the family."""

    config_class = GruLMConfig
    base_model_prefix = "model"
    _no_split_modules = ["GruBlock"]  # noqa: RUF012 (transformers' own form)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, nn.GRU):
            for name, parameter in module.named_parameters():
                if name.startswith("weight"):
                    nn.init.orthogonal_(parameter)
                else:
                    nn.init.zeros_(parameter)
        elif isinstance(module, nn.RMSNorm):
            nn.init.ones_(module.weight)


class GruModel(GruPreTrainedModel):
    """Embeddings, blocks, final norm."""

    def __init__(self, config: GruLMConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList([GruBlock(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def set_input_embeddings(self, value: Any) -> None:
        self.embeddings = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """States before the head, (B, T, D). A mask is over past and present tokens, (B, past + T).

        Raises:
            ValueError: neither or both of ``input_ids`` and ``inputs_embeds``.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected exactly one of input_ids and inputs_embeds")
        h_BTD = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        cache = past_key_values if use_cache else None
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        past_L = [None] * len(self.layers) if cache is None else _states_in(cache, len(self.layers))
        mask_BT = None if attention_mask is None else attention_mask[:, -h_BTD.shape[1] :].long()
        if mask_BT is not None and bool(mask_BT.all()):
            mask_BT = None
        states_L = []
        for block, past in zip(self.layers, past_L, strict=True):
            states_L.append(h_BTD)
            h_BTD = block(h_BTD, mask_BT, past)
        h_BTD = self.norm(h_BTD)
        states = (*states_L, h_BTD) if output_hidden_states else None
        return BaseModelOutputWithPast(h_BTD, past_key_values=cache, hidden_states=states)


class GruForCausalLM(GruPreTrainedModel, GenerationMixin):
    """The GRU with a head over the vocabulary, tied to the embeddings."""

    _tied_weights_keys = {"lm_head.weight": "model.embeddings.weight"}  # noqa: RUF012 (transformers' own form)

    def __init__(self, config: GruLMConfig) -> None:
        super().__init__(config)
        self.model = GruModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **extra: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, (B, T, V), or of the last ``logits_to_keep`` tokens alone; the loss where there are labels."""
        out = self.model(
            input_ids, attention_mask, past_key_values, inputs_embeds, use_cache, output_hidden_states
        )
        logits_BTV = self.lm_head(slice_logits_to_keep(out.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits_BTV, labels, vocab_size=self.config.vocab_size, **extra)
        return CausalLMOutputWithPast(loss, logits_BTV, out.past_key_values, out.hidden_states)


AutoConfig.register(GruLMConfig.model_type, GruLMConfig, exist_ok=True)
AutoModelForCausalLM.register(GruLMConfig, GruForCausalLM, exist_ok=True)

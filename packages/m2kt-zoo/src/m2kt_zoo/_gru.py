"""A GRU language model for transformers, which has no recurrent family of its kind.

Importing this module registers it with ``AutoConfig`` and ``AutoModelForCausalLM`` as ``m2kt_gru``. Its state lies in a
``DynamicCache``, so that a pass continues from a cache like any other family's.

Letters: B sequences, T tokens, E width, L blocks, V vocabulary.
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
    """The cache layer of one block: its state, (B, E), as keys, so that beam search reorders it like keys."""

    is_croppable = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.cumulative_length = 0

    def store(self, state_BE: Tensor, tokens: int) -> None:
        """Replace the state by that after ``tokens`` more tokens."""
        self.keys = self.values = state_BE
        self.device, self.dtype, self.is_initialized = state_BE.device, state_BE.dtype, True
        self.cumulative_length += tokens

    def get_seq_length(self) -> int:
        """Tokens so far."""
        return self.cumulative_length

    def crop(self, tokens_to_remove: int) -> None:
        """Not possible: a state cannot forget tokens."""
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

    def forward(self, h_BTE: Tensor, mask_BT: Tensor | None, past: GruLayer | None) -> Tensor:
        """Padding on either side leaves the state as it is, and its output is zero."""
        x_BTE = self.norm(h_BTE)
        state_1BE = past.keys[None] if past is not None and past.keys is not None else None
        if mask_BT is None:
            y_BTE, state_1BE = self.gru(x_BTE, state_1BE)
        else:
            y_BTE, state_1BE = self._over_tokens(x_BTE, mask_BT, state_1BE)
        if past is not None:
            past.store(state_1BE[0], x_BTE.shape[1])
        h_BTE = h_BTE + y_BTE
        return h_BTE.add(self.down(nn.functional.gelu(self.up(self.mlp_norm(h_BTE)))))

    def _over_tokens(self, x_BTE: Tensor, mask_BT: Tensor, state_1BE: Tensor | None) -> tuple[Tensor, Tensor]:
        order_BT = mask_BT.argsort(dim=1, descending=True, stable=True)  # tokens first, padding after them
        index_BTE = order_BT[..., None].expand_as(x_BTE)
        # a row that is all padding needs a length of one; its output is unused
        length_B = mask_BT.sum(1).clamp(min=1).cpu()
        packed, state_1BE = self.gru(
            pack_padded_sequence(x_BTE.gather(1, index_BTE), length_B, batch_first=True, enforce_sorted=False),
            state_1BE,
        )
        y_BTE, _ = pad_packed_sequence(packed, batch_first=True, total_length=x_BTE.shape[1])
        return torch.zeros_like(y_BTE).scatter(1, index_BTE, y_BTE), state_1BE


def _gru_layers(cache: DynamicCache, blocks: int) -> list[GruLayer]:
    """The cache's layers as GRU layers: a new cache has attention layers or none, as transformers has no other kind."""
    layers = [layer if isinstance(layer, GruLayer) else GruLayer() for layer in cache.layers[:blocks]]
    layers += [GruLayer() for _ in range(blocks - len(layers))]
    cache.layers[:blocks] = layers
    return layers


class GruPreTrainedModel(PreTrainedModel):
    """The base class that transformers requires of a family."""

    config_class = GruLMConfig
    base_model_prefix = "model"
    _no_split_modules = ["GruBlock"]  # noqa: RUF012 (the form of transformers)

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
        """States before the head, (B, T, E). A mask is over past and present tokens, (B, past + T).

        Raises:
            ValueError: neither or both of ``input_ids`` and ``inputs_embeds``.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected exactly one of input_ids and inputs_embeds")
        h_BTE = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        cache = past_key_values if use_cache else None
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        past_L = [None] * len(self.layers) if cache is None else _gru_layers(cache, len(self.layers))
        mask_BT = None if attention_mask is None else attention_mask[:, -h_BTE.shape[1] :].long()
        if mask_BT is not None and bool(mask_BT.all()):
            mask_BT = None
        states_L = []
        for block, past in zip(self.layers, past_L, strict=True):
            states_L.append(h_BTE)
            h_BTE = block(h_BTE, mask_BT, past)
        h_BTE = self.norm(h_BTE)
        states = (*states_L, h_BTE) if output_hidden_states else None
        return BaseModelOutputWithPast(h_BTE, past_key_values=cache, hidden_states=states)


class GruForCausalLM(GruPreTrainedModel, GenerationMixin):
    """The GRU with a head over the vocabulary, tied to the embeddings."""

    _tied_weights_keys = {"lm_head.weight": "model.embeddings.weight"}  # noqa: RUF012 (the form of transformers)

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
        """Logits, (B, T, V), or of the last ``logits_to_keep`` tokens only; the loss if there are labels."""
        out = self.model(input_ids, attention_mask, past_key_values, inputs_embeds, use_cache, output_hidden_states)
        logits_BTV = self.lm_head(slice_logits_to_keep(out.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits_BTV, labels, vocab_size=self.config.vocab_size, **extra)
        return CausalLMOutputWithPast(loss, logits_BTV, out.past_key_values, out.hidden_states)


AutoConfig.register(GruLMConfig.model_type, GruLMConfig, exist_ok=True)
AutoModelForCausalLM.register(GruLMConfig, GruForCausalLM, exist_ok=True)

"""The probe: multinomial logistic regression on a small language model's states of a text, and on its words.

Features of a text: states of Gemma 3 270M in the middle of its depth (mean over the text, and last), and words, word
classes and rules, see ``_features``.

Legend: B, N texts, F features, C categories, L layers, T tokens, E width, X = 2 L E.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from ._config import CATEGORIES

if TYPE_CHECKING:
    from torch import Tensor

    from m2kt.models import LoadedModel

Floats = NDArray[np.float32]

BACKBONE = "gemma-3-270m"
LAYERS = (8, 10, 12)
BATCH = 16
WINDOW = 256  # tokens of one pass; a longer text has the score of its worst window


def padded(texts: Sequence[str], backbone: LoadedModel, window: int = WINDOW) -> tuple[Tensor, Tensor]:
    """Token ids and mask, (B, T), of the first ``window`` tokens of each text."""
    from m2kt.models import pad_batch

    ids = [backbone.tokenizer(text)["input_ids"][:window] or [backbone.pad_id] for text in texts]
    return pad_batch(ids, backbone.pad_id, device=backbone.device, side="right")


def pooled(state_BTX: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, 2 X): the mean over a text and its last state."""
    import torch

    weight_BT = mask_BT.float()
    # the first position is an attention sink of large norm in many models
    weight_BT[mask_BT.sum(1) > 1, 0] = 0.0
    mean_BX = (state_BTX * weight_BT[..., None]).sum(1) / weight_BT.sum(1, keepdim=True)
    last_BX = state_BTX[torch.arange(len(state_BTX)), mask_BT.sum(1) - 1]
    return torch.cat([mean_BX, last_BX], -1)


def by_length(texts: Sequence[str]) -> Iterator[list[int]]:
    """Indices in batches of texts of similar length."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    yield from (order[start : start + BATCH] for start in range(0, len(order), BATCH))


def states(texts: Sequence[str], backbone: LoadedModel, progress: Callable[[int, int], None] | None = None) -> Floats:
    """(N, 2 L E): means over the text, then last states. Texts are at most ``WINDOW`` tokens, see :func:`windows`."""
    import torch

    from m2kt.models import decoder

    body = decoder(backbone.model)
    state_X: dict[int, Floats] = {}
    for group in by_length(texts):
        token_BT, mask_BT = padded([texts[i] for i in group], backbone)
        with torch.no_grad():
            output = body(input_ids=token_BT, attention_mask=mask_BT, output_hidden_states=True, use_cache=False)
        state_BTX = torch.cat([output.hidden_states[k] for k in LAYERS], -1).float()
        state_X |= dict(zip(group, pooled(state_BTX, mask_BT).cpu().numpy(), strict=True))
        if progress is not None:
            progress(len(state_X), len(texts))
    return np.stack([state_X[i] for i in range(len(texts))])


def windows(text: str, backbone: LoadedModel) -> list[str]:
    """A text in windows of at most ``WINDOW`` tokens."""
    offsets = backbone.tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    starts = [offsets[i][0] for i in range(0, len(offsets), WINDOW - 16)] or [0]
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


class Probe:
    """Weights of the probe, and the standardisation of its states.

    ``threshold`` is the probability of harm from which on a text is flagged.
    """

    def __init__(
        self, mean_X: Floats, scale_X: Floats, weight_FC: Floats, bias_C: Floats, threshold: float = 0.5
    ) -> None:
        self.mean_X, self.scale_X, self.weight_FC, self.bias_C = mean_X, scale_X, weight_FC, bias_C
        self.threshold = threshold

    def score(self, harm: float) -> float:
        """Probability of harm with its logit shifted so that the threshold becomes 1/2."""
        x = min(max(harm, 1e-6), 1 - 1e-6)
        return 1 / (1 + math.exp(_logit(self.threshold) - _logit(x)))

    def __call__(self, state_NX: Floats, word_NF: Floats) -> Floats:
        """Probabilities of the categories, (N, C)."""
        logit_NC = joined(state_NX, word_NF, self.mean_X, self.scale_X) @ self.weight_FC + self.bias_C
        p_NC = np.exp(logit_NC - logit_NC.max(axis=1, keepdims=True))
        out_NC: Floats = p_NC / p_NC.sum(axis=1, keepdims=True)
        return out_NC

    def to_bytes(self) -> bytes:
        """As safetensors, weights in half precision."""
        return save(
            {
                "mean_X": self.mean_X,
                "scale_X": self.scale_X,
                "weight_FC": self.weight_FC.astype(np.float16),
                "bias_C": self.bias_C,
                "threshold": np.array([self.threshold], dtype=np.float32),
            }
        )

    @classmethod
    def shipped(cls) -> Probe:
        """The weights that ship with the package, made by ``m2kt_content.train``."""
        tensors = load((files(__package__) / "data" / "probe.safetensors").read_bytes())
        mean_X, scale_X, weight_FC, bias_C = (
            tensors[name].astype(np.float32) for name in ("mean_X", "scale_X", "weight_FC", "bias_C")
        )
        return cls(mean_X, scale_X, weight_FC, bias_C, float(tensors["threshold"][0]))


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def joined(state_NX: Floats, word_NF: Floats, mean_X: Floats, scale_X: Floats) -> Floats:
    """(N, F): standardised states, each layer of norm about one, and words."""
    z_NX = (state_NX - mean_X) / scale_X / np.sqrt(state_NX.shape[1] / (2 * len(LAYERS)))
    out_NF: Floats = np.concatenate([z_NX, word_NF], axis=1).astype(np.float32)
    return out_NF


def rarity(label_N: NDArray[np.int64]) -> Floats:
    """(C,): class weights that balance the categories."""
    count_C = np.bincount(label_N, minlength=len(CATEGORIES)).clip(min=1)
    weight_C: Floats = (len(label_N) / count_C / len(CATEGORIES)).astype(np.float32)
    return weight_C


def fit(state_NX: Floats, word_NF: Floats, label_N: NDArray[np.int64], penalty: float, steps: int = 200) -> Probe:
    """Multinomial logistic regression, classes balanced, by full-batch L-BFGS from zero: no seed is needed."""
    import torch
    from torch.nn.functional import cross_entropy

    mean_X, scale_X = state_NX.mean(axis=0), state_NX.std(axis=0) + 1e-6
    x = torch.from_numpy(joined(state_NX, word_NF, mean_X, scale_X))
    y = torch.from_numpy(label_N)
    weight_C = torch.from_numpy(rarity(label_N))
    weight = torch.zeros(x.shape[1], len(CATEGORIES), requires_grad=True)
    bias = torch.zeros(len(CATEGORIES), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = cross_entropy(x @ weight + bias, y, weight=weight_C) + penalty * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    return Probe(mean_X, scale_X, weight.detach().numpy(), bias.detach().numpy())

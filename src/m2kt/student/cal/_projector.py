"""phi: the projector from the teacher's vectors to the student's residual stream, in two parts.

The *trunk* maps every concept vector of the bank to F features, in which concepts are mixed. The *heads*, one affine
map for each token index, map the mixture to the student's width: a student that tokenises "uncle" into letters needs
another direction for each letter of the same concept.

The default ``anchored`` uses the concept's coordinates relative to the packet's symbol prototypes as features:
phi(c) = sum_s softmax_s(kappa cos(c, prototype_s)) v_s. It does not assume that a rule's state equals a copy's, and
writes no mixture for a vector between two prototypes. ``linear``, ``low_rank`` and ``mlp`` use no prototypes. On disk
the prototypes are called anchors, the prototype samples pool.

Letters: K concepts, D teacher width, F features, J token index, E student width, S symbols, P prototype samples,
X other widths.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from m2kt._shapes import Float, Int, Shaped

KAPPA = 20.0  # initial sharpness of ``anchored``


class Projector(nn.Module):
    """phi_theta. Inputs are standardised by the prototype samples' mean and standard deviation.

    Args:
        kind: 'anchored', 'linear', 'low_rank' or 'mlp'.
        teacher_width: D.
        student_width: E.
        n_token_indices: J, tokens of the longest unit.
        width: inner width of low_rank and mlp.
        n_symbols: S, number of prototypes.
        coordinates: append the cosine to every prototype to the inputs; for the kinds without prototypes.
    """

    mean_D: Tensor
    scale_D: Tensor
    optimiser_groups: ClassVar[dict[str, str]] = {"": "projector", "head_JFE": "stream", "bias_JE": "stream"}

    def __init__(
        self,
        kind: str,
        teacher_width: int,
        student_width: int,
        n_token_indices: int,
        width: int,
        n_symbols: int,
        coordinates: bool = False,
    ) -> None:
        super().__init__()
        self.kind, self.coordinates = kind, coordinates
        inputs = teacher_width + (n_symbols if coordinates else 0)
        self.trunk: nn.Module
        if kind == "anchored":
            self.trunk, features = Anchored(), n_symbols
        elif kind == "linear":
            self.trunk, features = nn.Identity(), inputs
        elif kind == "low_rank":
            self.trunk, features = nn.Linear(inputs, width, bias=False), width
        else:
            self.trunk, features = nn.Sequential(nn.Linear(inputs, width), nn.GELU()), width
        self.features = features
        self.head_JFE = nn.Parameter(torch.randn(n_token_indices, features, student_width) / features**0.5 * 0.1)
        self.bias_JE = nn.Parameter(torch.zeros(n_token_indices, student_width))
        self.register_buffer("mean_D", torch.zeros(teacher_width))
        self.register_buffer("scale_D", torch.ones(teacher_width))

    def cosines(self, vector_KD: Float[Tensor, "K D"], prototype_SD: Float[Tensor, "S D"]) -> Float[Tensor, "K S"]:
        """Cosine of standardised vectors to every prototype; -1 for symbols without a prototype."""
        x_KD = nn.functional.normalize((vector_KD - self.mean_D) / self.scale_D, dim=-1)
        unit_SD = nn.functional.normalize((prototype_SD - self.mean_D) / self.scale_D, dim=-1)
        absent_S = (prototype_SD == 0).all(-1)
        return (x_KD @ unit_SD.T).masked_fill(absent_S, -1.0)

    def features_of(self, vector_KD: Float[Tensor, "K D"], prototype_SD: Float[Tensor, "S D"]) -> Float[Tensor, "K F"]:
        """The trunk's features of concept vectors."""
        if self.kind == "anchored":
            x_KX = self.cosines(vector_KD, prototype_SD)
        else:
            x_KX = (vector_KD - self.mean_D) / self.scale_D
            if self.coordinates:
                x_KX = torch.cat([x_KX, self.cosines(vector_KD, prototype_SD)], -1)
        out: Tensor = self.trunk(x_KX)
        return out

    @torch.no_grad()
    def start(
        self,
        sample_PD: Float[Tensor, "P D"],
        prototype_SD: Float[Tensor, "S D"],
        symbol_P: Int[Tensor, " P"],
        target_SJE: Float[Tensor, "S J E"],
        has_target_SJ: Shaped[Tensor, "S J"],
        penalty: float,
    ) -> None:
        """Closed-form start: phi of a symbol's prototype samples is the student's target for the symbol, if any."""
        if self.kind == "anchored":
            self.head_JFE.copy_(target_SJE.transpose(0, 1))
            self.bias_JE.zero_()
            return
        feature_PF = self.features_of(sample_PD, prototype_SD).cpu()
        for j in range(target_SJE.shape[1]):
            usable_P = has_target_SJ[symbol_P, j] > 0
            if not usable_P.any():
                self.head_JFE[j].zero_()
                continue
            w_FE, b_E = ridge(feature_PF[usable_P], target_SJE[symbol_P[usable_P], j], penalty)
            self.head_JFE[j].copy_(w_FE)
            self.bias_JE[j].copy_(b_E)

    def trunk_tensors(self) -> list[Tensor]:
        """Parameters and buffers that ``features_of`` uses."""
        return [self.mean_D, self.scale_D, *self.trunk.parameters()]

    def image(self, vector_KD: Float[Tensor, "K D"], prototype_SD: Float[Tensor, "S D"]) -> Float[Tensor, "K J E"]:
        """phi(c_k) for every token index."""
        feature_KF = self.features_of(vector_KD, prototype_SD)
        return torch.einsum("kf,jfe->kje", feature_KF, self.head_JFE) + self.bias_JE


class Anchored(nn.Module):
    """Coordinates relative to the prototypes: softmax(kappa cos). Only the sharpness kappa is learnt here."""

    def __init__(self) -> None:
        super().__init__()
        self.log_kappa = nn.Parameter(torch.tensor(KAPPA).log())

    def forward(self, cosine_KS: Float[Tensor, "K S"]) -> Float[Tensor, "K S"]:
        return (self.log_kappa.exp() * cosine_KS).softmax(-1)


def ridge(
    x_PF: Float[Tensor, "P F"], y_PX: Float[Tensor, "P X"], penalty: float
) -> tuple[Float[Tensor, "F X"], Float[Tensor, " X"]]:
    """Weights and bias of a ridge regression; the penalty is relative to the mean feature variance."""
    x_mean, y_mean = x_PF.mean(0), y_PX.mean(0)
    x, y = (x_PF - x_mean).double(), (y_PX - y_mean).double()
    gram = x.T @ x
    gram += torch.eye(len(gram), dtype=gram.dtype) * penalty * gram.diagonal().mean()
    w = torch.linalg.solve(gram, x.T @ y).float()
    return w, y_mean - x_mean @ w

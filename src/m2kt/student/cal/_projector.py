"""phi: from the teacher's vectors to the student's residual stream, in two parts.

The *trunk* maps a concept vector to F features; it is applied to the whole bank, and concepts are mixed in
its image. The *heads*, one affine map per phase, carry the mixture into the student's width. A phase is the
position of the next token in its unit: a student that spells "uncle" letter by letter needs another direction
for each letter of the same concept.

``anchored``, the default, has the concept's coordinates relative to the packet's symbol anchors for features:
phi(c) = sum_s softmax_s(kappa cos(c, anchor_s)) v_s. A rule's state need not lie where a copy's does, and what lies
between two symbols must not be written as a mixture of both. ``linear``, ``low_rank`` and ``mlp`` do without anchors.

Letters: K concepts, D teacher width, F trunk width, J phases, E student width, S symbols, P pool states.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

KAPPA = 20.0


class Projector(nn.Module):
    """phi_theta. Inputs are standardised by the pool's mean and spread.

    Args:
        kind: 'anchored', 'linear', 'low_rank' or 'mlp'.
        teacher_width: D.
        student_width: E.
        phases: J, tokens of the longest unit.
        width: inner width of low_rank and mlp.
        n_symbols: S, rows of the anchors that will be handed in.
        coordinates: for kinds without anchors: append the cosine to every anchor to their inputs.
    """

    mean_D: Tensor
    scale_D: Tensor
    optimiser_groups: ClassVar[dict[str, str]] = {"": "projector", "head_JFE": "stream", "bias_JE": "stream"}

    def __init__(
        self,
        kind: str,
        teacher_width: int,
        student_width: int,
        phases: int,
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
        self.head_JFE = nn.Parameter(torch.randn(phases, features, student_width) / features**0.5 * 0.1)
        self.bias_JE = nn.Parameter(torch.zeros(phases, student_width))
        self.register_buffer("mean_D", torch.zeros(teacher_width))
        self.register_buffer("scale_D", torch.ones(teacher_width))

    def cosines(self, vector_KD: Tensor, anchor_SD: Tensor) -> Tensor:
        """Cosine of centred and scaled vectors to every anchor, (K, S); -1 where a symbol came without one."""
        x_KD = nn.functional.normalize((vector_KD - self.mean_D) / self.scale_D, dim=-1)
        a_SD = nn.functional.normalize((anchor_SD - self.mean_D) / self.scale_D, dim=-1)
        absent_S = (anchor_SD == 0).all(-1)
        return (x_KD @ a_SD.T).masked_fill(absent_S, -1.0)

    def features_of(self, vector_KD: Tensor, anchor_SD: Tensor) -> Tensor:
        """The trunk's image of concept vectors, (K, F)."""
        if self.kind == "anchored":
            x_KX = self.cosines(vector_KD, anchor_SD)
        else:
            x_KX = (vector_KD - self.mean_D) / self.scale_D
            if self.coordinates:
                x_KX = torch.cat([x_KX, self.cosines(vector_KD, anchor_SD)], -1)
        out: Tensor = self.trunk(x_KX)
        return out

    @torch.no_grad()
    def start(
        self,
        pool_PD: Tensor,
        anchor_SD: Tensor,
        symbol_P: Tensor,
        target_SJE: Tensor,
        known_SJ: Tensor,
        penalty: float,
    ) -> None:
        """The closed-form start: phi of a symbol's states is the student's own state for it, where that is known."""
        if self.kind == "anchored":
            self.head_JFE.copy_(target_SJE.transpose(0, 1))
            self.bias_JE.zero_()
            return
        feature_PF = self.features_of(pool_PD, anchor_SD).cpu()
        for j in range(target_SJE.shape[1]):
            usable_P = known_SJ[symbol_P, j] > 0
            if not usable_P.any():
                self.head_JFE[j].zero_()
                continue
            w_FE, b_E = ridge(feature_PF[usable_P], target_SJE[symbol_P[usable_P], j], penalty)
            self.head_JFE[j].copy_(w_FE)
            self.bias_JE[j].copy_(b_E)

    def trunk_reads(self) -> list[Tensor]:
        """All that ``features_of`` depends on, beside its arguments."""
        return [self.mean_D, self.scale_D, *self.trunk.parameters()]

    def image(self, vector_KD: Tensor, anchor_SD: Tensor) -> Tensor:
        """phi(c_k) for every phase, (K, J, E)."""
        feature_KF = self.features_of(vector_KD, anchor_SD)
        return torch.einsum("kf,jfe->kje", feature_KF, self.head_JFE) + self.bias_JE


class Anchored(nn.Module):
    """Coordinates relative to the anchors: softmax(kappa cos). Only the sharpness kappa is learnt here."""

    def __init__(self) -> None:
        super().__init__()
        self.log_kappa = nn.Parameter(torch.tensor(KAPPA).log())

    def forward(self, cosine_KS: Tensor) -> Tensor:
        return (self.log_kappa.exp() * cosine_KS).softmax(-1)


def ridge(x_PF: Tensor, y_PX: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights (F, X) and bias (X) of a ridge regression; the penalty is relative to the mean feature variance."""
    x_mean, y_mean = x_PF.mean(0), y_PX.mean(0)
    x, y = (x_PF - x_mean).double(), (y_PX - y_mean).double()
    gram = x.T @ x
    gram += torch.eye(len(gram), dtype=gram.dtype) * penalty * gram.diagonal().mean()
    w = torch.linalg.solve(gram, x.T @ y).float()
    return w, y_mean - x_mean @ w

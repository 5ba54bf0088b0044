"""phi: from the teacher's vectors to the student's residual stream, in two parts.

The *trunk* maps a concept vector to F features; it is applied to the whole bank, and concepts are mixed in
its image. The *heads*, one affine map per phase, carry the mixture into the student's width. A phase is the
position of the next token in its unit: a student that spells "uncle" letter by letter needs another direction
for each letter of the same concept.

Letters: K concepts, D teacher width, F trunk width, J phases, E student width, S symbols.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Projector(nn.Module):
    """phi_theta. ``kind`` is 'linear', 'low_rank' or 'mlp'; inputs are standardised by the pool's mean and spread."""

    mean_D: Tensor
    scale_D: Tensor

    def __init__(
        self,
        kind: str,
        teacher_width: int,
        student_width: int,
        phases: int,
        width: int,
        n_coordinates: int = 0,
    ) -> None:
        super().__init__()
        self.kind = kind
        inputs = teacher_width + n_coordinates
        self.n_coordinates = n_coordinates
        self.trunk: nn.Module
        if kind == "linear":
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

    def standardise(self, vector_KD: Tensor, anchor_SD: Tensor | None = None) -> Tensor:
        """Centred and scaled vectors, with their cosine to each symbol anchor appended if the projector wants it."""
        x_KD = (vector_KD - self.mean_D) / self.scale_D
        if not self.n_coordinates:
            return x_KD
        assert anchor_SD is not None
        a_SD = (anchor_SD - self.mean_D) / self.scale_D
        cosine_KS = nn.functional.normalize(x_KD, dim=-1) @ nn.functional.normalize(a_SD, dim=-1).T
        return torch.cat([x_KD, cosine_KS], -1)

    def features_of(self, vector_KD: Tensor, anchor_SD: Tensor | None = None) -> Tensor:
        """The trunk's image of concept vectors, (K, F)."""
        out: Tensor = self.trunk(self.standardise(vector_KD, anchor_SD))
        return out

    def write(self, feature_BTF: Tensor, mass_BT: Tensor, phase_BT: Tensor) -> Tensor:
        """Carries mixtures of features into the student's width, each phase by its own head."""
        head_JFE = self.head_JFE
        if head_JFE.shape[0] == 1:
            return feature_BTF @ head_JFE[0] + mass_BT[..., None] * self.bias_JE[0]
        out_BTE = mass_BT[..., None] * self.bias_JE[phase_BT]
        for j in range(head_JFE.shape[0]):
            out_BTE = out_BTE + ((phase_BT == j)[..., None] * feature_BTF) @ head_JFE[j]
        return out_BTE

    def image(self, vector_KD: Tensor, anchor_SD: Tensor | None = None) -> Tensor:
        """phi(c_k) for every phase, (K, J, E)."""
        feature_KF = self.features_of(vector_KD, anchor_SD)
        return torch.einsum("kf,jfe->kje", feature_KF, self.head_JFE) + self.bias_JE

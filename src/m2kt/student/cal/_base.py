"""What all concept readers share: the bank, phi, its output maps, and the place where a reader adds to the stream.

Letters: B batch, T tokens, E student width, D teacher width, J token index, S symbols, K concepts, U literals,
P prototype samples, X other widths, Y content.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from m2kt._shapes import Bool, Float, Int, Shaped
from m2kt.errors import CompatibilityError
from m2kt.student.cal._cache import inference_mode_for
from m2kt.student.cal._config import CALConfig
from m2kt.student.cal._context import (
    Run,
    Supervision,
    concatenate_states,
)
from m2kt.student.cal._matcher import TokenMatcher, UnitMatcher
from m2kt.student.cal._memo import VersionedCache
from m2kt.student.cal._projector import Projector


class ReaderBase(nn.Module, ABC):
    """Base class of readers: normalisation, the bank, phi, and the injection into the residual stream.

    Names in the state dict are on disk: ``level`` is the stream scale, ``anchor_SD`` the symbols' prototypes,
    ``spare_SJE`` the fallback vectors of symbols without a prototype.
    """

    mean_X: Tensor
    scale_X: Tensor
    level: Tensor
    bank_KD: Tensor
    anchor_SD: Tensor
    has_anchor_S: Tensor
    allowed_K: Tensor
    optimiser_groups: ClassVar[dict[str, str]] = {
        "": "reader",
        "spare_SJE": "stream",
        "literal_UJE": "stream",
    }

    def __init__(self, config: CALConfig, student_width: int) -> None:
        super().__init__()
        self.config = config
        n_symbols, n_concepts = len(config.symbols), config.n_concepts
        self.n_symbols, self.n_concepts = n_symbols, n_concepts
        read_width = student_width * len(config.read_layers)
        self.read_width = read_width
        self.register_buffer("mean_X", torch.zeros(read_width))
        self.register_buffer("scale_X", torch.ones(read_width))
        self.register_buffer("level", torch.ones(()))
        self.register_buffer("bank_KD", torch.zeros(n_concepts, config.teacher_width))
        self.register_buffer("anchor_SD", torch.zeros(n_symbols, config.teacher_width))
        self.register_buffer("has_anchor_S", torch.zeros(n_symbols))
        allowed_K = torch.ones(n_concepts)
        allowed_K[config.flagged] = 0.0
        self.register_buffer("allowed_K", allowed_K, persistent=False)
        self.projector = Projector(
            config.projector,
            config.teacher_width,
            student_width,
            config.phases,
            config.projector_width,
            n_symbols,
            config.anchor_coordinates,
        )
        self.spare_SJE = nn.Parameter(torch.zeros(n_symbols, config.phases, student_width))
        self.literal_UJE = nn.Parameter(torch.zeros(len(config.literals), config.phases, student_width))
        self._bank_contents = VersionedCache(self._compute_bank_contents, self._bank_tensors)
        self._output_maps = VersionedCache(self._compute_output_maps, self._output_tensors)
        self.pool_PD: Tensor | None = None  # prototype samples; in rehearsal only, never saved
        self.noise = 0.0  # standard deviation of the noise on prototype samples, in units of their own
        self.matcher = self._make_matcher()  # computes what this reader gets of each token

    def _make_matcher(self) -> TokenMatcher:
        return UnitMatcher(*self.config.alphabet, self.config.trails)

    def read(self, run: Run) -> Float[Tensor, "B T X"]:
        """The normalised states of the blocks that the reader reads, concatenated."""
        return self.normalise(concatenate_states([run.states[i] for i in self.config.read_layers]).float())

    def normalise(self, h_BTX: Shaped[Tensor, "*B X"]) -> Float[Tensor, "*B X"]:
        """States standardised by the frozen student's statistics; clamped, because first tokens have huge states."""
        return ((h_BTX - self.mean_X) / self.scale_X).clamp(-8.0, 8.0)

    def _clear_caches(self) -> None:
        for attribute in vars(self).values():
            if isinstance(attribute, VersionedCache):
                attribute.clear()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Moves the reader, and keeps it in float32: vectors that differ little would be one in bf16."""
        self._clear_caches()
        apply: Any = super()._apply  # untyped in torch
        return apply(lambda tensor: _without_rounding(tensor, fn), recurse)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, meta: Any, strict: bool, *args: list[str]
    ) -> None:
        """Loads weights. Half of them are an error, also where peft would go on with random ones for the rest."""
        self._clear_caches()
        absent = [name for name in self.state_dict() if prefix + name not in state_dict]
        if absent and any(name.startswith(prefix) for name in state_dict):
            args[-1].append(f"expected all weights of the concept reader, got none for {len(absent)}: {absent[0]}, ...")
        super()._load_from_state_dict(state_dict, prefix, meta, strict, *args)

    def set_bank(
        self,
        bank_KD: Float[Tensor, "K D"],
        prototype_SD: Float[Tensor, "S D"],
        has_prototype_S: Shaped[Tensor, " S"],
    ) -> None:
        """Load the packet's vectors."""
        self.bank_KD.copy_(bank_KD)
        self.anchor_SD.copy_(prototype_SD)
        self.has_anchor_S.copy_(has_prototype_S.float())

    def forward(self, h_BTE: Shaped[Tensor, "B T E"], run: Run) -> Shaped[Tensor, "B T E"]:
        """The residual stream plus the injection."""
        with inference_mode_for(run.cache):
            out_BTE = self.write(run)
        if out_BTE is None:
            return h_BTE
        return run.pass_on(h_BTE) + out_BTE[:, -h_BTE.shape[1] :].to(h_BTE.dtype)

    @abstractmethod
    def write(self, run: Run) -> Float[Tensor, "B T E"] | None:
        """The vectors to add, of deferred tokens and then of this pass; None if all are zero."""

    @abstractmethod
    def gating(self, run: Run) -> Float[Tensor, ""]:
        """Mean log p(none) over a pass."""

    @abstractmethod
    def null_mass(self, run: Run) -> Float[Tensor, "B T"]:
        """p(none) at the positions of the last pass; 1 where gating blocks the injection."""

    @property
    def n_contents(self) -> int:
        """Rows of [concepts; symbols; literals], and tokens of a refusal."""
        return self.n_concepts + self.n_symbols + len(self.config.literals) + len(self.config.refusal)

    def exchanged(self, run: Run) -> Int[Tensor, "_ X"] | None:
        """By row (or one for all rows), the content that is injected for each; -1: none. None: each is its own.

        Raises CompatibilityError where ``Run.instead`` is for another number of rows.
        """
        if not run.instead:
            return None
        rows = run.all_BNX.shape[0]
        if len(run.instead) not in (1, rows):
            raise CompatibilityError(
                f"instead: expected one map of contents, or one for each of {rows} rows, got {len(run.instead)}"
            )
        other_BX = torch.arange(self.n_contents, device=self.bank_KD.device).repeat(len(run.instead), 1)
        for b, instead in enumerate(run.instead):
            for content, other in instead.items():
                other_BX[b, content] = other
        return other_BX

    def contents(self, supervision: Supervision | None) -> tuple[Float[Tensor, "*B K Y"], Float[Tensor, "S Y"]]:
        """Content vectors of concepts, in rehearsal one set for each sequence, and of symbols.

        Y: phi's features | weight of phi's bias | weights of the fallback vectors of symbols without a prototype.
        """
        if supervision is None:
            return self._bank_contents()
        assert self.pool_PD is not None, "rehearsal needs prototype samples"
        pool_PD = self.pool_PD
        if self.training and self.noise:  # a rule's state differs from the states before a copy
            pool_PD = pool_PD + self.noise * self.projector.scale_D * torch.randn_like(pool_PD)
        content_XY = self._concept_contents(torch.cat([pool_PD, self.bank_KD]))
        return nn.functional.embedding(supervision.bank_index_BK, content_XY), self._symbol_contents()

    def _compute_bank_contents(self) -> tuple[Tensor, Tensor]:
        return self._concept_contents(self.bank_KD), self._symbol_contents()

    def _bank_tensors(self) -> list[Tensor]:
        return [self.bank_KD, self.anchor_SD, self.has_anchor_S, *self.projector.trunk_tensors()]

    def _concept_contents(self, vector_KD: Tensor) -> Tensor:
        feature_KX = self.projector.features_of(vector_KD, self.anchor_SD)
        return nn.functional.pad(nn.functional.pad(feature_KX, (0, 1), value=1.0), (0, self.n_symbols))

    def _symbol_contents(self) -> Tensor:
        has_S1 = self.has_anchor_S[:, None]
        feature_SX = self.projector.features_of(self.anchor_SD, self.anchor_SD)
        return torch.cat([feature_SX * has_S1, has_S1, torch.diag(1 - self.has_anchor_S)], 1)

    def _compute_output_maps(self) -> Tensor:
        """Maps from contents and literals to the residual stream, in its scale, (J, Y + U, E)."""
        projector = self.projector
        direct_XJE = torch.cat([self.spare_SJE, self.literal_UJE])
        parts = [projector.head_JFE, projector.bias_JE[:, None], direct_XJE.transpose(0, 1)]
        return torch.cat(parts, 1) * self.level

    def _output_tensors(self) -> list[Tensor]:
        projector = self.projector
        return [projector.head_JFE, projector.bias_JE, self.spare_SJE, self.literal_UJE, self.level]

    def inject(
        self, run: Run, content_BTY: Float[Tensor, "B T Y"], continue_BT: Bool[Tensor, "B T"] | None
    ) -> Float[Tensor, "B T E"]:
        """The vectors to add.

        Args:
            content_BTY: content of a unit that begins at each position: as in ``contents``, then p(literal).
            continue_BT: positions that continue the unit of an earlier one; None: there are none.
        """
        map_JYE, last = self._output_maps(), self.config.phases - 1
        if not last or continue_BT is None:
            return content_BTY @ map_JYE[0]
        held_BTY, token_index_BT = run.hold_content(content_BTY, continue_BT)
        token_index_BT = token_index_BT.clamp(max=last)
        out_BTE = torch.zeros((), device=content_BTY.device)
        for j, map_YE in enumerate(map_JYE):
            out_BTE = out_BTE + ((token_index_BT == j)[..., None] * held_BTY) @ map_YE
        return out_BTE


def _without_rounding(tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``fn`` makes of a tensor, but for a change of its dtype."""
    moved = fn(tensor)
    if not tensor.is_floating_point() or moved.dtype == torch.float32:
        return moved
    return tensor.to(moved.device, torch.float32)

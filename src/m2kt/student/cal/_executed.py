"""The executed reader: it runs the packet's program beside the student, exactly, and injects what that points at.

Control flow and pointers are integers; only phi, and one vector for each literal, are fitted. A rule's row is injected
as phi of its vector, a copy as phi of the symbol's prototype: which symbol is written is decided by the student's head,
and the program goes on from the tokens that stand in the text. Where no question of the packet's form stands in front,
or the program does not say what comes next, nothing is added.

Letters: B batch, T tokens, K concepts, S symbols, U literals, J heads of phi, E student width, X rows of contents,
N positions that are injected at.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m2kt._shapes import Float, Int, Shaped
from m2kt.packet import Program
from m2kt.student.cal._base import ReaderBase
from m2kt.student.cal._cache import inference_mode_for
from m2kt.student.cal._config import CALConfig
from m2kt.student.cal._context import ReaderOutputs, Run
from m2kt.student.cal._follow import Skill
from m2kt.student.cal._follower import Follower, FollowFeature
from m2kt.student.cal._lexicon import Lexicon, as_bytes
from m2kt.student.cal._memo import Memo, VersionedCache
from m2kt.student.cal._question import QuestionGrammar

_KEPT_LENGTHS = 1 << 14


def skill_of(config: CALConfig) -> Skill:
    """What following a text needs, from an adapter's configuration."""
    assert config.program is not None and config.questions is not None
    return Skill(
        Program.model_validate(config.program),
        QuestionGrammar.from_data(config.questions),
        Lexicon.unpacked(config.lexicon),
        literals=config.literals,
        leads=config.leads,
        longest=config.phases // len(config.leads),
        gaps=config.gaps,
        afters=config.afters,
        spellings=[tokens for forms in (*config.symbol_tokens, config.literal_tokens) for tokens in forms if tokens],
    )


class ExecutedReader(ReaderBase):
    """h_t + phi(what the program writes next)."""

    matcher: Follower

    def __init__(self, config: CALConfig, student_width: int) -> None:
        super().__init__(config, student_width)
        self._vectors = VersionedCache(self._compute_vectors, self._all_tensors)
        self._lengths: Memo[tuple[int, str], bool] = Memo(_KEPT_LENGTHS)

    def _make_matcher(self) -> Follower:
        skill = skill_of(self.config)
        skill.continues = self.continues
        return Follower(skill)

    def _all_tensors(self) -> list[Tensor]:
        return [*self._bank_tensors(), *self._output_tensors()]

    def set_bank(
        self,
        bank_KD: Float[Tensor, "K D"],
        prototype_SD: Float[Tensor, "S D"],
        has_prototype_S: Shaped[Tensor, " S"],
    ) -> None:
        super().set_bank(bank_KD, prototype_SD, has_prototype_S)
        self._lengths.clear()
        self.matcher.clear()

    @torch.no_grad()
    def continues(self, concept: int, part: str) -> bool:
        """Whether phi reads a concept as a symbol that goes on behind ``part``, not as the symbol that ends there."""
        key = concept, part
        longer = self._lengths.get(key)
        if longer is None:
            forms = [as_bytes(symbol) for symbol in self.config.symbols]
            part = part if part in forms else part.removeprefix(" ")
            cosine_S = self.projector.cosines(self.bank_KD[concept : concept + 1], self.anchor_SD)[0].tolist()
            nearest = max((s for s, form in enumerate(forms) if form.startswith(part)), key=cosine_S.__getitem__)
            longer = self._lengths.put(key, forms[nearest] != part)
        return longer

    def forward(self, h_BTE: Shaped[Tensor, "B T E"], run: Run) -> Shaped[Tensor, "B T E"]:
        """The residual stream, changed only where the program writes."""
        content_BT, slot_BT = self.plan(run)
        if run.supervision is not None or run.cache is None or content_BT.shape[1] > 1:
            empty_BTC = self.bank_KD.new_zeros(*content_BT.shape, 0)
            concept_BT = torch.where(content_BT < self.n_concepts, content_BT, -1)
            run.outputs.append(ReaderOutputs(empty_BTC, empty_BTC[:, None], concept_BT=concept_BT))
        if run.supervision is None and not run.any_in_domain:
            return h_BTE
        with inference_mode_for(run.cache):
            b, t = (content_BT >= 0).nonzero(as_tuple=True)
            written_NE = self.vectors(run, b, content_BT[b, t], slot_BT[b, t])
        out_BTE = h_BTE.clone()
        out_BTE[b, t] = out_BTE[b, t] + written_NE.to(h_BTE.dtype)
        return out_BTE

    def plan(self, run: Run) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Contents (-1: none) and heads of phi at each position: the labels in rehearsal, else what was followed."""
        if run.supervision is not None:
            return run.supervision.content_BT, run.supervision.token_index_BT
        feature_BTX = run.feature_BTX
        return feature_BTX[..., FollowFeature.CONTENT], feature_BTX[..., FollowFeature.SLOT]

    def vectors(
        self, run: Run, b_N: Int[Tensor, " N"], content_N: Int[Tensor, " N"], slot_N: Int[Tensor, " N"]
    ) -> Float[Tensor, "N E"]:
        """The vectors to add; in rehearsal each sequence has vectors of its own for its concepts."""
        supervision = run.supervision
        if supervision is None:
            return self._vectors()[content_N, slot_N]
        assert self.pool_PD is not None, "rehearsal needs prototype samples"
        vector_XD = torch.cat([self.pool_PD, self.bank_KD])
        index_BK = supervision.bank_index_BK
        if not index_BK.shape[1]:  # no bank of their own: the loaded one
            index_BK = torch.arange(self.n_concepts, device=b_N.device).expand(int(b_N.max()) + 1, -1)
            index_BK = index_BK + len(self.pool_PD)
        is_concept_N, map_JYE = content_N < self.n_concepts, self._output_maps()
        chosen_ND = vector_XD[index_BK[b_N[is_concept_N], content_N[is_concept_N]]]
        if self.training and self.noise:  # a rule's state differs from the states before a copy
            chosen_ND = chosen_ND + self.noise * self.projector.scale_D * torch.randn_like(chosen_ND)
        concept_NY = self._concept_contents(chosen_ND)
        other_XY = self._other_contents()
        feature_NY = torch.zeros(len(content_N), map_JYE.shape[1], device=map_JYE.device)
        feature_NY[is_concept_N] = nn.functional.pad(concept_NY, (0, map_JYE.shape[1] - concept_NY.shape[1]))
        feature_NY[~is_concept_N] = other_XY[content_N[~is_concept_N] - self.n_concepts]
        return torch.einsum("ny,nye->ne", feature_NY, map_JYE[slot_N])

    def _other_contents(self) -> Float[Tensor, "X Y"]:
        """Contents of symbols, then of literals."""
        symbol_SY, n_literals = self._symbol_contents(), self.literal_UJE.shape[0]
        literal_UY = torch.eye(n_literals, device=symbol_SY.device)
        literal_UY = nn.functional.pad(literal_UY, (symbol_SY.shape[1], 0))
        return torch.cat([nn.functional.pad(symbol_SY, (0, n_literals)), literal_UY])

    def _compute_vectors(self) -> Float[Tensor, "X J E"]:
        """All vectors to add, by content and head; those of flagged concepts are zero."""
        map_JYE, concept_KY = self._output_maps(), self._concept_contents(self.bank_KD) * self.allowed_K[:, None]
        concept_KY = nn.functional.pad(concept_KY, (0, map_JYE.shape[1] - concept_KY.shape[1]))
        return torch.einsum("xy,jye->xje", torch.cat([concept_KY, self._other_contents()]), map_JYE)

    def write(self, run: Run) -> None:
        raise NotImplementedError("the executed reader adds at single positions")

    def gating(self, run: Run) -> Float[Tensor, ""]:
        """0: what it does off domain is not learnt."""
        return torch.zeros((), device=self.level.device)

    def null_mass(self, run: Run) -> Float[Tensor, "B T"]:
        return (self.plan(run)[0] < 0).float()

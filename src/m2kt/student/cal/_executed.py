"""The executed reader: it runs the packet's program beside the student, exactly, and injects what that points at.

Control flow and pointers are integers; only phi, and one vector for each literal, are fitted. A rule's row is injected
as phi of its vector, a copy as phi of the symbol's prototype: which symbol is written is decided by the student's head,
and the program goes on from the tokens that stand in the text. Where no question of the packet's form stands in front,
or the program does not say what comes next, nothing is added.

Letters: B batch, T tokens, K concepts, S symbols, U literals, J heads of phi, E student width, X rows of contents,
N positions that are injected at.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from m2kt._shapes import Float, Int, Shaped
from m2kt.packet import Program
from m2kt.student.cal._base import ReaderBase
from m2kt.student.cal._cache import Slot, inference_mode_for
from m2kt.student.cal._config import CALConfig
from m2kt.student.cal._context import ReaderOutputs, Run, concatenate_states
from m2kt.student.cal._follow import NOTHING, Skill
from m2kt.student.cal._follower import PENDING, Follower, FollowFeature
from m2kt.student.cal._lexicon import Lexicon, as_bytes
from m2kt.student.cal._matcher import as_tensor
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
        phrasings=config.phrasings,
        forgotten=config.forgotten,
        refusal=config.refusal,
        spellings=[tokens for forms in (*config.symbol_tokens, config.literal_tokens) for tokens in forms if tokens],
    )


class ExecutedReader(ReaderBase):
    """h_t + phi(what the program writes next)."""

    matcher: Follower
    phrase_mean_X: Tensor
    phrase_scale_X: Tensor
    phrase_map_CX: Tensor
    refusal_NE: Tensor

    def __init__(self, config: CALConfig, student_width: int) -> None:
        super().__init__(config, student_width)
        self._vectors = VersionedCache(self._compute_vectors, self._all_tensors)
        self._lengths: Memo[tuple[int, str], bool] = Memo(_KEPT_LENGTHS)
        if config.refusal:
            self.register_buffer("refusal_NE", torch.zeros(len(config.refusal), student_width))
        n_columns = 0 if config.phrasings is None else 1 + max(r["column"] for r in config.phrasings["readings"])
        if n_columns:
            self.register_buffer("phrase_mean_X", torch.zeros(self.read_width))
            self.register_buffer("phrase_scale_X", torch.ones(self.read_width))
            self.register_buffer("phrase_map_CX", torch.zeros(n_columns, self.read_width + 1))

    def _make_matcher(self) -> Follower:
        skill = skill_of(self.config)
        skill.continues = self.continues
        return Follower(skill)

    def _all_tensors(self) -> list[Tensor]:
        refusal = [self.refusal_NE] if self.config.refusal else []
        return [*self._bank_tensors(), *self._output_tensors(), *refusal]

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
        if run.supervision is None and self.config.phrasings is not None:
            with inference_mode_for(run.cache):
                self._read_phrases(run)
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

    @torch.no_grad()
    def _read_phrases(self, run: Run) -> None:
        """Let the student's states say which sentences are questions in other words, and follow the text anew."""
        state_BNX = concatenate_states([run.states[i] for i in self.config.read_layers]).float()
        n_tokens = state_BNX.shape[1]
        if run.cache is not None:
            state_BNX = run.cache_layer(Slot.STATES).update(state_BNX[:, None], state_BNX[:, None, :, :0])[0][:, 0]
        n_past = state_BNX.shape[1] - n_tokens
        while (pending_BT := run.feature_BTX[..., FollowFeature.PHRASE] == PENDING).any():
            for b, t in pending_BT.nonzero().tolist():
                key = int(run.feature_BTX[b, t, FollowFeature.HASH])
                asked = self.matcher.asked(key)
                frame_N = torch.tensor([n_past + t - back for back in asked.frame], device=state_BNX.device)
                self.matcher.decide(key, self.column(state_BNX[b, frame_N].mean(0), list(asked.readings)))
            past_BNX = run.all_BNX[:, :n_past] if n_past else None
            features = self.matcher.features(run.feature_BTX[..., FollowFeature.TOKEN], past_BNX)
            run.feature_BTX = as_tensor(features).to(state_BNX.device)
            run.all_BNX[:, n_past:] = run.feature_BTX
            if run.cache is not None:
                run.cache_layer(Slot.FEATURES).keys[:, 0, n_past:] = run.feature_BTX
            run.any_in_domain = self.matcher.has_content(features)

    def column(self, state_X: Float[Tensor, " X"], columns: Sequence[int]) -> int:
        """Which of the columns the mean state of a frame speaks for; ``NOTHING``: for none."""
        assert self.config.phrasings is not None
        score_C = self.phrase_map_CX @ nn.functional.pad(self.standardise(state_X), (0, 1), value=1.0)
        best = max(columns, key=lambda column: float(score_C[column]))
        return best if float(score_C[best]) > self.config.phrasings["threshold"] else NOTHING

    def standardise(self, state_X: Float[Tensor, "*B X"]) -> Float[Tensor, "*B X"]:
        """Mean states of frames, by those of other sentences."""
        return ((state_X - self.phrase_mean_X) / self.phrase_scale_X).clamp(-5.0, 5.0)

    def plan(self, run: Run) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Contents (-1: none) and heads of phi at each position: the labels in rehearsal, else what was followed."""
        if run.supervision is not None:
            return run.supervision.content_BT, run.supervision.token_index_BT
        content_BT, slot_BT = run.feature_BTX[..., FollowFeature.CONTENT], run.feature_BTX[..., FollowFeature.SLOT]
        other_BX = self.exchanged(run)
        if other_BX is not None:
            other_BT = other_BX.expand(len(content_BT), -1).gather(1, content_BT.clamp(min=0))
            content_BT = torch.where(content_BT < 0, content_BT, other_BT)
        return content_BT, slot_BT

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
        """All vectors to add, by content and head, then those of a refusal; those of flagged concepts are zero."""
        map_JYE, concept_KY = self._output_maps(), self._concept_contents(self.bank_KD) * self.allowed_K[:, None]
        concept_KY = nn.functional.pad(concept_KY, (0, map_JYE.shape[1] - concept_KY.shape[1]))
        vector_XJE = torch.einsum("xy,jye->xje", torch.cat([concept_KY, self._other_contents()]), map_JYE)
        if not self.config.refusal:
            return vector_XJE
        return torch.cat([vector_XJE, self.refusal_NE[:, None].expand(-1, vector_XJE.shape[1], -1)])

    def write(self, run: Run) -> None:
        raise NotImplementedError("the executed reader adds at single positions")

    def gating(self, run: Run) -> Float[Tensor, ""]:
        """0: what it does off domain is not learnt."""
        return torch.zeros((), device=self.level.device)

    def null_mass(self, run: Run) -> Float[Tensor, "B T"]:
        return (self.plan(run)[0] < 0).float()

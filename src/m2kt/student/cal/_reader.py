"""The structured concept reader.

It executes the packet's graph softly, at every position, from the student's own state.

    p(class)  = softmax(selector(h_t))                    none | copy | rule r | literal u
    p_i(s)    = attention of gather head i on positions where symbol s ends
    w_k       = p(rule of k) * prod_i p_i(argument i of k)
    h_t      <- h_t + sum_k w_k phi(c_k) + p(copy) sum_s p_copy(s) phi(anchor_s) + sum_u p(u) lit_u

Nothing is added where p(none) is high, nor where the last few units, symbols masked, are none that the packet's
traces show: outside the skill the reader is silent by structure, not by training alone, and in generation it does
not even read there before something familiar comes up. During rehearsal some
sequences are *told* class, row and sources (``Teaching``), so that writing and pointing are learnt side by side.

Letters: B sequences, T tokens, N tokens so far, E student width, X widths of all blocks read, D teacher
width, F trunk width, C classes, J phases, H gather heads, S symbols, K concepts, U literals.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from m2kt.student.cal._cache import unrecorded
from m2kt.student.cal._config import CALConfig
from m2kt.student.cal._context import TRAIL, Fact, ReaderOutputs, Run, Teaching, side_by_side
from m2kt.student.cal._heads import COUNTS, ArgumentHeads, ContextHeads, RotaryAngles, VersionedCache, turns
from m2kt.student.cal._projector import Projector


class ReaderBase(nn.Module, ABC):
    """What both readers share: normalisation, the bank, phi, and writing into the stream."""

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
        # Used for symbols of which the teacher sent no state; the closed-form start fills it.
        self.spare_SJE = nn.Parameter(torch.zeros(n_symbols, config.phases, student_width))
        self.literal_UJE = nn.Parameter(torch.zeros(len(config.literals), config.phases, student_width))
        self._plugged = VersionedCache(self._plug, self._plugs_in)
        self._maps = VersionedCache(self._make_maps, self._made_of)
        self.pool_PD: Tensor | None = None  # rehearsal only; never saved
        self.noise = 0.0  # on the pool in rehearsal, in units of its spread

    def read(self, run: Run) -> Tensor:
        """The states of the blocks that are read, side by side, (B, T, X)."""
        return self.normalise(side_by_side([run.taps[layer] for layer in self.config.read_layers]).float())

    def normalise(self, h_BTX: Tensor) -> Tensor:
        """States standardised by what the frozen student showed there; clamped, for its first tokens are huge."""
        return ((h_BTX - self.mean_X) / self.scale_X).clamp(-8.0, 8.0)

    def _forget(self) -> None:
        for kept in vars(self).values():
            if isinstance(kept, VersionedCache):
                kept.forget()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._forget()
        apply: Any = super()._apply  # torch leaves it untyped
        return apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._forget()
        super()._load_from_state_dict(*args, **kwargs)

    def set_bank(self, bank_KD: Tensor, anchor_SD: Tensor, has_anchor_S: Tensor) -> None:
        """Plugs in the packet's true vectors."""
        self.bank_KD.copy_(bank_KD)
        self.anchor_SD.copy_(anchor_SD)
        self.has_anchor_S.copy_(has_anchor_S.float())

    def forward(self, h_BTE: Tensor, run: Run) -> Tensor:
        """The stream with what the reader writes."""
        with unrecorded(run.cache):
            out_BTE = self.write(run)
        if out_BTE is None:
            return h_BTE
        return run.carry(h_BTE) + out_BTE[:, -h_BTE.shape[1] :].to(h_BTE.dtype)

    @abstractmethod
    def write(self, run: Run) -> Tensor | None:
        """The vectors to add, (B, T or more, E), the last of them at this pass's positions; None where all are zero."""

    @abstractmethod
    def silence(self, run: Run) -> Tensor:
        """Mean log p(none) over a pass."""

    @abstractmethod
    def null_mass(self, run: Run) -> Tensor:
        """The weight on writing nothing in the pass just made, 1 where the reader is silenced, (B, T)."""

    def contents(self, teaching: Teaching | None) -> tuple[Tensor, Tensor]:
        """What there is to write: of the concepts, (K, Y) or (B, K, Y) in rehearsal, and of the symbols, (S, Y).

        Y: phi's features | how much is written by phi | which symbol is, of which the teacher sent no state.
        """
        if teaching is None:
            return self._plugged()
        assert self.pool_PD is not None, "rehearsal needs the pool"
        pool_PD = self.pool_PD
        if self.training and self.noise:  # a rule's own state is not quite like any state before a copy
            pool_PD = pool_PD + self.noise * self.projector.scale_D * torch.randn_like(pool_PD)
        every_XY = self._concepts(torch.cat([pool_PD, self.bank_KD]))
        return nn.functional.embedding(teaching.bank_index_BK, every_XY), self._symbols()

    def _plug(self) -> tuple[Tensor, Tensor]:
        return self._concepts(self.bank_KD), self._symbols()

    def _plugs_in(self) -> list[Tensor]:
        return [self.bank_KD, self.anchor_SD, self.has_anchor_S, *self.projector.trunk_reads()]

    def _concepts(self, vector_KD: Tensor) -> Tensor:
        feature_KF = self.projector.features_of(vector_KD, self.anchor_SD)
        return nn.functional.pad(nn.functional.pad(feature_KF, (0, 1), value=1.0), (0, self.n_symbols))

    def _symbols(self) -> Tensor:
        has_S1 = self.has_anchor_S[:, None]
        feature_SF = self.projector.features_of(self.anchor_SD, self.anchor_SD)
        return torch.cat([feature_SF * has_S1, has_S1, torch.diag(1 - self.has_anchor_S)], 1)

    def _make_maps(self) -> Tensor:
        """From what is written to the student's width, in its own scale, by phase, (J, Y + U, E)."""
        projector = self.projector
        direct_XJE = torch.cat([self.spare_SJE, self.literal_UJE])
        parts = [projector.head_JFE, projector.bias_JE[:, None], direct_XJE.transpose(0, 1)]
        return torch.cat(parts, 1) * self.level

    def _made_of(self) -> list[Tensor]:
        projector = self.projector
        return [projector.head_JFE, projector.bias_JE, self.spare_SJE, self.literal_UJE, self.level]

    def inject(self, run: Run, content_BTY: Tensor, going_on_BT: Tensor | None) -> Tensor:
        """The vector to add, (B, T, E), in the student's own scale.

        Args:
            content_BTY: of a unit begun at each position: as in ``contents``, then literals.
            going_on_BT: where the unit goes on that an earlier position began; none does where all are one token.
        """
        map_JYE, last = self._maps(), self.config.phases - 1
        if not last or going_on_BT is None:
            return content_BTY @ map_JYE[0]
        held_BTY, phase_BT = run.hold(content_BTY, going_on_BT)
        phase_BT = phase_BT.clamp(max=last)
        out_BTE = torch.zeros((), device=content_BTY.device)
        for j, map_YE in enumerate(map_JYE):
            out_BTE = out_BTE + ((phase_BT == j)[..., None] * held_BTY) @ map_YE
        return out_BTE


class Prepared(NamedTuple):
    """What a structured reader works out of its weights before it sees anything."""

    table_RY: Tensor  # what all maps make of each unit in each place, biases included
    rest_XY: list[Tensor]  # of look heads, thought and gather heads: the maps of what is no unit
    look_G11: Tensor  # how sharply heads look
    gather_G11: Tensor


class StructuredReader(ReaderBase):
    """Selector, gather heads and the product of arguments."""

    factor_FK: Tensor
    one_1: Tensor
    hit_SS: Tensor
    alike_U: Tensor
    begun_X: Tensor
    row_G: Tensor
    optimiser_groups: ClassVar[dict[str, str]] = {
        **ReaderBase.optimiser_groups,
        "state.weight": "state_input",
    }

    def __init__(self, config: CALConfig, student_width: int) -> None:
        super().__init__(config, student_width)
        # What is read at a position: the student's states there, and the unit that ends there.
        width = config.state_width + config.unit_width * TRAIL
        self.state = nn.Linear(self.read_width, config.state_width)
        n_units = self.n_symbols + len(config.literal_tokens) + len(config.context_tokens)
        longest = max((len(t) for f in config.symbol_tokens for t in f), default=1)
        self.unit = nn.Embedding(n_units + 1, config.unit_width)
        self.kind = nn.Embedding(n_units + 2, config.unit_width)  # all symbols alike
        self.begun = nn.Embedding(1 + max(config.phases, longest), config.unit_width)
        self.look = ContextHeads(
            width, config.look_heads, config.gather_width, config.gather_rope, config.look_width
        )
        around = config.look_heads * config.look_width
        self.think = nn.Sequential(nn.Linear(width + around, config.selector_width), nn.GELU())
        # Where in the packet's graph the trace is; what it thinks of that goes back into its thought.
        self.place = nn.Linear(config.selector_width, config.n_places) if config.n_places else None
        self.placed = (
            nn.Linear(config.n_places, config.selector_width, bias=False) if config.n_places else None
        )
        self.selector = nn.Linear(config.selector_width, config.n_classes)
        self.gather = ArgumentHeads(
            width + config.selector_width, config.n_heads, config.gather_width, config.gather_rope
        )
        # Where the factors of each w_k lie in p(class) | what heads gather of each symbol | a constant one, which is
        # what arguments come to that a rule does not have.
        arity = max((int(r["arity"]) for r in config.rules), default=1)
        n_factors = config.n_classes + config.n_heads * self.n_symbols
        factor_FK = torch.full((1 + arity, self.n_concepts), n_factors)
        for r, rule in enumerate(config.rules):
            rows = slice(int(rule["offset"]), int(rule["offset"]) + len(rule["rows"]))
            n = int(rule["arity"])
            head_A1 = torch.tensor([[config.head_of(r, a)] for a in range(n)])
            argument_AK = torch.tensor(rule["rows"], dtype=torch.long).reshape(-1, n).T
            factor_FK[0, rows] = config.class_of_rule(r)
            factor_FK[1 : 1 + n, rows] = config.n_classes + head_A1 * self.n_symbols + argument_AK
        self.register_buffer("factor_FK", factor_FK, persistent=False)
        self.register_buffer("one_1", torch.ones(1), persistent=False)
        self.register_buffer("hit_SS", torch.eye(self.n_symbols + 1)[:, :-1].contiguous(), persistent=False)
        alike_U = torch.arange(n_units + 1)
        alike_U[: self.n_symbols] = n_units + 1
        self.register_buffer("alike_U", alike_U, persistent=False)
        forms = [
            *(f for forms in config.symbol_tokens for f in forms),
            *config.literal_tokens,
            *config.context_tokens,
        ]
        begun_X = torch.arange(max(map(len, forms), default=1) + 1).clamp(max=self.begun.num_embeddings - 1)
        self.register_buffer("begun_X", begun_X, persistent=False)
        # rows of the table that ``_prepare`` makes: those of units begun, then those of each of the last units
        row_G = torch.tensor([0, *(len(begun_X) + g * (n_units + 1) for g in range(TRAIL))])
        self.register_buffer("row_G", row_G, persistent=False)
        self._prepared = VersionedCache(self._prepare, self._prepared_from)

    @property
    def _thinking(self) -> nn.Linear:
        return cast(nn.Linear, self.think[0])

    def _prepared_from(self) -> list[Tensor]:
        linear = [*self.look.projections, *self.gather.projections, self._thinking]
        sources = [self.unit.weight, self.kind.weight, self.begun.weight]
        sources += [p for map_ in linear for p in (map_.weight, map_.bias)]
        return [*sources, self.look.log_sharpness_H, self.gather.log_sharpness_H]

    def _prepare(self) -> Prepared:
        """The last units are few, so what maps make of each is looked up, not computed at every position."""
        n_state, n_units = self.config.state_width, self.config.unit_width * TRAIL
        maps = [self.look.stacked(), (self._thinking.weight, self._thinking.bias), self.gather.stacked()]
        weight_XY = torch.cat([w_YX[:, n_state : n_state + n_units] for w_YX, _ in maps]).T
        weight_GWY = weight_XY.unflatten(0, (TRAIL, -1))
        # what it is, and whether it is a symbol at all
        unit_UW = self.unit.weight + self.kind.weight[self.alike_U]
        begun_XY = self.begun.weight[self.begun_X] @ weight_GWY[0] + torch.cat([bias_Y for _, bias_Y in maps])
        look, think, gather = (torch.cat([w.T[:n_state], w.T[n_state + n_units :]]) for w, _ in maps)
        think = torch.cat([think[:n_state], think[n_state:][self.look.brought()]])
        table_RY = torch.cat([begun_XY, (unit_UW @ weight_GWY).flatten(0, 1)])
        return Prepared(table_RY, [look, think, gather], self.look.sharpness(), self.gather.sharpness())

    def weights(self, class_BTC: Tensor, mass_BHTS: Tensor) -> Tensor:
        """w_k = p(rule) prod_i p_i(argument i of k), (B, T, K)."""
        size = class_BTC.shape[:2]
        p_BTX = torch.cat([class_BTC, mass_BHTS.transpose(1, 2).flatten(2), self.one_1.expand(*size, 1)], -1)
        # gathered, for index_select is slow along the last axis of several rows
        found_BTX = p_BTX.gather(-1, self.factor_FK.view(-1).expand(*size, -1))
        w_BTK, *others = found_BTX.view(*size, *self.factor_FK.shape).unbind(-2)
        for p_BTK in others:
            w_BTK = w_BTK * p_BTK
        return w_BTK

    def writes(self, run: Run, class_BTC: Tensor) -> Tensor:
        """Where something may be written, by p(none) and by structure, (B, T)."""
        if self.config.silence >= 1.0:
            return torch.ones_like(run.familiar_BT)
        return (class_BTC[..., CALConfig.NONE] < self.config.silence) & run.familiar_BT

    def null_mass(self, run: Run) -> Tensor:
        class_BTC = run.outputs[-1].class_BTC.exp()
        return torch.where(self.writes(run, class_BTC), class_BTC[..., CALConfig.NONE], 1.0)

    def silence(self, run: Run) -> Tensor:
        """Mean log p(none) where structure alone would let the reader speak."""
        log_none_BT = self.select(run, self._prepared(), self.turns(run))[0][..., CALConfig.NONE]
        return (log_none_BT * run.familiar_BT).sum() / run.familiar_BT.sum().clamp(min=1)

    def turns(self, run: Run) -> RotaryAngles:
        """By how much its heads turn what is said at each position."""
        return turns(run.fact_BTX[..., COUNTS], self.config.gather_width, self.config.look_width)

    def select(self, run: Run, ready: Prepared, turn: RotaryAngles) -> tuple[Tensor, Tensor, Tensor | None]:
        """The classes' log probabilities, what gather heads look by, (B, T, Y), and the sense of place."""
        look_XY, think_XZ, gather_XY = ready.rest_XY
        row_NG = (run.fact_BTX[..., Fact.BEGUN : Fact.LOOKS] + self.row_G).flatten(0, 1)
        of_units = nn.functional.embedding_bag(row_NG, ready.table_RY, mode="sum")
        look_NY, think_NZ, gather_NY = of_units.split([m.shape[1] for m in ready.rest_XY], -1)
        size = run.fact_BTX.shape[:2]
        state_NX = self.state(self.read(run)).flatten(0, 1)
        looked_BTY = torch.addmm(look_NY, state_NX, look_XY).view(*size, -1)
        around_NY = self.look(looked_BTY, ready.look_G11, turn, run).flatten(0, 1)
        thought_NZ = self.think[1](torch.addmm(think_NZ, torch.cat([state_NX, around_NY], -1), think_XZ))
        log_place_BTM = None
        if self.place is not None and self.placed is not None:
            log_place_NM = self.place(thought_NZ).log_softmax(-1)
            thought_NZ = torch.addmm(thought_NZ, log_place_NM.exp(), self.placed.weight.T)
            log_place_BTM = log_place_NM.view(*size, -1)
        gather_NY = torch.addmm(gather_NY, torch.cat([state_NX, thought_NZ], -1), gather_XY)
        log_class_NC = self.selector(thought_NZ).log_softmax(-1)
        return log_class_NC.view(*size, -1), gather_NY.view(*size, -1), log_place_BTM

    def look_up(self, run: Run) -> tuple[ReaderOutputs, Tensor, Tensor]:
        """What applies at each position and where its arguments are; with p(class) and the gathered symbols, BHTS."""
        ready, turn = self._prepared(), self.turns(run)
        log_class_BTC, gather_BTY, log_place_BTM = self.select(run, ready, turn)
        log_gather_BHTN, mass_BHTS = self.gather(gather_BTY, ready.gather_G11, turn, run, self.hit_SS)
        class_BTC = log_class_BTC.exp()
        found = ReaderOutputs(
            log_class_BTC, log_gather_BHTN, log_place_BTM, self.weights(class_BTC, mass_BHTS)
        )
        return found, class_BTC, mass_BHTS

    def write(self, run: Run) -> Tensor | None:
        puts_off = run.cache is not None and self.config.silence < 1.0  # else it may speak anywhere
        if puts_off and not run.catch_up(self.config.read_layers):
            return None
        found, class_BTC, mass_BHTS = self.look_up(run)
        w_BTK = found.usage_BTK
        assert w_BTK is not None
        if self.config.flagged:
            w_BTK = w_BTK * self.allowed_K
        copied_BTS = class_BTC[..., CALConfig.COPY, None] * mass_BHTS[:, 0]
        teaching, going_on_BT = run.teaching, None
        run.outputs.append(found)
        if teaching is not None:
            class_BTC, w_BTK, copied_BTS = self.force(teaching, class_BTC, w_BTK, copied_BTS)
            going_on_BT = teaching.class_BT == CALConfig.CONTINUE
            if not teaching.selection_gradient:
                class_BTC, w_BTK, copied_BTS = class_BTC.detach(), w_BTK.detach(), copied_BTS.detach()
        elif self.config.phases > 1:
            going_on_BT = class_BTC.argmax(-1) == CALConfig.CONTINUE
        concept_KY, symbol_SY = self.contents(teaching)
        content_BTY = w_BTK @ concept_KY + copied_BTS @ symbol_SY
        said_BTU = class_BTC[..., self.config.class_of_literal(0) :]
        out_BTE = self.inject(run, torch.cat([content_BTY, said_BTU], -1), going_on_BT)
        return out_BTE * self.writes(run, class_BTC)[..., None]

    def force(
        self, teaching: Teaching, class_BTC: Tensor, w_BTK: Tensor, copied_BTS: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Replaces, in the sequences that are told, what the reader thinks by what the packet's edges say."""
        told_BT1 = (teaching.forced_B[:, None] & (teaching.class_BT >= 0))[..., None]
        true_class = nn.functional.one_hot(teaching.class_BT.clamp(min=0), class_BTC.shape[-1])
        concept_BT = teaching.concept_BT
        true_w = torch.zeros_like(w_BTK)
        true_w.scatter_(2, concept_BT.clamp(min=0)[..., None], (concept_BT >= 0)[..., None].to(w_BTK.dtype))
        copied_BT = teaching.copied_BT
        true_copy = torch.zeros_like(copied_BTS)
        true_copy.scatter_(2, copied_BT.clamp(min=0)[..., None], (copied_BT >= 0)[..., None].to(w_BTK.dtype))
        return (
            torch.where(told_BT1, true_class.to(class_BTC.dtype), class_BTC),
            torch.where(told_BT1, true_w, w_BTK),
            torch.where(told_BT1, true_copy, copied_BTS),
        )

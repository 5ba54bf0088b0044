"""The structured concept reader.

It executes the packet's program softly, at every position, from the student's hidden states.

    p(class)  = softmax(selector(h_t))                    none | copy | continue | rule r | literal u
    p_i(s)    = attention of argument head i to positions where symbol s ends
    w_k       = p(rule of k) * prod_i p_i(argument i of k)
    h_t      <- h_t + sum_k w_k phi(c_k) + p(copy) sum_s p_copy(s) phi(prototype_s) + sum_u p(u) lit_u

*Gating*: nothing is added if p(none) reaches a threshold, or if the types of the last units are not in the packet's
traces (the context whitelist). Off-domain text is thus unchanged by structure, not by training alone; generation skips
the reader until something is in-domain. In rehearsal some sequences are teacher-forced (``Supervision``), which
trains selection and injection in parallel.

Letters: B batch, T tokens, E student width, D teacher width, C classes, J token index, H argument heads, S symbols,
K concepts, U literals, A arguments, P prototype samples, M leaves of the program, X other widths, Y content; local:
G last units.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from m2kt._shapes import Bool, Float
from m2kt.student.cal._base import ReaderBase
from m2kt.student.cal._config import CALConfig
from m2kt.student.cal._context import ReaderOutputs, Run, Supervision
from m2kt.student.cal._heads import (
    POSITIONS,
    ArgumentHeads,
    ContextHeads,
    RotaryAngles,
    rotary_angles,
)
from m2kt.student.cal._matcher import N_LAST_UNITS, TokenFeature
from m2kt.student.cal._memo import VersionedCache


class DerivedWeights(NamedTuple):
    """Values that a structured reader derives from its weights once."""

    unit_table_XY: Tensor  # outputs of all maps for each unit at each of the last positions, biases included
    maps_XY: list[Tensor]  # maps of context heads, hidden layer and argument heads, for inputs other than units
    context_sharpness_H11: Tensor
    argument_sharpness_H11: Tensor


class StructuredReader(ReaderBase):
    """Selector, argument heads and the product of arguments.

    Submodule names are in the state dict and on disk: ``look`` is the context heads, ``gather`` the argument heads,
    ``think`` the hidden layer, ``place`` the classifier of the program's leaf and ``placed`` its feedback into the
    hidden layer, ``kind`` the embedding of unit types, ``begun`` that of the number of tokens of an incomplete unit.
    """

    factor_XK: Tensor
    one_1: Tensor
    one_hot_SS: Tensor
    type_X: Tensor
    partial_X: Tensor
    first_row_G: Tensor
    optimiser_groups: ClassVar[dict[str, str]] = {
        **ReaderBase.optimiser_groups,
        "state.weight": "state_input",
    }

    def __init__(self, config: CALConfig, student_width: int) -> None:
        super().__init__(config, student_width)
        # Input at a position: the student's states and the last units.
        width = config.state_width + config.unit_width * N_LAST_UNITS
        self.state = nn.Linear(self.read_width, config.state_width)
        n_units = self.n_symbols + len(config.literal_tokens) + len(config.context_tokens)
        longest = max((len(t) for f in config.symbol_tokens for t in f), default=1)
        self.unit = nn.Embedding(n_units + 1, config.unit_width)
        self.kind = nn.Embedding(n_units + 2, config.unit_width)  # one type for all symbols
        self.begun = nn.Embedding(1 + max(config.phases, longest), config.unit_width)
        self.look = ContextHeads(width, config.look_heads, config.gather_width, config.gather_rope, config.look_width)
        around = config.look_heads * config.look_width
        self.think = nn.Sequential(nn.Linear(width + around, config.selector_width), nn.GELU())
        # The predicted leaf of the packet's program is fed back into the hidden layer.
        self.place = nn.Linear(config.selector_width, config.n_places) if config.n_places else None
        self.placed = nn.Linear(config.n_places, config.selector_width, bias=False) if config.n_places else None
        self.selector = nn.Linear(config.selector_width, config.n_classes)
        self.gather = ArgumentHeads(
            width + config.selector_width, config.n_heads, config.gather_width, config.gather_rope
        )
        # Index of each factor of w_k in p(class) | p_i(symbol) | 1, the factor of arguments that a rule does not have.
        arity = max((r["arity"] for r in config.rules), default=1)
        n_factors = config.n_classes + config.n_heads * self.n_symbols
        factor_XK = torch.full((1 + arity, self.n_concepts), n_factors)
        for r, rule in enumerate(config.rules):
            rows = slice(rule["offset"], rule["offset"] + len(rule["rows"]))
            n = rule["arity"]
            head_A1 = torch.tensor([[config.head_of(r, a)] for a in range(n)])
            argument_AK = torch.tensor(rule["rows"], dtype=torch.long).reshape(-1, n).T
            factor_XK[0, rows] = config.class_of_rule(r)
            factor_XK[1 : 1 + n, rows] = config.n_classes + head_A1 * self.n_symbols + argument_AK
        self.register_buffer("factor_XK", factor_XK, persistent=False)
        self.register_buffer("one_1", torch.ones(1), persistent=False)
        self.register_buffer("one_hot_SS", torch.eye(self.n_symbols + 1)[:, :-1].contiguous(), persistent=False)
        type_X = torch.arange(n_units + 1)
        type_X[: self.n_symbols] = n_units + 1
        self.register_buffer("type_X", type_X, persistent=False)
        forms = [
            *(f for forms in config.symbol_tokens for f in forms),
            *config.literal_tokens,
            *config.context_tokens,
        ]
        partial_X = torch.arange(max(map(len, forms), default=1) + 1).clamp(max=self.begun.num_embeddings - 1)
        self.register_buffer("partial_X", partial_X, persistent=False)
        # rows of ``unit_table_XY``: incomplete units by their number of tokens, then each of the last units
        n_rows = [len(partial_X) + g * (n_units + 1) for g in range(N_LAST_UNITS)]
        self.register_buffer("first_row_G", torch.tensor([0, *n_rows]), persistent=False)
        self._derived = VersionedCache(self._derive, self._derived_from)

    @property
    def _hidden_layer(self) -> nn.Linear:
        return cast(nn.Linear, self.think[0])

    def _derived_from(self) -> list[Tensor]:
        linear = [*self.look.projections, *self.gather.projections, self._hidden_layer]
        sources = [self.unit.weight, self.kind.weight, self.begun.weight]
        sources += [p for map_ in linear for p in (map_.weight, map_.bias)]
        return [*sources, self.look.log_sharpness_H, self.gather.log_sharpness_H]

    def _derive(self) -> DerivedWeights:
        """Units are few, so the maps' outputs for them are tabulated instead of computed at every position."""
        n_state, n_units = self.config.state_width, self.config.unit_width * N_LAST_UNITS
        maps = [
            self.look.stacked(),
            (self._hidden_layer.weight, self._hidden_layer.bias),
            self.gather.stacked(),
        ]
        weight_XY = torch.cat([w_YX[:, n_state : n_state + n_units] for w_YX, _ in maps]).T
        weight_GXY = weight_XY.unflatten(0, (N_LAST_UNITS, -1))
        unit_XX = self.unit.weight + self.kind.weight[self.type_X]
        partial_XY = self.begun.weight[self.partial_X] @ weight_GXY[0] + torch.cat([bias_Y for _, bias_Y in maps])
        context_XY, hidden_XX, argument_XY = (torch.cat([w.T[:n_state], w.T[n_state + n_units :]]) for w, _ in maps)
        hidden_XX = torch.cat([hidden_XX[:n_state], hidden_XX[n_state:][self.look.output_order()]])
        unit_table_XY = torch.cat([partial_XY, (unit_XX @ weight_GXY).flatten(0, 1)])
        maps_XY = [context_XY, hidden_XX, argument_XY]
        return DerivedWeights(unit_table_XY, maps_XY, self.look.sharpness(), self.gather.sharpness())

    def weights(
        self, class_BTC: Float[Tensor, "B T C"], symbol_BHTS: Float[Tensor, "B H T S"]
    ) -> Float[Tensor, "B T K"]:
        """w_k = p(rule) prod_i p_i(argument i of k)."""
        size = class_BTC.shape[:2]
        p_BTX = torch.cat([class_BTC, symbol_BHTS.transpose(1, 2).flatten(2), self.one_1.expand(*size, 1)], -1)
        # gather, because index_select is slow along the last axis of several rows
        factor_BTX = p_BTX.gather(-1, self.factor_XK.view(-1).expand(*size, -1))
        w_BTK, *p_argument = factor_BTX.view(*size, *self.factor_XK.shape).unbind(-2)
        for p_BTK in p_argument:
            w_BTK = w_BTK * p_BTK
        return w_BTK

    def is_open(self, run: Run, class_BTC: Float[Tensor, "B T C"]) -> Bool[Tensor, "B T"]:
        """Positions at which gating lets the injection through."""
        if self.config.silence >= 1.0:
            return torch.ones_like(run.in_domain_BT)
        return (class_BTC[..., CALConfig.NONE] < self.config.silence) & run.in_domain_BT

    def null_mass(self, run: Run) -> Float[Tensor, "B T"]:
        class_BTC = run.outputs[-1].class_BTC.exp()
        return torch.where(self.is_open(run, class_BTC), class_BTC[..., CALConfig.NONE], 1.0)

    def gating(self, run: Run) -> Float[Tensor, ""]:
        """Mean log p(none) at in-domain positions: elsewhere the whitelist blocks the injection."""
        log_none_BT = self.select(run, self._derived(), self.angles(run))[0][..., CALConfig.NONE]
        return (log_none_BT * run.in_domain_BT).sum() / run.in_domain_BT.sum().clamp(min=1)

    def angles(self, run: Run) -> RotaryAngles:
        """The rotations of its heads at each position."""
        return rotary_angles(run.feature_BTX[..., POSITIONS], self.config.gather_width, self.config.look_width)

    def select(
        self, run: Run, derived: DerivedWeights, angles: RotaryAngles
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B T _"], Float[Tensor, "B T M"] | None]:
        """Log p(class), the argument heads' mapped input, and log p(leaf)."""
        context_XY, hidden_XX, argument_XY = derived.maps_XY
        row_NG = (run.feature_BTX[..., TokenFeature.PARTIAL : TokenFeature.TYPES] + self.first_row_G).flatten(0, 1)
        unit_NY = nn.functional.embedding_bag(row_NG, derived.unit_table_XY, mode="sum")
        context_NY, hidden_NX, argument_NY = unit_NY.split([m.shape[1] for m in derived.maps_XY], -1)
        size = run.feature_BTX.shape[:2]
        state_NX = self.state(self.read(run)).flatten(0, 1)
        context_BTY = torch.addmm(context_NY, state_NX, context_XY).view(*size, -1)
        context_NY = self.look(context_BTY, derived.context_sharpness_H11, angles, run).flatten(0, 1)
        hidden_NX = self.think[1](torch.addmm(hidden_NX, torch.cat([state_NX, context_NY], -1), hidden_XX))
        log_leaf_BTM = None
        if self.place is not None and self.placed is not None:
            log_leaf_NM = self.place(hidden_NX).log_softmax(-1)
            hidden_NX = torch.addmm(hidden_NX, log_leaf_NM.exp(), self.placed.weight.T)
            log_leaf_BTM = log_leaf_NM.view(*size, -1)
        argument_NY = torch.addmm(argument_NY, torch.cat([state_NX, hidden_NX], -1), argument_XY)
        log_class_NC = self.selector(hidden_NX).log_softmax(-1)
        return log_class_NC.view(*size, -1), argument_NY.view(*size, -1), log_leaf_BTM

    def look_up(self, run: Run) -> tuple[ReaderOutputs, Float[Tensor, "B T C"], Float[Tensor, "B H T S"]]:
        """Select a class and read its arguments: outputs, p(class), and each argument head's p(symbol)."""
        derived, angles = self._derived(), self.angles(run)
        log_class_BTC, argument_BTY, log_leaf_BTM = self.select(run, derived, angles)
        log_attention_BHTN, symbol_BHTS = self.gather(
            argument_BTY, derived.argument_sharpness_H11, angles, run, self.one_hot_SS
        )
        class_BTC = log_class_BTC.exp()
        usage_BTK = self.weights(class_BTC, symbol_BHTS)
        outputs = ReaderOutputs(log_class_BTC, log_attention_BHTN, log_leaf_BTM, usage_BTK)
        return outputs, class_BTC, symbol_BHTS

    def write(self, run: Run) -> Float[Tensor, "B T E"] | None:
        defers = run.cache is not None and self.config.silence < 1.0  # without gating nothing can be skipped
        if defers and not run.process_deferred(self.config.read_layers):
            return None
        outputs, class_BTC, symbol_BHTS = self.look_up(run)
        w_BTK = outputs.usage_BTK
        assert w_BTK is not None
        if self.config.flagged:
            w_BTK = w_BTK * self.allowed_K
        copied_BTS = class_BTC[..., CALConfig.COPY, None] * symbol_BHTS[:, 0]
        supervision, continue_BT = run.supervision, None
        run.outputs.append(outputs)
        if supervision is not None:
            class_BTC, w_BTK, copied_BTS = self.teacher_force(supervision, class_BTC, w_BTK, copied_BTS)
            continue_BT = supervision.class_BT == CALConfig.CONTINUE
            if not supervision.selection_gradient:
                class_BTC, w_BTK, copied_BTS = class_BTC.detach(), w_BTK.detach(), copied_BTS.detach()
        elif self.config.phases > 1:
            continue_BT = class_BTC.argmax(-1) == CALConfig.CONTINUE
        concept_KY, symbol_SY = self.contents(supervision)
        literal_BTU, other_BX = class_BTC[..., self.config.class_of_literal(0) :], self.exchanged(run)
        if other_BX is not None:
            weight_BTX = torch.cat([w_BTK, copied_BTS, literal_BTU], -1)
            n_kinds, nothing = [w_BTK.shape[-1], copied_BTS.shape[-1], literal_BTU.shape[-1], 1], weight_BTX.shape[-1]
            to_BTX = torch.where(other_BX < 0, nothing, other_BX)[:, None].expand_as(weight_BTX)
            weight_BTX = nn.functional.pad(torch.zeros_like(weight_BTX), (0, 1)).scatter_add(-1, to_BTX, weight_BTX)
            w_BTK, copied_BTS, literal_BTU, _ = weight_BTX.split(n_kinds, -1)
        content_BTY = w_BTK @ concept_KY + copied_BTS @ symbol_SY
        out_BTE = self.inject(run, torch.cat([content_BTY, literal_BTU], -1), continue_BT)
        return out_BTE * self.is_open(run, class_BTC)[..., None]

    def teacher_force(
        self,
        supervision: Supervision,
        class_BTC: Float[Tensor, "B T C"],
        w_BTK: Float[Tensor, "B T K"],
        copied_BTS: Float[Tensor, "B T S"],
    ) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B T K"], Float[Tensor, "B T S"]]:
        """Replace p(class), concept weights and copied symbols by the labels in teacher-forced sequences."""
        forced_BT1 = (supervision.teacher_forced_B[:, None] & (supervision.class_BT >= 0))[..., None]
        true_class = nn.functional.one_hot(supervision.class_BT.clamp(min=0), class_BTC.shape[-1])
        concept_BT = supervision.concept_BT
        true_w = torch.zeros_like(w_BTK)
        true_w.scatter_(2, concept_BT.clamp(min=0)[..., None], (concept_BT >= 0)[..., None].to(w_BTK.dtype))
        copied_BT = supervision.copied_BT
        true_copy = torch.zeros_like(copied_BTS)
        true_copy.scatter_(2, copied_BT.clamp(min=0)[..., None], (copied_BT >= 0)[..., None].to(w_BTK.dtype))
        return (
            torch.where(forced_BT1, true_class.to(class_BTC.dtype), class_BTC),
            torch.where(forced_BT1, true_w, w_BTK),
            torch.where(forced_BT1, true_copy, copied_BTS),
        )

"""The structured concept reader.

It executes the packet's graph softly, at every position, from the student's own state.

    p(class)  = softmax(selector(h_t))                    none | copy | rule r | literal u
    p_i(s)    = attention of gather head i on positions where symbol s ends
    w_k       = p(rule of k) * prod_i p_i(argument i of k)
    h_t      <- h_t + sum_k w_k phi(c_k) + p(copy) sum_s p_copy(s) phi(anchor_s) + sum_u p(u) lit_u

Nothing is added where p(none) is high, nor where the last few units, symbols masked, are none that the packet's
traces show: outside the skill the reader is silent by structure, not by training alone. During rehearsal some
sequences are *told* class, row and sources (``Teaching``), so that writing and pointing are learnt side by side.

Letters: B sequences, T tokens, N tokens so far, E student width, X widths of all blocks read, D teacher
width, F trunk width, C classes, J phases, H gather heads, S symbols, K concepts, U literals.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m2kt.student.cal.config import CALConfig
from m2kt.student.cal.context import TRAIL, ReaderOutputs, Run, Teaching
from m2kt.student.cal.heads import GatherHeads, LookHeads, symbol_mass
from m2kt.student.cal.projector import Projector


class ReaderBase(nn.Module):
    """What both readers share: normalisation, the bank, phi, and writing into the stream."""

    mean_X: Tensor
    scale_X: Tensor
    level: Tensor
    bank_KD: Tensor
    anchor_SD: Tensor
    has_anchor_S: Tensor
    allowed_K: Tensor

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
        self._features: tuple[Tensor, Tensor] | None = None
        self.pool_PD: Tensor | None = None  # rehearsal only; never saved
        self.noise = 0.0  # on the pool in rehearsal, in units of its spread

    def read(self, run: Run) -> Tensor:
        """The states of the blocks that are read, side by side, (B, T, X)."""
        return self.normalise(torch.cat([run.taps[layer].float() for layer in self.config.read_layers], -1))

    def normalise(self, h_BTX: Tensor) -> Tensor:
        """States standardised by what the frozen student showed there; clamped, for its first tokens are huge."""
        return ((h_BTX - self.mean_X) / self.scale_X).clamp(-8.0, 8.0)

    def train(self, mode: bool = True) -> ReaderBase:
        """Leaving or entering training forgets the cached features of the bank."""
        self._features = None
        return super().train(mode)

    def set_bank(self, bank_KD: Tensor, anchor_SD: Tensor, has_anchor_S: Tensor) -> None:
        """Plugs in the packet's true vectors."""
        self.bank_KD.copy_(bank_KD)
        self.anchor_SD.copy_(anchor_SD)
        self.has_anchor_S.copy_(has_anchor_S.float())
        self._features = None

    def silence(self, run: Run) -> Tensor:
        """Mean log p(none) over a pass."""
        raise NotImplementedError

    def null_mass(self, run: Run) -> Tensor:
        """The weight on writing nothing in the pass just made, 1 where the reader is silenced, (B, T)."""
        raise NotImplementedError

    def features(self, teaching: Teaching | None) -> tuple[Tensor, Tensor]:
        """Trunk features of the concepts, (K, F) or (B, K, F) in rehearsal, and of the symbol anchors, (S, F)."""
        if teaching is None:
            if self._features is not None and not torch.is_grad_enabled():
                return self._features
            found = (
                self.projector.features_of(self.bank_KD, self.anchor_SD),
                self.projector.features_of(self.anchor_SD, self.anchor_SD),
            )
            if not torch.is_grad_enabled():
                self._features = found
            return found
        assert self.pool_PD is not None, "rehearsal needs the pool"
        pool_PD = self.pool_PD
        if self.training and self.noise:  # a rule's own state is not quite like any state before a copy
            pool_PD = pool_PD + self.noise * self.projector.scale_D * torch.randn_like(pool_PD)
        every_XF = self.projector.features_of(torch.cat([pool_PD, self.bank_KD]), self.anchor_SD)
        concept_BKF = nn.functional.embedding(teaching.bank_index_BK, every_XF)
        return concept_BKF, self.projector.features_of(self.anchor_SD, self.anchor_SD)

    def inject(self, content_BTY: Tensor, phase_BT: Tensor) -> Tensor:
        """The vector to add, (B, T, E), in the student's own scale. Content.

        Features | mass | lost copies | literals.
        """
        n_literals = self.literal_UJE.shape[0]
        parts = [self.projector.features, 1, self.n_symbols, n_literals]
        mixture_BTF, mass_BT1, lost_BTS, said_BTU = content_BTY.split(parts, -1)
        phase_BT = phase_BT.clamp(max=self.config.phases - 1)
        out_BTE = self.projector.write(mixture_BTF, mass_BT1[..., 0], phase_BT)
        direct_BTX = torch.cat([lost_BTS, said_BTU], -1)
        direct_XJE = torch.cat([self.spare_SJE, self.literal_UJE])
        for j in range(self.config.phases):
            out_BTE = out_BTE + ((phase_BT == j)[..., None] * direct_BTX) @ direct_XJE[:, j]
        return out_BTE * self.level


class StructuredReader(ReaderBase):
    """Selector, gather heads and the product of arguments."""

    argument_KA: Tensor
    head_KA: Tensor
    class_K: Tensor
    trail_M: Tensor

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
        self.look = LookHeads(
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
        self.gather = GatherHeads(
            width + config.selector_width, config.n_heads, config.gather_width, config.gather_rope
        )
        # One table over all rules; arguments that a rule does not have point at a constant one (last column).
        arity = max((int(r["arity"]) for r in config.rules), default=1)
        argument_KA = torch.full((self.n_concepts, arity), self.n_symbols)
        head_KA = torch.zeros(self.n_concepts, arity, dtype=torch.long)
        class_K = torch.zeros(self.n_concepts, dtype=torch.long)
        for r, rule in enumerate(config.rules):
            rows = slice(int(rule["offset"]), int(rule["offset"]) + len(rule["rows"]))
            n = int(rule["arity"])
            argument_KA[rows, :n] = torch.tensor(rule["rows"], dtype=torch.long).reshape(-1, n)
            head_KA[rows, :n] = torch.tensor([config.head_of(r, a) for a in range(n)])
            class_K[rows] = config.class_of_rule(r)
        self.n_looks = n_units - self.n_symbols + 3
        trail_MG = torch.tensor(config.trails, dtype=torch.long).reshape(-1, TRAIL)
        self.register_buffer("trail_M", self.number(trail_MG).sort().values, persistent=False)
        self.register_buffer("argument_KA", argument_KA, persistent=False)
        self.register_buffer("head_KA", head_KA, persistent=False)
        self.register_buffer("class_K", class_K, persistent=False)

    def units(self, run: Run) -> Tensor:
        """Embeddings of the last units, each by what it is and by whether it is a symbol at all, (B, T, G * width)."""
        alike_BTG = torch.where(run.unit_BTG < self.n_symbols, self.kind.num_embeddings - 1, run.unit_BTG)
        out_BTGU = self.unit(run.unit_BTG) + self.kind(alike_BTG)
        begun_BT1U = self.begun(run.begun_BT.clamp(max=self.begun.num_embeddings - 1))[:, :, None]
        return torch.cat([out_BTGU[:, :, :1] + begun_BT1U, out_BTGU[:, :, 1:]], 2).flatten(2)

    def weights(self, class_BTC: Tensor, mass_BHTS: Tensor) -> Tensor:
        """w_k = p(rule) prod_i p_i(argument i of k), (B, T, K)."""
        one = mass_BHTS.new_ones(*mass_BHTS.shape[:3], 1)
        flat_BTX = torch.cat([mass_BHTS, one], -1).transpose(1, 2).flatten(2)  # (B, T, H * (S + 1))
        w_BTK = class_BTC[..., self.class_K]
        for a in range(self.argument_KA.shape[1]):
            w_BTK = w_BTK * flat_BTX[..., self.head_KA[:, a] * (self.n_symbols + 1) + self.argument_KA[:, a]]
        return w_BTK

    def number(self, looks_MG: Tensor) -> Tensor:
        """One number for each trail of looks, (M,)."""
        return (looks_MG * self.n_looks ** torch.arange(TRAIL, device=looks_MG.device)).sum(-1)

    def within(self, run: Run) -> Tensor:
        """Where the last units look like some that the packet's traces show, (B, T)."""
        if not len(self.trail_M):
            return torch.ones_like(run.token_BT, dtype=torch.bool)
        number_BT = self.number(run.looks_BTG)
        at_BT = torch.searchsorted(self.trail_M, number_BT).clamp(max=len(self.trail_M) - 1)
        return self.trail_M[at_BT] == number_BT

    def silent(self, run: Run, class_BTC: Tensor) -> Tensor:
        """Where nothing is written, by p(none) or by structure, (B, T)."""
        if self.config.silence >= 1.0:
            return torch.zeros_like(run.token_BT, dtype=torch.bool)
        return (class_BTC[..., CALConfig.NONE] >= self.config.silence) | ~self.within(run)

    def null_mass(self, run: Run) -> Tensor:
        class_BTC = run.outputs[-1].class_BTC.exp()
        return torch.where(self.silent(run, class_BTC), 1.0, class_BTC[..., CALConfig.NONE])

    def silence(self, run: Run) -> Tensor:
        """Mean log p(none) where structure alone would let the reader speak."""
        within_BT = self.within(run)
        log_none_BT = self.select(run)[1][..., CALConfig.NONE]
        return (log_none_BT * within_BT).sum() / within_BT.sum().clamp(min=1)

    def select(self, run: Run) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What is read (B, T, X), the classes' log probabilities, the selector's thought, and its sense of place."""
        x_BTX = torch.cat([self.state(self.read(run)), self.units(run)], -1)
        thought_BTZ = self.think(torch.cat([x_BTX, self.look(x_BTX, run)], -1))
        log_place_BTM = None
        if self.place is not None and self.placed is not None:
            log_place_BTM = self.place(thought_BTZ).log_softmax(-1)
            thought_BTZ = thought_BTZ + self.placed(log_place_BTM.exp())
        return x_BTX, self.selector(thought_BTZ).log_softmax(-1), thought_BTZ, log_place_BTM

    def look_up(self, run: Run) -> tuple[ReaderOutputs, Tensor]:
        """What applies at each position and where its arguments are; with the gathered symbols, (B, H, T, S)."""
        x_BTX, log_class_BTC, thought_BTZ, log_place_BTM = self.select(run)
        log_gather_BHTN = self.gather(torch.cat([x_BTX, thought_BTZ], -1), run, self.n_symbols)
        mass_BHTS = symbol_mass(log_gather_BHTN, run, self.n_symbols)
        w_BTK = self.weights(log_class_BTC.exp(), mass_BHTS)
        return ReaderOutputs(log_class_BTC, log_gather_BHTN, log_place_BTM, w_BTK), mass_BHTS

    def forward(self, h_BTE: Tensor, run: Run) -> Tensor:
        found, mass_BHTS = self.look_up(run)
        assert found.usage_BTK is not None
        class_BTC, w_BTK = found.class_BTC.exp(), found.usage_BTK * self.allowed_K
        copied_BTS = class_BTC[..., CALConfig.COPY, None] * mass_BHTS[:, 0]
        teaching = run.teaching
        run.outputs.append(found)
        if teaching is not None:
            class_BTC, w_BTK, copied_BTS = self.force(teaching, class_BTC, w_BTK, copied_BTS)
            going_on_BT = teaching.class_BT == CALConfig.CONTINUE
            if not teaching.selection_gradient:
                class_BTC, w_BTK, copied_BTS = class_BTC.detach(), w_BTK.detach(), copied_BTS.detach()
        else:
            going_on_BT = class_BTC.argmax(-1) == CALConfig.CONTINUE
        concept_KF, anchor_SF = self.features(teaching)
        anchored_BTS = copied_BTS * self.has_anchor_S
        content = [
            w_BTK @ concept_KF + anchored_BTS @ anchor_SF,
            w_BTK.sum(-1, keepdim=True) + anchored_BTS.sum(-1, keepdim=True),
        ]
        content += [copied_BTS - anchored_BTS, class_BTC[..., self.config.class_of_literal(0) :]]
        content_BTY, phase_BT = run.hold(torch.cat(content, -1), going_on_BT)
        out_BTE = self.inject(content_BTY, phase_BT)
        out_BTE = out_BTE.masked_fill(self.silent(run, class_BTC)[..., None], 0.0)
        return run.carry(h_BTE) + out_BTE.to(h_BTE.dtype)

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

"""L_struct (Eq. 14): the reader looks where the packet's edges point."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from m2kt.student._batching import IGNORE, Batch
from m2kt.student.cal import CALConfig, ReaderOutputs
from m2kt.student.losses._base import Outputs

MOSTLY = -0.69  # log attention above which a head looks mostly there


class StructLoss:
    """The cross-entropy form of sum_k ||A^T_k - A^S_k||_1.

    A packet edge is a certain position, so the L1 distance to the reader's attention is 2 (1 - p); -log p has the same
    minimum, with a gradient that does not vanish far from it.

    Terms: each argument's gather head (or the copy head) at its edge; the selector's class. For the flat reader, the
    retrieval of the concept, contrasted with all others, and whether the unit goes on.
    """

    name: ClassVar[str] = "struct"
    equation: ClassVar[str] = "L_struct = CE(selector) + mean over edges of -log A_S[edge]"
    needs: ClassVar[frozenset[str]] = frozenset({"readers"})

    def __call__(self, batch: Batch, outputs: Outputs) -> Tensor:
        total = torch.zeros((), device=batch.token_BT.device)
        for reader in outputs.readers:
            flat = reader.retrieval_BTK is not None
            total = total + (
                self._flat(batch, reader) if flat else self._structured(batch, reader, outputs.config)
            )
        return total / max(1, len(outputs.readers))

    def _structured(self, batch: Batch, reader: ReaderOutputs, config: CALConfig) -> Tensor:
        teaching = batch.teaching
        answered_BT = batch.label_BT != IGNORE
        going_BT = teaching.class_BT == CALConfig.CONTINUE
        said = torch.zeros((), device=batch.token_BT.device)
        # Tokenisation out a unit is easy and frequent, beginning one is not: each gets its own mean.
        for chosen_BT in (answered_BT & ~going_BT, answered_BT & going_BT):
            if chosen_BT.any():
                said = said + functional.nll_loss(reader.class_BTC[chosen_BT], teaching.class_BT[chosen_BT])
        silent_BT = (teaching.class_BT == CALConfig.NONE) & ~answered_BT
        if silent_BT.any():  # the prompt: nothing to add there, but less weighty than the answer
            said = said + 0.2 * -reader.class_BTC[silent_BT][:, CALConfig.NONE].mean()
        if reader.place_BTM is not None:
            said = said + functional.nll_loss(reader.place_BTM[answered_BT], teaching.place_BT[answered_BT])
        return said + self.edges(batch, reader, config)

    def edges(self, batch: Batch, reader: ReaderOutputs, config: CALConfig) -> Tensor:
        """Mean of -log attention on the packet's edges."""
        _, log_p = edge_log_p(batch, reader, config)
        return -log_p.mean() if len(log_p) else torch.zeros((), device=batch.token_BT.device)

    def _flat(self, batch: Batch, reader: ReaderOutputs) -> Tensor:
        assert reader.retrieval_BTK is not None
        teaching = batch.teaching
        none = reader.retrieval_BTK.shape[-1] - 1
        goal_BT = torch.where(teaching.concept_BT >= 0, teaching.concept_BT, none)
        taught_BT = teaching.class_BT != IGNORE
        retrieval = functional.nll_loss(reader.retrieval_BTK[taught_BT].clamp(min=-20.0), goal_BT[taught_BT])
        assert reader.going_on_BT is not None
        going_on_BT = (teaching.class_BT == CALConfig.CONTINUE).float()
        return retrieval + functional.binary_cross_entropy_with_logits(
            reader.going_on_BT[taught_BT], going_on_BT[taught_BT]
        )


def edge_log_p(batch: Batch, reader: ReaderOutputs, config: CALConfig) -> tuple[Tensor, Tensor]:
    """Every edge of the micro-batch: its sequence and position, (M, 2), and the right head's log attention, (M,)."""
    teaching = batch.teaching
    arity = teaching.source_BTA.shape[-1]
    head_CA = torch.full((config.n_classes, arity), -1, device=batch.token_BT.device)
    head_CA[CALConfig.COPY, 0] = 0
    for r, rule in enumerate(config.rules):
        for i in range(int(rule["arity"])):
            head_CA[config.class_of_rule(r), i] = config.head_of(r, i)
    head_BTA = head_CA[teaching.class_BT.clamp(min=0)]
    wanted_BTA = (head_BTA >= 0) & (teaching.source_BTA >= 0) & (teaching.class_BT >= 0)[..., None]
    b, t, a = wanted_BTA.nonzero(as_tuple=True)
    log_p_M = reader.gather_BHTN[b, head_BTA[b, t, a], t, teaching.source_BTA[b, t, a]]
    return torch.stack([b, t], -1), log_p_M


@torch.no_grad()
def pointing(batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
    """Shares of classes, phases and edges that the reader has right: what to look at when a skill does not arrive."""
    found: dict[str, Tensor] = {}
    answered_BT = batch.label_BT != IGNORE
    for reader in outputs.readers:
        if reader.retrieval_BTK is None:
            if reader.place_BTM is not None:
                right_BT = reader.place_BTM.argmax(-1) == batch.teaching.place_BT
                found["place"] = right_BT[answered_BT].float().mean()
            found["class"] = (
                (reader.class_BTC.argmax(-1) == batch.teaching.class_BT)[answered_BT].float().mean()
            )
            _, log_p = edge_log_p(batch, reader, outputs.config)
            found["edge"] = (log_p > MOSTLY).float().mean() if len(log_p) else torch.ones(())
    if outputs.logits_NV is not None and outputs.labels_N is not None:
        found["token"] = (outputs.logits_NV.argmax(-1) == outputs.labels_N).float().mean()
    return found

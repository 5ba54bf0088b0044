"""L_struct (Eq. 14): the reader attends along the packet's edges."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from m2kt._shapes import Float, Int
from m2kt.student._batching import IGNORE, Batch
from m2kt.student.cal import CALConfig, ReaderOutputs
from m2kt.student.losses._base import Loss, Outputs

HALF_LOG_ATTENTION = -0.69  # log attention above which more than half of a head's weight is on the edge
PROMPT_WEIGHT = 0.2  # of p(none) over the prompt, relative to the answer


class StructLoss(Loss):
    """The cross-entropy form of sum_k ||A^T_k - A^S_k||_1.

    A packet edge is one certain position, so the L1 distance to the reader's attention is 2 (1 - p); -log p has the
    same minimum, and its gradient does not vanish far from it.

    Terms: each argument head (or the copy head) at its edge; the selector's class. For the flat reader: retrieval of
    the concept, contrasted with all others, and whether the unit continues.
    """

    name: ClassVar[str] = "struct"
    equation: ClassVar[str] = "L_struct = CE(selector) + mean over edges of -log A_S[edge]"
    needs: ClassVar[frozenset[str]] = frozenset({"readers", "batch"})

    def __call__(self, outputs: Outputs) -> Float[Tensor, ""]:
        assert outputs.batch is not None
        total = torch.zeros((), device=outputs.batch.token_BT.device)
        for reader in outputs.readers:
            flat = reader.retrieval_BTK is not None
            total = total + (
                _flat(outputs.batch, reader) if flat else _structured(outputs.batch, reader, outputs.config)
            )
        return total / max(1, len(outputs.readers))


def _structured(batch: Batch, reader: ReaderOutputs, config: CALConfig) -> Tensor:
    supervision = batch.supervision
    answer_BT = batch.label_BT != IGNORE
    continue_BT = supervision.class_BT == CALConfig.CONTINUE
    total = torch.zeros((), device=batch.token_BT.device)
    # Continuing a unit is easy and frequent, beginning one is not: each gets a mean of its own.
    for chosen_BT in (answer_BT & ~continue_BT, answer_BT & continue_BT):
        if chosen_BT.any():
            total = total + functional.nll_loss(reader.class_BTC[chosen_BT], supervision.class_BT[chosen_BT])
    prompt_BT = (supervision.class_BT == CALConfig.NONE) & ~answer_BT
    if prompt_BT.any():
        total = total + PROMPT_WEIGHT * -reader.class_BTC[prompt_BT][:, CALConfig.NONE].mean()
    if reader.leaf_BTM is not None:
        total = total + functional.nll_loss(reader.leaf_BTM[answer_BT], supervision.leaf_BT[answer_BT])
    _, log_attention = edge_log_attention(batch, reader, config)
    edges = -log_attention.mean() if len(log_attention) else torch.zeros((), device=batch.token_BT.device)
    return total + edges


def _flat(batch: Batch, reader: ReaderOutputs) -> Tensor:
    assert reader.retrieval_BTK is not None and reader.continue_BT is not None
    supervision = batch.supervision
    none = reader.retrieval_BTK.shape[-1] - 1
    target_BT = torch.where(supervision.concept_BT >= 0, supervision.concept_BT, none)
    labelled_BT = supervision.class_BT != IGNORE
    retrieval = functional.nll_loss(reader.retrieval_BTK[labelled_BT].clamp(min=-20.0), target_BT[labelled_BT])
    continue_BT = (supervision.class_BT == CALConfig.CONTINUE).float()
    return retrieval + functional.binary_cross_entropy_with_logits(
        reader.continue_BT[labelled_BT], continue_BT[labelled_BT]
    )


def edge_log_attention(
    batch: Batch, reader: ReaderOutputs, config: CALConfig
) -> tuple[Int[Tensor, "N 2"], Float[Tensor, " N"]]:
    """All edges of the batch: sequence and position of each, and its head's log attention there."""
    supervision = batch.supervision
    n_arguments = supervision.source_BTA.shape[-1]
    head_CA = torch.full((config.n_classes, n_arguments), -1, device=batch.token_BT.device)
    head_CA[CALConfig.COPY, 0] = 0
    for r, rule in enumerate(config.rules):
        for i in range(int(rule["arity"])):
            head_CA[config.class_of_rule(r), i] = config.head_of(r, i)
    head_BTA = head_CA[supervision.class_BT.clamp(min=0)]
    edge_BTA = (head_BTA >= 0) & (supervision.source_BTA >= 0) & (supervision.class_BT >= 0)[..., None]
    b, t, a = edge_BTA.nonzero(as_tuple=True)
    log_attention_N = reader.attention_BHTN[b, head_BTA[b, t, a], t, supervision.source_BTA[b, t, a]]
    return torch.stack([b, t], -1), log_attention_N


@torch.no_grad()
def reader_accuracy(outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
    """Accuracy of leaf (``place``), class, edges and tokens: shows which part of a skill is not yet learnt."""
    assert outputs.batch is not None
    batch, accuracy = outputs.batch, dict[str, Tensor]()
    answer_BT = batch.label_BT != IGNORE
    for reader in outputs.readers:
        if reader.retrieval_BTK is None and reader.concept_BT is None:
            if reader.leaf_BTM is not None:
                correct_BT = reader.leaf_BTM.argmax(-1) == batch.supervision.leaf_BT
                accuracy["place"] = correct_BT[answer_BT].float().mean()
            correct_BT = reader.class_BTC.argmax(-1) == batch.supervision.class_BT
            accuracy["class"] = correct_BT[answer_BT].float().mean()
            _, log_attention = edge_log_attention(batch, reader, outputs.config)
            attended = (log_attention > HALF_LOG_ATTENTION).float()
            accuracy["edge"] = attended.mean() if len(attended) else torch.ones(())
    if outputs.logits_NV is not None and outputs.labels_N is not None:
        accuracy["token"] = (outputs.logits_NV.argmax(-1) == outputs.labels_N).float().mean()
    return accuracy

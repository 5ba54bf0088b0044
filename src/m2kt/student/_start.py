"""Closed-form start of phi: the size and direction of its targets are chosen by teacher-forced loss.

How strongly the residual stream must be changed differs between students. Several pairs of gain and unembedding share
are tried on a few rehearsal traces; nothing is trained.

Letters: B sequences, T tokens, V vocabulary, N answer tokens, S symbols, P prototype samples, U literals, J token index
within a unit, E student width.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from m2kt._shapes import Float, Int
from m2kt.models import decoder
from m2kt.student._batching import IGNORE, Batch, collate
from m2kt.student._calibrate import StudentTargets
from m2kt.student._prepare import TrainingInputs
from m2kt.student._rehearsal import Rehearsal
from m2kt.student._tokenisation import Tokenisation, phi_targets, unit_targets
from m2kt.student.cal import CALConfig, CALModel, ReaderBase

CALIBRATION_TRACES = 16  # of each round
CALIBRATION_ROUNDS = 12
START_TRACES = 8
GAINS = (4.0, 8.0)
UNEMBEDDING_SHARES = (0.0, 0.15, 0.3, 0.5, 1.0)
FOR_LITERALS = ((2.0, 0.3), (2.0, 0.4), (4.0, 0.2), (4.0, 0.25))  # tried as well where a literal is not written
UNWRITTEN = 0.7  # loss of a token above which another one is likelier
MAX_LOSS_WEIGHT = 0.1  # of the largest token loss beside the mean: one unreadable literal spoils every trace

Choice = tuple[float, float]
"""Gain, and share of the unembedding."""


def calibration_sequences(rehearsal: Rehearsal, config: CALConfig, tokenisation: Tokenisation) -> list[list[int]]:
    """Rehearsal traces in tokens that together contain every answer token, as far as a few rounds reach."""
    sequences: list[list[int]] = []
    missing = set(tokenisation.answer_tokens)
    for i in range(CALIBRATION_ROUNDS):
        for draw in rehearsal.draw(CALIBRATION_TRACES):
            encoded = rehearsal.encode(*draw, config)
            labels = {token for token in encoded.label_T if token != IGNORE}
            if i == 0 or labels & missing:
                sequences.append(encoded.ids)
                missing -= labels
        if not missing:
            break
    return sequences


@torch.no_grad()
def choose_start(tuner: CALModel, targets: StudentTargets, inputs: TrainingInputs) -> None:
    """Start phi with the gain and unembedding share of the smallest teacher-forced loss.

    A literal that the student would not write with these has those of its own smallest loss: the end of an answer may
    compete with a newline that stands behind every line but the last.

    ``targets`` receives the choice, its loss, and the tokens that this took.
    """
    reader, projector = tuner.reader(), inputs.settings.projector
    gains = GAINS if projector.gain is None else (projector.gain,)
    shares = UNEMBEDDING_SHARES if projector.unembedding is None else (projector.unembedding,)
    choices = [(gain, share) for gain in gains for share in shares]
    if len(choices) == 1:
        targets.gain, targets.unembedding = choices[0]
        start(reader, targets, inputs)
        return
    draws = inputs.rehearsal.draw(START_TRACES)
    traces = [inputs.rehearsal.encode(*draw, reader.config) for draw in draws]
    batch = collate(traces, reader.mean_X.device, teacher_forced_B=torch.ones(len(traces), dtype=torch.bool))
    label_N = batch.label_BT[batch.label_BT != IGNORE]
    loss_of = {choice: _losses(tuner, targets, inputs, batch, choice) for choice in choices}
    overall = {choice: float(loss_N.mean() + MAX_LOSS_WEIGHT * loss_N.max()) for choice, loss_N in loss_of.items()}
    best = min(choices, key=overall.__getitem__)
    targets.start_loss = overall[best]
    unwritten = _unwritten(reader, inputs, _mean_by_token(loss_of[best], label_N))
    if unwritten:
        loss_of |= {choice: _losses(tuner, targets, inputs, batch, choice) for choice in FOR_LITERALS}
    targets.n_tokens += len(loss_of) * int(batch.mask_BT.sum())
    targets.gain, targets.unembedding = best
    start(reader, targets, inputs)
    if unwritten:
        _mend_literals(reader, targets, inputs, {c: _mean_by_token(loss_N, label_N) for c, loss_N in loss_of.items()})


def _losses(
    tuner: CALModel, targets: StudentTargets, inputs: TrainingInputs, batch: Batch, choice: Choice
) -> Float[Tensor, " N"]:
    """The teacher-forced loss of each answer token with phi started by a gain and share."""
    targets.gain, targets.unembedding = choice
    start(tuner.reader(), targets, inputs)
    with tuner.observed(batch.supervision):
        out = decoder(tuner.model)(input_ids=batch.token_BT, attention_mask=batch.mask_BT, use_cache=False)
    answer_BT = batch.label_BT != IGNORE
    logits_NV = tuner.model.get_output_embeddings()(out.last_hidden_state[answer_BT]).float()
    loss_N: Tensor = functional.cross_entropy(logits_NV, batch.label_BT[answer_BT], reduction="none")
    return loss_N


def _unwritten(reader: ReaderBase, inputs: TrainingInputs, loss: dict[int, float]) -> bool:
    """Whether any literal has a token that the student would not write."""
    return any(loss.get(t, 0.0) > UNWRITTEN for tokens in _literals(reader, inputs.tokenisation) for t in tokens)


def _mean_by_token(loss_N: Tensor, token_N: Tensor) -> dict[int, float]:
    return {token: float(loss_N[token_N == token].mean()) for token in set(token_N.tolist())}


def _mend_literals(
    reader: ReaderBase, targets: StudentTargets, inputs: TrainingInputs, losses: dict[Choice, dict[int, float]]
) -> None:
    """Give literals that are not written the target of another gain and share.

    Args:
        losses: by gain and share, the mean teacher-forced loss of each token.
    """
    chosen = targets.gain, targets.unembedding
    for row, tokens in enumerate(_literals(reader, inputs.tokenisation)):
        worst = {choice: max((loss.get(t, 0.0) for t in tokens), default=0.0) for choice, loss in losses.items()}
        other = min(worst, key=worst.__getitem__)
        if worst[chosen] > UNWRITTEN > worst[other]:
            targets.gain, targets.unembedding = other
            target_UJE, _ = unit_targets(targets.by_token, [Counter([tokens])], reader.config.phases)
            reader.literal_UJE[row] = target_UJE[0].to(reader.literal_UJE)
    targets.gain, targets.unembedding = chosen


def _literals(reader: ReaderBase, tokenisation: Tokenisation) -> list[tuple[int, ...]]:
    """The tokens of each literal, in the order of its vectors."""
    executed = reader.config.reader == "executed"
    return [tuple(tokens) for tokens in (tokenisation.literal_units if executed else tokenisation.literals).values()]


@torch.no_grad()
def start(reader: ReaderBase, targets: StudentTargets, inputs: TrainingInputs) -> None:
    """Set phi, literal vectors and fallback vectors to the student targets in closed form."""
    tokenisation, unit_length = inputs.tokenisation, reader.config.phases
    target_SJE, known_SJ = phi_targets(targets.by_token, tokenisation, reader.config)
    symbol_P = symbol_of_sample(inputs)
    assert reader.pool_PD is not None
    reader.projector.start(
        reader.pool_PD, reader.anchor_SD, symbol_P, target_SJE, known_SJ, inputs.settings.projector.ridge
    )
    reader.spare_SJE.copy_(target_SJE)
    if reader.literal_UJE.shape[0]:
        forms = [Counter([tokens]) for tokens in _literals(reader, tokenisation)]
        literal_UJE, _ = unit_targets(targets.by_token, forms, unit_length)
        reader.literal_UJE.copy_(literal_UJE)


def symbol_of_sample(inputs: TrainingInputs) -> Int[Tensor, " P"]:
    """The symbol of each prototype sample."""
    return torch.from_numpy(np.asarray(inputs.packet.concepts.prototype_symbol_P)).long()

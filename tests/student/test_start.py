"""Student targets and the closed-form start of phi, each against an independent computation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from m2kt.models import decoder, special_prefix
from m2kt.student import StudentSettings, collate, prepare, student_targets
from m2kt.student._build import build
from m2kt.student._calibrate import final_gain
from m2kt.student._start import (
    GAINS,
    MAX_LOSS_WEIGHT,
    UNEMBEDDING_SHARES,
    _literals,
    _mend_literals,
    choose_start,
    start,
)
from m2kt.student.cal import cal_model
from tests.student.helpers import WORDS, loaded, small_packet

SMALL = {"depth": "learned", "reader": {"gather_width": 16, "selector_width": 32}}
FAMILIES = ["llama", "gpt2"]


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_target_is_the_centred_state_before_its_token_in_the_second_copy(family: str) -> None:
    student = loaded(family)
    model: Any = student.model
    prefix = len(special_prefix(student.tokenizer))
    ids = student.tokenizer.encode("ant bee: cow")
    absent = max(ids) + 1
    targets = student_targets(model, [ids], [0, 1], 1, prefix=prefix, required=[*ids, absent])
    doubled = [*ids, *ids[prefix:]]
    out = model(input_ids=torch.tensor([doubled]), output_hidden_states=True)
    position_N = torch.arange(len(ids) - 1, len(doubled) - 1)
    next_N = torch.tensor(doubled[len(ids) :])
    p_N = out.logits[0, position_N].softmax(-1)[torch.arange(len(next_N)), next_N].clamp(min=1e-3)
    state_NE = out.hidden_states[2][0, position_N]
    observed = list(dict.fromkeys(next_N.tolist()))
    mean_VE = torch.stack([(p_N[:, None] * state_NE)[next_N == v].sum(0) / p_N[next_N == v].sum() for v in observed])
    tokens = [*observed, absent]
    row_VE = model.get_output_embeddings().weight[tokens]
    row_VE = functional.normalize((row_VE - row_VE.mean(0)) * final_gain(model), dim=-1)
    direction_VE = functional.normalize(mean_VE - mean_VE.mean(0), dim=-1)
    assert targets.tokens == tokens
    torch.testing.assert_close(targets.state_VE[:-1], direction_VE, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(targets.row_VE, row_VE, atol=1e-5, rtol=1e-4)
    targets.unembedding, targets.gain = 0.25, 3.0
    mixed_VE = functional.normalize(0.75 * direction_VE + 0.25 * row_VE[:-1], dim=-1)
    expected_VE = 3.0 * model.config.hidden_size**0.5 * mixed_VE
    by_token_VE = torch.stack([targets.by_token[v] for v in observed])
    torch.testing.assert_close(by_token_VE, expected_VE, atol=1e-3, rtol=1e-3)
    first_TX = torch.cat([out.hidden_states[i + 1][0, max(1, prefix) : len(ids)] for i in (0, 1)], -1)
    torch.testing.assert_close(targets.mean_X, first_TX.mean(0), atol=1e-4, rtol=1e-3)
    scale = out.hidden_states[2][0, max(1, prefix) : len(ids)].std(0).median()
    assert targets.stream_scale == pytest.approx(float(scale), rel=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_start_chosen_has_the_smallest_teacher_forced_loss(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student = loaded(family)
    torch.manual_seed(0)
    inputs = prepare(student, small_packet(WORDS), StudentSettings.model_validate(SMALL))
    adapted, targets = build(student, inputs)
    tuner = cal_model(adapted)
    reader: Any = tuner.reader()
    reader.noise = 0.0
    draws = inputs.rehearsal.draw(8)
    monkeypatch.setattr(inputs.rehearsal, "draw", lambda n: draws)
    choose_start(tuner, targets, inputs)
    chosen, chosen_loss = (targets.gain, targets.unembedding), targets.start_loss
    head_JFE = reader.projector.head_JFE.clone()
    traces = [inputs.rehearsal.encode(*draw, reader.config) for draw in draws]
    batch = collate(traces, teacher_forced_B=torch.ones(len(traces), dtype=torch.bool))
    losses: dict[tuple[float, float], float] = {}
    for choice in [(gain, share) for gain in GAINS for share in UNEMBEDDING_SHARES]:
        targets.gain, targets.unembedding = choice
        start(reader, targets, inputs)
        with tuner.observed(batch.supervision):
            out = decoder(tuner.model)(input_ids=batch.token_BT, attention_mask=batch.mask_BT)
        logits_BTV = tuner.model.get_output_embeddings()(out.last_hidden_state)
        loss_BT = functional.cross_entropy(logits_BTV.flatten(0, 1), batch.label_BT.flatten(), reduction="none")
        loss_N = loss_BT[batch.label_BT.flatten() >= 0]
        losses[choice] = float(loss_N.mean() + MAX_LOSS_WEIGHT * loss_N.max())
    assert len({round(loss, 3) for loss in losses.values()}) > 1
    assert chosen == min(losses, key=lambda choice: losses[choice])
    assert chosen_loss == pytest.approx(losses[chosen], rel=1e-3)
    targets.gain, targets.unembedding = chosen
    start(reader, targets, inputs)
    assert torch.equal(reader.projector.head_JFE, head_JFE)


@torch.no_grad()
def test_a_literal_that_is_not_written_has_the_choice_that_writes_it() -> None:
    student = loaded("llama")
    inputs = prepare(student, small_packet(WORDS), StudentSettings())
    adapted, targets = build(student, inputs)
    reader = cal_model(adapted).reader()
    literals = _literals(reader, inputs.tokenisation)
    one = next(row for row, tokens in enumerate(literals) if tokens)
    choices = {(4.0, 0.3): 0.01, (4.0, 0.15): 3.9, (8.0, 0.0): 9.0}
    targets.gain, targets.unembedding = 4.0, 0.15
    start(reader, targets, inputs)
    before_UJE = reader.literal_UJE.clone()
    losses = {choice: dict.fromkeys(literals[one], loss) for choice, loss in choices.items()}
    _mend_literals(reader, targets, inputs, losses)
    after_UJE = reader.literal_UJE.clone()
    assert (targets.gain, targets.unembedding) == (4.0, 0.15)
    shared = [row for row, tokens in enumerate(literals) if set(tokens) & set(literals[one])]
    for row in range(len(literals)):
        assert torch.equal(after_UJE[row], before_UJE[row]) == (row not in shared), literals[row]
    targets.gain, targets.unembedding = 4.0, 0.3
    start(reader, targets, inputs)
    assert torch.equal(reader.literal_UJE[one], after_UJE[one])
    _mend_literals(reader, targets, inputs, {choice: dict.fromkeys(literals[one], 0.5) for choice in choices})
    assert torch.equal(reader.literal_UJE[one], after_UJE[one])  # what is written stays

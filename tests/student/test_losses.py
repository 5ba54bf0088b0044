"""Each loss term against its equation, with the sign of every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from m2kt.settings import LossSettings
from m2kt.student import IGNORE, Batch, CALConfig, StudentSettings, prepare
from m2kt.student._build import build
from m2kt.student._off_domain import OffDomainPass, sample_off_domain
from m2kt.student.cal import ReaderOutputs, cal_model
from m2kt.student.losses import (
    GeoLoss,
    OffDomainLoss,
    Outputs,
    ReasonLoss,
    SafetyLoss,
    StructLoss,
    reader_accuracy,
)
from m2kt.student.losses._struct import PROMPT_WEIGHT
from tests.student.helpers import LETTERS, WORDS, loaded, small_packet

SMALL = {"depth": "learned", "reader": {"gather_width": 16, "selector_width": 32}}
FAMILIES = ["llama", "gpt2"]


def rehearsed(family: str, symbols: list[str] = WORDS, **settings: Any) -> tuple[Batch, CALConfig, Any]:
    """A rehearsal batch with the configuration and the tuner of a new CAL."""
    student = loaded(family)
    torch.manual_seed(0)
    inputs = prepare(student, small_packet(symbols), StudentSettings.model_validate({**SMALL, **settings}))
    tuner = cal_model(build(student, inputs)[0])
    config = tuner.reader().config
    return inputs.rehearsal.update(config, teacher_forced=0.0)[0], config, tuner


def test_geo_is_the_squared_distance_relative_to_the_targets() -> None:
    target_PJE = torch.randn(5, 2, 7)
    known_PJ = torch.ones(5, 2)
    known_PJ[0, 1] = 0.0
    image_PJE = (1.5 * target_PJE).requires_grad_()
    outputs = Outputs(CALConfig(), image_PJE=image_PJE, target_PJE=target_PJE, target_known_PJ=known_PJ)
    loss = GeoLoss()(outputs)
    assert float(loss) == pytest.approx(0.25)
    loss.backward()
    gradient_PJE = image_PJE.grad
    assert gradient_PJE is not None and not gradient_PJE[0, 1].any()
    assert (gradient_PJE * target_PJE)[known_PJ > 0].sum() > 0  # descent moves phi back to the target


def test_reason_is_cross_entropy() -> None:
    logits_NV, labels_N = torch.randn(6, 9, requires_grad=True), torch.arange(6)
    loss = ReasonLoss()(Outputs(CALConfig(), logits_NV=logits_NV, labels_N=labels_N))
    expected = -logits_NV.log_softmax(-1)[torch.arange(6), labels_N].mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    gradient_NV = logits_NV.grad
    assert gradient_NV is not None
    labelled_NV = torch.nn.functional.one_hot(labels_N, 9).bool()
    assert (gradient_NV[labelled_NV] < 0).all() and (gradient_NV[~labelled_NV] > 0).all()


def test_safety_is_the_penalised_weight_of_flagged_concepts() -> None:
    config = CALConfig(flagged=[0, 5], penalties=[1.0, 0.25])
    usage_BTK = torch.rand(2, 3, 8, requires_grad=True)
    reader = ReaderOutputs(usage_BTK, usage_BTK, usage_BTK=usage_BTK)
    loss = SafetyLoss()(Outputs(config, readers=[reader]))
    torch.testing.assert_close(loss, (usage_BTK[..., 0] + 0.25 * usage_BTK[..., 5]).mean())
    loss.backward()
    gradient_BTK = usage_BTK.grad
    assert gradient_BTK is not None
    assert (gradient_BTK[..., [0, 5]] > 0).all() and not gradient_BTK[..., [1, 2, 3, 4, 6, 7]].any()


def test_safety_without_penalties_weighs_all_flagged_concepts_by_1() -> None:
    usage_BTK = torch.rand(2, 3, 8)
    reader = ReaderOutputs(usage_BTK, usage_BTK, usage_BTK=usage_BTK)
    loss = SafetyLoss()(Outputs(CALConfig(flagged=[2]), readers=[reader]))
    torch.testing.assert_close(loss, usage_BTK[..., 2].mean())


def log_p(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape).log_softmax(-1).requires_grad_()


@pytest.mark.parametrize("family", FAMILIES)
def test_struct_rewards_the_labelled_class_leaf_and_edges_and_nothing_else(family: str) -> None:
    batch, config, _ = rehearsed(family)
    (b, t), supervision = batch.token_BT.shape, batch.supervision
    reader = ReaderOutputs(
        log_p((b, t, config.n_classes)), log_p((b, config.n_heads, t, t)), log_p((b, t, config.n_places))
    )
    StructLoss()(Outputs(config, batch, [reader])).backward()
    answer_BT, continue_BT = batch.label_BT != IGNORE, supervision.class_BT == CALConfig.CONTINUE
    prompt_BT = (supervision.class_BT == CALConfig.NONE) & ~answer_BT
    class_BTC = torch.zeros_like(reader.class_BTC)
    for weight, chosen_BT in (
        (1.0, answer_BT & ~continue_BT),
        (1.0, answer_BT & continue_BT),
        (PROMPT_WEIGHT, prompt_BT),
    ):
        assert chosen_BT.any()
        class_BTC[chosen_BT, supervision.class_BT[chosen_BT]] = -weight / int(chosen_BT.sum())
    torch.testing.assert_close(reader.class_BTC.grad, class_BTC)
    assert reader.leaf_BTM is not None
    leaf_BTM = torch.zeros_like(reader.leaf_BTM)
    leaf_BTM[answer_BT, supervision.leaf_BT[answer_BT]] = -1.0 / int(answer_BT.sum())
    torch.testing.assert_close(reader.leaf_BTM.grad, leaf_BTM)
    edges_BTN = torch.zeros(b, t, t)
    sources = [(i, j, int(s)) for i, j in answer_BT.nonzero().tolist() for s in supervision.source_BTA[i, j] if s >= 0]
    for i, j, source in sources:
        edges_BTN[i, j, source] -= 1.0 / len(sources)
    gradient_BHTN = reader.attention_BHTN.grad
    assert gradient_BHTN is not None and sources
    torch.testing.assert_close(gradient_BHTN.sum(1), edges_BTN)


@pytest.mark.parametrize("family", FAMILIES)
def test_struct_of_the_flat_reader_rewards_the_concept_and_continuation(family: str) -> None:
    batch, config, _ = rehearsed(family, reader={"kind": "flat", "gather_width": 16})
    (b, t), supervision = batch.token_BT.shape, batch.supervision
    retrieval_BTK = log_p((b, t, config.n_concepts + 1))
    continue_logit_BT = torch.randn(b, t, requires_grad=True)
    nothing = torch.zeros(b, t, 0)
    reader = ReaderOutputs(nothing, nothing[:, None], retrieval_BTK=retrieval_BTK, continue_BT=continue_logit_BT)
    StructLoss()(Outputs(config, batch, [reader])).backward()
    labelled_BT = supervision.class_BT != IGNORE
    target_BT = torch.where(supervision.concept_BT >= 0, supervision.concept_BT, config.n_concepts)
    expected_BTK = torch.zeros_like(retrieval_BTK)
    expected_BTK[labelled_BT, target_BT[labelled_BT]] = -1.0 / int(labelled_BT.sum())
    torch.testing.assert_close(retrieval_BTK.grad, expected_BTK)
    continue_BT = supervision.class_BT == CALConfig.CONTINUE
    gradient_BT = continue_logit_BT.grad
    assert gradient_BT is not None
    assert (gradient_BT[continue_BT] < 0).all() and (gradient_BT[labelled_BT & ~continue_BT] > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_reader_accuracy_is_1_for_the_labels_and_0_for_other_classes(family: str) -> None:
    batch, config, _ = rehearsed(family)
    (b, t), supervision = batch.token_BT.shape, batch.supervision
    class_BTC = torch.nn.functional.one_hot(supervision.class_BT.clamp(min=0), config.n_classes).float()
    log_attention_BHTN = torch.zeros(b, config.n_heads, t, t)
    outputs = Outputs(config, batch, [ReaderOutputs(class_BTC, log_attention_BHTN)])
    assert {k: float(v) for k, v in reader_accuracy(outputs).items()} == {"class": 1.0, "edge": 1.0}
    outputs.readers = [ReaderOutputs(-class_BTC, log_attention_BHTN - 1.0)]
    assert {k: float(v) for k, v in reader_accuracy(outputs).items()} == {"class": 0.0, "edge": 0.0}


def test_off_domain_rewards_none_and_weighs_the_divergence_by_retain() -> None:
    log_none = torch.tensor(-0.7, requires_grad=True)
    divergence = torch.tensor(0.3, requires_grad=True)
    term = OffDomainLoss(LossSettings(silence=0.2, retain=2.0))
    loss = term(Outputs(CALConfig(), log_none=log_none, divergence=divergence))
    loss.backward()
    assert float(loss) == pytest.approx(0.7 + 2.0 * 0.3) and term.weight == 0.2
    assert log_none.grad == -1.0 and divergence.grad == 2.0
    assert float(term(Outputs(CALConfig(), log_none=log_none))) == pytest.approx(0.7)


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_off_domain_passes_measure_p_none_and_the_divergence_from_the_frozen_student(family: str, rank: int) -> None:
    batch, _, tuner = rehearsed(family, LETTERS, steering={"rank": rank})
    tokenizer = loaded(family).tokenizer
    traces = [trace.ids for trace in batch.traces]
    tuner.model.eval()
    with torch.no_grad():
        tuner.disable_adapter_layers()
        token_NT = sample_off_domain(tuner.model, tokenizer, traces, 32, seed=0)
        tuner.enable_adapter_layers()
        measure = OffDomainPass(tuner, token_NT, lines=112, divergence=rank > 0, seed=0)
        tuner.reader().selector.bias[CALConfig.NONE] += 30.0
        gated = measure()
        tuner.reader().selector.bias[CALConfig.NONE] -= 60.0
        injecting = measure()
    assert gated.log_none is not None and injecting.log_none is not None
    assert float(gated.log_none) == pytest.approx(0.0, abs=1e-4) and float(injecting.log_none) < -10
    assert (injecting.divergence is None) == (rank == 0)
    if gated.divergence is not None and injecting.divergence is not None:
        assert float(gated.divergence) == pytest.approx(0.0, abs=1e-5)  # the reader injects nothing

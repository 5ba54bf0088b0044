"""Training on a packet: refusals, loss terms, flagged concepts, bank replacement, reproducibility."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from m2kt.errors import CompatibilityError, PacketError
from m2kt.models import blocks
from m2kt.settings import LossSettings, RehearsalSettings
from m2kt.student import StudentSettings, replace_bank, train
from m2kt.student._rehearsal import Rehearsal
from m2kt.student.cal import ReaderOutputs
from m2kt.student.losses import TERMS, composite, penalised_weight
from tests.student.helpers import LETTERS, WORDS, loaded, small_packet

SMALL = {
    "depth": "learned",
    "reader": {"gather_width": 16, "selector_width": 32},
    "steering": {"rank": 2},
    "rehearsal": {"batch": 4},
}


def settings(**overrides: Any) -> StudentSettings:
    return StudentSettings.model_validate({**SMALL, **overrides})


def test_unwritable_symbol_is_refused_before_training() -> None:
    student = loaded("llama")
    with pytest.raises(CompatibilityError, match="cannot write"):
        train(student, small_packet(["a", "b", "c", "日"]), settings(), updates=1)
    assert not any("cal" in name for name, _ in student.model.named_parameters())


def test_short_context_is_refused() -> None:
    with pytest.raises(CompatibilityError, match="context"):
        train(loaded("llama", context=8), small_packet(), settings(), updates=1)


def test_prototype_samples_without_a_symbol_of_the_program_are_refused() -> None:
    packet = small_packet()
    packet.concepts.prototype_symbol_P[:] = 99
    with pytest.raises(PacketError, match="prototype samples"):
        train(loaded("llama"), packet, settings(), updates=1)


def test_nan_bank_is_refused() -> None:
    packet = small_packet()
    packet.concepts.vectors_KD[0, 0] = np.nan
    with pytest.raises(PacketError, match="NaN"):
        train(loaded("llama"), packet, settings(), updates=1)


@pytest.mark.parametrize("off", ["geo", "struct", "reason", "safety", "silence"])
def test_each_loss_can_be_switched_off(off: str) -> None:
    candidate = train(loaded("gpt2"), small_packet(), settings(losses={off: 0.0}), updates=1)
    assert off not in candidate.history[0]
    assert {"geo", "struct", "reason", "safety", "silence"} - {off} <= set(candidate.history[0])


def test_loss_terms_have_name_equation_and_inputs() -> None:
    for term in TERMS:
        assert term.name and term.equation and isinstance(term.needs, frozenset)
    assert {term.name for term in composite(LossSettings())} == {t.name for t in TERMS}


FROZEN = {"steering": {"rank": 0}}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_read_states_equals_a_full_pass_and_runs_no_later_block(family: str) -> None:
    model = train(loaded(family), small_packet(), settings(**FROZEN), updates=1).model.eval()
    tuner, ids = model.base_model, torch.tensor([[5, 6, 7, 8, 9]])
    last_block_calls: list[bool] = []
    handle = blocks(model)[-1].register_forward_hook(lambda *_: last_block_calls.append(True))
    early = tuner.read_states(ids, torch.ones_like(ids))
    assert not last_block_calls
    with torch.no_grad(), tuner.observed() as runs:
        model(input_ids=ids, use_cache=False)
    handle.remove()
    assert last_block_calls and early
    assert all(torch.equal(h, runs[-1].states[i]) for i, h in early.items())


def test_traces_are_replayed_only_on_a_frozen_core() -> None:
    frozen = train(loaded("llama"), small_packet(), settings(**FROZEN), updates=5)
    # every second update draws four fresh traces
    assert frozen.ledger["rehearsal_sequences"] == 3 * 4
    assert ["reason" in h for h in frozen.history] == [True, False, True, False, True]
    steered = train(loaded("llama"), small_packet(), settings(), updates=5)
    assert steered.ledger["rehearsal_sequences"] == 5 * 4
    assert all("reason" in h for h in steered.history)


@pytest.mark.long
def test_training_ends_when_rehearsal_is_mastered() -> None:
    easy = settings(**FROZEN, rehearsal={"batch": 16}, optimiser={"mastered": 2})
    candidate = train(loaded("llama"), small_packet(), easy, updates=400)
    assert candidate.ledger["updates"] == len(candidate.history) < 400
    assert candidate.history[-1]["class"] > 0.95


def test_every_symbol_has_a_nonzero_start() -> None:
    """Also a symbol that no calibration trace contains."""
    packet = small_packet(WORDS)
    for seed in range(3):
        reader = train(loaded("llama"), packet, settings(), updates=0, seed=seed).model.base_model.reader()
        assert (reader.projector.head_JFE[0].norm(dim=-1) > 0).all()


def test_same_seed_same_weights() -> None:
    first, second = (train(loaded("llama"), small_packet(), settings(), updates=2, seed=5) for _ in range(2))
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_only_the_adapter_is_trained() -> None:
    student = loaded("llama")
    before = {n: p.clone() for n, p in student.model.named_parameters()}
    candidate = train(student, small_packet(), settings(), updates=2)
    base = candidate.model.unload()
    assert all(torch.equal(before[n], p) for n, p in base.named_parameters())


def test_flagged_concepts_are_filtered_and_never_rehearsed() -> None:
    packet = small_packet()
    candidate = train(loaded("llama"), packet, settings(flagged=["a", "op(b, c)"]), updates=1)
    reader = candidate.model.base_model.reader()
    rows = packet.program.rules[0].rows
    for k, row in enumerate(rows):
        assert bool(reader.allowed_K[k]) == (0 not in row and row != (1, 2))
    with pytest.raises(CompatibilityError, match="flagged"):
        train(loaded("llama"), packet, settings(flagged=["zebra"]), updates=1)


def test_l_safety_weighs_flagged_concepts_before_the_filter() -> None:
    packet = small_packet()
    candidate = train(loaded("llama"), packet, settings(), updates=2, penalties={0: 1.0, 5: 0.25})
    assert candidate.history[0]["safety"] > 0, "an untrained reader has weight on every concept"
    reader = candidate.model.base_model.reader()
    assert [k for k in range(packet.program.n_concepts) if not reader.allowed_K[k]] == [0, 5]
    usage_BTK = torch.rand(2, 3, packet.program.n_concepts)
    outputs = ReaderOutputs(usage_BTK, usage_BTK, usage_BTK=usage_BTK)
    expected_BT = usage_BTK[..., 0] + 0.25 * usage_BTK[..., 5]
    assert torch.allclose(penalised_weight(outputs, reader.config.flagged, reader.config.penalties), expected_BT)


def test_randomised_tables_are_independent_of_the_true_outputs() -> None:
    packet = small_packet(LETTERS)
    draws = Rehearsal(packet.program, packet.spec, packet.concepts.prototype_symbol_P, loaded("llama").tokenizer,
                      RehearsalSettings(), seed=0)  # fmt: skip
    outputs = np.array([draws.draw_table()[0] for _ in range(400)])
    for symbol in range(4):
        assert np.all(abs((outputs == symbol).mean(0) - 0.25) < 0.12)
    output, index = draws.draw_table()
    assert np.all(packet.concepts.prototype_symbol_P[index] == output)


def test_verbalised_rows_keep_output_and_vector() -> None:
    packet = small_packet(verbalised=1.0)
    tokenizer = loaded("llama").tokenizer
    draws = Rehearsal(
        packet.program, packet.spec, packet.concepts.prototype_symbol_P, tokenizer, RehearsalSettings(), seed=0
    )
    output, index = draws.draw_table()
    assert output.tolist() == packet.outputs
    assert index.tolist() == [draws.samples.size + k for k in range(len(packet.outputs))]
    with pytest.raises(CompatibilityError, match="plain"):
        train(loaded("llama"), small_packet(), settings(rehearsal={"plain": True}), updates=1)


def test_replace_bank_needs_the_same_program() -> None:
    candidate = train(loaded("llama"), small_packet(), settings(), updates=1)
    other = small_packet()
    other.concepts = other.concepts.replace(vectors_KD=other.concepts.vectors_KD[::-1].copy())
    replace_bank(candidate.model, other)
    assert torch.equal(candidate.model.base_model.reader().bank_KD, torch.from_numpy(other.concepts.vectors_KD))
    with pytest.raises(CompatibilityError, match="program"):
        replace_bank(candidate.model, small_packet(["a", "b", "c", "e"]))
    other_space = small_packet(seed=9)
    with pytest.raises(CompatibilityError, match="space"):
        replace_bank(candidate.model, other_space)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="extra"):
        StudentSettings.model_validate({"reader": {"kindd": "flat"}})


def test_steering_without_a_reader_and_the_retain_loss_train() -> None:
    steering = train(loaded("gpt2"), small_packet(), settings(reader={"kind": "none"}, steering={"rank": 2}), updates=2)
    assert set(steering.history[0]) >= {"reason"} and "struct" not in steering.history[0]
    retained = train(loaded("gpt2"), small_packet(), settings(losses={"retain": 1.0}), updates=2)
    assert retained.history[0]["silence"] > 0


@torch.no_grad()
def test_a_gated_reader_leaves_the_logits_unchanged() -> None:
    student = loaded("llama")
    candidate = train(student, small_packet(), settings(steering={"rank": 0}), updates=1)
    model: Any = candidate.model
    reader = model.base_model.reader()
    reader.selector.weight.zero_()
    reader.selector.bias.zero_()
    reader.selector.bias[0] = 20.0  # none
    ids = torch.tensor([student.tokenizer.encode("a b: a b c")])
    adapted_logits = model(input_ids=ids).logits
    with model.disable_adapter():
        assert torch.equal(adapted_logits, model(input_ids=ids).logits)

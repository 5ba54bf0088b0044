"""Preflight: each check has a student or a packet that fails it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

from m2kt.errors import CompatibilityError
from m2kt.models import decoder
from m2kt.student import StudentSettings, train
from m2kt.student._calibrate import final_gain
from m2kt.student._preflight import check_fitness, expected_retention
from m2kt.student._prepare import prepare
from m2kt.student._rehearsal import Rehearsal
from m2kt.student._separability import hull_distance, leave_one_out
from m2kt.student._tokenisation import tokenise
from m2kt.student._validate import FitnessCheck, check_symbol_matching
from tests.student.helpers import WORDS, Loaded, loaded, small_packet
from tests.tiny import bpe_tokenizer, char_tokenizer

FLAT = StudentSettings.model_validate({"reader": {"kind": "flat"}})
LEARNED = StudentSettings(depth="learned")


def failed(student: Any, packet: Any = None, settings: StudentSettings | None = None) -> list[FitnessCheck]:
    """The failed checks of a preflight; ``reasons`` is empty if and only if the student is fit."""
    packet = packet or small_packet()
    preflight = check_fitness(student, packet, settings)
    assert preflight.fit == (not preflight.reasons)
    return [check for check in preflight.checks if check.fit is False]


@pytest.mark.parametrize("family", ["gpt2", "llama", "neox", "gemma3", "qwen2"])
def test_a_fit_student_passes_all_checks(family: str) -> None:
    for settings in (StudentSettings(), LEARNED):
        preflight = check_fitness(loaded(family), small_packet(), settings)
        assert preflight.fit, preflight.reasons
        assert preflight.expected_retention == 1.0
        assert {key.argument for key in preflight.keys} == ({0, 1} if settings == LEARNED else set())


def test_symbols_that_the_tokenizer_cannot_write() -> None:
    (check,) = failed(loaded("gpt2"), small_packet(["a", "b", "ß", "d"]))
    assert check.name == "symbols" and "'ß'" in check.measured and check.advice


def test_a_context_shorter_than_a_trace() -> None:
    checks = failed(loaded("llama", context=6))
    assert checks[0].name == "context" and "6" in checks[0].needed


def test_a_head_with_equal_rows_for_two_tokens() -> None:
    student = loaded("llama")
    c, d = (student.tokenizer.convert_tokens_to_ids(x) for x in "cd")
    head = student.model.get_output_embeddings().weight
    with torch.no_grad():
        head[c] = head[d]
    (check,) = failed(student)
    assert check.name == "capacity" and "'c'" in check.measured and "'d'" in check.measured
    with pytest.raises(CompatibilityError, match="capacity"):
        train(student, small_packet(), updates=1)


def test_a_recurrent_student_without_a_supported_cache() -> None:
    tokenizer = char_tokenizer()
    config = t.RwkvConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        attention_hidden_size=32,
        num_hidden_layers=3,
        context_length=128,
    )
    student = Loaded(t.RwkvForCausalLM(config).eval(), tokenizer)
    (check,) = failed(student)
    assert check.name == "attention" and "RwkvModel" in check.measured
    with pytest.raises(CompatibilityError, match="attention"):
        train(student, small_packet(), updates=1)


def test_a_head_narrower_than_the_stream() -> None:
    tokenizer = char_tokenizer()
    config = t.OPTConfig(
        vocab_size=len(tokenizer), hidden_size=32, word_embed_proj_dim=16, num_hidden_layers=2,
        num_attention_heads=4, ffn_dim=48, max_position_embeddings=128,
    )  # fmt: skip
    (check,) = failed(Loaded(t.OPTForCausalLM(config).eval(), tokenizer))
    assert check.name == "widths" and "student 32, its unembedding 16" in check.measured


def test_filtered_rows_lower_expected_retention() -> None:
    settings = StudentSettings(flagged=["a"])
    preflight = check_fitness(loaded("gpt2"), small_packet(list("abcdefgh")), settings)
    assert not preflight.fit and preflight.expected_retention is not None
    assert 0.6 < preflight.expected_retention < 0.9  # 49 of 64 rows are left
    (reason,) = preflight.reasons
    assert reason.startswith("expected retention")


def test_a_flagged_concept_that_the_packet_lacks() -> None:
    (check,) = failed(loaded("gpt2"), settings=StudentSettings(flagged=["zebra"]))
    assert check.name == "flagged" and "zebra" in check.measured


def test_rows_that_are_not_verbalised() -> None:
    settings = StudentSettings.model_validate({"rehearsal": {"plain": True}})
    (check,) = failed(loaded("gpt2"), settings=settings)
    assert check.name == "rows in words" and "--verbalised 1" in check.measured


def test_key_separability_is_required_of_the_flat_reader_only() -> None:
    """Its keys are states; the structured reader reads symbols from tokens."""
    student, packet = loaded("gpt2"), small_packet(list("abcdefgh"))
    flat, structured = check_fitness(student, packet, FLAT), check_fitness(student, packet, LEARNED)
    for preflight, judged in ((flat, True), (structured, False)):
        (check,) = [check for check in preflight.checks if check.name == "key separability"]
        assert (check.fit is not None) == judged
    inputs = prepare(student, packet, FLAT)
    half = [key.model_copy(update={"recall": dict.fromkeys("abcdefgh", 0.5)}) for key in flat.keys]
    assert expected_retention(inputs, half, 0) == pytest.approx(0.25)  # two arguments
    assert expected_retention(inputs, [], 0) == 1.0


def test_two_symbols_with_one_tokenisation() -> None:
    tokenizer, packet = bpe_tokenizer(), small_packet(WORDS)
    settings = StudentSettings()
    rehearsal = Rehearsal(
        packet.program, packet.spec, packet.concepts.prototype_symbol_P, tokenizer, settings.rehearsal, seed=0
    )
    traces = [trace for trace, _ in rehearsal.draw(20)]
    tokenisation = tokenise(tokenizer, packet.program, traces)
    assert check_symbol_matching(tokenizer, packet.program, tokenisation, traces).fit
    tokenisation.symbol_tokens[1] = tokenisation.symbol_tokens[0]  # two symbols with the same tokens
    check = check_symbol_matching(tokenizer, packet.program, tokenisation, traces)
    assert check.fit is False and "is taken for" in check.measured


def test_a_head_row_within_the_hull_of_other_rows_has_distance_zero() -> None:
    model = loaded("llama").model
    head = model.get_output_embeddings().weight
    tokens = list(range(5, 20))
    with torch.no_grad():
        head[6] = head[7] + 1e-4
        head[5] = head[6:12].mean(0)
    distance = hull_distance(model, tokens)
    assert float(distance[0]) < 0.02 and float(distance[1:3].max()) < 0.02
    assert float(distance[3:].min()) > 0.2


def test_the_probe_is_evaluated_leave_one_out() -> None:
    torch.manual_seed(0)
    label = torch.arange(40) % 4
    assert (leave_one_out(torch.nn.functional.one_hot(label).float(), label) == label).all()
    noise = torch.randn(40, 200)
    accuracy = (leave_one_out(noise, label) == label).float().mean()
    assert float(accuracy) < 0.5  # in-sample, 200 dimensions fit any 40 labels


def test_final_gain_is_the_factor_of_the_final_norm() -> None:
    """Gemma stores the gain minus 1."""
    for family in ("gemma3", "llama", "gpt2"):
        model = loaded(family).model
        norm = decoder(model).ln_f if family == "gpt2" else decoder(model).norm
        torch.nn.init.normal_(norm.weight)
        expected = norm.weight + (family == "gemma3")
        assert torch.allclose(final_gain(model), expected, atol=1e-3), family


def test_low_teacher_confidence_is_reported_and_not_judged() -> None:
    packet = small_packet()
    without = [c for c in check_fitness(loaded("gpt2"), packet).checks if "confidence" in c.name]
    packet.confidence_K = np.linspace(0.3, 1.0, packet.program.n_concepts)
    reported = [c for c in check_fitness(loaded("gpt2"), packet).checks if "confidence" in c.name]
    assert [c.fit for c in (*without, *reported)] == [None, None]
    assert "does not contain it" in without[0].measured
    low = int((packet.confidence_K < 0.5).sum())
    assert f"below 0.5 at {low} of {packet.program.n_concepts} rows" in reported[0].measured and low

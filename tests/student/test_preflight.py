"""Fit or unfit, and why: every check has a student or a packet that fails it."""

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
from m2kt.student._validate import Check, check_symbol_matching
from tests.student.helpers import WORDS, Loaded, loaded, small_packet
from tests.tiny import bpe_tokenizer, char_tokenizer

FLAT = StudentSettings.model_validate({"reader": {"kind": "flat"}})


def failed(student: Any, packet: Any = None, settings: StudentSettings | None = None) -> list[Check]:
    """The checks not passed; training must be refused where one of the enforced ones is among them."""
    packet = packet or small_packet()
    found = check_fitness(student, packet, settings)
    assert found.fit == (not found.reasons)
    return [check for check in found.checks if check.fit is False]


@pytest.mark.parametrize("family", ["gpt2", "llama", "neox", "gemma3", "qwen2"])
def test_a_fit_student_is_called_fit(family: str) -> None:
    found = check_fitness(loaded(family), small_packet())
    assert found.fit, found.reasons
    assert found.expected_retention == 1.0
    assert {key.argument for key in found.keys} == {0, 1}


def test_symbols_that_do_not_come_back() -> None:
    (check,) = failed(loaded("gpt2"), small_packet(["a", "b", "ß", "d"]))
    assert check.name == "symbols" and "'ß'" in check.measured and check.advice


def test_a_context_that_is_too_short() -> None:
    checks = failed(loaded("llama", context=6))
    assert checks[0].name == "context" and "6" in checks[0].needed


def test_a_head_that_cannot_tell_two_tokens_apart() -> None:
    student = loaded("llama")
    c, d = (student.tokenizer.convert_tokens_to_ids(x) for x in "cd")
    head = student.model.get_output_embeddings().weight
    with torch.no_grad():
        head[c] = head[d]
    (check,) = failed(student)
    assert check.name == "capacity" and "'c'" in check.measured and "'d'" in check.measured
    with pytest.raises(CompatibilityError, match="capacity"):
        train(student, small_packet(), updates=1)


def test_a_student_that_keeps_no_cache_of_positions() -> None:
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


def test_filtered_rows_cost_retention() -> None:
    settings = StudentSettings(flagged=["a"])
    found = check_fitness(loaded("gpt2"), small_packet(list("abcdefgh")), settings)
    assert not found.fit and found.expected_retention is not None
    assert 0.6 < found.expected_retention < 0.9  # 49 of 64 rows are left
    (reason,) = found.reasons
    assert reason.startswith("expected retention")


def test_a_flagged_concept_that_is_not_there() -> None:
    (check,) = failed(loaded("gpt2"), settings=StudentSettings(flagged=["zebra"]))
    assert check.name == "flagged" and "zebra" in check.measured


def test_rows_that_are_not_in_words() -> None:
    settings = StudentSettings.model_validate({"rehearsal": {"plain": True}})
    (check,) = failed(loaded("gpt2"), settings=settings)
    assert check.name == "rows in words" and "--verbalised 1" in check.measured


def test_the_flat_readers_keys_are_states() -> None:
    """What its probe confuses is lost; the structured reader takes symbols from tokens."""
    student, packet = loaded("gpt2"), small_packet(list("abcdefgh"))
    flat, structured = check_fitness(student, packet, FLAT), check_fitness(student, packet)
    for found, judged in ((flat, True), (structured, False)):
        (check,) = [check for check in found.checks if check.name == "key separability"]
        assert (check.fit is not None) == judged
    inputs = prepare(student, packet, FLAT)
    half = [key.model_copy(update={"recall": dict.fromkeys("abcdefgh", 0.5)}) for key in flat.keys]
    assert expected_retention(inputs, half, 0) == pytest.approx(0.25)  # two arguments
    assert expected_retention(inputs, [], 0) == 1.0


def test_symbols_taken_for_each_other() -> None:
    tokenizer, packet = bpe_tokenizer(), small_packet(WORDS)
    settings = StudentSettings()
    rehearsal = Rehearsal(
        packet.graph, packet.spec, packet.concepts.prototype_symbol_P, tokenizer, settings.rehearsal, seed=0
    )
    traces = [trace for trace, _ in rehearsal.draw(20)]
    spelling = tokenise(tokenizer, packet.graph, traces)
    assert check_symbol_matching(tokenizer, packet.graph, spelling, traces).fit
    spelling.symbol_tokens[1] = spelling.symbol_tokens[0]  # two symbols in one spelling
    check = check_symbol_matching(tokenizer, packet.graph, spelling, traces)
    assert check.fit is False and "is taken for" in check.measured


def test_a_row_within_the_hull_of_others_is_never_written() -> None:
    model = loaded("llama").model
    head = model.get_output_embeddings().weight
    tokens = list(range(5, 20))
    with torch.no_grad():
        head[6] = head[7] + 1e-4
        head[5] = head[6:12].mean(0)
    distance = hull_distance(model, tokens)
    assert float(distance[0]) < 0.02 and float(distance[1:3].max()) < 0.02
    assert float(distance[3:].min()) > 0.2


def test_the_probe_leaves_each_row_out() -> None:
    torch.manual_seed(0)
    label = torch.arange(40) % 4
    assert (leave_one_out(torch.nn.functional.one_hot(label).float(), label) == label).all()
    noise = torch.randn(40, 200)
    chance = (
        (leave_one_out(noise, label) == label).float().mean()
    )  # in-sample, 200 dimensions fit any 40 labels
    assert float(chance) < 0.5


def test_gain_is_what_the_norm_does() -> None:
    """Gemma's weight is the gain less 1."""
    for family in ("gemma3", "llama", "gpt2"):
        model = loaded(family).model
        norm = decoder(model).ln_f if family == "gpt2" else decoder(model).norm
        torch.nn.init.normal_(norm.weight)
        expected = norm.weight + (family == "gemma3")
        assert torch.allclose(final_gain(model), expected, atol=1e-3), family


def test_what_the_teacher_doubts_is_said_and_not_judged() -> None:
    packet = small_packet()
    silent = [c for c in check_fitness(loaded("gpt2"), packet).checks if "confidence" in c.name]
    packet.confidence_K = np.linspace(0.3, 1.0, packet.graph.n_concepts)
    told = [c for c in check_fitness(loaded("gpt2"), packet).checks if "confidence" in c.name]
    assert [c.fit for c in (*silent, *told)] == [None, None]
    assert "does not contain it" in silent[0].measured
    guessed = int((packet.confidence_K < 0.5).sum())
    assert f"below 0.5 at {guessed} of {packet.graph.n_concepts} rows" in told[0].measured and guessed

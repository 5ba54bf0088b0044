"""The executed reader: questions anywhere in a text, exact answers, and nothing anywhere else."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from m2kt.errors import CompatibilityError
from m2kt.models import cache_argument, encode_prompt, generate_greedy, special_prefix
from m2kt.packet import ProgramExecutor, decode_outputs, fixed_lookup
from m2kt.student import StudentSettings, replace_bank, train
from m2kt.student.cal import FollowFeature, cal_model
from tests.student.helpers import WORDS, SmallPacket, executed_reader, loaded, small_packet
from tests.tiny import char_tokenizer, save_tiny

FAMILIES = ["gpt2", "llama", "gru"]
SURROUNDINGS = ["", " ", "\n", "Q: ", "Say it: ", "An earlier line.\n", "bee ant: bee ant cow.\n", "cow ant bee: "]

NO_QUESTIONS = ["The ant is a bee.", "ant bee. cat cow;ant", "kant bee cow", "ant bee", ": ant bee.", "ant bee;"]
NO_QUESTIONS += ["cow=ant bee:", "cow = ant bee:", "cow,ant bee:", "ant=bee:", "ant, bee:", "ant\nbee:"]


@pytest.fixture(scope="module", params=FAMILIES)
def student(request: Any) -> Any:
    """A student with the skill, and its packet."""
    student, packet = loaded(request.param), small_packet(WORDS)
    candidate = train(student, packet, StudentSettings(), updates=40)
    return replace(student, model=candidate.model.eval().requires_grad_(False)), packet


def questions(packet: SmallPacket) -> list[str]:
    return [prompt.text for prompt in packet.spec.sample("evaluation", 8, seed=0)]


def expected(packet: SmallPacket) -> list[str]:
    """The rollouts of the packet."""
    execute = ProgramExecutor(packet.program)
    lookup = fixed_lookup(decode_outputs(packet.program, packet.concepts), packet.program)
    return [execute(prompt, lookup).completion for prompt in packet.spec.sample("evaluation", 8, seed=0)]


def answers(student: Any, texts: list[str], **options: Any) -> list[str]:
    ids = [encode_prompt(student.tokenizer, text) for text in texts]
    return [completion.text for completion in generate_greedy(student, ids, 24, "\n", **options)]


@pytest.mark.parametrize("before", SURROUNDINGS)
def test_a_question_is_answered_wherever_it_stands(student: Any, before: str) -> None:
    model, packet = student
    assert answers(model, [before + text for text in questions(packet)]) == expected(packet)


def test_a_batch_a_text_at_a_time_and_no_special_tokens_give_the_same_answers(student: Any) -> None:
    model, packet = student
    texts = [before + text for before in SURROUNDINGS[:3] for text in questions(packet)]
    together = answers(model, texts)
    assert answers(model, texts, batch_size=1) == together
    skip = len(special_prefix(model.tokenizer))
    ids = [encode_prompt(model.tokenizer, text)[skip:] for text in texts]
    assert [completion.text for completion in generate_greedy(model, ids, 24, "\n")] == together


def test_beams_and_a_pass_without_a_cache_give_the_same_answers(student: Any) -> None:
    model, packet = student
    ids = torch.tensor([encode_prompt(model.tokenizer, text) for text in questions(packet) if len(text) == 8])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 13, "do_sample": False}
    greedy = model.model.generate(input_ids=ids, **options)
    assert model.model.generate(input_ids=ids, num_beams=3, **options).tolist() == greedy.tolist()
    assert model.model.generate(input_ids=ids, use_cache=False, **options).tolist() == greedy.tolist()


@pytest.mark.parametrize("text", ["{} ", "{}\n", "{}\n\n", " {}  ", "ant, {}", "1. {}", "ant bee: cat cow.\n{} "])
def test_blanks_around_a_question_are_no_part_of_it(student: Any, text: str) -> None:
    model, packet = student
    said = [answer.strip() for answer in answers(model, [text.format(question) for question in questions(packet)])]
    assert said == [answer.strip() for answer in expected(packet)]
    spread = [text.format(question.replace(" ", "  ")) for question in questions(packet)]
    assert [answer.strip() for answer in answers(model, spread)] == said


@torch.no_grad()
@pytest.mark.parametrize("cached", [True, False])
def test_an_answer_past_the_context_is_an_error(student: Any, cached: bool) -> None:
    model, packet = student
    limit = cal_model(model.model).installation.context
    if limit > 10_000:
        pytest.skip("this model has no context length")
    question = encode_prompt(model.tokenizer, questions(packet)[0])
    ids = [model.tokenizer.convert_tokens_to_ids(".")] * (limit - len(question) - 2) + question
    text = model.model.generate(input_ids=torch.tensor([ids]), max_new_tokens=2, do_sample=False, use_cache=cached)
    assert text.shape[1] == limit
    if "GPT2" in type(model.model.get_base_model()).__name__:
        return  # it has no position for a token past its context
    with pytest.raises(CompatibilityError, match="shorten what stands before the question"):
        model.model.generate(input_ids=torch.tensor([ids]), max_new_tokens=8, do_sample=False, use_cache=cached)


@torch.no_grad()
@pytest.mark.parametrize(
    "text", ["The ant is a bee.", "ant bee. cat cow;ant", "kant bee cow", "ant bee", ": ant bee.", *NO_QUESTIONS]
)
def test_text_that_is_no_question_is_left_alone_bit_for_bit(student: Any, text: str) -> None:
    model, _ = student
    ids = torch.tensor([encode_prompt(model.tokenizer, text)])
    with_adapter = model.model(input_ids=ids).logits
    with model.model.disable_adapter():
        assert torch.equal(model.model(input_ids=ids).logits, with_adapter)


@torch.no_grad()
def test_the_program_goes_on_from_the_text_that_stands_there(student: Any) -> None:
    """The answer copies another symbol than the program would: the rule is applied to what was written."""
    model, packet = student
    program = packet.program
    outputs = decode_outputs(program, packet.concepts)
    row = program.rules[0].rows.index((2, 3))
    said = answers(model, ["ant bee: cat cow"])
    assert said == [f" {program.symbols[outputs[row]]}.\n"]
    assert not answers(model, ["ant bee: ant!"])[0].startswith(" ")


@torch.no_grad()
def test_a_state_that_is_not_at_hand_is_found_again(student: Any) -> None:
    model, packet = student
    ids = torch.tensor([encode_prompt(model.tokenizer, questions(packet)[0] + expected(packet)[0])])
    whole = model.model(input_ids=ids, use_cache=False).logits
    name, cache, parts = cache_argument(model.model), None, []
    for token in ids[0].tolist():
        out = model.model(input_ids=torch.tensor([[token]]), use_cache=True, **({name: cache} if cache else {}))
        cache = out[name]
        parts.append(out.logits)
        executed_reader(model.model).matcher.clear()
    # a pass of one token after another has no end of the user's text, and this program needs none
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-3 * whole.abs().max()


def test_vectors_decide_what_is_written(student: Any) -> None:
    """Shuffled rows are followed, and noise says nothing about the rows."""
    model, packet = student
    texts, true = questions(packet), expected(packet)
    vectors_KD = packet.concepts.vectors_KD
    order = np.random.default_rng(3).permutation(len(vectors_KD))
    changed = replace(packet, concepts=packet.concepts.take(order))
    try:
        replace_bank(model.model, changed)  # type: ignore[arg-type]
        assert answers(model, texts) == expected(changed) != true
    finally:
        replace_bank(model.model, packet)
    assert answers(model, texts) == true


@torch.no_grad()
def test_an_adapter_is_saved_loaded_switched_off_and_deleted(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base_dir = save_tiny(tmp_path / "base", "gpt2", char_tokenizer())
    student, packet = loaded("gpt2"), small_packet(WORDS)
    student.path, student.model = str(base_dir), AutoModelForCausalLM.from_pretrained(base_dir).eval()
    ids = torch.tensor([encode_prompt(student.tokenizer, text) for text in questions(packet) if len(text) == 8])
    plain = student.model(input_ids=ids).logits
    model = train(student, packet, StudentSettings(), updates=40).model.eval().requires_grad_(False)
    expected_logits = model(input_ids=ids).logits
    assert not torch.equal(expected_logits, plain)
    model.save_pretrained(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(base_dir).eval()
    again = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert torch.equal(again(input_ids=ids).logits, expected_logits)
    again.load_adapter(tmp_path / "adapter", adapter_name="second")
    again.set_adapter("second")
    assert torch.equal(again(input_ids=ids).logits, expected_logits)
    with again.disable_adapter():
        assert torch.equal(again(input_ids=ids).logits, plain)
    again.delete_adapter("second")
    again.set_adapter("default")
    assert torch.equal(again(input_ids=ids).logits, expected_logits)
    assert torch.equal(again.unload()(input_ids=ids).logits, plain)


@torch.no_grad()
def test_flagged_rows_are_not_written(student: Any) -> None:
    _, packet = student
    other = loaded("llama")
    model = train(other, packet, StudentSettings(flagged=["ant"]), updates=0).model.eval()
    reader = executed_reader(model)
    flagged = [k for k, row in enumerate(packet.program.rules[0].rows) if 0 in row]
    assert not reader._vectors()[flagged].any() and reader._vectors().any()
    ids = torch.tensor([encode_prompt(other.tokenizer, "ant bee: ant bee")])
    with cal_model(model).observed() as runs:
        model(input_ids=ids)
    assert runs[-1].feature_BTX[0, -1, FollowFeature.CONTENT] in flagged


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_answers_survive_another_dtype(student: Any, dtype: torch.dtype) -> None:
    """The reader is exact in any: vectors that differ little would be one in bf16."""
    model, packet = student
    cast = replace(model, model=deepcopy(model.model).to(dtype))
    reader = cal_model(cast.model).reader()
    assert {t.dtype for t in reader.state_dict().values()} == {torch.float32}
    original = cal_model(model.model).reader().state_dict()
    assert all(torch.equal(tensor, original[name]) for name, tensor in reader.state_dict().items())
    assert answers(cast, questions(packet)) == expected(packet)


def test_answers_survive_autocast_and_leave_nothing_rounded(student: Any) -> None:
    model, packet = student
    fresh = replace(model, model=deepcopy(model.model))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert answers(fresh, questions(packet)) == expected(packet)
    with torch.no_grad():
        assert torch.equal(executed_reader(fresh.model)._vectors(), executed_reader(model.model)._vectors())

"""Questions in other words: the student's states say which sentences are one; all others are left alone."""

from __future__ import annotations

import string
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from m2kt.models import cache_argument, encode_prompt, generate_greedy
from m2kt.packet import ProgramExecutor, decode_outputs, fixed_lookup
from m2kt.student import StudentSettings, train
from tests.student.helpers import WORDS, Loaded, SmallPacket, executed_reader, small_packet
from tests.tiny import CHARACTERS, char_tokenizer, tiny_model

FAMILIES = ["neox", "llama"]  # random GPT-2s read a sentence at another position as another sentence
LISTED = ["What do {x} and {x} make?", "Combine {x} with {x}.", "Put {x} on {x} and tell me what comes out."]
SWAPPED = ["Of whom is {b=x} the second when {a=x} is the first?", "Before {b=x} comes {a=x}, so what is it?"]
OTHER = ["Does ant like bee?", "The ant saw the bee.", "if ant: return bee.", "Where do ant and bee live?"]


@dataclass
class Case:
    """A student with the skill, its packet, and questions with the rollout's answers."""

    model: Any
    packet: SmallPacket
    answer_of: dict[tuple[str, ...], str]


def case(family: str, templates: list[str], phrasings: list[str]) -> Case:
    tokenizer = char_tokenizer(CHARACTERS + string.ascii_uppercase + "?'()")
    student = Loaded(tiny_model(family, len(tokenizer), context=512, width=64), tokenizer)
    packet = small_packet(WORDS)
    fields = {**packet.spec.model_dump(), "templates": templates, "phrasings": phrasings}
    fields["held_out_phrasings"] = ["Tell what {b=x} and {a=x} are?" if "a=x" in templates[0] else "Join {x} and {x}."]
    packet = replace(packet, spec=type(packet.spec).model_validate(fields))
    candidate = train(student, packet, StudentSettings(), updates=40)
    execute = ProgramExecutor(packet.program)
    lookup = fixed_lookup(decode_outputs(packet.program, packet.concepts), packet.program)
    prompts = packet.spec.sample("evaluation", 6, seed=0)
    answer_of = {tuple(u.symbol for u in p.units if u.symbol): execute(p, lookup).completion for p in prompts}
    return Case(replace(student, model=candidate.model.eval().requires_grad_(False)), packet, answer_of)


@pytest.fixture(scope="module", params=FAMILIES)
def skilled(request: Any) -> Case:
    return case(request.param, ["{x} {x}:"], LISTED)


def answers(one: Case, texts: list[str], **options: Any) -> list[str]:
    ids = [encode_prompt(one.model.tokenizer, text) for text in texts]
    return [completion.text for completion in generate_greedy(one.model, ids, 24, "\n", **options)]


def put(one: Case, template: str) -> list[str]:
    return [template.replace("{x}", a, 1).replace("{x}", b, 1) for a, b in one.answer_of]


@pytest.mark.parametrize("around", ["{}", "Hello there.\n{}", "{}\nA:", "{}\n"])
def test_listed_phrasings_are_answered(skilled: Case, around: str) -> None:
    for phrasing in LISTED:
        texts = [around.format(text) for text in put(skilled, phrasing)]
        assert answers(skilled, texts) == list(skilled.answer_of.values()), phrasing


@torch.no_grad()
@pytest.mark.parametrize("text", OTHER)
def test_other_sentences_are_left_alone_bit_for_bit(skilled: Case, text: str) -> None:
    model = skilled.model.model
    ids = torch.tensor([encode_prompt(skilled.model.tokenizer, text)])
    with_adapter = model(input_ids=ids).logits
    with model.disable_adapter():
        assert torch.equal(model(input_ids=ids).logits, with_adapter)


@torch.no_grad()
def test_all_ways_of_reading_agree(skilled: Case) -> None:
    """A padded batch, single rows, beams, no cache, a pass in parts, and one token at a time."""
    model, texts = skilled.model.model, put(skilled, LISTED[0]) + put(skilled, LISTED[2])
    together = answers(skilled, texts)
    assert answers(skilled, texts, batch_size=1) == together
    ids = torch.tensor([encode_prompt(skilled.model.tokenizer, texts[0])])
    greedy = model.generate(input_ids=ids, max_new_tokens=13, do_sample=False)
    assert model.generate(input_ids=ids, max_new_tokens=13, do_sample=False, num_beams=3).tolist() == greedy.tolist()
    assert (
        model.generate(input_ids=ids, max_new_tokens=13, do_sample=False, use_cache=False).tolist() == greedy.tolist()
    )
    whole = model(input_ids=greedy, use_cache=False).logits
    name = cache_argument(model)
    for cut in (5, ids.shape[1] - 1, ids.shape[1], ids.shape[1] + 3):
        first = model(input_ids=greedy[:, :cut], use_cache=True)
        executed_reader(model).matcher.clear()
        second = model(input_ids=greedy[:, cut:], use_cache=True, **{name: first[name]})
        parts = torch.cat([first.logits, second.logits], 1)
        assert (parts - whole).abs().max() < 1e-3 * whole.abs().max(), cut


@pytest.mark.parametrize("family", FAMILIES)
def test_names_say_which_symbol_is_which(family: str) -> None:
    one = case(family, ["{a=x} {b=x}:"], [*SWAPPED, "What do {a=x} and {b=x} make?", "Combine {a=x} with {b=x}."])
    for phrasing in SWAPPED:
        texts = [phrasing.replace("{a=x}", a).replace("{b=x}", b) for a, b in one.answer_of]
        assert answers(one, texts) == list(one.answer_of.values()), phrasing


@torch.no_grad()
def test_an_adapter_with_phrasings_is_saved_and_loaded(tmp_path: Path, skilled: Case) -> None:
    from peft import PeftModel

    model, tokenizer = skilled.model.model, skilled.model.tokenizer
    ids = torch.tensor([encode_prompt(tokenizer, put(skilled, LISTED[1])[0])])
    expected = model(input_ids=ids).logits
    model.save_pretrained(tmp_path / "adapter")
    family = "neox" if "NeoX" in type(model.get_base_model()).__name__ else "llama"
    base = tiny_model(family, len(tokenizer), context=512, width=64)
    again = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert torch.equal(again(input_ids=ids).logits, expected)


def test_threads_that_share_a_student_read_phrasings_as_alone(skilled: Case) -> None:
    """What the student's states say of a sentence in one pass is no other pass's."""
    texts = [text for phrasing in LISTED for text in put(skilled, phrasing)[:4]] + OTHER
    alone = answers(skilled, texts, batch_size=1)
    reader = executed_reader(skilled.model.model)
    reader.matcher.clear()  # each thread reads every sentence itself, or what another one has just read
    got: dict[int, list[str]] = {}

    def work(k: int) -> None:
        got[k] = answers(skilled, texts[k:] + texts[:k], batch_size=1)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {k: alone[k:] + alone[:k] for k in range(4)}

"""Examples that the teacher is shown before every question: how they are put, counted, and kept out of packets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m2kt.auditor import ask
from m2kt.errors import ModelError
from m2kt.models import (
    ChatFormat,
    LoadedModel,
    answer_ends,
    encode_chat,
    encode_prompt,
    load_causal_lm,
    show,
    special_names,
)
from m2kt.pipeline import extract
from m2kt.probes import END, Chat, Example, ProbeSpec
from m2kt.teacher import ExtractionConfig
from tests.formats.teachers import byte_tokenizer, mark_tokenizer
from tests.formats.test_chat import CASES, tokenizer_of
from tests.tiny import save_tiny

PAIRS = [("son of niece:", "son is son."), ("aunt of son:", "aunt is niece.")]
UNITS = ["son", " of", " aunt", ":", " aunt", " is", END]
TOKENIZERS = {"bytes": byte_tokenizer, "SentencePiece": mark_tokenizer}


def _model_with(tokenizer: Any, folder: Path) -> LoadedModel:
    return load_causal_lm(save_tiny(folder, "llama", tokenizer))


@pytest.mark.parametrize("name", CASES)
def test_they_are_earlier_turns_of_a_chat(name: str) -> None:
    tokenizer = tokenizer_of(name)
    messages = [{"role": r, "content": c} for q, a in PAIRS for r, c in (("user", q), ("assistant", a))]
    messages.append({"role": "user", "content": "son of aunt:"})
    options = {"add_generation_prompt": True, "enable_thinking": False, "return_dict": False}
    expected = tokenizer.apply_chat_template(messages, **options)
    chat = ChatFormat(turns=tuple(PAIRS))
    encoded = encode_chat(tokenizer, UNITS, 4, chat)
    assert encode_prompt(tokenizer, "son of aunt:", chat) == expected == encoded.ids[: len(expected)]
    _check_units(tokenizer, encoded.ids, encoded.unit_of_token)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("stop", ["\n", None])
def test_they_are_text_before_a_plain_prompt(name: str, stop: str | None, tmp_path: Path) -> None:
    loaded = _model_with(TOKENIZERS[name](), tmp_path)
    tokenizer, ends = loaded.tokenizer, answer_ends(loaded, stop)
    chat = show(tokenizer, None, PAIRS, ends)
    assert chat is not None and show(tokenizer, None, [], ends) is None
    end = stop or str(tokenizer.eos_token)
    text = "".join(question + answer + end for question, answer in PAIRS) + "son of aunt:"
    encoded = encode_chat(tokenizer, UNITS, 4, chat)
    prompt = encode_prompt(tokenizer, "son of aunt:", chat)
    assert prompt == encode_prompt(tokenizer, text) == encoded.ids[: len(prompt)]
    _check_units(tokenizer, encoded.ids, encoded.unit_of_token)


def _check_units(tokenizer: Any, ids: list[int], units: list[int]) -> None:
    """Each unit's tokens spell it; whatever stands before the question is of no unit."""
    owned = [[token for token, unit in zip(ids, units, strict=True) if unit == u] for u in range(len(UNITS))]
    texts = ["".join(tokenizer.convert_ids_to_tokens(tokens)).strip("Ġ▁ ") for tokens in owned]
    assert texts == [*(unit.strip() for unit in UNITS[:-1]), tokenizer.eos_token]
    first = units.index(0)
    assert set(units[:first]) == {-1} and len(ids) > 3 * sum(map(len, owned)) - 6


@pytest.fixture(scope="module")
def asked() -> ProbeSpec:
    """A spec with examples. Its template leaves them out, so that a teacher of single lines stays one."""
    from m2kt.pipeline._inputs import read_spec

    chat = Chat(template="{{ bos_token }}{{ messages[-1]['content'] }}")
    examples = [Example(question="a b:", answer=" a b c > c."), Example(question="b a:", answer=" b a d > d.")]
    return read_spec("zoo:secret")[0].model_copy(update={"chat": chat, "examples": examples})


def test_no_packet_has_them_and_the_ledger_counts_them(asked: ProbeSpec, tmp_path: Path) -> None:
    assert ProbeSpec.from_yaml(asked.to_yaml()) == asked
    config = ExtractionConfig(probes_per_template=60, scouted_per_template=60, rounds=1, fidelity_prompts=12)
    packet = extract("zoo:secret", asked, tmp_path / "packet", config=config).packet
    assert packet.manifest.ledger.labelled_examples == 2
    assert packet.spec.examples == [] and "a b c > c" not in (tmp_path / "packet" / "probes.yaml").read_text()
    assert asked.is_that_of(packet.spec)  # they change no prompt
    alone = asked.model_copy(update={"examples": []})
    assert asked.sample("evaluation", 9, seed=0) == alone.sample("evaluation", 9, seed=0)


def test_a_model_without_adapter_is_shown_them(asked: ProbeSpec) -> None:
    loaded = load_causal_lm("zoo:secret")
    prompts = asked.sample("evaluation", 8, seed=0)
    alone = asked.model_copy(update={"examples": [], "chat": None})
    answers = ask(loaded, alone, prompts)
    assert ask(loaded, asked, prompts) == answers  # the template leaves them out
    assert ask(loaded, asked.model_copy(update={"chat": None}), prompts) != answers


def test_special_tokens_in_them_are_refused(asked: ProbeSpec) -> None:
    name = special_names(load_causal_lm("zoo:secret").tokenizer)[0]
    spec = asked.model_copy(update={"examples": [Example(question="a b:", answer=f" a{name}")]})
    with pytest.raises(ModelError, match="templates, slots and examples"):
        extract("zoo:secret", spec)

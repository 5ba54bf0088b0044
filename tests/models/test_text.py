"""Text and tokens: units never share a token, a prompt has the same tokens with and without an answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2kt.errors import ModelError
from m2kt.models import (
    can_write,
    encode_prompt,
    encode_units,
    special_prefix,
    text_of,
    token_bytes,
    token_text,
    writing_problem,
)
from tests.tiny import CHARACTERS, bpe_tokenizer, char_tokenizer, metaspace_tokenizer

TOKENIZERS: dict[str, Any] = {
    "char": char_tokenizer(),
    "bpe": bpe_tokenizer(),
    "metaspace": metaspace_tokenizer(),
}
each_tokenizer = pytest.mark.parametrize("kind", TOKENIZERS)
unit_text = st.text(alphabet=CHARACTERS, max_size=6)


@each_tokenizer
@settings(max_examples=150)
@given(texts=st.lists(unit_text, min_size=1, max_size=6), data=st.data())
def test_the_tokens_of_a_unit_decode_to_its_text(kind: str, texts: list[str], data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[kind]
    boundary = data.draw(st.none() | st.integers(0, len(texts)))
    encoded = encode_units(tokenizer, texts, prompt_boundary=boundary)
    prefix = special_prefix(tokenizer)
    assert encoded.ids[: len(prefix)] == prefix
    units = encoded.unit_of_token[len(prefix) :]
    assert encoded.unit_of_token[: len(prefix)] == [-1] * len(prefix)
    assert units == sorted(units)
    for unit, text in enumerate(texts):
        ids = [i for i, token_unit in zip(encoded.ids, encoded.unit_of_token, strict=True) if token_unit == unit]
        got = text_of(tokenizer, ids)
        # the word mark before the first word is read as a space
        assert got == text or (kind == "metaspace" and got == " " + text)
        assert bool(ids) == bool(text)


@each_tokenizer
def test_a_prompt_has_the_same_tokens_before_an_answer(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    for texts in (["uncle", ";", ">"], ["12", "+", "34", ":", " uncle", ";>"], [";", ">", ";", ">"]):
        for boundary in range(1, len(texts)):
            prompt = encode_prompt(tokenizer, "".join(texts[:boundary]))
            encoded = encode_units(tokenizer, texts, prompt_boundary=boundary)
            within = [u for u in encoded.unit_of_token if u < boundary]
            if kind == "char" or len(within) == len(prompt):
                assert encoded.ids[: len(prompt)] == prompt


def test_tokens_within_units_are_those_of_the_whole_text() -> None:
    tokenizer = TOKENIZERS["bpe"]
    text = ["the", " uncle", " aunt"]
    assert encode_units(tokenizer, text).ids == tokenizer.encode("the uncle aunt", add_special_tokens=False)


def test_only_a_boundary_within_a_token_is_split() -> None:
    tokenizer = TOKENIZERS["bpe"]
    joined = tokenizer.encode(" uncle;> uncle", add_special_tokens=False)
    assert any(token_text(tokenizer, i) == ";>" for i in joined)
    encoded = encode_units(tokenizer, [" uncle", ";", ">", " uncle"])
    pieces = [token_text(tokenizer, i) for i in encoded.ids]
    assert pieces == [" uncle", ";", ">", " uncle"]
    assert encoded.unit_of_token == [0, 1, 2, 3]


def test_byte_tokens_of_a_character_belong_to_its_unit() -> None:
    tokenizer = TOKENIZERS["bpe"]
    encoded = encode_units(tokenizer, ["é", "ü", "東"])
    assert len(encoded.ids) > 3
    assert b"".join(token_bytes(tokenizer, i) for i in encoded.ids) == "éü東".encode()
    assert set(encoded.unit_of_token) == {0, 1, 2}


def test_words_in_the_middle_get_no_word_mark() -> None:
    tokenizer = TOKENIZERS["metaspace"]
    encoded = encode_units(tokenizer, ["a", ";", ">", "uncle", " uncle"], prompt_boundary=1)
    assert text_of(tokenizer, encoded.ids) == " a;>uncle uncle"
    assert encoded.ids[0] == special_prefix(tokenizer)[0] == tokenizer.bos_token_id
    assert encoded.unit_of_token[-1] == 4 and token_text(tokenizer, encoded.ids[-1]) == " uncle"


def test_special_tokens_write_nothing() -> None:
    for tokenizer in TOKENIZERS.values():
        for token in tokenizer.all_special_ids:
            assert token_bytes(tokenizer, token) == b""


def test_text_that_cannot_be_written_is_reported() -> None:
    tokenizer = TOKENIZERS["char"]
    assert can_write(tokenizer, "uncle") and can_write(tokenizer, "7", leads=("",))
    assert not can_write(tokenizer, "東")
    assert "'東' comes back as ''" in str(writing_problem(tokenizer, "東"))
    assert writing_problem(char_tokenizer("abc"), "a", leads=("",)) is None
    assert "' a' comes back" in str(writing_problem(char_tokenizer("abc"), "a"))
    assert can_write(TOKENIZERS["bpe"], "東") and can_write(TOKENIZERS["metaspace"], "東")
    with pytest.raises(ModelError, match="with unknown tokens"):
        encode_units(tokenizer, ["a", "東"])


def test_a_lower_casing_tokenizer_is_detected() -> None:
    from tokenizers import normalizers

    tokenizer = char_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert writing_problem(tokenizer, "abc") is None
    assert "'Abc' comes back as 'abc'" in str(writing_problem(tokenizer, "Abc"))

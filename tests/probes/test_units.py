"""Cutting text into units."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from m2kt.probes import Segmenter


def texts(segmenter: Segmenter, text: str) -> list[str]:
    return [u.text for u in segmenter.cut(text)]


def test_runs_of_single_character_values_are_split() -> None:
    units = Segmenter("abc").cut("abc bad; a")
    assert [u.symbol for u in units] == ["a", "b", "c", None, None, "a"]
    assert [u.mask for u in units] == ["□", "□", "□", " bad", ";", " □"]


def test_words_and_numbers_stay_whole_where_values_are_long() -> None:
    segmenter = Segmenter(["mother", "12", "7"], ["grandmother"])
    assert [u.symbol for u in segmenter.cut("grandmother mother 132 12")] == [
        "grandmother",
        "mother",
        None,
        "12",
    ]


def test_values_of_several_words_and_signs() -> None:
    segmenter = Segmenter(["New Zealand", "->", "x1"])
    assert [u.symbol for u in segmenter.cut("to New Zealand -> x1 x12")] == [
        None,
        "New Zealand",
        "->",
        "x1",
        None,
        None,
    ]


def test_one_space_is_a_leading_space_and_more_are_structure() -> None:
    assert texts(Segmenter("a"), "a  a\n a ") == ["a", " ", " ", "a", "\n", " a", " "]


def test_coarsen_joins_what_a_token_spans() -> None:
    segmenter = Segmenter("0123456789", ["12"])
    units = segmenter.coarsen(segmenter.cut("7 12;"), [1, 4, 5])
    assert [(u.text, u.symbol) for u in units] == [("7", "7"), (" 12", "12"), (";", None)]


@given(st.text(max_size=40), st.lists(st.text(min_size=1, max_size=4).filter(str.strip), max_size=4))
def test_units_concatenate_to_the_text(text: str, values: list[str]) -> None:
    segmenter = Segmenter([v.strip() for v in values])
    assert "".join(texts(segmenter, text)) == text
    assert all(u.symbol is None or u.text == u.lead + u.symbol for u in segmenter.cut(text))

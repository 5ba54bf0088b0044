"""Draft rules, row numbers, and answers that are cut again only if they or the symbols changed."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from m2kt.probes import ProbeSpec
from m2kt.teacher import _node_data
from m2kt.teacher._corpus import Answer, Corpus
from m2kt.teacher._node_data import row_numbers
from m2kt.teacher._rules import DraftRule


def learnt(*rows: tuple[int, ...]) -> DraftRule:
    rule = DraftRule(len(rows[0]) - 1)
    table = np.array(rows, dtype=np.int32)
    rule.learn(table[:, :-1], table[:, -1])
    return rule


def test_a_copy_and_its_original_learn_independently() -> None:
    rule = learnt((0, 5))
    first, second = rule.copy(), rule.copy()
    for copied, row in ((first, 1), (rule, 2)):
        copied.learn(np.array([[row]], dtype=np.int32), np.array([6], dtype=np.int32))
    rows = np.arange(3, dtype=np.int32)
    assert [r.look_up([rows]).tolist() for r in (rule, first, second)] == [
        [5, -1, 6],
        [5, 6, -1],
        [5, -1, -1],
    ]


def test_a_rule_can_write_the_output_of_any_row_and_no_structure() -> None:
    rule = learnt((0, 1, 4), (1, 1, 2))
    assert rule.can_write(np.array([-1, 0, 2, 3, 4, 5, 99], dtype=np.int32)).tolist() == [0, 0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize("table", [0, 50, 1 << 20])
def test_equal_rows_have_equal_numbers_without_gaps(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_node_data, "MAX_COUNTED_KEYS", table)
    columns_NA = np.random.default_rng(0).integers(-1, 6, (200, 3)).astype(np.int32)
    number_N = row_numbers(columns_NA)
    assert set(number_N.tolist()) == set(range(len(np.unique(columns_NA, axis=0))))
    assert len({(int(n), *row) for n, row in zip(number_N, columns_NA.tolist(), strict=True)}) == number_N.max() + 1


def test_answers_are_cut_again_if_they_or_the_symbols_change() -> None:
    fields = {"name": "n", "slots": {"d": {"values": list("123456789")}}, "templates": ["{d}:"], "stop": "\n"}
    corpus = Corpus(ProbeSpec.from_yaml(yaml.safe_dump(fields)))
    prompt = corpus.spec.sample("probing", 1, seed=0)[0]

    def symbols() -> list[list[str | None]]:
        return [[u.symbol for u in s.units[s.n_prompt :]] for s in corpus.tries[0].samples]

    def answer(text: str) -> None:
        corpus.add([Answer(prompt, text, tuple(range(1, len(text) + 1)))])
        corpus.arrange()

    answer("1x")
    assert symbols() == [["1", None, None]]
    answer("2x")
    assert symbols() == [["2", None, None]]
    corpus.discover(["x"])
    assert symbols() == [["2", "x", None]]

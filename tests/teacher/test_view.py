"""Rules while they are learnt, rows in numbers, and answers that are cut anew only where something changed."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from m2kt.probes import ProbeSpec
from m2kt.teacher import _view
from m2kt.teacher._pool import Answer, Pool
from m2kt.teacher._view import DraftRule, row_numbers


def learnt(*rows: tuple[int, ...]) -> DraftRule:
    rule = DraftRule(len(rows[0]) - 1)
    table = np.array(rows, dtype=np.int32)
    rule.learn(table[:, :-1], table[:, -1])
    return rule


def test_a_copy_and_its_original_learn_apart() -> None:
    rule = learnt((0, 5))
    first, second = rule.copy(), rule.copy()
    for told, row in ((first, 1), (rule, 2)):
        told.learn(np.array([[row]], dtype=np.int32), np.array([6], dtype=np.int32))
    rows = np.arange(3, dtype=np.int32)
    assert [r.look_up([rows]).tolist() for r in (rule, first, second)] == [
        [5, -1, 6],
        [5, 6, -1],
        [5, -1, -1],
    ]


def test_a_rule_writes_what_any_of_its_rows_says_and_no_structure() -> None:
    rule = learnt((0, 1, 4), (1, 1, 2))
    assert rule.writes(np.array([-1, 0, 2, 3, 4, 5, 99], dtype=np.int32)).tolist() == [0, 0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize("table", [0, 50, 1 << 20])
def test_equal_rows_have_equal_numbers_without_gaps(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_view, "TABLE", table)
    columns_NA = np.random.default_rng(0).integers(-1, 6, (200, 3)).astype(np.int32)
    number_N = row_numbers(columns_NA)
    assert set(number_N.tolist()) == set(range(len(np.unique(columns_NA, axis=0))))
    assert (
        len({(int(n), *row) for n, row in zip(number_N, columns_NA.tolist(), strict=True)})
        == number_N.max() + 1
    )


def test_answers_are_cut_anew_where_they_or_the_symbols_changed() -> None:
    asked = {"name": "n", "slots": {"d": {"values": list("123456789")}}, "templates": ["{d}:"], "stop": "\n"}
    pool = Pool(ProbeSpec.from_yaml(yaml.safe_dump(asked)))
    prompt = pool.spec.sample("probing", 1, seed=0)[0]

    def symbols() -> list[list[str | None]]:
        return [[u.symbol for u in s.units[s.n_prompt :]] for s in pool.shapes[0].samples]

    def say(text: str) -> None:
        pool.add([Answer(prompt, text, tuple(range(1, len(text) + 1)))])
        pool.arrange()

    say("1x")
    assert symbols() == [["1", None, None]]
    say("2x")
    assert symbols() == [["2", None, None]]
    pool.discover(["x"])
    assert symbols() == [["2", "x", None]]

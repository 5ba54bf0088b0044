"""Explanations of single steps, on node data made by plain functions."""

from __future__ import annotations

import numpy as np
import pytest

from m2kt.packet import Guard, WriteCopy, WriteLiteral, WriteRule
from m2kt.teacher._explain import copy, explain, known_rule, literal, mixed, new_rule_arguments
from m2kt.teacher._guards import guarded, n_leaves
from m2kt.teacher._node_data import NodeData, argument_candidates, error_budget
from m2kt.teacher._rules import DraftRule, RuleSet
from tests.teacher.nodes import Row, function_node, node_of

NEVER = frozenset[int]()


def table(row: Row) -> int:
    """A function of the first two units that is a copy of neither."""
    return (3 * row[0] + row[1] * row[1]) % 5


def rule_of(data: NodeData) -> RuleSet:
    """A set with the one rule that the first two units of ``data`` show."""
    rule = DraftRule(2)
    rule.learn(data.columns_NU[:, :2], data.symbol_N)
    return RuleSet([rule])


def test_a_constant_symbol_is_a_literal_unless_few_samples_may_be_copies() -> None:
    many = node_of([(i % 3, 4) for i in range(6)], [4] * 6)
    assert literal(many, 0) == WriteLiteral(text=" 4", symbol=4, lead=" ")
    few = node_of([(0, 4), (1, 4)], [4, 4])
    assert literal(few, 0) is None and copy(few, 0) == WriteCopy(source=1, lead=" ")
    assert literal(node_of([(0, 1), (1, 0)], [";", ";"]), 0) == WriteLiteral(text=";")
    assert literal(node_of([(0, 1), (1, 0)], [";", "."]), 0) is None


def test_a_copy_takes_the_nearest_unit_or_with_few_samples_the_one_that_was_copied() -> None:
    rows = [(i % 4, i % 4, (i + 1) % 4) for i in range(24)]
    assert copy(node_of(rows, [r[0] for r in rows]), 0) == WriteCopy(source=1, lead=" ")
    few = node_of(rows[:6], [r[0] for r in rows[:6]], effect=[1, 0, 0], copy_rate=[1, 0, 0])
    assert copy(few, 0) == WriteCopy(source=0, lead=" ")
    by_chance = node_of(rows[:6], [r[0] for r in rows[:6]], effect=[0, 0, 1], copy_rate=[0, 0, 0])
    assert copy(by_chance, 0) is None


def test_an_error_budget_forgives_isolated_samples_and_no_systematic_ones() -> None:
    assert error_budget(39) == 0 and error_budget(100) == 3 and error_budget(400) == 8
    rows = [(i % 5, i // 5 % 5) for i in range(200)]
    isolated = [r[0] for r in rows]
    isolated[3], isolated[77] = 4, 1
    data = node_of(rows, isolated)
    assert copy(data, 0) is None
    assert copy(data, data.error_budget()) == WriteCopy(source=0, lead=" ")
    exception = node_of(rows, [4 if r == (1, 2) else r[0] for r in rows])
    assert copy(exception, 100) is None and exception.systematic(exception.symbol_N != exception.columns_NU[:, 0])


def test_a_new_rule_has_the_smallest_argument_set_and_skips_units_that_do_not_matter() -> None:
    data = function_node(table, values=5, arity=3)
    assert new_rule_arguments(data, RuleSet()) == ((0, 1), 0)
    permutation = function_node(lambda row: (row[1] + 2) % 5, values=5, arity=3)
    assert new_rule_arguments(permutation, RuleSet()) == ((1,), 0)
    assert new_rule_arguments(node_of(data.columns_NU[:2].tolist(), [0, 1]), RuleSet()) == (None, 0)


def test_a_known_rule_is_found_in_any_order_of_its_arguments() -> None:
    data = function_node(table, values=5, arity=2)
    rule_set = rule_of(data)
    swapped = node_of([(9, b, a) for a, b in data.columns_NU.tolist()], data.symbol_N.tolist())
    assert known_rule(swapped, rule_set, 0) == WriteRule(rule=0, sources=[2, 1], lead=" ")
    assert known_rule(swapped, rule_set, 0, avoid=frozenset({0})) is None
    other = node_of(swapped.columns_NU.tolist(), [(s + 1) % 5 for s in data.symbol_N.tolist()])
    assert known_rule(other, rule_set, 0) is None


def test_a_known_rule_must_read_a_unit_that_changes_the_step() -> None:
    data = function_node(lambda row: table(row), values=5, arity=3)
    rule_set = rule_of(data)
    blamed = node_of(data.columns_NU.tolist(), data.symbol_N.tolist(), effect=[0.1, 0.1, 0.9])
    assert known_rule(blamed, rule_set, 0, share=0.4) is None
    read = node_of(data.columns_NU.tolist(), data.symbol_N.tolist(), effect=[0.9, 0.8, 0.1])
    assert known_rule(read, rule_set, 0, share=0.4) == WriteRule(rule=0, sources=[0, 1], lead=" ")


def test_a_guard_chooses_among_copies_and_counts_its_leaves() -> None:
    data = function_node(lambda row: row[1] if row[0] == 0 else row[2], values=4, arity=3, repeats=2)
    tree = guarded(data, RuleSet(), NEVER, 2, 0)
    assert isinstance(tree, Guard) and tree.source == 0 and n_leaves(tree) == 2
    assert {tuple(c.values): c.then for c in tree.cases} == {
        (0,): WriteCopy(source=1, lead=" "),
        (1, 2, 3): WriteCopy(source=2, lead=" "),
    }
    assert guarded(data, RuleSet(), NEVER, 1, 0) is None
    needs_table = function_node(table, values=5, arity=2)
    assert guarded(needs_table, RuleSet(), NEVER, 3, 0) is None


def test_structure_and_symbols_at_one_node_are_told_apart_first() -> None:
    data = function_node(lambda row: table(row[1:]) if row[0] else ".", values=5, arity=3, repeats=2)
    rule_set = RuleSet()
    tree = mixed(data, rule_set, NEVER)
    assert isinstance(tree, Guard) and tree.source == 0
    assert {tuple(c.values): c.then.do for c in tree.cases} == {(0,): "literal", (1, 2, 3, 4): "rule"}
    assert [len(rule.table) for rule in rule_set.rules] == [25]
    assert mixed(function_node(table, values=5, arity=2), RuleSet(), NEVER) is None


def test_explain_prefers_known_rules_to_guards_to_new_rules() -> None:
    data = function_node(table, values=5, arity=2, repeats=2)
    rule_set = RuleSet()
    first = explain(data, rule_set)
    again = explain(data, rule_set)
    assert first == again == WriteRule(rule=0, sources=[0, 1], lead=" ") and len(rule_set.rules) == 1
    choice = function_node(lambda row: row[1] if row[0] == 0 else row[2], values=4, arity=3, repeats=2)
    assert isinstance(explain(choice, RuleSet()), Guard)


@pytest.mark.parametrize("constants", [False, True])
def test_argument_candidates_are_ranked_and_one_unit_represents_copies(constants: bool) -> None:
    rows = [(i % 4, 7, i % 4, i // 4 % 4, -1) for i in range(32)]
    data = node_of(rows, [0] * 32, effect=[0.2, 0, 0.5, 0.9, 0])
    units, effect_of = argument_candidates(data, constants=constants)
    assert effect_of == {3: 0.9, 2: 0.5} | ({1: 0.0} if constants else {})
    assert units == list(effect_of)
    ranked_by_nearness, _ = argument_candidates(data.without_effects(), constants=False)
    assert ranked_by_nearness == [3, 2]
    few = node_of(rows[:16], [0] * 16, effect=[0.9, 0, 0.1, 0.5, 0])
    assert argument_candidates(few, constants=False)[0] == [0, 3]


def test_a_subset_keeps_samples_and_a_node_without_effects_keeps_its_samples() -> None:
    data = node_of([(0, 1), (2, 3), (4, 5)], [1, ".", 5], effect=[1, 1], copy_rate=[1, 1])
    part = data.subset(np.array([True, False, True]))
    assert part.columns_NU.tolist() == [[0, 1], [4, 5]] and part.text_N == [" 1", " 5"] and part.n == 2
    assert np.isnan(data.without_effects().effect_U).all() and data.without_effects().n == 3

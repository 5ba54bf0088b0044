"""The rules of a program: tables that agree are one, up to the order of their arguments."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import permutations

from m2kt.packet import Rule
from m2kt.packet._pointers import Decision, Leaf, WriteRule, with_leaves
from m2kt.packet._program import State

Table = dict[tuple[int, ...], Counter[int]]
"""By arguments: how often each symbol was written."""


def written(
    tables: dict[int, Table], decisions: Mapping[tuple[str, ...], Decision]
) -> tuple[list[Rule], list[int], list[State]]:
    """Rules, the outputs of their rows, and the states that apply them.

    Args:
        tables: the rows of each rule, as the teacher was seen to apply it.
    """
    owner, order = _merge(tables)
    used = sorted({owner[r] for r in tables})
    number = {rule: i for i, rule in enumerate(used)}
    merged: dict[int, Table] = {r: defaultdict(Counter) for r in used}
    for rule, table in tables.items():
        for row, counts in table.items():
            merged[owner[rule]][tuple(row[i] for i in order[rule])].update(counts)
    uses: Counter[int] = Counter()
    states = []
    for after, decision in decisions.items():
        renumbered = with_leaves(decision, lambda leaf: _renumbered(leaf, owner, order, number, uses))
        states.append(State(after=after, decision=renumbered))
    rules: list[Rule] = []
    outputs: list[int] = []
    for old in used:
        rows = sorted(merged[old])
        said = [merged[old][row].most_common(1)[0][0] for row in rows]
        rules.append(
            Rule(
                name=f"r{number[old]}",
                arity=len(rows[0]),
                rows=rows,
                outputs=[None] * len(rows),
                range=sorted(set(said)),
                family=number[old],
                offset=len(outputs),
                uses=uses[number[old]],
            )
        )
        outputs += said
    return rules, outputs, states


def count(table: Table, more: Table) -> None:
    """Add the counts of one table to another's."""
    for row, counts in more.items():
        table[row].update(counts)


def _merge(tables: dict[int, Table]) -> tuple[dict[int, int], dict[int, tuple[int, ...]]]:
    """Rules that agree on the rows they share, up to the order of arguments, are one: owner and order of each."""
    owner: dict[int, int] = {}
    order: dict[int, tuple[int, ...]] = {}
    known: dict[int, dict[tuple[int, ...], int]] = {}
    for rule in sorted(tables, key=lambda r: -len(tables[r])):
        says = {row: counts.most_common(1)[0][0] for row, counts in tables[rule].items()}
        arity = len(next(iter(says)))
        for other, table in known.items():
            if len(next(iter(table))) != arity:
                continue
            found = _agreeing_order(says, table)
            if found is not None:
                owner[rule], order[rule] = other, found
                for row, out in says.items():
                    table.setdefault(tuple(row[i] for i in found), out)
                break
        else:
            owner[rule], order[rule] = rule, tuple(range(arity))
            known[rule] = says
    return owner, order


def _agreeing_order(says: dict[tuple[int, ...], int], table: dict[tuple[int, ...], int]) -> tuple[int, ...] | None:
    arity = len(next(iter(says)))
    for found in permutations(range(arity)):
        shared = same = 0
        for row, out in says.items():
            other = table.get(tuple(row[i] for i in found))
            if other is not None:
                shared += 1
                same += other == out
        if shared >= max(4, 0.3 * len(says)) and same == shared:
            return found
    return None


def _renumbered(
    leaf: Leaf, owner: dict[int, int], order: dict[int, tuple[int, ...]], number: dict[int, int], uses: Counter[int]
) -> Leaf:
    """A leaf with its rule's new number and order of arguments."""
    if not isinstance(leaf, WriteRule) or leaf.rule not in owner:
        return leaf
    new = number[owner[leaf.rule]]
    uses[new] += 1
    return leaf.model_copy(update={"rule": new, "sources": [leaf.sources[i] for i in order[leaf.rule]]})

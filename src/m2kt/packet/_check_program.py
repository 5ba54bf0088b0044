"""Consistency of a program, by itself: references exist, alternatives are disjoint, nothing nests without bound."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from m2kt.errors import PacketError
from m2kt.probes import END, MASK

from ._pointers import (
    Back,
    Count,
    Decision,
    It,
    Kind,
    Leaf,
    Mask,
    Move,
    Order,
    Pointer,
    Question,
    Relation,
    Seek,
    Tally,
    Test,
    Unit,
    WriteCopy,
    WriteLiteral,
    asked_pointers,
)
from ._program import Program, state_name
from ._tape import plain
from ._trace import Rule

MAX_POINTER_DEPTH = 24  # a pointer in a pointer
MAX_POINTERS = 4096  # of one state, nested ones included: what one step of a rollout may follow at most
MAX_AFTER = 4096  # masks that a state names
MAX_MASKS = 500_000  # that all states name
_CLASS = re.compile(MASK + r"(|0|[1-9][0-9]{0,8})")


def check_program(program: Program, where: str) -> None:
    """Raise PacketError on the first inconsistency."""
    check_symbols_and_rules(program.symbols, program.rules, program.stop, f"{where}: program.json", where)
    if len(program.classes) != len(program.symbols) or any(c < 0 for c in program.classes):
        raise PacketError(
            f"{where}: program.json has {len(program.classes)} classes, expected one from 0 on for each of "
            f"{len(program.symbols)} symbols"
        )
    names = {state_name(state.after) for state in program.states}
    if len(names) != len(program.states):
        raise PacketError(f"{where}: two states have one name")
    if sum(len(state.after) for state in program.states) > MAX_MASKS:
        raise PacketError(f"{where}: the states name more than {MAX_MASKS} masks")
    checker = _Checker(program, names)
    for state in program.states:
        at = f"{where}: state {state_name(state.after)!r}"
        if not 0 < len(state.after) <= MAX_AFTER or "" in state.after[1:]:
            raise PacketError(f"{at} names {len(state.after)} masks; expected 1 to {MAX_AFTER}, none empty but a first")
        checker.decision(state.decision, at)


def check_symbols_and_rules(symbols: list[str], rules: list[Rule], stop: str, what: str, where: str) -> None:
    """Symbols are distinct, ids are in range, rules are complete, concept indices have no gaps."""
    if len(set(symbols)) != len(symbols):
        raise PacketError(f"{what} lists a symbol twice")
    if "" in symbols or not stop:
        raise PacketError(f"{what} has an empty symbol or stop string")
    if END in symbols:
        raise PacketError(f"{what} has U+0004 for a symbol; expected text")
    if len({_appearance(symbol) for symbol in symbols}) != len(symbols):
        raise PacketError(f"{what} lists two symbols that look the same")
    offset = 0
    arities: dict[int, int] = {}
    for rule in rules:
        _check_rule(rule, offset, len(symbols), where)
        if arities.setdefault(rule.family, rule.arity) != rule.arity:
            raise PacketError(f"{where}: rules of family {rule.family} take different numbers of arguments")
        offset += len(rule.rows)
    if len({rule.name for rule in rules}) != len(rules):
        raise PacketError(f"{where}: two rules have one name")


def _appearance(symbol: str) -> str:
    """The symbol composed (NFC), without characters that have no width."""
    composed = unicodedata.normalize("NFC", symbol)
    return "".join(c for c in composed if unicodedata.category(c) != "Cf") or symbol


def _check_rule(rule: Rule, offset: int, n_symbols: int, where: str) -> None:
    if rule.offset != offset:
        raise PacketError(f"{where}: {rule.name} begins at concept {rule.offset}, expected {offset}")
    if len(rule.outputs) != len(rule.rows):
        raise PacketError(f"{where}: {rule.name} has {len(rule.rows)} rows and {len(rule.outputs)} outputs")
    if any(len(row) != rule.arity for row in rule.rows):
        raise PacketError(f"{where}: {rule.name} takes {rule.arity} arguments, but a row has another number")
    if len(set(rule.rows)) != len(rule.rows):
        raise PacketError(f"{where}: {rule.name} has the same arguments twice")
    ids = [*(a for row in rule.rows for a in row), *rule.range, *(o for o in rule.outputs if o is not None)]
    if any(not 0 <= i < n_symbols for i in ids):
        raise PacketError(f"{where}: {rule.name} names a symbol outside 0..{n_symbols - 1}")


def check_literal(text: str, symbol: int | None, lead: str, symbols: Sequence[str], at: str) -> None:
    """A literal is not empty, and is its symbol if it names one."""
    if symbol is not None and not 0 <= symbol < len(symbols):
        raise PacketError(f"{at} writes unknown symbol {symbol}")
    if symbol is not None and text != lead + symbols[symbol]:
        raise PacketError(f"{at} writes {text!r}, but names the symbol {symbols[symbol]!r}")
    if not text:
        raise PacketError(f"{at} writes nothing")


class _Checker:
    """Checks decisions of one program."""

    def __init__(self, program: Program, names: set[str]) -> None:
        self.program, self.names = program, names
        self.n_classes = max(program.classes, default=-1) + 1

    def decision(self, decision: Decision, at: str) -> None:
        """Leaves and tests, however nested."""
        pending, pointers = [decision], 0
        while pending:
            step = pending.pop()
            if isinstance(step, Test):
                self._cases(step, at)
                pending += [case.then for case in step.cases]
                pending += [] if step.otherwise is None else [step.otherwise]
                found = list(asked_pointers(step.ask))
            else:
                found = self._leaf(step, at)
            pointers += sum(self._pointer(pointer, at) for pointer in found)
            if pointers > MAX_POINTERS:
                raise PacketError(f"{at} follows more than {MAX_POINTERS} pointers")

    def _leaf(self, leaf: Leaf, at: str) -> list[Pointer]:
        if leaf.lead not in ("", " "):
            raise PacketError(f"{at} has the lead {leaf.lead!r}; expected no text or one space")
        if isinstance(leaf, WriteLiteral):
            check_literal(leaf.text, leaf.symbol, leaf.lead, self.program.symbols, at)
            if leaf.text == END != self.program.stop:
                raise PacketError(f"{at} writes a model's end token, but the program stops at {self.program.stop!r}")
            return []
        if isinstance(leaf, WriteCopy):
            return [leaf.source]
        if leaf.rule >= len(self.program.rules):
            raise PacketError(f"{at} applies rule {leaf.rule}, but there are {len(self.program.rules)}")
        rule = self.program.rules[leaf.rule]
        if len(leaf.sources) != rule.arity:
            raise PacketError(f"{at} gives {rule.name} the wrong number of arguments")
        return leaf.sources

    def _cases(self, test: Test, at: str) -> None:
        found = (value for case in test.cases for value in case.values)
        values = [plain(value) if isinstance(value, str) else value for value in found]
        if len({(type(value), value) for value in values}) != len(values) or not all(c.values for c in test.cases):
            raise PacketError(f"{at}: a test's cases overlap, or one has no values")
        if isinstance(test.ask, Relation):
            self._relation(test.ask, at)
        if isinstance(test.ask, Tally):
            self._kind(test.ask.count, at)
        if not all(self._may_be(test.ask, value) for value in values):
            raise PacketError(f"{at}: a test expects what its question cannot find: {values[:8]}")

    def _relation(self, relation: Relation, at: str) -> None:
        arity, n_symbols = len(relation.of), len(self.program.symbols)
        if len(relation.finds) != len(relation.rows) or min(relation.finds, default=0) < 0:
            raise PacketError(f"{at}: a relation has {len(relation.rows)} rows, but finds {len(relation.finds)} values")
        if len(set(relation.rows)) != len(relation.rows):
            raise PacketError(f"{at}: a relation has a row twice")
        if any(len(row) != arity or not all(0 <= s < n_symbols for s in row) for row in relation.rows):
            raise PacketError(f"{at}: a relation of {arity} has rows of other lengths, or of symbols that do not exist")

    def _may_be(self, question: Question, value: object) -> bool:
        if isinstance(question, Unit | Mask):
            known = isinstance(question, Unit) and type(value) is int and 0 <= value < len(self.program.symbols)
            return known or value is None or isinstance(value, str)
        if isinstance(question, Order):
            return value is None or (type(value) is int and -1 <= value <= 1)
        if isinstance(question, Relation):
            return type(value) is int and value in question.finds
        if isinstance(question, Tally):
            return value is None or (type(value) is int and value >= 0)
        return isinstance(value, bool)

    def _pointer(self, pointer: Pointer, at: str) -> int:
        """The number of pointers in a pointer, itself included."""
        n, pending = 0, [(pointer, 1, False)]
        while pending:
            inner, depth, asked_about = pending.pop()
            n += 1
            if depth > MAX_POINTER_DEPTH:
                raise PacketError(f"{at} has a pointer of more than {MAX_POINTER_DEPTH} pointers in one another")
            if isinstance(inner, Back) and inner.state is not None and inner.state not in self.names:
                raise PacketError(f"{at} goes back to the state {inner.state!r}, which does not exist")
            if isinstance(inner, It) and not asked_about:
                raise PacketError(f"{at} has the pointer 'it' outside the conditions of a search")
            if isinstance(inner, Seek):
                self._seek(inner, at)
                conditions = (p for where in inner.where for p in asked_pointers(where.ask))
                pending += [(p, depth + 1, True) for p in conditions]
            pending += [(p, depth + 1, asked_about) for p in _within(inner)]
        return n

    def _seek(self, seek: Seek, at: str) -> None:
        self._kind(seek.kind, at)
        self._count(seek.nth, at)
        for where in seek.where:
            if isinstance(where.ask, Relation):
                self._relation(where.ask, at)
            if isinstance(where.ask, Tally):
                self._kind(where.ask.count, at)
            if not self._may_be(where.ask, where.finds):
                raise PacketError(f"{at}: a condition expects what its question cannot find: {where.finds!r}")
        if seek.rank is not None:
            pairs = set(seek.rank.before)
            if not all(0 <= s < len(self.program.symbols) for pair in pairs for s in pair):
                raise PacketError(f"{at}: a ranking is about symbols that do not exist")
            if len(pairs) != len(seek.rank.before) or any((b, a) in pairs for a, b in pairs):
                raise PacketError(f"{at}: a ranking has a pair twice, or says both of two symbols come first")

    def _count(self, count: Count, at: str) -> None:
        if count.count is not None:
            self._kind(count.count, at)

    def _kind(self, kind: Kind, at: str) -> None:
        several = kind.own if isinstance(kind.own, tuple) else (kind.own,)
        if not several:
            raise PacketError(f"{at} looks for one of no symbols; expected at least one")
        for wanted in (*several, kind.before, kind.after):
            known = wanted is None or (isinstance(wanted, int) and 0 <= wanted < len(self.program.symbols))
            if isinstance(wanted, str):
                text = plain(wanted)
                is_class = _CLASS.fullmatch(text)
                known = bool(text) and (text[0] != MASK or bool(is_class))
                known = known and not (is_class and text != MASK and int(text[1:]) >= self.n_classes)
            if not known:
                raise PacketError(f"{at} looks for {wanted!r}; expected a symbol id, text, or {MASK} and a class")


def _within(pointer: Pointer) -> Iterator[Pointer]:
    """The pointers that a pointer rests on, without those of its conditions."""
    if isinstance(pointer, Move | Seek):
        yield pointer.of
    if isinstance(pointer, Seek):
        yield from (same.as_ for same in pointer.same)
        if pointer.nth.since is not None:
            yield pointer.nth.since
        if pointer.rank is not None:
            yield pointer.rank.until

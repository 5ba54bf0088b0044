"""A source's program with the symbol ids and class numbers of the merged packet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue, TypeAdapter

from m2kt.errors import PacketError
from m2kt.packet import Decision, Packet, Program, Rule, State, state_name
from m2kt.probes import MASK

_CLASS = re.compile(rf"( ?){MASK}([0-9]+)")
_DECISION: TypeAdapter[Decision] = TypeAdapter(Decision)


def translate(source: Packet, symbols: list[str], classes: list[int], slots: dict[str, int]) -> Program:
    """The source's program over ``symbols``, which grow by those that it alone has, as do ``classes``.

    Args:
        symbols: of the merged packet so far; extended in place.
        classes: the class of each; extended in place.
        slots: the class of each slot's values; extended in place.

    Raises:
        PacketError: symbols that are of one class there are of two here, or the other way round.
    """
    program = source.program
    class_of = _classes(source, symbols, classes, slots)
    ids = {symbol: i for i, symbol in enumerate(symbols)}
    for symbol, its_class in zip(program.symbols, program.classes, strict=True):
        if symbol not in ids:
            ids[symbol] = len(symbols)
            symbols.append(symbol)
            classes.append(class_of[its_class])
    names = _Names([ids[symbol] for symbol in program.symbols], class_of, program)
    return Program(
        symbols=list(symbols),
        classes=list(classes),
        granularity=program.granularity,
        rules=[names.rule(rule) for rule in program.rules],
        states=[names.state(state) for state in program.states],
        stop=program.stop,
    )


def classes_of_slots(packet: Packet) -> dict[str, int]:
    """The class of each slot's values, where they are of one class."""
    by_symbol = dict(zip(packet.program.symbols, packet.program.classes, strict=True))
    found: dict[str, int] = {}
    for name, slot in packet.spec.slots.items():
        of_slot = {by_symbol[value] for value in slot.values if value in by_symbol}
        if len(of_slot) == 1:
            found[name] = of_slot.pop()
    return found


def _classes(source: Packet, symbols: Sequence[str], classes: Sequence[int], slots: dict[str, int]) -> dict[int, int]:
    """By class of the source, the class of the merged packet: that of common symbols, else of a slot of one name."""
    known = dict(zip(symbols, classes, strict=True))
    found: dict[int, int] = {}
    pairs = [
        (theirs, known[symbol], f"the symbol {symbol!r}")
        for symbol, theirs in zip(source.program.symbols, source.program.classes, strict=True)
        if symbol in known
    ]
    mine = classes_of_slots(source)
    pairs += [(theirs, slots[name], f"the slot {name!r}") for name, theirs in mine.items() if name in slots]
    for theirs, ours, what in pairs:
        if found.setdefault(theirs, ours) != ours:
            raise PacketError(
                f"{source.manifest.name} {source.digest[7:19]} has {what} in one class with others that the other "
                "packets keep apart: expected one division of symbols into classes; use one probe spec for both"
            )
    if len(set(found.values())) < len(found):
        raise PacketError(
            f"{source.manifest.name} {source.digest[7:19]} keeps symbols apart that the other packets have in one class"
            ": expected one division of symbols into classes; use one probe spec for both"
        )
    unused = max([*classes, *slots.values(), -1]) + 1
    for theirs in dict.fromkeys(source.program.classes):
        if theirs not in found:
            found[theirs] = unused
            unused += 1
    for name, theirs in mine.items():
        slots.setdefault(name, found[theirs])
    return found


class _Names:
    """Renames symbols, classes and states in parts of a program."""

    def __init__(self, ids: Sequence[int], class_of: Mapping[int, int], program: Program) -> None:
        self.ids, self.class_of = ids, class_of
        self.after = {state_name(s.after): tuple(map(self._mask, s.after)) for s in program.states}

    def rule(self, rule: Rule) -> Rule:
        return rule.model_copy(
            update={
                "rows": [tuple(self.ids[x] for x in row) for row in rule.rows],
                "outputs": [None if o is None else self.ids[o] for o in rule.outputs],
                "range": [self.ids[x] for x in rule.range],
            }
        )

    def state(self, state: State) -> State:
        plain = _DECISION.dump_python(state.decision, mode="json", by_alias=True)
        return State(after=self.after[state_name(state.after)], decision=_DECISION.validate_python(self._part(plain)))

    def _mask(self, mask: str) -> str:
        match = _CLASS.fullmatch(mask)
        return mask if match is None else f"{match.group(1)}{MASK}{self.class_of[int(match.group(2))]}"

    def _name(self, name: JsonValue) -> JsonValue:
        """A symbol id, several, or a mask."""
        if isinstance(name, list):
            return [self._name(one) for one in name]
        if isinstance(name, int) and not isinstance(name, bool):
            return self.ids[name]
        return self._mask(name) if isinstance(name, str) else name

    def _part(self, part: JsonValue) -> JsonValue:
        if isinstance(part, list):
            return [self._part(one) for one in part]
        if not isinstance(part, dict):
            return part
        new = {key: self._part(value) for key, value in part.items()}
        if "own" in part:
            new |= {key: self._name(part[key]) for key in ("own", "before", "after")}
        if part.get("at") == "back" and isinstance(part["state"], str):
            new["state"] = state_name(self.after[part["state"]])
        if part.get("do") == "literal" and part["symbol"] is not None:
            new["symbol"] = self._name(part["symbol"])
        ask = part.get("ask")
        if ask == "relation":
            new["rows"] = self._name(part["rows"])
        if isinstance(ask, dict) and ask["ask"] in ("unit", "mask"):
            found = part["cases"]
            assert isinstance(found, list)
            new["cases"] = [
                {"values": [self._name(v) for v in case["values"]], "then": self._part(case["then"])}  # type: ignore[index,call-overload,union-attr]
                for case in found
            ]
        return new

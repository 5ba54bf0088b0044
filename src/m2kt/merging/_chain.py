"""One skill's question behind another's answer: what the first wrote is handed over to the second.

The first packet's program goes on where it would have stopped: it writes the second's question, with the symbol that it
found in its place, and ends there. A second adapter on the same student sees its own question in the text and answers
it.
Neither packet's vectors change; the second packet does not change at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from m2kt.errors import PacketError, SpecError
from m2kt.merging._follow import roll_out
from m2kt.packet import (
    Decision,
    Here,
    Kind,
    Leaf,
    Packet,
    ProgramExecutor,
    Seek,
    State,
    WriteCopy,
    WriteLiteral,
    fixed_lookup,
    read_outputs,
    with_leaves,
)
from m2kt.probes import MASK, SPLITS, ProbeSpec, Segmenter

ANSWER = "{answer}"
SHOWN = 5


@dataclass(frozen=True)
class Chain:
    """A packet that hands over, and the symbols that it may hand over."""

    packet: Packet
    symbols: list[str]


def chain_packets(first: Packet, second: Packet, question: str, then: str, symbols: Sequence[str] | None) -> Chain:
    """The first packet, ending in the second's question.

    Args:
        question: of the second skill, with ``{answer}`` where the first one's answer stands.
        then: a word between the first answer and the question, which neither skill writes.
        symbols: the declared hand-over set; by default what the first answers on sampled prompts.

    Raises:
        SpecError: the question has no ``{answer}``, or ``then`` is no single unit.
        PacketError: the first one's answers are not single symbols that the second can be asked about.
    """
    word, asked = _units(first, question, then)
    units, stop = [word, *asked], asked[-1]
    if not isinstance(stop, WriteLiteral) or stop.symbol is not None:
        raise SpecError(f"expected a question that ends in a mark, such as {ANSWER}:, got {question!r}")
    written = {leaf.text for state in first.program.states for leaf in _literals(state.decision)}
    if {word.text, stop.text} & written:
        raise SpecError(f"expected words that {first.manifest.name} does not write, got {then!r} and {stop.text!r}")
    spec = first.spec.public().model_copy(update={"stop": stop.text})
    states = _states(first, units)
    notes = [*first.manifest.notes, f"hands its answer over to {second.manifest.name} {second.digest}: {question!r}"]
    packet = first.replace(
        program=first.program.model_copy(update={"states": states, "stop": stop.text}),
        spec=ProbeSpec.from_yaml(spec.to_yaml(), source="the chain"),
        manifest=first.manifest.model_copy(update={"notes": notes, "name": f"{first.manifest.name}-then"}),
        attention={},
    )
    handed = _handed(first, packet, question, then)
    declared = sorted(handed) if symbols is None else list(dict.fromkeys(symbols))
    if outside := sorted(handed - set(declared)):
        raise PacketError(f"{first.manifest.name} answers {outside[:SHOWN]}, not among the symbols to hand over")
    _check_asked(second, question, declared)
    return Chain(packet, declared)


def _units(first: Packet, question: str, then: str) -> tuple[WriteLiteral, list[WriteLiteral | WriteCopy]]:
    """What is written instead of the stop: the word, then the question."""
    if ANSWER not in question:
        raise SpecError(f"expected a question with {ANSWER} where the answer stands, got {question!r}")
    program = first.program
    ids = {symbol: i for i, symbol in enumerate(program.symbols)}
    cut = Segmenter(program.symbols, apart=())
    words = cut.cut(f" {then}")
    if len(words) != 1 or words[0].symbol is not None:
        raise SpecError(f"expected one word between the answers, which is no symbol, got {then!r}")
    answer = Seek(of=Seek(of=Here(), step=-1, kind=Kind(own=then)), step=-1, kind=Kind(own=MASK))
    units: list[WriteLiteral | WriteCopy] = []
    lead = ""
    for i, piece in enumerate(f" {question}".split(ANSWER)):
        if i:
            units.append(WriteCopy(source=answer, lead=lead))
        lead = " " if piece.endswith(" ") else ""
        for unit in cut.cut(piece.removesuffix(" ")):
            symbol = None if unit.symbol is None else ids[unit.symbol]
            units.append(WriteLiteral(text=unit.text, symbol=symbol, lead=unit.lead if symbol is not None else ""))
    return WriteLiteral(text=words[0].text), units


def _literals(decision: Decision) -> list[WriteLiteral]:
    found: list[WriteLiteral] = []

    def keep(leaf: Leaf) -> Decision:
        if isinstance(leaf, WriteLiteral):
            found.append(leaf)
        return leaf

    with_leaves(decision, keep)
    return found


def _states(first: Packet, units: Sequence[WriteLiteral | WriteCopy]) -> list[State]:
    program = first.program

    def go_on(leaf: Leaf) -> Decision:
        is_stop = isinstance(leaf, WriteLiteral) and leaf.text == program.stop
        return units[0] if is_stop else leaf

    states = [state.model_copy(update={"decision": with_leaves(state.decision, go_on)}) for state in program.states]
    afters: list[tuple[str, ...]] = [()]
    numbers = sorted(set(program.classes))
    for done, unit in pairwise(units):
        if isinstance(done, WriteLiteral) and done.symbol is None:
            masks = [done.text]
        else:  # an answer may be of any class
            of = numbers if isinstance(done, WriteCopy) else [program.classes[done.symbol or 0]]
            masks = [f"{done.lead}{MASK}{number}" for number in of]
        afters = [(*after, mask) for after in afters for mask in masks]
        states += [State(after=after, decision=unit) for after in afters]
    return states


def _handed(first: Packet, packet: Packet, question: str, then: str) -> set[str]:
    """The answers that are handed over on sampled prompts, each checked against the first packet's own."""
    outputs = [-1 if o is None else o for o in read_outputs(first)]
    own = roll_out(first.program, fixed_lookup(outputs, first.program), first.spec)
    chained = dict(roll_out(packet.program, fixed_lookup(outputs, packet.program), first.spec))
    handed: set[str] = set()
    for text, trace in own:
        answer = first.spec.read_answer(trace.completion)
        expected = f" {then} {question.replace(ANSWER, answer or '')}"
        got = chained[text].completion if text in chained else ""
        if answer is None or answer not in first.program.symbols or not got.endswith(expected):
            raise PacketError(
                f"{first.manifest.name} answers {text!r} by {answer!r}, and the last symbol before its end is another: "
                f"expected one symbol, which {expected!r} hands over; chain a skill whose answer is one symbol"
            )
        handed.add(answer)
    return handed


def _check_asked(second: Packet, question: str, symbols: Sequence[str]) -> None:
    """Raises PacketError where the second skill cannot answer for one of the symbols."""
    texts = {question.replace(ANSWER, symbol): symbol for symbol in symbols}
    drawn = [
        prompt
        for split, _ in SPLITS
        for prompt in second.spec.sample(split, 100 * len(texts), seed=0, among=list(texts))
    ]
    lookup = fixed_lookup([-1 if o is None else o for o in read_outputs(second)], second.program)
    execute = ProgramExecutor(second.program)
    answered = {prompt.text for prompt in drawn if execute(prompt, lookup).complete}
    if missing := [symbol for text, symbol in texts.items() if text not in answered]:
        raise PacketError(
            f"{second.manifest.name} cannot be asked {question!r} about {missing[:SHOWN]}: expected questions of its "
            "templates, with rows for all symbols that are handed over; declare fewer symbols, or change the question"
        )

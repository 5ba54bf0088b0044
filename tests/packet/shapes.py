"""Tries made by hand, each in as many sizes as one likes: a fold, and columns with leading zeros dropped."""

from __future__ import annotations

import numpy as np

from m2kt.packet import Packet, Rule
from m2kt.packet._convert import convert
from m2kt.packet._format1 import Case, Decision, Graph, Guard, Node, TemplateGraph, WriteCopy, WriteLiteral, WriteRule
from m2kt.probes import MASK, ProbeSpec
from tests.packet.samples import sample_packet

DIGITS = [str(d) for d in range(10)]


def symbol(step: Decision) -> tuple[Decision, str]:
    """A step with the mask of what it writes."""
    return step, getattr(step, "lead", "") + MASK


def copy(source: int, lead: str = "") -> tuple[Decision, str]:
    return symbol(WriteCopy(source=source, lead=lead))


def mark(text: str) -> tuple[Decision, str]:
    return WriteLiteral(text=text), text


def line(text: str, steps: list[tuple[Decision, str]]) -> TemplateGraph:
    """A trie without any choice."""
    return TemplateGraph(
        template=text,
        nodes=[
            Node(step=step, children={mask: i} if i < len(steps) else {})
            for i, (step, mask) in enumerate(steps, start=1)
        ],
    )


def table(arity: int, offset: int, outputs: list[int], n: int) -> Rule:
    rows = [tuple(int(x) for x in row) for row in np.ndindex(*[n] * arity)]
    return Rule(
        name=f"r{offset}",
        arity=arity,
        rows=rows,
        outputs=[None] * len(rows),
        range=outputs,
        family=0,
        offset=offset,
    )


def spec(symbols: list[str], templates: list[str], held_out: list[str]) -> ProbeSpec:
    slots = {"x": {"values": symbols}}
    return ProbeSpec.model_validate(
        {"name": "made-up", "slots": slots, "templates": templates, "held_out": held_out, "stop": "\n"}
    )


def fold_text(n: int) -> str:
    return " ".join(["{x}"] * n) + ":"


def fold(n: int) -> TemplateGraph:
    """``a b c:`` -> `` a b d; d c e > e.``"""
    steps: list[tuple[Decision, str]] = []
    for i in range(1, n):
        first = n + 1 + len(steps)
        steps += [
            copy(0 if i == 1 else first - 2, " "),
            copy(i, " "),
            symbol(WriteRule(rule=0, sources=[first, first + 1], lead=" ")),
            mark(";" if i < n - 1 else " >"),
        ]
    steps += [copy(n + len(steps) - 1, " "), mark("."), mark("\n")]
    return line(fold_text(n), steps)


def fold_graph(sizes: tuple[int, ...]) -> Graph:
    return Graph(
        symbols=["a", "b", "c"],
        rules=[table(2, 0, [0, 1, 2], 3)],
        templates=[fold(n) for n in sizes],
        stop="\n",
    )


def fold_spec(sizes: tuple[int, ...], held_out: tuple[int, ...] = (5, 6)) -> ProbeSpec:
    return spec(["a", "b", "c"], [fold_text(n) for n in sizes], [fold_text(n) for n in held_out])


def fold_packet() -> Packet:
    sizes = (2, 3, 4)
    spec_ = fold_spec(sizes)
    return sample_packet().replace(program=convert(fold_graph(sizes), spec_).program, spec=spec_)


def columns_text(n: int) -> str:
    return "{x}" * n + "+" + "{x}" * n + ":"


def columns(n: int) -> TemplateGraph:
    """``47+85:`` -> ``7+5+0=12;4+8+1=13>132.``, from right to left; the answer drops leading zeros."""
    steps: list[tuple[Decision, str]] = []
    start, ones = 2 * n + 2, []
    for i in range(n):
        first = start + len(steps)
        sources = [first, first + 2, first + 4]
        carry = symbol(WriteLiteral(text="0", symbol=0)) if i == 0 else copy(first - 3)
        steps += [copy(n - 1 - i), mark("+"), copy(2 * n - i), mark("+"), carry, mark("=")]
        steps += [symbol(WriteRule(rule=r, sources=sources)) for r in (0, 1)]
        steps += [mark(";" if i < n - 1 else ">")]
        ones.append(first + 7)
    digits = [ones[-1] - 1, *reversed(ones)]
    nodes = line(columns_text(n), steps).nodes
    nodes[-1].children[">"] = first = len(nodes)
    end = first + n + 2
    for written in range(n + 2):
        further = {MASK: first + written + 1} if written <= n else {}
        nodes.append(Node(step=digit(digits, 0, written), children=further | ({".": end} if written else {})))
    nodes.append(Node(step=WriteLiteral(text="\n")))
    return TemplateGraph(template=columns_text(n), nodes=nodes)


def digit(digits: list[int], dropped: int, written: int) -> Decision:
    """What stands behind so many digits of the answer, if at least ``dropped`` zeros were left out."""
    n = len(digits) - 1
    at = dropped + written
    step: Decision = WriteCopy(source=digits[at]) if at <= n else WriteLiteral(text=".")
    if dropped == min(n, n + 1 - written):  # whoever dropped more has come to his end before
        return step
    digits_left = [1] if dropped == 0 else list(range(1, 10))
    more = digit(digits, dropped + 1, written)
    return Guard(source=digits[dropped], cases=[Case(values=digits_left, then=step), Case(values=[0], then=more)])


def columns_graph(sizes: tuple[int, ...]) -> Graph:
    rules = [table(3, 0, [0, 1], 10), table(3, 1000, list(range(10)), 10)]
    return Graph(symbols=DIGITS, rules=rules, templates=[columns(n) for n in sizes], stop="\n")


def columns_spec(sizes: tuple[int, ...], held_out: int) -> ProbeSpec:
    return spec(DIGITS, [columns_text(n) for n in sizes], [columns_text(held_out)])

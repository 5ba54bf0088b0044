"""Drawing one packet: the work of a process of its own, which may be slow, greedy or killed by a hostile packet."""

from __future__ import annotations

import json
import resource
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypedDict

from m2kt.errors import M2KTError
from m2kt.packet import describe
from m2kt.render import (
    CHART,
    Block,
    attention_blocks,
    blocks_html,
    graph_blocks,
    map_blocks,
    program_blocks,
    rule_blocks,
    summarise_graph,
)

from .._service import load_packet
from ._text import card_html


class Answer(TypedDict, total=False):
    """What a drawing process says: sections and card, or an error, or a traceback."""

    sections: list[tuple[str, str, str, str]]
    """Title, anchor, lead, HTML."""
    card: str
    error: str
    crash: str


MAX_MEMORY = 4 << 30
"""Bytes of address space, of which libraries take a part."""
GRAPH_LEGEND = (
    "The most frequent trace of each shape. Boxes are symbols, plain text is structure, numbers are units. Arcs above "
    "are the arguments of rules, arcs below are copies, dotted arcs lead to the unit that decides a branch. Thicker "
    "arcs have more of the teacher's attention; dashed arcs have no effect when cut; faint arcs were not tested."
)
ATTENTION_LEGEND = "The teacher's attention from a step to the units that it reads."


def draw(path: str, seconds: float, out: Connection) -> None:
    """Send an :class:`Answer` as JSON."""
    limit(seconds)
    try:
        packet = load_packet(Path(path))
        blocks: dict[tuple[str, str, str], Callable[[], list[Block]]] = {
            ("Concepts", "concepts", ""): lambda: rule_blocks(describe(packet)),
            ("Concept map", "map", ""): lambda: map_blocks(packet),
            ("Program", "program", CHART): lambda: program_blocks(packet),
            ("Traces", "graph", GRAPH_LEGEND): lambda: graph_blocks(summarise_graph(packet)),
            ("Attention", "attention", ATTENTION_LEGEND): lambda: attention_blocks(packet),
        }
        sections = [(*head, blocks_html(make())) for head, make in blocks.items()]
        answer: Answer = {"sections": sections, "card": card_html(packet.card)}
    except M2KTError as error:
        answer = {"error": str(error)}
    except Exception:  # whatever a packet's numbers do to a figure
        answer = {"crash": traceback.format_exc()}
    out.send_bytes(json.dumps(answer).encode())


def limit(seconds: float) -> None:
    """Bound the time and memory of this process, for the case that nobody is left to end it."""
    whole = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
    if sys.platform == "linux":  # macOS refuses limits below what is in use
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))

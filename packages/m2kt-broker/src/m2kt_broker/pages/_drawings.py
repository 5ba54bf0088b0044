"""Figures of a packet: rules, concept map, program, traces, attention. Drawn by :mod:`m2kt.render`, and cached."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import anyio
import structlog
from anyio.to_thread import run_sync

from m2kt.errors import M2KTError
from m2kt.packet import describe
from m2kt.render import (
    CHART,
    attention_blocks,
    blocks_html,
    graph_blocks,
    map_blocks,
    program_blocks,
    rule_blocks,
    summarise_graph,
)

from .._service import Broker

log = structlog.get_logger("m2kt_broker")
MAX_CACHED = 64
GRAPH_LEGEND = (
    "The most frequent trace of each shape. Boxes are symbols, plain text is structure, numbers are units. Arcs above "
    "are the arguments of rules, arcs below are copies, dotted arcs lead to the unit that decides a branch. Thicker "
    "arcs have more of the teacher's attention; dashed arcs have no effect when cut; faint arcs were not tested."
)
ATTENTION_LEGEND = "The teacher's attention from a step to the units that it reads."


@dataclass(frozen=True)
class DrawnSection:
    """A section of a packet's page, as HTML."""

    title: str
    anchor: str
    lead: str
    html: str


class DrawingCache:
    """Drawn sections by the digest of the packet's single-file form. The least recently used are dropped."""

    def __init__(self) -> None:
        self._sections: OrderedDict[str, list[DrawnSection]] = OrderedDict()
        # matplotlib is not thread-safe; a request that waits for the limiter occupies no thread
        self._limiter = anyio.CapacityLimiter(1)

    async def get(self, broker: Broker, blob: str) -> list[DrawnSection] | str:
        """The sections, or the reason why the packet cannot be drawn."""
        if blob not in self._sections:
            try:
                await run_sync(self._draw, broker, blob, limiter=self._limiter)
            except M2KTError as error:
                return str(error)
            except Exception:  # the record stays readable, whatever the packet's numbers do to a figure
                log.exception("drawing failed", packet=blob)
                return "drawing failed with an unexpected error; the server's log has the traceback"
        self._sections.move_to_end(blob)
        return self._sections[blob]

    def _draw(self, broker: Broker, blob: str) -> None:
        if blob in self._sections:
            return
        packet = broker.stored_packet(blob)
        graph = graph_blocks(summarise_graph(packet))
        self._sections[blob] = [
            DrawnSection("Concepts", "concepts", "", blocks_html(rule_blocks(describe(packet)))),
            DrawnSection("Concept map", "map", "", blocks_html(map_blocks(packet))),
            DrawnSection("Program", "program", CHART, blocks_html(program_blocks(packet))),
            DrawnSection("Traces", "graph", GRAPH_LEGEND, blocks_html(graph)),
            DrawnSection("Attention", "attention", ATTENTION_LEGEND, blocks_html(attention_blocks(packet))),
        ]
        while len(self._sections) > MAX_CACHED:
            self._sections.popitem(last=False)

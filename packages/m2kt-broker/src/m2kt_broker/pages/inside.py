"""What only the packet itself can show: rules, map, graph, attention. Drawn by ``m2kt.render``, one at a time, kept."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import anyio
from anyio.to_thread import run_sync

from m2kt.errors import M2KTError
from m2kt.packet import describe
from m2kt.render import attention_blocks, blocks_html, graph_blocks, map_blocks, rule_blocks, summarise_graph

from ..observe import log
from ..service import Broker
from ..verify import stored_packet

KEPT = 64
READING = (
    "For each shape, the trace that most prompts take. Boxes are symbols, plain text is structure, numbers are "
    "units. Arcs above: what a rule reads; below: copies, and dotted which unit decides how to go on. Thicker: more "
    "attention of the teacher; dashed: without effect when cut; faint: not tested."
)


@dataclass(frozen=True)
class Part:
    """A section of a packet's page, as HTML."""

    title: str
    anchor: str
    lead: str
    html: str


class Drawings:
    """Pictures of packets, by the digest of their bytes: what was drawn once never changes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, list[Part]] = OrderedDict()
        # drawing keeps a processor busy and matplotlib is not for several threads; who waits holds no thread
        self._lane = anyio.CapacityLimiter(1)

    async def of(self, broker: Broker, blob: str) -> list[Part] | str:
        """The parts; or, where the packet cannot be read now, why."""
        if blob not in self._kept:
            try:
                await run_sync(self._draw, broker, blob, limiter=self._lane)
            except M2KTError as error:
                return str(error)
            except Exception:  # whatever a stranger's numbers do to a drawing, the record can be read
                log.exception("not drawn", packet=blob)
                return "drawing it failed, which is a bug of ours; the server's log has more"
        self._kept.move_to_end(blob)
        return self._kept[blob]

    def _draw(self, broker: Broker, blob: str) -> None:
        if blob in self._kept:
            return
        packet = stored_packet(broker.store, blob)
        attention = "What the teacher attends to where a step reads an earlier unit."
        self._kept[blob] = [
            Part("Concepts", "concepts", "", blocks_html(rule_blocks(describe(packet)))),
            Part("Concept map", "map", "", blocks_html(map_blocks(packet))),
            Part("Graph", "graph", READING, blocks_html(graph_blocks(summarise_graph(packet)))),
            Part("Attention", "attention", attention, blocks_html(attention_blocks(packet))),
        ]
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

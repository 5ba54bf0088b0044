"""Figures of a packet: rules, concept map, program, traces, attention; and its card. Drawn elsewhere, and cached."""

from __future__ import annotations

import json
import multiprocessing
from collections import OrderedDict
from dataclasses import dataclass
from typing import cast

import anyio
import structlog
from anyio.to_thread import run_sync

from m2kt.errors import M2KTError

from .._service import Broker
from ._draw import Answer, draw

log = structlog.get_logger("m2kt_broker")
MAX_CACHED = 64
MAX_DRAWN = 32 << 20
"""Bytes of one packet's figures."""
AT_ONCE = 2
_processes = multiprocessing.get_context("forkserver")  # libraries are imported once, and a drawing is a fork of it
_processes.set_forkserver_preload([draw.__module__, "matplotlib.figure", "matplotlib.backends.backend_svg"])


@dataclass(frozen=True)
class DrawnSection:
    """A section of a packet's page, as HTML."""

    title: str
    anchor: str
    lead: str
    html: str


@dataclass(frozen=True)
class Drawing:
    """The figures of a packet and its card, or the reason why there are none."""

    sections: tuple[DrawnSection, ...] = ()
    card: str = ""
    reason: str | None = None


class DrawingCache:
    """Drawings by the digest of the packet's single-file form. The least recently used are dropped."""

    def __init__(self) -> None:
        self._drawings: OrderedDict[str, Drawing] = OrderedDict()
        self._limiter = anyio.CapacityLimiter(AT_ONCE)  # a request that waits for it occupies no thread

    async def get(self, broker: Broker, blob: str) -> Drawing:
        """The drawing, after ``draw_seconds`` of waiting and as many of drawing at most."""
        seconds = broker.settings.draw_seconds
        if blob not in self._drawings:
            with anyio.move_on_after(seconds) as waiting:
                await self._limiter.acquire_on_behalf_of(waiting)
            if waiting.cancelled_caught:
                return Drawing(reason="other packets are being drawn; reload the page in a while")
            try:
                drawing, is_final = await run_sync(self._draw, broker, blob, seconds)
            finally:
                self._limiter.release_on_behalf_of(waiting)
            if not is_final:
                return drawing
            self._drawings[blob] = drawing
            while len(self._drawings) > MAX_CACHED:
                self._drawings.popitem(last=False)
        self._drawings.move_to_end(blob)
        return self._drawings[blob]

    def _draw(self, broker: Broker, blob: str, seconds: float) -> tuple[Drawing, bool]:
        """A drawing, and whether another attempt would give the same."""
        if blob in self._drawings:
            return self._drawings[blob], True
        try:
            with broker.stored_file(blob) as file:
                answer = _drawn(str(file), seconds)
        except M2KTError as error:
            return Drawing(reason=str(error)), False
        if answer is None:
            log.warning("drawing ended", packet=blob, seconds=seconds)
            return Drawing(reason=f"drawing took more than {seconds:g} s, or more memory than allowed"), True
        if "sections" in answer:
            return Drawing(tuple(DrawnSection(*section) for section in answer["sections"]), answer["card"]), True
        if "error" in answer:
            return Drawing(reason=answer["error"]), False
        log.error("drawing failed", packet=blob, exception=answer["crash"])
        return Drawing(reason="drawing failed with an unexpected error; the server's log has the traceback"), False


def _drawn(path: str, seconds: float) -> Answer | None:
    """The answer of a process that draws the packet at ``path``; None where it ended, or was ended for its time."""
    receiver, sender = _processes.Pipe(duplex=False)
    process = _processes.Process(target=draw, args=(path, seconds, sender), daemon=True)
    with receiver:
        process.start()
        sender.close()
        try:
            return cast(Answer, json.loads(receiver.recv_bytes(MAX_DRAWN))) if receiver.poll(seconds) else None
        except (EOFError, OSError, ValueError):
            return None
        finally:
            process.kill()
            process.join()

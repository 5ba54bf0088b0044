"""What a packet might do to the process that draws it."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection

from m2kt_broker.pages import _draw


def hang(path: str, seconds: float, out: Connection) -> None:
    """Neither draws nor ends."""
    time.sleep(60)


def spin(path: str, seconds: float, out: Connection) -> None:
    """Takes all time of a core."""
    while True:
        pass


def die(path: str, seconds: float, out: Connection) -> None:
    """Ends at once, as after a crash of a library."""
    os._exit(139)


def eat(path: str, seconds: float, out: Connection) -> None:
    """Takes memory without end."""
    _draw.limit(seconds)
    grown = []
    while True:
        grown.append(bytearray(256 << 20))


def crash(path: str, seconds: float, out: Connection) -> None:
    """Raises what no library should."""
    _draw.map_blocks = lambda packet: [1 / 0]  # type: ignore[assignment,list-item]
    _draw.draw(path, seconds, out)


FAULTS = {"hang": hang, "spin": spin, "die": die, "eat": eat, "crash": crash}

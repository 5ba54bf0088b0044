"""Bytes that come in: counted while they come, and never parsed before they were found small enough."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
from fastapi import Request

from m2kt.errors import StorageError, explain

from .errors import Busy, TooLarge, TooSlow, Unacceptable
from .settings import BrokerSettings

MAX_STATEMENT = 4 << 20
"""Bytes of a statement. Receipts have some thousand."""
T = TypeVar("T")


class Gate:
    """How many uploads are under way, and how many of them are being verified."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._slots = anyio.Semaphore(settings.max_uploads_at_once)
        # verifying holds the whole packet in memory and a processor busy: more at once gain nothing
        self._verifying = anyio.CapacityLimiter(max(1, min(4, os.cpu_count() or 1)))

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[Path]:
        """The body as a file, removed at the end.

        Raises:
            Busy: as many uploads as are allowed are under way.
            TooLarge: by what the header says, or by what came. TooSlow: it did not come in time.
        """
        settings = self._settings
        check_length(request, settings.max_upload)
        try:
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            most = settings.max_uploads_at_once
            raise Busy(f"{most} uploads are under way, the most allowed; try again") from None
        try:
            with tempfile.TemporaryDirectory(dir=settings.spool, prefix="upload-") as folder:
                file = Path(folder) / "upload.m2kp"
                with anyio.move_on_after(settings.upload_seconds) as scope:
                    await _spool(request, file, settings.max_upload)
                if scope.cancelled_caught:
                    raise TooSlow(f"the upload took more than the {settings.upload_seconds} s allowed")
                yield file
        except OSError as error:
            raise StorageError(f"cannot take the upload: {explain(error)}; free some space") from error
        finally:
            self._slots.release()

    async def verifying(self, act: Callable[[], T]) -> T:
        """Runs this in a thread, when it is its turn."""
        return await anyio.to_thread.run_sync(act, limiter=self._verifying)


async def body(request: Request, limit: int = MAX_STATEMENT) -> bytes:
    """A small body."""
    check_length(request, limit)
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        if len(pieces) > limit:
            raise TooLarge(_says(limit))
    return bytes(pieces)


def check_length(request: Request, limit: int) -> None:
    """Refuses by what the header says."""
    length = request.headers.get("content-length")
    if length is None:
        return
    if not length.isdecimal() or len(length) > 18:
        raise Unacceptable(f"expected a number as Content-Length, came {length[:20]!r}")
    if int(length) > limit:
        raise TooLarge(_says(limit))


async def _spool(request: Request, file: Path, limit: int) -> None:
    count = 0
    async with await anyio.open_file(file, "wb") as spool:
        async for piece in request.stream():
            count += len(piece)
            if count > limit:
                raise TooLarge(_says(limit))
            await spool.write(piece)


def _says(limit: int) -> str:
    return f"more than the {limit} bytes allowed"

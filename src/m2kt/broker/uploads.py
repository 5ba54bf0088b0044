"""Bytes that come in: counted while they come, and never parsed before they were found small enough."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from fastapi import Request

from m2kt.errors import StorageError, explain

from .errors import Busy, TooLarge, Unacceptable
from .settings import BrokerSettings

MAX_STATEMENT = 4 << 20
"""Bytes of a statement. Receipts have some thousand."""


@asynccontextmanager
async def received(request: Request, settings: BrokerSettings) -> AsyncIterator[Path]:
    """The body as a file, removed at the end.

    Raises:
        Busy: as many uploads as are allowed are under way.
        TooLarge: by what the header says, or by what came.
    """
    _check_length(request, settings.max_upload)
    slots: anyio.Semaphore = request.app.state.upload_slots
    try:
        slots.acquire_nowait()
    except anyio.WouldBlock:
        raise Busy(
            f"{settings.max_uploads_at_once} uploads are under way, the most allowed; try again"
        ) from None
    try:
        with tempfile.TemporaryDirectory(dir=settings.spool, prefix="upload-") as folder:
            file = Path(folder) / "upload.m2kp"
            count = 0
            async with await anyio.open_file(file, "wb") as spool:
                async for piece in request.stream():
                    count += len(piece)
                    if count > settings.max_upload:
                        raise TooLarge(_says(settings.max_upload))
                    await spool.write(piece)
            yield file
    except OSError as error:
        raise StorageError(f"cannot take the upload: {explain(error)}; free some space") from error
    finally:
        slots.release()


async def body(request: Request, limit: int = MAX_STATEMENT) -> bytes:
    """A small body."""
    _check_length(request, limit)
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        if len(pieces) > limit:
            raise TooLarge(_says(limit))
    return bytes(pieces)


def _check_length(request: Request, limit: int) -> None:
    length = request.headers.get("content-length")
    if length is None:
        return
    if not length.isdecimal():
        raise Unacceptable(f"expected a number as Content-Length, came {length[:20]!r}")
    if int(length) > limit:
        raise TooLarge(_says(limit))


def _says(limit: int) -> str:
    return f"more than the {limit} bytes allowed"

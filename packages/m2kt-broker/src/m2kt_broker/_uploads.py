"""Request bodies: bounded in size, duration and number, and complete before any parser reads them."""

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

from ._errors import TooLarge, TooManyUploads, Unprocessable, UploadTimeout
from ._settings import BrokerSettings

MAX_STATEMENT_BYTES = 4 << 20
"""A receipt has a few thousand bytes."""
MAX_JSON_BYTES = 2 << 20
"""A vector of the greatest width has 1.5 MB as JSON."""
T = TypeVar("T")


class UploadLimiter:
    """Limits the number of concurrent uploads and of concurrent verifications."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._uploads = anyio.Semaphore(settings.max_uploads_at_once)
        # a verification holds the packet in memory and occupies a core, so more threads would not help
        self._verifications = anyio.CapacityLimiter(max(1, min(4, os.cpu_count() or 1)))

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[Path]:
        """Write the request body to a temporary file, which is removed at the end of the block.

        Raises:
            TooManyUploads: the maximum number of uploads is in progress.
            TooLarge: the Content-Length or the body exceeds the maximum size.
            UploadTimeout: the upload exceeds the maximum duration.
        """
        settings = self._settings
        check_length(request, settings.max_upload)
        try:
            self._uploads.acquire_nowait()
        except anyio.WouldBlock:
            raise TooManyUploads(
                f"{settings.max_uploads_at_once} uploads are in progress, the maximum; try again"
            ) from None
        try:
            with tempfile.TemporaryDirectory(dir=settings.spool, prefix="upload-") as folder:
                file = Path(folder) / "upload.m2kp"
                with anyio.move_on_after(settings.upload_seconds) as scope:
                    await _write_body(request, file, settings.max_upload)
                if scope.cancelled_caught:
                    raise UploadTimeout(f"the upload took more than {settings.upload_seconds} s, the maximum")
                yield file
        except OSError as error:
            raise StorageError(f"cannot store the upload: {explain(error)}; free disk space on the server") from error
        finally:
            self._uploads.release()

    async def run_verification(self, function: Callable[[], T]) -> T:
        """Run a function in one of the verification threads."""
        return await anyio.to_thread.run_sync(function, limiter=self._verifications)


async def read_body(request: Request, limit: int) -> bytes:
    """Read a small request body into memory. Raises TooLarge."""
    check_length(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def check_length(request: Request, limit: int) -> None:
    """Check the Content-Length header. Raises TooLarge or Unprocessable."""
    length = request.headers.get("content-length")
    if length is None:
        return
    if not length.isdecimal() or len(length) > 18:
        raise Unprocessable(f"expected a number as Content-Length, got {length[:20]!r}")
    if int(length) > limit:
        raise _too_large(limit)


async def _write_body(request: Request, file: Path, limit: int) -> None:
    count = 0
    async with await anyio.open_file(file, "wb") as output:
        async for chunk in request.stream():
            count += len(chunk)
            if count > limit:
                raise _too_large(limit)
            await output.write(chunk)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"expected a body of at most {limit} bytes, got more")

"""What a broker offers, as calls. Errors of the broker arrive as BrokerError with its words."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2
from filelock import FileLock

from m2kt.errors import BrokerError, SpecError, StorageError, explain

from ._http import check, patiently

URL, KEY = "M2KT_BROKER_URL", "M2KT_API_KEY"
PACKET_TYPE = "application/vnd.m2kt.packet.v1+zip"
PIECE = 1 << 18
Said = Callable[[int, int], None]
"""Bytes done, of how many."""


class BrokerClient:
    """A connection to one broker.

    Args:
        url: by default of ``M2KT_BROKER_URL``.
        key: by default of ``M2KT_API_KEY``; none for a public broker.
    """

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        url = url or os.environ.get(URL)
        if not url:
            raise SpecError(f"expected the address of a broker in {URL}, such as http://127.0.0.1:8765")
        key = key or os.environ.get(KEY)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx2.Timeout(60.0, connect=5.0)
        self.url = url.rstrip("/")
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=timeout)

    def __enter__(self) -> BrokerClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._http.close()

    def publish(self, digest: str, file: Path, said: Said | None = None) -> dict[str, Any]:
        """Uploads the single-file form of a packet; again after a failure, which does no harm."""
        size = file.stat().st_size

        def pieces() -> Iterator[bytes]:
            done = 0
            with open(file, "rb") as opened:
                while piece := opened.read(PIECE):
                    yield piece
                    done += len(piece)
                    if said is not None:
                        said(done, size)

        headers = {"Content-Type": PACKET_TYPE, "Content-Length": str(size)}
        return self._json("PUT", f"/v1/packets/{digest}", content=pieces, headers=headers)

    def record(self, digest: str) -> dict[str, Any]:
        """All that the broker knows of a packet but its numbers."""
        return self._json("GET", f"/v1/packets/{digest}/record")

    def packets(self, **filters: Any) -> dict[str, Any]:
        """One page of the list."""
        given = {name: value for name, value in filters.items() if value is not None}
        return self._json("GET", "/v1/packets", params=given)

    def search(self, word: str, limit: int = 20) -> dict[str, Any]:
        """Packets by a word."""
        return self._json("GET", "/v1/search", params={"q": word, "limit": limit})

    def near(self, space: str, vector: list[float], limit: int = 10) -> dict[str, Any]:
        """Concepts near a vector of a teacher's space."""
        example = {"space": space, "vector": vector, "limit": limit}
        return self._json("POST", "/v1/search/vectors", json=example)

    def lineage(self, digest: str) -> dict[str, Any]:
        """Of a teacher, a packet or an adapter."""
        return self._json("GET", f"/v1/lineage/{digest}")

    def set_state(self, digest: str, state: str, reason: str) -> dict[str, Any]:
        """Yank, list again, revoke."""
        return self._json("PUT", f"/v1/packets/{digest}/state", json={"state": state, "reason": reason})

    def add_statement(self, digest: str, envelope: bytes) -> dict[str, Any]:
        """Posts a signed receipt, verdict or evaluation."""
        return self._json("POST", f"/v1/packets/{digest}/verdicts", content=envelope)

    def fetch(self, digest: str, into: Path, said: Said | None = None) -> None:
        """The bytes of a packet at ``into``; nothing is sent that is here, and an earlier part is gone on with.

        Raises:
            BrokerError: refused, or what came are not the bytes that the broker's ETag names.
            StorageError: the disk refused.
        """
        try:
            into.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(into.with_name(f"{into.name}.lock")):  # two commands may want the same packet
                self._fetch(digest, into, said)
        except OSError as error:
            raise StorageError(f"cannot write {into}: {explain(error)}; free some space") from error

    def _fetch(self, digest: str, into: Path, said: Said | None) -> None:
        part = into.with_name(f"{into.name}.part")
        here = f'"{digest_of(into)}"' if into.is_file() else None
        etag = patiently(f"fetching {digest}", lambda: self._fetch_rest(digest, part, here, said))
        if etag == here:
            return
        part.with_name(f"{part.name}.etag").unlink()
        came = digest_of(part)
        if etag != f'"{came}"':
            part.unlink()
            raise BrokerError(f"{digest} came as {came}, expected {etag}: damaged on its way; try again")
        part.replace(into)

    def _fetch_rest(self, digest: str, part: Path, here: str | None, said: Said | None) -> str:
        """Continues where the part ends, if it is of the same bytes: the ETag beside it says so. Returns the ETag."""
        note = part.with_name(f"{part.name}.etag")
        done = part.stat().st_size if part.is_file() and note.is_file() else 0
        headers = {"Range": f"bytes={done}-", "If-Range": note.read_text()} if done else {}
        if here is not None:
            headers["If-None-Match"] = here
        with self._http.stream("GET", f"/v1/packets/{digest}", headers=headers) as response:
            if response.status_code == 416:  # all of it is here
                return note.read_text()
            check(response)
            if response.status_code == 304 and here is not None:
                return here
            etag = response.headers["etag"]
            note.write_text(etag)
            done = done if response.status_code == 206 else 0
            total = done + int(response.headers["content-length"])
            with open(part, "ab" if done else "wb") as file:
                for piece in response.iter_bytes():
                    file.write(piece)
                    done += len(piece)
                    if said is not None:
                        said(done, total)
            return str(etag)

    def _json(self, method: str, path: str, *, content: Any = None, **request: Any) -> dict[str, Any]:
        def once() -> dict[str, Any]:
            given = content() if callable(content) else content
            answer: dict[str, Any] = check(self._http.request(method, path, content=given, **request)).json()
            return answer

        return patiently(f"{method} {self.url}{path}", once)


def digest_of(path: Path) -> str:
    """``sha256:...`` of a file."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()

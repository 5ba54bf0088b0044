"""Client of a broker. Its errors are raised as BrokerError with the broker's message."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import httpx2
from filelock import FileLock

from m2kt.errors import BrokerError, SpecError, StorageError, explain, printable

from ._answers import (
    LineageAnswer,
    ListAnswer,
    NearAnswer,
    PacketAnswer,
    RecordAnswer,
    SearchAnswer,
    StateAnswer,
)
from ._http import check, patiently
from ._replies import MAX_PACKET, Bounded, exact_etag, expect_packet, named_digest, parse_answer, read_bounded

Answer = TypeVar("Answer")

URL, KEY = "M2KT_BROKER_URL", "M2KT_API_KEY"
PACKET_TYPE = "application/vnd.m2kt.packet.v1+zip"
STATEMENT_TYPE = "application/vnd.in-toto+json"
PIECE = 1 << 18
ByteProgress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


class BrokerClient:
    """A connection to one broker.

    Args:
        url: by default ``M2KT_BROKER_URL``.
        key: by default ``M2KT_API_KEY``; a public broker needs none.
    """

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        address = broker_url(url)
        if address is None:
            raise SpecError(f"expected a broker's address in {URL}, got none; set it, such as http://127.0.0.1:8765")
        key = _api_key(key or os.environ.get(KEY))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx2.Timeout(60.0, connect=5.0)
        self.url = address
        self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=timeout)

    def __enter__(self) -> BrokerClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def publish(self, digest: str, file: Path, progress: ByteProgress | None = None) -> PacketAnswer:
        """Uploads the single-file form of a packet; may be repeated."""
        size = file.stat().st_size

        def pieces() -> Iterator[bytes]:
            done = 0
            with open(file, "rb") as opened:
                while piece := opened.read(PIECE):
                    yield piece
                    done += len(piece)
                    if progress is not None:
                        progress(done, size)

        headers = {"Content-Type": PACKET_TYPE, "Content-Length": str(size)}
        return self._json(PacketAnswer, "PUT", f"/v1/packets/{digest}", content=pieces, headers=headers)

    def record(self, digest: str) -> RecordAnswer:
        """Manifest, card and statements of a packet."""
        return self._json(RecordAnswer, "GET", f"/v1/packets/{digest}/record")

    def packets(self, **filters: str | int | None) -> ListAnswer:
        """A page of the list."""
        given = {name: value for name, value in filters.items() if value is not None}
        return self._json(ListAnswer, "GET", "/v1/packets", params=given)

    def search(self, text: str, limit: int = 20) -> SearchAnswer:
        """Packets that contain a text."""
        return self._json(SearchAnswer, "GET", "/v1/search", params={"q": text, "limit": limit})

    def near(self, space: str, vector: list[float], limit: int = 10) -> NearAnswer:
        """Concepts near a vector of a teacher's space."""
        example = {"space": space, "vector": vector, "limit": limit}
        return self._json(NearAnswer, "POST", "/v1/search/vectors", json=example)

    def lineage(self, digest: str) -> LineageAnswer:
        """Lineage of a teacher, a packet or an adapter."""
        return self._json(LineageAnswer, "GET", f"/v1/lineage/{digest}")

    def set_state(self, digest: str, notice: bytes) -> PacketAnswer:
        """Yanks a packet, lists it again, or revokes it, by a signed notice."""
        headers = {"Content-Type": STATEMENT_TYPE}
        return self._json(PacketAnswer, "PUT", f"/v1/packets/{digest}/state", content=notice, headers=headers)

    def add_statement(self, digest: str, envelope: bytes) -> StateAnswer:
        """Posts a signed receipt, verdict or evaluation."""
        headers = {"Content-Type": STATEMENT_TYPE}
        return self._json(StateAnswer, "POST", f"/v1/packets/{digest}/verdicts", content=envelope, headers=headers)

    def fetch(self, digest: str, into: Path, progress: ByteProgress | None = None) -> None:
        """Downloads a packet to ``into``; an interrupted download is resumed, and a current file is kept.

        Raises:
            BrokerError: refused, or the bytes are not those that the broker's ETag names.
            StorageError: the disk refused.
        """
        try:
            into.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(into.with_name(f"{into.name}.lock")):  # two commands may download the same packet
                self._fetch(digest, into, progress)
        except OSError as error:
            raise StorageError(f"cannot write {into}: {explain(error)}; free some space") from error

    def _fetch(self, digest: str, into: Path, progress: ByteProgress | None) -> None:
        part = into.with_name(f"{into.name}.part")
        current = digest_of(into) if into.is_file() else None
        named = patiently(f"fetching {digest}", lambda: self._fetch_rest(digest, part, current, progress))
        if not part.is_file():  # the broker says that the file is current
            return
        _etag_file(part).unlink(missing_ok=True)
        received = digest_of(part)
        if named is not None and named != received:
            part.unlink()
            raise BrokerError(f"expected {named} for {digest}, got {received}: damaged in transfer; try again")
        part.replace(into)

    def _fetch_rest(self, digest: str, part: Path, current: str | None, progress: ByteProgress | None) -> str | None:
        """Resumes a partial file whose bytes have the ETag in the file beside it.

        Returns the digest that the broker names, if any; the packet has a digest of its own. No partial file is left
        where the current one is still right.
        """
        etag_file = _etag_file(part)
        done = part.stat().st_size if part.is_file() and etag_file.is_file() else 0
        headers = {"Range": f"bytes={done}-", "If-Range": etag_file.read_text()} if done else {}
        headers["Accept-Encoding"] = "identity"
        if current is not None:
            headers["If-None-Match"] = f'"{current}"'
        with self._http.stream("GET", f"/v1/packets/{digest}", headers=headers) as response:
            if done and response.status_code == 416:  # the partial file is complete
                return etag_file.read_text().strip('"')
            check(response)
            named = named_digest(response)
            if current is not None and (response.status_code == 304 or named == current):
                part.unlink(missing_ok=True)
                etag_file.unlink(missing_ok=True)
                return current
            expect_packet(response)
            etag_file.unlink(missing_ok=True)
            if (etag := exact_etag(response)) is not None:
                etag_file.write_text(etag)
            done = done if response.status_code == 206 else 0
            length = response.headers.get("content-length", "")
            total = done + int(length) if re.fullmatch(r"[0-9]{1,15}", length) else 0
            bounded = Bounded(response, MAX_PACKET, done)
            with open(part, "ab" if done else "wb") as file:
                for piece in response.iter_bytes():
                    file.write(bounded.take(piece))
                    if progress is not None:
                        progress(bounded.done, max(total, bounded.done))
            return named

    def _json(
        self,
        answer: type[Answer],
        method: str,
        path: str,
        *,
        content: bytes | Callable[[], Iterator[bytes]] | None = None,
        headers: dict[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
        json: Mapping[str, object] | None = None,
    ) -> Answer:
        """The answer, validated."""

        def once() -> Answer:
            body = content() if callable(content) else content
            with self._http.stream(method, path, content=body, headers=headers, params=params, json=json) as response:
                return parse_answer(answer, read_bounded(check(response)), response)

        return patiently(f"{method} {self.url}{path}", once)


def broker_url(url: str | None = None) -> str | None:
    """A broker's address, by default that of ``M2KT_BROKER_URL``; None without one. Raises SpecError."""
    given = (url or os.environ.get(URL) or "").strip()
    if not given:
        return None
    try:
        parsed = httpx2.URL(given)
    except (httpx2.InvalidURL, ValueError) as error:
        raise SpecError(f"expected a broker's address such as http://127.0.0.1:8765, got {given[:100]!r}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or parsed.query or parsed.fragment:
        shown = printable(re.sub(r"//[^/@]*@", "//...@", given), 100)
        raise SpecError(
            f"expected a broker's address such as http://127.0.0.1:8765, got {shown!r}; "
            f"begin it with http:// or https://, and put the key into {KEY}"
        )
    return given.rstrip("/")


def _api_key(key: str | None) -> str | None:
    """The key without outer white space. No error shows any of it: errors are logged and sent to others."""
    key = None if key is None else key.strip()
    if key and not re.fullmatch(r"[!-~]{1,500}", key):
        raise SpecError(f"expected an API key of printable ASCII characters without spaces in {KEY}, got other ones")
    return key or None


def _etag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def digest_of(path: Path) -> str:
    """``sha256:...`` of a file."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()

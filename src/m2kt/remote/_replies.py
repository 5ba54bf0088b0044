"""Replies of a server that is not trusted: bounded, validated, and safe to print."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import httpx2
from pydantic import JsonValue, TypeAdapter, ValidationError

from m2kt.errors import BrokerError, explain, printable

Answer = TypeVar("Answer")

MAX_ANSWER = 64 << 20
"""Bytes of a JSON answer."""
MAX_PACKET = 2 << 30
"""Bytes of a download; ``m2kt serve`` takes 256 MiB by default."""
MAX_GROWTH = 100
"""How many times its compressed size an answer may have."""
FREE_GROWTH = 1 << 20
"""Bytes below which growth is not looked at."""
MAX_MESSAGE = 300
_ETAG = re.compile(r'(?P<weak>W/)?"(?P<digest>sha256:[0-9a-f]{64})(?P<suffix>[-;:][A-Za-z0-9]{1,12})?"')


class Bounded:
    """The bytes of one answer, counted.

    Raises BrokerError from :meth:`take` where they are more than ``limit``, or grow by decompression beyond reason.
    """

    def __init__(self, response: httpx2.Response, limit: int, before: int = 0) -> None:
        self._response, self._limit = response, limit
        self.done = before
        self._decoded = 0

    def take(self, piece: bytes) -> bytes:
        """Count a piece."""
        self.done += len(piece)
        self._decoded += len(piece)
        allowed = FREE_GROWTH + MAX_GROWTH * self._response.num_bytes_downloaded
        if self.done > self._limit or self._decoded > allowed:
            raise BrokerError(
                f"expected at most {min(self._limit, allowed):,} bytes from {self._response.url.host}, got more; "
                "do not use this server"
            )
        return piece


def read_bounded(response: httpx2.Response, limit: int = MAX_ANSWER) -> bytes:
    """The whole body of a streamed answer. Raises BrokerError."""
    bounded = Bounded(response, limit)
    return b"".join(bounded.take(piece) for piece in response.iter_bytes())


def parse_answer(answer: type[Answer], body: bytes, response: httpx2.Response) -> Answer:
    """A JSON answer of a broker, whose texts are safe to print. Raises BrokerError for anything else."""
    try:
        plain = _cleaned(TypeAdapter(JsonValue).validate_json(body))
        return TypeAdapter(answer).validate_python(plain)
    except (ValidationError, RecursionError, ValueError) as error:
        kind = printable(response.headers.get("content-type", "no type"), 60)
        raise BrokerError(
            f"expected the answer of a broker from {response.url.host}, got {kind} ({printable(explain(error), 200)}); "
            "is this the address of a broker, and is nobody asked to sign in there?"
        ) from error


def expect_packet(response: httpx2.Response) -> None:
    """Raises BrokerError where an answer is a page for people, such as that of a sign-in."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().casefold()
    if kind in ("text/html", "application/xhtml+xml", "application/json", "text/plain"):
        raise BrokerError(
            f"expected a packet from {response.url.host}, got {kind}; is this the address of a broker, and is nobody "
            "asked to sign in there?"
        )


def exact_etag(response: httpx2.Response) -> str | None:
    """The strong ETag of a broker, ``"sha256:..."``, by which downloads resume; None where a proxy changed it."""
    match = _ETAG.fullmatch(response.headers.get("etag", ""))
    encoded = response.headers.get("content-encoding", "identity").casefold() != "identity"
    return None if match is None or match["weak"] or match["suffix"] or encoded else match[0]


def named_digest(response: httpx2.Response) -> str | None:
    """The digest that an ETag names, also where a proxy weakened it (``W/``) or marked it (``-gzip``)."""
    match = _ETAG.fullmatch(response.headers.get("etag", ""))
    return None if match is None else match["digest"]


def message_of(response: httpx2.Response) -> str:
    """What a refusal says, in one line that is safe to print."""
    try:
        body = read_bounded(response, 1 << 20)
    except (BrokerError, httpx2.HTTPError):
        body = b""
    try:
        problem: Any = TypeAdapter(JsonValue).validate_json(body)
        text = f"{problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        kind = response.headers.get("content-type", "")
        text = "" if "html" in kind else body[: 4 * MAX_MESSAGE].decode(errors="replace")
    return printable(text, MAX_MESSAGE) or printable(response.reason_phrase, MAX_MESSAGE)


def _cleaned(value: JsonValue) -> JsonValue:
    """The value with all its texts safe to print; line breaks and tabs stay."""
    if isinstance(value, str):
        return "\n".join("\t".join(printable(cell) for cell in line.split("\t")) for line in value.split("\n"))
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {printable(name): _cleaned(item) for name, item in value.items()}
    return value

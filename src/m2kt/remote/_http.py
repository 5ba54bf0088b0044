"""HTTP requests that are repeated with growing delays while the server is unavailable."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

import httpx2

from m2kt.errors import BrokerError, printable

from ._replies import message_of

T = TypeVar("T")
ATTEMPTS = 6
FIRST_WAIT, LONGEST_WAIT = 0.3, 10.0
TRANSIENT = (429, 502, 503, 504)
NEVER = (
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
    httpx2.DecodingError,
    httpx2.TooManyRedirects,
    httpx2.InvalidURL,
    httpx2.StreamError,
)
"""Failures that no repetition mends."""


class Transient(Exception):
    """A failure after which a repetition may succeed."""

    def __init__(self, reason: str, delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


def patiently(subject: str, request: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """Repeats a request until it raises neither Transient nor a transport error.

    Raises:
        BrokerError: after the last attempt.
    """
    delay = FIRST_WAIT
    for remaining in reversed(range(attempts)):
        try:
            return request()
        except NEVER as error:
            reason = printable(str(error), 200) or type(error).__name__
            raise BrokerError(f"{subject} failed: {reason}; check the address and the proxies") from error
        except (Transient, httpx2.TransportError) as error:
            if not remaining:
                reason = printable(str(error), 400) or type(error).__name__
                raise BrokerError(f"{subject} failed {attempts} times, last: {reason}; try again later") from error
            requested = error.delay if isinstance(error, Transient) else None
            time.sleep(min(LONGEST_WAIT, max(requested or 0.0, delay * random.uniform(0.5, 1.5))))
            delay *= 2
    raise AssertionError("unreachable")


def check(response: httpx2.Response) -> httpx2.Response:
    """The response, if it is a success. Raises Transient where a repetition may succeed, else BrokerError."""
    if response.is_success or response.status_code == 304:
        return response
    detail = message_of(response)
    if response.status_code in TRANSIENT:
        after = response.headers.get("retry-after", "")
        raise Transient(
            f"{response.status_code} {detail}", float(after) if re.fullmatch(r"[0-9]{1,6}", after) else None
        )
    raise BrokerError(f"{response.url.host} answered {response.status_code} {detail}", response.status_code)

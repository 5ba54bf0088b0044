"""HTTP requests that are repeated with growing delays while the server is unavailable."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import httpx2

from m2kt.errors import BrokerError

T = TypeVar("T")
ATTEMPTS = 6
FIRST_WAIT, LONGEST_WAIT = 0.3, 10.0
TRANSIENT = (429, 502, 503, 504)


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
        except (Transient, httpx2.TransportError) as error:
            if not remaining:
                reason = str(error) or type(error).__name__
                raise BrokerError(f"{subject} failed {attempts} times, last: {reason}; try again later") from error
            requested = error.delay if isinstance(error, Transient) else None
            time.sleep(min(LONGEST_WAIT, max(requested or 0.0, delay * random.uniform(0.5, 1.5))))
            delay *= 2
    raise AssertionError("unreachable")


def check(response: httpx2.Response) -> httpx2.Response:
    """The response, if it is a success. Raises Transient where a repetition may succeed, else BrokerError."""
    if response.is_success or response.status_code == 304:
        return response
    response.read()
    try:
        problem = response.json()
        detail = f"{problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        detail = response.text[:200].strip() or response.reason_phrase
    if response.status_code in TRANSIENT:
        after = response.headers.get("retry-after", "")
        raise Transient(f"{response.status_code} {detail}", float(after) if after.isdecimal() else None)
    raise BrokerError(f"{response.url.host} answered {response.status_code} {detail}", response.status_code)

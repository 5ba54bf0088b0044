"""HTTP with patience: what a server refuses for now is asked again, a little later each time."""

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
    """Worth another try."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def patiently(what: str, act: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """Calls ``act`` until it does not raise Transient or a transport error.

    Raises:
        BrokerError: after the last attempt.
    """
    wait = FIRST_WAIT
    for left in reversed(range(attempts)):
        try:
            return act()
        except (Transient, httpx2.TransportError) as error:
            if not left:
                reason = str(error) or type(error).__name__
                raise BrokerError(
                    f"{what} failed {attempts} times, last: {reason}; try again later"
                ) from error
            asked = error.wait if isinstance(error, Transient) else None
            time.sleep(min(LONGEST_WAIT, max(asked or 0.0, wait * random.uniform(0.5, 1.5))))
            wait *= 2
    raise AssertionError("unreachable")


def check(response: httpx2.Response) -> httpx2.Response:
    """The response, if it is a success. Raises Transient where another try may help, else BrokerError."""
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

"""`Retry-After`: the delay that a server asks for (RFC 9110, 10.2.3), and a wait that keeps it."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol, cast

from tenacity import RetryCallState
from tenacity.wait import WaitBaseT, wait_base

from resilience import _validate
from resilience.classify import root_error, safe_getattr


class wait_retry_after(wait_base):  # noqa: N801 - tenacity's way to name a wait
    """Wait as long as the server asked for in `Retry-After`, in seconds or by a date.

    Args:
        fallback: The tenacity wait where the server asked for nothing, or for nonsense.
        maximum: Seconds. Where the server asks for more the loop ends immediately, with the
            attempt's own error and a note on it that says so.

    Raises:
        TypeError: `fallback` cannot be called, or `maximum` is not a number.
        ValueError: `maximum` is not above 0.
    """

    def __init__(self, fallback: WaitBaseT, maximum: float = 60.0) -> None:
        _validate.check_callable("fallback", fallback, "a RetryCallState and returns seconds")
        _validate.check_seconds("maximum", maximum)
        self.fallback = fallback
        self.maximum = maximum

    def __call__(self, retry_state: RetryCallState) -> float:  # noqa: D102 - documented on the class
        outcome = retry_state.outcome
        if outcome is None:
            return self.fallback(retry_state)
        error = outcome.exception()
        # Without an error it is a result that the loop rejected.
        answer: object = outcome.result() if error is None else error
        delay = requested_delay(root_error(answer))
        if delay is None:
            return self.fallback(retry_state)
        if delay <= self.maximum:
            return delay
        if error is None:
            error = retry_state.retry_object.retry_error_cls(outcome)
        error.add_note(
            f"gave up: Retry-After asks for {delay:g} s, and the longest wait is {self.maximum:g} s"
        )
        raise error


class _Headers(Protocol):
    def items(self) -> Iterable[tuple[object, object]]: ...


def requested_delay(answer: object) -> float | None:
    """Return the delay that a server asks for in the headers of its answer.

    Args:
        answer: An error or a response: of aiohttp, httpx, requests, or the Genesys SDK.

    Returns:
        Seconds; None where it asks for nothing, or for something that makes no sense.
    """
    for owner in (answer, safe_getattr(answer, "response")):
        for name, value in _items(safe_getattr(owner, "headers")):
            if str(name).lower() == "retry-after":
                return _seconds(str(value).strip())
    return None


def _items(headers: object) -> list[tuple[object, object]]:
    try:
        return list(cast("_Headers", headers).items())
    except Exception:  # noqa: BLE001 - not a mapping, or one that does not work
        return []


def _seconds(text: str) -> float | None:
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    try:
        left = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except Exception:  # noqa: BLE001 - the header is the server's: it may hold anything
        return None
    return left if left > 0 else None  # a date in the past asks for nothing any more

"""`Retry-After`: the delay that a server asks for (RFC 9110, 10.2.3), and a wait that keeps it."""

import random
from typing import NamedTuple

from tenacity import RetryCallState
from tenacity.wait import WaitBaseT, wait_base

from resilience import _validate
from resilience.retry.answer_headers import RETRY_INFO, Headers, headers_of, parse_date
from resilience.retry.rate_limit import parse_seconds, seconds_to_reset
from resilience.retry.settings import check_strategy

# The share of the requested delay over which loops with the same request are spread.
_SPREAD = 0.2


class wait_retry_after(wait_base):  # noqa: N801 - tenacity's way to name a wait
    """Wait as long as another wait does, and at least as long as the server asks for.

    The server asks in `Retry-After`, in seconds or by a date, or, where there is none, by a rate
    limit that is exhausted. Up to a fifth of what it asks for is added at random: otherwise all
    callers that received the same answer would come back at the same moment.

    Args:
        fallback: The tenacity wait of the loop itself: no wait is shorter than this one.
        maximum: Seconds. Where the server asks for more the loop ends immediately, with the
            attempt's own error and a note on it that says so. What is added at random may exceed
            it.

    Raises:
        TypeError: `fallback` cannot be called with a RetryCallState, or `maximum` is not a number.
        ValueError: `maximum` is not above 0.
    """

    def __init__(self, fallback: WaitBaseT, maximum: float = 60.0) -> None:
        _validate.check_callable("fallback", fallback, "a RetryCallState and returns seconds")
        check_strategy("fallback", fallback)
        _validate.check_seconds("maximum", maximum)
        self.fallback = fallback
        self.maximum = maximum

    def __call__(self, retry_state: RetryCallState) -> float:  # noqa: D102 - documented on the class
        own = self.fallback(retry_state)
        outcome = retry_state.outcome
        if outcome is None:
            return own
        error = outcome.exception()
        # Without an error it is a result that the loop rejected.
        asked = _asked_delay(outcome.result() if error is None else error)
        if asked is None:
            return own
        delay, header = asked
        if delay <= self.maximum:
            spread = random.uniform(0, _SPREAD * delay)  # noqa: S311 - not a secret
            return max(own, delay) + spread
        if error is None:
            error = retry_state.retry_object.retry_error_cls(outcome)
        error.add_note(
            f"gave up: {header} asks for {delay:g} s, and the longest wait is {self.maximum:g} s"
        )
        raise error


def requested_delay(answer: object) -> float | None:
    """Return the delay that a server asks for in the headers of its answer.

    Args:
        answer: An error or a response: of aiohttp, httpx, requests, botocore, Google's clients,
            the Genesys SDK, or any other library that keeps headers like one of these.

    Returns:
        Seconds; None where it asks for nothing, or for something that makes no sense.
    """
    asked = _asked_delay(answer)
    return None if asked is None else asked.seconds


class _Asked(NamedTuple):
    seconds: float
    header: str


def _asked_delay(answer: object) -> _Asked | None:
    """Return the longest delay that the answers in an error ask for, and the name of the header."""
    answers = headers_of(answer)
    if not answers:
        return None
    found = [_asked_in(headers) for headers in answers]
    return max((asked for asked in found if asked is not None), default=None)


def _asked_in(headers: Headers) -> _Asked | None:
    asked = [
        *((_retry_after(text, headers), "Retry-After") for text in headers.get("retry-after")),
        *((parse_seconds(text), "RetryInfo") for text in headers.get(RETRY_INFO)),
        *(
            (_milliseconds(text), "grpc-retry-pushback-ms")
            for text in headers.get("grpc-retry-pushback-ms")
        ),
    ]
    valid = [_Asked(seconds, header) for seconds, header in asked if seconds is not None]
    if valid:
        return max(valid)
    reset = seconds_to_reset(headers)
    return None if reset is None else _Asked(*reset)


def _retry_after(text: str, headers: Headers) -> float | None:
    # A client may have joined several values: the longest wait keeps them all.
    values = [parse_seconds(value.strip()) for value in text.split(",")]
    seconds = [value for value in values if value is not None]
    if len(seconds) == len(values):
        return max(seconds)
    date = parse_date(text)
    if date is None:
        return None
    left = (date - headers.now()).total_seconds()
    return left if left > 0 else None  # a date in the past asks for nothing any more


def _milliseconds(text: str) -> float | None:
    milliseconds = parse_seconds(text)
    return None if milliseconds is None else milliseconds / 1000

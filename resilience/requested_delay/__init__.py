"""The delay that a server asks for in an answer: `Retry-After` (RFC 9110, 10.2.3) and its like."""

from typing import NamedTuple

from resilience.requested_delay.answer_headers import (
    RETRY_INFO,
    Headers,
    headers_of,
    parse_date,
)
from resilience.requested_delay.rate_limit import parse_seconds, seconds_to_reset


class RequestedDelay(NamedTuple):
    """A delay that a server asks for, and the name of the header that does."""

    seconds: float
    header: str


def requested_delay(answer: object) -> float | None:
    """Return the delay that a server asks for in the headers of its answer.

    Args:
        answer: An error or a response: of aiohttp, httpx, requests, botocore, Google's clients,
            the Genesys SDK, or any other library that keeps headers like one of these.

    Returns:
        Seconds; None where it asks for nothing, or for something that makes no sense.
    """
    asked = longest_request(answer)
    return None if asked is None else asked.seconds


def longest_request(answer: object) -> RequestedDelay | None:
    """Return the longest delay that the answers in an error ask for, and the name of the header."""
    answers = headers_of(answer)
    if not answers:
        return None
    found = [_asked_in(headers) for headers in answers]
    return max((asked for asked in found if asked is not None), default=None)


def _asked_in(headers: Headers) -> RequestedDelay | None:
    asked = [
        *((_retry_after(text, headers), "Retry-After") for text in headers.get("retry-after")),
        *((parse_seconds(text), "RetryInfo") for text in headers.get(RETRY_INFO)),
        *(
            (_milliseconds(text), "grpc-retry-pushback-ms")
            for text in headers.get("grpc-retry-pushback-ms")
        ),
    ]
    valid = [RequestedDelay(seconds, header) for seconds, header in asked if seconds is not None]
    if valid:
        return max(valid)
    reset = seconds_to_reset(headers)
    return None if reset is None else RequestedDelay(*reset)


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

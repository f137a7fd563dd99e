"""What one answer says about a rate limit: how much is allowed, what remains of it, until when."""

import math

from resilience._introspection import is_a
from resilience.answers.delay import find_delay
from resilience.answers.headers import Headers, headers_of
from resilience.answers.rate_limit import (
    least_number,
    parameters_of,
    parse_seconds,
    without_quoted,
)
from resilience.classify import TOO_MANY_REQUESTS, examine, is_throttled, status_of
from resilience.limits import LimitReading, RateLimit, shared_limit

# Genesys Cloud counts by the minute. Its headers name the limit, and not the window.
_WINDOW_OF_GENESYS = 60.0


def read_limit(answer: object) -> LimitReading:
    """Read what an answer says about a rate limit.

    Args:
        answer: An error or a response of any client library.

    Returns:
        What was found. Nothing is raised for an answer that cannot be read.
    """
    found = headers_of(answer)
    delay = find_delay(found)
    limits = [limit for headers in found if (limit := _limit_in(headers)) is not None]
    remains = [one for headers in found if (one := _remaining_in(headers)) is not None]
    # Where there are several, the tightest one decides.
    remaining, resets_in = min(remains, default=(None, None))
    return LimitReading(
        is_throttled=_says_throttled(answer),
        wait=None if delay is None else delay.seconds,
        limit=min(limits, key=lambda limit: limit.per_second, default=None),
        remaining=remaining,
        resets_in=resets_in,
    )


def _says_throttled(answer: object) -> bool:
    if is_a(answer, BaseException):
        _, root, status = examine(answer)
        return is_throttled(root, status)
    return status_of(answer) == TOO_MANY_REQUESTS


def _limit_in(headers: Headers) -> RateLimit | None:
    policies = [
        *_policies(headers.get("ratelimit-policy")),
        *_policies(headers.get("ratelimit-limit")),  # of older drafts: 100, 100;w=60
        *((text, _WINDOW_OF_GENESYS) for text in headers.get("inin-ratelimit-allowed")),
    ]
    limits: list[RateLimit] = []
    for text, window in policies:
        allowed = parse_seconds(text)
        # A number may have as many digits as a header has room for.
        if allowed and window and 0.0 < allowed / window < math.inf:
            limits.append(shared_limit(allowed, window))
    return min(limits, key=lambda limit: limit.per_second, default=None)


def _policies(values: list[str]) -> list[tuple[str, float | None]]:
    """Return the quota and the window of each policy: `"burst";q=100;w=60`, or `100;w=60`."""
    found: list[tuple[str, float | None]] = []
    for value in values:
        for member in without_quoted(value).split(","):
            parameters = parameters_of(member)
            quota = parameters.get("q", member.partition(";")[0].strip())
            found.append((quota, parse_seconds(parameters.get("w", ""))))
    return found


def _remaining_in(headers: Headers) -> tuple[float, float] | None:
    """Return what remains of the tightest limit, and the seconds until it resets."""
    found: list[tuple[float | None, float | None]] = []
    for value in headers.get("ratelimit"):
        members = [parameters_of(member) for member in without_quoted(value).split(",")]
        found += [_numbers(member.get("r", ""), member.get("t", "")) for member in members]
        old = {name: text for member in members for name, text in member.items()}
        found.append(_numbers(old.get("remaining", ""), old.get("reset", "")))
    remaining = least_number(headers.get("ratelimit-remaining"))
    found.append((remaining, least_number(headers.get("ratelimit-reset"))))
    allowed = least_number(headers.get("inin-ratelimit-allowed"))
    count = least_number(headers.get("inin-ratelimit-count"))
    if allowed is not None and count is not None:
        remaining = max(0.0, allowed - count)
        found.append((remaining, least_number(headers.get("inin-ratelimit-reset"))))
    known = [(left, reset) for left, reset in found if left is not None and reset is not None]
    return min(known, default=None)


def _numbers(remaining: str, reset: str) -> tuple[float | None, float | None]:
    return parse_seconds(remaining), parse_seconds(reset)

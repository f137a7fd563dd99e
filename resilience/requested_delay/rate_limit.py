"""Rate limit headers: when an API that limits requests accepts the next one.

Read are the fields of the IETF draft "RateLimit header fields for HTTP" in its old and new forms,
the `X-RateLimit-*` fields that came before it, and those of Genesys Cloud. Servers send them with
every answer, so a reset alone does not ask for anything: see `asks_to_wait`.
"""

import re

from resilience.classify import TOO_MANY_REQUESTS
from resilience.requested_delay.answer_headers import Headers

_UNAVAILABLE = 503

# Some servers send a time, in seconds or milliseconds since 1970, where others send the seconds
# until then, under the same name. No limit lasts for the 31 years that the smallest time would be.
_SMALLEST_TIME, _SMALLEST_TIME_IN_MS = 1e9, 1e12

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"?')  # to the end where the closing quote is missing
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)

_RESETS = (
    ("RateLimit-Reset", "ratelimit-remaining"),
    ("X-RateLimit-Reset", "x-ratelimit-remaining"),
    ("X-Rate-Limit-Reset", "x-rate-limit-remaining"),
)


def seconds_to_reset(headers: Headers) -> tuple[float, str] | None:
    """Return the seconds until a rate limit resets, where the answer asks to wait that long.

    Args:
        headers: Those of the answer.

    Returns:
        The seconds and the name of the header; None where the answer does not ask for a delay.
    """
    structured = _structured_reset(headers)
    if structured is not None:
        return structured, "RateLimit"
    for name, remaining in _RESETS:
        reset = _longest(headers, name.lower())
        if reset is not None and asks_to_wait(headers.status(), _least(headers.get(remaining))):
            return reset, name
    reset = _longest(headers, "inin-ratelimit-reset")
    if reset is not None and asks_to_wait(headers.status(), _remaining_of_genesys(headers)):
        return reset, "inin-ratelimit-reset"
    return None


def asks_to_wait(status: int | None, remaining: float | None) -> bool:
    """Return whether an answer with a reset asks its client to wait for it.

    It does where nothing remains, whatever the status is, and with a 429, whatever remains. A 503
    that states how many requests remain is about something else. With any other status a reset is
    merely information.
    """
    if status == TOO_MANY_REQUESTS:
        return True
    if remaining is None:
        return status == _UNAVAILABLE
    return remaining <= 0


def parse_seconds(text: str) -> float | None:
    """Return a number of seconds; None where it is not a plain decimal number of at least 0."""
    return float(text) if _NUMBER.fullmatch(text) else None


def _structured_reset(headers: Headers) -> float | None:
    """Return the reset of the `RateLimit` field, in its new or its old form."""
    limits: list[tuple[str, str]] = []  # what remains of each, and when it resets
    for value in headers.get("ratelimit"):
        text = _QUOTED.sub("", value)  # the name of a limit may hold any character
        members = [_parameters(member) for member in text.split(",")]
        # The new form, with a member for each limit: "burst";r=0;t=5, "daily";r=17;t=3600
        limits += [(member.get("r", ""), member["t"]) for member in members if "t" in member]
        # The old form, with one limit: limit=100, remaining=0, reset=5
        old = {name: value for member in members for name, value in member.items()}
        if "reset" in old:
            limits.append((old.get("remaining", ""), old["reset"]))
    asking: list[tuple[bool, float]] = []
    for left, text in limits:
        remaining, reset = parse_seconds(left), _from_now(text, headers)
        if reset is not None and asks_to_wait(headers.status(), remaining):
            asking.append((remaining == 0, reset))
    exhausted = [reset for is_exhausted, reset in asking if is_exhausted]
    # Where none is exhausted, the answer may be about the one that resets first.
    return max(exhausted) if exhausted else min((reset for _, reset in asking), default=None)


def _parameters(member: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in member.split(";")]
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _longest(headers: Headers, name: str) -> float | None:
    """Return the longest of the resets that a header names, in seconds from now."""
    resets = [_from_now(value, headers) for value in headers.get(name)]
    return max((reset for reset in resets if reset is not None), default=None)


def _from_now(text: str, headers: Headers) -> float | None:
    reset = parse_seconds(text)
    if reset is None or reset < _SMALLEST_TIME:
        return reset
    if reset >= _SMALLEST_TIME_IN_MS:
        reset /= 1000
    return max(0.0, reset - headers.now().timestamp())


def _least(values: list[str]) -> float | None:
    numbers = [number for text in values if (number := parse_seconds(text)) is not None]
    return min(numbers, default=None)


def _remaining_of_genesys(headers: Headers) -> float | None:
    count = _least(headers.get("inin-ratelimit-count"))
    allowed = _least(headers.get("inin-ratelimit-allowed"))
    return None if count is None or allowed is None else allowed - count

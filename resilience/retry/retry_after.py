"""`Retry-After`: for how many seconds a server asked us to stay away (RFC 9110, 10.2.3)."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from resilience.classify import look_up


def asked_for(answer: object) -> float | None:
    """Find what a server asked for in the headers of its answer.

    Args:
        answer: An error or a response: of aiohttp, httpx, requests, or the Genesys SDK.

    Returns:
        Seconds; None where it asked for nothing, or for something that makes no sense.
    """
    for owner in (answer, look_up(answer, "response")):
        for name, value in _pairs(look_up(owner, "headers")):
            if str(name).lower() == "retry-after":
                return _seconds(str(value).strip())
    return None


def _pairs(headers: Any) -> Iterable[tuple[object, object]]:
    try:
        return list(headers.items())
    except Exception:  # noqa: BLE001 - no mapping, or one that does not work
        return ()


def _seconds(text: str) -> float | None:
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    try:
        left = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except Exception:  # noqa: BLE001 - the header is the server's: it may hold anything
        return None
    return left if left > 0 else None  # a date that is over asks for nothing any more

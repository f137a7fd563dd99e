"""`Retry-After`: the delay that a server asks for (RFC 9110, 10.2.3)."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol, cast

from resilience.classify import safe_getattr


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

"""What no breaker can be cheaper than: the bare function, and a wrapper that does nothing."""

import functools
from typing import Any

from benchmarks.contenders.base import Send, SendNow
from benchmarks.faults import ClientError

BARE = "the bare function"
EMPTY = "an empty wrapper"


async def send(region: str, message: str) -> str:
    """Go well at once."""
    del region
    return message


def send_now(region: str, message: str) -> str:
    """The same without a coroutine."""
    del region
    return message


async def not_found(region: str, message: str) -> str:
    """Raise the caller's fault."""
    del region, message
    raise ClientError(404)


async def bug(region: str, message: str) -> str:
    """Raise what says nothing about the server."""
    del region, message
    raise ValueError("no such thing")


def empty_wrapper(fn: Send) -> Send:
    """Wrap a coroutine function for nothing."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    return wrapper


def empty_sync_wrapper(fn: SendNow) -> SendNow:
    """Wrap a function for nothing."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


class PlainRejectionError(Exception):
    """What a rejection carries, as plainly as it can be written."""

    def __init__(self, region: str, state: str, reason: str, retry_after: float) -> None:
        super().__init__(region, state, reason, retry_after)
        self.region = region
        self.state = state
        self.reason = reason
        self.retry_after = retry_after


async def raise_rejection(*args: Any, **kwargs: Any) -> Any:
    """Stand where the wrapper of a breaker stands, and do nothing but raise."""
    del kwargs
    raise PlainRejectionError(args[0], "OPEN", "ServerError 503", 60.0)

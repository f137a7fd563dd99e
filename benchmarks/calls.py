"""The functions that are protected, and the errors that they raise."""

from collections.abc import Awaitable, Callable
from itertools import count
from types import SimpleNamespace
from typing import TypeAlias, TypeVar, cast

from tenacity import retry, stop_after_attempt, wait_exponential

from resilience.testing import conformance
from resilience.testing.conformance import is_failure
from resilience.testing.conformance.errors import REGION

__all__ = ["REGION", "HttpError", "is_failure"]

Plain: TypeAlias = Callable[..., object]
Send: TypeAlias = Callable[..., Awaitable[object]]
Function = TypeVar("Function", bound=Callable[..., object])

PATH = "credentials.region"
CREDENTIALS = SimpleNamespace(region=REGION)


class Tenant:
    """Another type of object that has a region."""

    region = REGION


class HttpError(conformance.HttpError):
    """The same error, made here: `make call-depth` counts the files of the package."""

    def __init__(self, status: int) -> None:
        Exception.__init__(self, status)
        self.status = status


def is_excluded(error: BaseException) -> bool:
    """Whether an error does not count, for a library that asks for the opposite."""
    return not is_failure(error)


async def send(region: str) -> str:
    """Succeed."""
    return region


def send_now(region: str) -> str:
    """Succeed, without a coroutine."""
    return region


async def send_with(credentials: object) -> str:
    """Succeed; the region is inside the credentials."""
    del credentials
    return "sent"


async def down(region: str) -> str:
    """Fail."""
    del region
    raise HttpError(503)


async def not_found(region: str) -> str:
    """Raise an error that does not count."""
    del region
    raise HttpError(404)


async def bug(region: str) -> str:
    """Raise an error that says nothing about the server."""
    raise ValueError(region)


def fails_first() -> Send:
    """Make a function that fails in every other call."""
    attempts = count(1)

    async def send_again(region: str) -> str:
        if next(attempts) % 2:
            raise HttpError(503)
        return region

    return send_again


def with_tenacity(fn: Function) -> Function:
    """Decorate a function with plain retries."""
    decorate = retry(stop=stop_after_attempt(5), wait=wait_exponential(max=32), reraise=True)
    return cast("Function", decorate(fn))

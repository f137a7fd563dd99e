"""What the tests of the decorator share."""

from dataclasses import dataclass

import aiohttp
import pytest
import tenacity

from resilience import CircuitState

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


EU = "eu-west-1"


def count(registry, region=EU):
    """How many calls went well, failed, said nothing, and were rejected."""
    snapshot = registry.get(region).snapshot()
    return (snapshot.successes, snapshot.failures, snapshot.ignored, snapshot.rejected)


async def fail(function, *args, times=2, **kwargs):
    for _ in range(times):
        with pytest.raises(TimeoutError):
            await function(*args, **kwargs)


@dataclass
class Credentials:
    region: str
    token: str = "a-tenants-bearer-token"


async def send_message(credentials, *texts, region=EU, **options):
    """Send it."""


def attempts(number):
    return tenacity.retry(
        stop=tenacity.stop_after_attempt(number),
        wait=tenacity.wait_none(),
        retry=tenacity.retry_if_exception_type((TimeoutError, aiohttp.ClientError)),
        reraise=True,
    )


def answer(error):
    if error is not None:
        raise error
    return "sent"


def function(region, error=None):
    return answer(error)


class Client:
    async def send(self, region, error=None):
        return answer(error)


class Refused(Exception):  # noqa: N818 - a name from someone's domain
    pass


def raise_lookup_error(region, *, hint=None):
    raise LookupError(hint)

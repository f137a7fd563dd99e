"""Testing your own worker: FakeGenesys is the region, FakeClock is the time.

The worker in this example answers a broker: True acknowledges a message, False returns it to the
queue. Its tests use real HTTP, need no mock of a client, and never wait: an outage of one minute
takes milliseconds.

Pass the registry to the worker, as shown here. Each test then has its own circuits, and does not
see what another test left behind.

`python examples/your_own_tests.py` runs the tests. pytest runs them as well, like any test file.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import aiohttp
import pytest
import pytest_asyncio

from resilience import (
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    region_breaker,
)
from resilience.testing import FakeClock, FakeGenesys

# --- the worker: this is your code ----------------------------------------------------------------

Handle = Callable[[str, str], Awaitable[bool]]


def make_worker(
    session: aiohttp.ClientSession,
    urls: Mapping[str, str],  # region -> the URL for its messages
    token: str,
    circuits: CircuitBreakerRegistry,
) -> Handle:
    @region_breaker(region_from="region", registry=circuits)
    async def send(region: str, text: str) -> None:
        sender = {"id": "+353-1-555-0100", "idType": "Phone"}
        channel = {"from": sender, "time": "2026-01-01T12:00:00Z", "messageId": "m-1"}
        headers = {"Authorization": f"Bearer {token}"}
        body = {"channel": channel, "text": text}
        async with session.post(urls[region], json=body, headers=headers) as response:
            response.raise_for_status()

    async def handle(region: str, text: str) -> bool:
        try:
            await send(region, text)
        except aiohttp.ClientResponseError as error:
            return error.status < 500  # an invalid message stays invalid
        except (aiohttp.ClientError, TimeoutError, CircuitBreakerOpenError):
            return False
        return True

    return handle


# --- its tests ------------------------------------------------------------------------------------

pytestmark = pytest.mark.asyncio


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def circuits(clock: FakeClock) -> CircuitBreakerRegistry:
    return CircuitBreakerRegistry(clock=clock)


@pytest_asyncio.fixture
async def dublin() -> AsyncIterator[FakeGenesys]:
    async with FakeGenesys() as genesys:
        yield genesys


@pytest_asyncio.fixture
async def handle(dublin: FakeGenesys, circuits: CircuitBreakerRegistry) -> AsyncIterator[Handle]:
    async with aiohttp.ClientSession() as session:
        urls = {"eu-west-1": dublin.message_url()}
        yield make_worker(session, urls, dublin.issue_token(), circuits)


async def test_acknowledges_a_delivered_message(handle: Handle, dublin: FakeGenesys) -> None:
    assert await handle("eu-west-1", "hello")
    assert [message["text"] for message in dublin.messages] == ["hello"]


async def test_makes_no_request_while_the_circuit_is_open(
    handle: Handle, dublin: FakeGenesys
) -> None:
    dublin.fail(503)
    answers = [await handle("eu-west-1", "hello") for _ in range(100)]
    assert not any(answers)
    assert dublin.requests == 10


async def test_recovers_by_itself(
    handle: Handle, dublin: FakeGenesys, clock: FakeClock, circuits: CircuitBreakerRegistry
) -> None:
    dublin.drop()
    for _ in range(10):
        await handle("eu-west-1", "hello")
    assert circuits.get("eu-west-1").state is CircuitState.OPEN
    dublin.up()
    clock.advance(60)
    assert [await handle("eu-west-1", "hello") for _ in range(3)] == [True, True, True]
    assert circuits.get("eu-west-1").state is CircuitState.CLOSED


async def test_invalid_messages_do_not_open_the_circuit(
    handle: Handle, dublin: FakeGenesys
) -> None:
    dublin.fail(400)
    assert all([await handle("eu-west-1", "hello") for _ in range(100)])
    assert dublin.requests == 100


if __name__ == "__main__":
    # This file imports the plugin before pytest does, which pytest warns about.
    ignore = "ignore:Module already imported"
    sys.exit(pytest.main(["-q", "-W", ignore, "-p", "no:cacheprovider", __file__]))

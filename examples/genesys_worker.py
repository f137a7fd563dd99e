"""A complete client for Genesys Open Messaging: tokens, retries, circuit, timeouts, log.

This is what a worker needs around one POST, with everything in its place:

- The circuit breaker is outside, with one circuit per region. The retries are inside, and stop when
  the circuit opens.
- The timeouts are inside each attempt, 5 s to connect and 10 s between two reads, so that the
  circuit breaker sees them. A timeout around the call would look like a cancellation.
- Each region has connections of its own: one that hangs does not take those of the others.
- A 401 is handled by the client: one new token and one more request, within the same attempt.
- A 429 concerns one tenant: the client waits as long as `Retry-After` says, and the circuit does
  not count it.
- Each log line of a call has its correlation ID, and no line contains a token.

It runs against FakeGenesys: a normal day, a revoked token, a tenant over its rate limit, a short
fault, and an outage during which the messages go back to their queue.
"""

import asyncio
import sys
import uuid
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
from loguru import logger
from tenacity import RetryCallState, wait_fixed

from resilience import CircuitBreakerOpenError, CircuitBreakerRegistry, region_breaker
from resilience.retry import RetryBudget, transient_retry, wait_retry_after
from resilience.testing import FakeGenesys

UNAUTHORIZED = 401
# Neither `connect` nor `total`: they include the wait for a connection of this machine's own pool.
TIMEOUT = aiohttp.ClientTimeout(sock_connect=5, sock_read=10)
CALLS_PER_REGION = 50  # as many as the worker makes at the same time

circuits = CircuitBreakerRegistry()


def log_retry(attempt: RetryCallState) -> None:
    """Log why there is another attempt: the type and status of the error, never its text."""
    error = attempt.outcome.exception() if attempt.outcome else None
    status = getattr(error, "status", "")
    number, wait = attempt.attempt_number, attempt.upcoming_sleep
    logger.warning(
        f"attempt {number} failed: {type(error).__name__} {status}; next in {wait:.2g} s"
    )


# A real worker leaves out `wait`. The default is 1 s, 2 s, 4 s, ... up to 32 s, with jitter.
retries = transient_retry(
    wait=wait_retry_after(wait_fixed(0.01)), budget=RetryBudget(), before_sleep=log_retry
)


@dataclass
class Credentials:
    """A tenant's access to its region."""

    region: str
    client_id: str
    client_secret: str
    token: str | None = None


class Client:
    """Sends the messages of all tenants to Genesys Cloud."""

    def __init__(self, session: aiohttp.ClientSession, genesys: FakeGenesys) -> None:
        self._session = session
        self._genesys = genesys

    @region_breaker(region_from="credentials.region", registry=circuits)
    @retries
    async def send(self, credentials: Credentials, text: str) -> str:
        """Send a message, and return the ID that Genesys gave it."""
        try:
            return await self._post(credentials, text)
        except aiohttp.ClientResponseError as error:
            if error.status != UNAUTHORIZED:
                raise
            logger.info("the token is no longer valid, fetching a new one")
            credentials.token = None
            return await self._post(credentials, text)

    async def _post(self, credentials: Credentials, text: str) -> str:
        if credentials.token is None:
            credentials.token = await self._fetch_token(credentials)
        channel = {
            "from": {"id": "+353-1-555-0100", "idType": "Phone"},
            "time": datetime.now(UTC).isoformat(),
            "messageId": str(uuid.uuid4()),
        }
        url, headers = self._genesys.message_url(), {"Authorization": f"Bearer {credentials.token}"}
        body = {"channel": channel, "text": text}
        async with self._session.post(url, json=body, headers=headers) as response:
            return str((await response.json())["id"])

    async def _fetch_token(self, credentials: Credentials) -> str:
        client = f"{credentials.client_id}:{credentials.client_secret}".encode()
        headers = {"Authorization": f"Basic {b64encode(client).decode()}"}
        form = {"grant_type": "client_credentials"}
        async with self._session.post(
            self._genesys.token_url, data=form, headers=headers
        ) as response:
            return str((await response.json())["access_token"])


async def handle(client: Client, credentials: Credentials, text: str) -> str:
    """Handle one message from the queue, and return the answer to the broker."""
    with logger.contextualize(correlation_id=uuid.uuid4().hex[:8]):
        try:
            await client.send(credentials, text)
        except CircuitBreakerOpenError as error:
            logger.info(f"back to the queue: {error}")
            return "NACK"
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.error(f"failed: {type(error).__name__} {getattr(error, 'status', '')}")
            return "NACK"
        logger.info("delivered")
        return "ACK"


async def run_scenarios(client: Client, genesys: FakeGenesys) -> None:
    """Go through one situation after the other, and check the result of each."""
    tenant = Credentials("eu-west-1", genesys.client_id, genesys.client_secret)
    circuit = circuits.get(tenant.region)

    print("\na normal day: one request for a token, one for the message")
    assert await handle(client, tenant, "hello") == "ACK"
    assert genesys.requests == 1 + 1

    print("\na revoked token: a 401, a new token and a second request, in one attempt")
    genesys.reset_counts()
    genesys.revoke_tokens()
    assert await handle(client, tenant, "hello") == "ACK"
    assert genesys.requests == 1 + 1 + 1

    print("\nover the rate limit: the client waits, and the circuit does not count it")
    genesys.rate_limit(retry_after=1)
    asyncio.get_running_loop().call_later(0.5, genesys.up)
    assert await handle(client, tenant, "hello") == "ACK"
    assert circuit.snapshot().failures == 0

    print("\na short fault: the second attempt succeeds, and the circuit does not count it")
    genesys.reset_counts()
    genesys.flaky(0.5, seed=1)  # with this seed, the first request fails, the second does not
    assert await handle(client, tenant, "hello") == "ACK"
    assert genesys.requests == 2
    assert circuit.snapshot().failures == 0

    print("\nan outage: ten calls fail, and soon the budget allows no more retries;")
    print("after that, no request leaves the process")
    genesys.reset_counts()
    genesys.fail(503)
    results = [await handle(client, tenant, "hello") for _ in range(10)]
    requests = genesys.requests
    results.append(await handle(client, tenant, "hello"))
    assert results == ["NACK"] * 11
    assert circuit.state == "OPEN"
    assert genesys.requests == requests
    print(f"\n{requests} requests opened the circuit; the eleventh call made none")


async def main() -> None:
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=CALLS_PER_REGION)
    async with (
        FakeGenesys() as genesys,
        aiohttp.ClientSession(
            connector=connector, raise_for_status=True, timeout=TIMEOUT
        ) as session,
    ):
        await run_scenarios(Client(session, genesys), genesys)


def log_to_screen() -> None:
    """Start every line with the correlation ID of the call that it belongs to."""
    logger.remove()
    logger.configure(extra={"correlation_id": "-"})
    line = "    {extra[correlation_id]:8}  {level:7}  {message}"
    logger.add(sys.stdout, format=line)


if __name__ == "__main__":
    log_to_screen()
    asyncio.run(main())

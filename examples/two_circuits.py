"""Two circuits for one region: the token endpoint may be down while the rest works.

A Genesys region has two hosts, login.<domain> for tokens and api.<domain> for messages. With one
circuit for both, a login host that is down also holds up messages that already have a token. If
the login host has its own circuit, only requests for new tokens are rejected.

The circuit of the login host has a name of its own, and `region_from` is a function that returns
it. (In a registry with `canonical_region`, such as `default_registry`, the name of a login host
means its region.)
"""

import asyncio
import base64
from dataclasses import dataclass, field

import aiohttp
from loguru import logger

from resilience import CircuitBreakerOpenError, CircuitBreakerRegistry, region_breaker
from resilience.testing import FakeClock, FakeGenesys

REGION = "eu-west-1"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path, not a secret


@dataclass
class Tenant:
    """A tenant, with its token if it has one."""

    name: str
    token: str | None = None


@dataclass
class Service:
    """Sends the messages of tenants to one region, through one circuit or two."""

    genesys: FakeGenesys
    session: aiohttp.ClientSession
    login_circuit: str
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        """Protect the calls to the two hosts."""
        self.circuits = CircuitBreakerRegistry(clock=self.clock)
        by_login = region_breaker(region_from=lambda: self.login_circuit, registry=self.circuits)
        by_region = region_breaker(region_from=lambda *_: REGION, registry=self.circuits)
        self._protected_fetch_token = by_login(self._request_token)
        self._protected_post = by_region(self._post_message)

    async def send(self, tenant: Tenant, text: str) -> str:
        """Send a message, with the tenant's token or a new one, and return the result."""
        try:
            if tenant.token is None:
                tenant.token = await self._protected_fetch_token()
            await self._protected_post(tenant.token, text)
        except CircuitBreakerOpenError as error:
            return f"rejected by {error.region}"
        except aiohttp.ClientResponseError as error:
            return f"failed with {error.status}"
        return "delivered"

    async def _request_token(self) -> str:
        client = f"{self.genesys.client_id}:{self.genesys.client_secret}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(client).decode()}"}
        form = {"grant_type": "client_credentials"}
        url = self.genesys.token_url
        async with self.session.post(url, data=form, headers=headers) as response:
            return str((await response.json())["access_token"])

    async def _post_message(self, token: str, text: str) -> None:
        sender = {"id": "+353-1-555-0100", "idType": "Phone"}
        channel = {"from": sender, "time": "2026-01-01T12:00:00Z", "messageId": "m-1"}
        body, headers = {"channel": channel, "text": text}, {"Authorization": f"Bearer {token}"}
        async with self.session.post(self.genesys.message_url(), json=body, headers=headers):
            pass


async def take_login_down(service: Service) -> str:
    """Take the login host down; return the result for a tenant that already has a token."""
    genesys = service.genesys
    genesys.up()
    genesys.reset_counts()
    old, new = Tenant("old"), Tenant("new")
    print(f"    both hosts are up            old tenant: {await service.send(old, 'hello')}")

    genesys.fail(503, paths=TOKEN_PATH)
    answers = [await service.send(new, "hello") for _ in range(20)]
    token_requests = genesys.requests_by_path[TOKEN_PATH]
    print(f"    the login host is down       new tenant: {answers[0]}, later {answers[-1]}")
    print(f"                                 token requests: {token_requests}, one succeeded")
    assert token_requests == 1 + 10
    result = await service.send(old, "hello")
    print(f"                                 old tenant: {result}")

    genesys.up()
    service.clock.advance(60)
    # Three successful probes close a circuit, and each of these calls fetches a token.
    answers = [await service.send(Tenant("new"), "hello") for _ in range(3)]
    print(f"    60 s later, both are up      new tenants: {', '.join(answers)}")
    assert answers == ["delivered"] * 3
    assert all(circuit.state == "CLOSED" for circuit in service.circuits)
    return result


async def main() -> None:
    logger.disable("resilience")
    async with FakeGenesys() as genesys, aiohttp.ClientSession(raise_for_status=True) as session:
        print("one circuit for both hosts:")
        assert await take_login_down(Service(genesys, session, REGION)) == f"rejected by {REGION}"
        print("a circuit for each host:")
        assert await take_login_down(Service(genesys, session, f"login.{REGION}")) == "delivered"


if __name__ == "__main__":
    asyncio.run(main())

"""Two circuits for one region: its token endpoint may be down while the rest of it works.

A Genesys region answers on two hosts, login.<domain> for tokens and api.<domain> for messages. With
one circuit for both, a login host that is down keeps messages back that have a token already. With
a circuit of its own it keeps nothing back but new tokens.

The circuit of the login host is named after the host, so `region_from` is a function here. (A
registry with `canonical_region`, such as `default_registry`, takes a login host for its region.)
"""

import asyncio
import base64
from dataclasses import dataclass, field

import aiohttp
from loguru import logger

from resilience import CircuitBreakerOpenError, CircuitBreakerRegistry, region_breaker
from resilience.testing import FakeClock, FakeGenesys

REGION = "eu-west-1"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path, no secret


@dataclass
class Tenant:
    """A tenant, with the token it has fetched."""

    name: str
    token: str | None = None


@dataclass
class Service:
    """Sends the messages of tenants to one region, under one circuit or two."""

    genesys: FakeGenesys
    session: aiohttp.ClientSession
    login_circuit: str
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        """Decorate what calls the two hosts."""
        self.circuits = CircuitBreakerRegistry(clock=self.clock)
        by_login = region_breaker(region_from=lambda: self.login_circuit, registry=self.circuits)
        by_region = region_breaker(region_from=lambda *_: REGION, registry=self.circuits)
        self._fetch_token = by_login(self._fetch_token_unguarded)
        self._post = by_region(self._post_unguarded)

    async def send(self, tenant: Tenant, text: str) -> str:
        """Send a message, with the token at hand or a new one; say how it went."""
        try:
            if tenant.token is None:
                tenant.token = await self._fetch_token()
            await self._post(tenant.token, text)
        except CircuitBreakerOpenError as error:
            return f"rejected by {error.region}"
        except aiohttp.ClientResponseError as error:
            return f"failed with {error.status}"
        return "delivered"

    async def _fetch_token_unguarded(self) -> str:
        client = f"{self.genesys.client_id}:{self.genesys.client_secret}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(client).decode()}"}
        form = {"grant_type": "client_credentials"}
        url = self.genesys.token_url
        async with self.session.post(url, data=form, headers=headers) as response:
            return str((await response.json())["access_token"])

    async def _post_unguarded(self, token: str, text: str) -> None:
        sender = {"id": "+353-1-555-0100", "idType": "Phone"}
        channel = {"from": sender, "time": "2026-01-01T12:00:00Z", "messageId": "m-1"}
        body, headers = {"channel": channel, "text": text}, {"Authorization": f"Bearer {token}"}
        async with self.session.post(self.genesys.message_url(), json=body, headers=headers):
            pass


async def show(service: Service) -> str:
    """Take the login host down; say what an old tenant, who has a token, sees of it."""
    genesys = service.genesys
    genesys.up()
    genesys.reset_counts()
    old, new = Tenant("old"), Tenant("new")
    print(f"    both hosts are up            old tenant: {await service.send(old, 'hello')}")

    genesys.fail(503, paths=TOKEN_PATH)
    answers = [await service.send(new, "hello") for _ in range(20)]
    tokens_asked_for = genesys.requests_by_path[TOKEN_PATH]
    print(f"    the login host is down       new tenant: {answers[0]}, later {answers[-1]}")
    print(
        f"                                 requests for a token: {tokens_asked_for}, one was good"
    )
    assert tokens_asked_for == 1 + 10
    seen_by_old = await service.send(old, "hello")
    print(f"                                 old tenant: {seen_by_old}")

    genesys.up()
    service.clock.advance(60)
    # Three probes close a circuit, and each of these fetches a token.
    answers = [await service.send(Tenant("new"), "hello") for _ in range(3)]
    print(f"    60 s later, both are up      new tenants: {', '.join(answers)}")
    assert answers == ["delivered"] * 3
    assert all(circuit.state == "CLOSED" for circuit in service.circuits)
    return seen_by_old


async def main() -> None:
    logger.disable("resilience")
    async with FakeGenesys() as genesys, aiohttp.ClientSession(raise_for_status=True) as session:
        print("one circuit for both hosts:")
        assert await show(Service(genesys, session, REGION)) == f"rejected by {REGION}"
        print("a circuit for each host:")
        assert await show(Service(genesys, session, f"login.{REGION}")) == "delivered"


if __name__ == "__main__":
    asyncio.run(main())

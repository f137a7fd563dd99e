"""A region whose tenants have rate limits of their own, and functions that call it."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest

from resilience import BreakerPolicy, CircuitBreakerRegistry, region_breaker
from resilience.testing import FakeClock

REGION = "eu-west-1"


class HttpError(Exception):
    def __init__(self, status, headers=None):
        super().__init__(status)
        self.status = status
        self.headers = headers or {}


def throttled(seconds):
    return HttpError(429, {} if seconds is None else {"Retry-After": str(seconds)})


class Region:
    """Answers what it is told to, and counts the requests of each tenant."""

    def __init__(self):
        self.requests = Counter()
        self.answers = {}
        self.gates = {}

    def answer(self, tenant):
        self.requests[tenant] += 1
        answer = self.answers.get(tenant)
        if isinstance(answer, BaseException):
            raise answer
        return answer or "sent"

    async def answer_later(self, tenant):
        gate = self.gates.get(tenant)
        if gate is not None:
            await gate.wait()
        return self.answer(tenant)

    def hold(self, tenant):
        """Answer the tenant only when the gate is set."""
        self.gates[tenant] = asyncio.Event()
        return self.gates[tenant]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def region():
    return Region()


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=3), clock=clock)


@pytest.fixture
def breaker(registry):
    return registry.get(REGION)


@pytest.fixture
def protected(registry, region):
    """Make functions that take a tenant and call the region: an `async def` and a `def`."""

    def make(on_throttled="reject", **options):
        decorate = region_breaker(
            region_from=lambda *_args, **_kwargs: REGION,
            tenant_from="tenant",
            on_throttled=on_throttled,
            registry=registry,
            **options,
        )

        @decorate
        async def send(tenant):
            return await region.answer_later(tenant)

        @decorate
        def send_now(tenant):
            return region.answer(tenant)

        return SimpleNamespace(send=send, send_now=send_now, decorate=decorate)

    return make


async def settle():
    """Let every task run as far as it comes."""
    for _ in range(20):
        await asyncio.sleep(0)

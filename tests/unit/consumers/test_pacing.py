"""Pacing and passing over by themselves: what the stories with a consumer do not reach."""

import asyncio
from types import SimpleNamespace

import pytest

from resilience import CircuitBreakerRegistry, TenantThrottledError
from resilience.integrations.rabbitmq import MessageError
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.disposition import Disposition
from resilience.integrations.rabbitmq.failure_record import FailureRecord
from resilience.integrations.rabbitmq.handler import Attempt
from resilience.integrations.rabbitmq.pacing import NO_TENANT, Pacing, wait_asked_by
from resilience.integrations.rabbitmq.passing_over import PassingOver
from resilience.limits import RateLimit
from resilience.testing import run_in_virtual_time
from tests.unit.consumers.world import REGION, TooManyRequestsError

REFUSED = Attempt(Disposition.RETRY_LATER, TooManyRequestsError(1))
DONE = Attempt(Disposition.ACK, None)


@pytest.fixture
def pacing(clock):
    pacing = Pacing(CircuitBreakerRegistry(clock=clock).get(REGION), lambda: None)
    pacing.use(None, tenants=True)
    return pacing


def play(clock, story):
    run_in_virtual_time(story(), clock)


def test_a_tenant_that_was_rejected_under_another_name_waits_as_well(pacing, clock):
    async def story():
        rejected = TenantThrottledError(REGION, "its other name", 20.0)
        pacing.begin("A").end(Attempt(Disposition.RETRY_LATER, rejected))
        assert pacing.breaker.tenants.wait_of("A") == 20
        # One that names no time does not end the wait of anybody.
        rejected = TenantThrottledError(REGION, "its other name", 0.0)
        pacing.begin("B").end(Attempt(Disposition.RETRY_LATER, rejected))
        assert "B" not in pacing.breaker.throttled_tenants
        assert pacing.is_paced("B")

    play(clock, story)


def test_a_tenant_is_paced_until_nothing_was_held_back_for_a_minute(pacing, clock):
    async def story():
        pacing.begin("A").end(REFUSED)
        await asyncio.sleep(2)
        pacing.begin("A").end(DONE)
        assert pacing.is_paced("A")
        assert pacing.wait("A") > 0
        await asyncio.sleep(59)
        assert pacing.wait("A") == 0
        assert pacing.is_paced("A")
        await asyncio.sleep(2)
        assert pacing.wait("A") == 0
        assert not pacing.is_paced("A")

    play(clock, story)


def test_a_limit_that_is_learned_later_is_followed(pacing, clock):
    async def story():
        pacing.begin("A").end(REFUSED)
        await asyncio.sleep(1)
        pacing.use(RateLimit(100, 1), tenants=True)
        pacing.begin("A").end(DONE)
        assert 0 < pacing.wait("A") < 0.02

    play(clock, story)


def test_a_call_that_was_cancelled_lets_the_next_be_the_probe(pacing, clock):
    async def story():
        pacing.begin("A").end(REFUSED)
        await asyncio.sleep(5)
        probe = pacing.begin("A")
        assert pacing.wait("A") == 1
        probe.end(None)
        await asyncio.sleep(5)
        assert pacing.wait("A") == 0

    play(clock, story)


def test_not_more_tenants_are_paced_than_a_table_holds(pacing, clock):
    async def story():
        for number in range(10_001):
            pacing.begin(f"T{number}").end(REFUSED)
        assert not pacing.is_paced("T0")
        assert pacing.is_paced("T10000")

    play(clock, story)


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (None, None),
        (asyncio.CancelledError(), None),
        (ValueError(), None),
        (TooManyRequestsError(7), 7),
        (TooManyRequestsError(None), 0),
        (TenantThrottledError(REGION, "A", 3.0), 3),
    ],
)
def test_only_a_refusal_asks_to_wait(error, asked):
    assert wait_asked_by(error) == asked


def test_a_message_that_cannot_be_published_stays(clock, log):
    class Publisher:
        blocked = False

        async def publish(self, message, queue):
            raise MessageError("no")

    async def story():
        warnings = ConsumerWarnings("q")
        passing_over = PassingOver("q", Publisher(), warnings, is_wait_queue=False)
        fields = "exchange routing_key content_type content_encoding delivery_mode priority"
        fields += " correlation_id reply_to message_id timestamp type app_id"
        message = SimpleNamespace(body=b"", headers={}, **dict.fromkeys(fields.split()))
        assert passing_over.may_move(message)
        assert not await passing_over.move(message, FailureRecord())
        assert not passing_over.may_move(message)
        await asyncio.sleep(2)
        assert passing_over.may_move(message)

    play(clock, story)
    assert "cannot move a message of a tenant: no" in log[0]["message"]


def test_a_success_ends_no_wait_that_another_call_has_begun(pacing, clock):
    async def story():
        first, second = pacing.begin("A"), pacing.begin("A")
        first.end(REFUSED)
        second.end(DONE)
        assert pacing.breaker.tenants.wait_of("A") > 0

    play(clock, story)


def test_a_refusal_without_tenant_and_without_drain_paces_nobody(pacing, clock):
    async def story():
        pacing.begin(NO_TENANT).end(REFUSED)
        assert not pacing.is_paced(NO_TENANT)

    play(clock, story)

"""Tenants of a region whose policy has rules of its own: rates, times, a ramp, another mode."""

import asyncio
from itertools import product

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    TenantThrottledError,
    region_breaker,
)
from resilience.limits import TenantProbe
from resilience.retry import transient_retry
from resilience.testing import FakeClock, run_in_virtual_time
from tests.unit.tenants.conftest import REGION, HttpError, settle, throttled

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN
RULES = {
    "rates": {"failure_rate_threshold": 0.5, "minimum_calls": 4},
    "slow calls": {"slow_call_duration": 5, "slow_call_rate_threshold": 1},
    "a timeout": {"call_timeout": 60},
    "stranded calls": {"stranded_after": 60, "cancel_stranded": True},
    "a mixture": {"failure_rate_threshold": 1, "abandoned_threshold": 3, "stranded_after": 60},
}


def as_async(send):
    async def call(tenant):
        return send(tenant)

    return call


def retried(functions):
    @functions.decorate
    @transient_retry(attempts=1)
    def send(tenant):
        return functions.send_now.__wrapped__(tenant)

    return send


def returning_awaitable(functions):
    @functions.decorate
    def send(tenant):
        return functions.send.__wrapped__(tenant)

    return send


WAYS = {
    "async def": lambda functions: functions.send,
    "def": lambda functions: as_async(functions.send_now),
    "retried def": lambda functions: as_async(retried(functions)),
    "retried async def": lambda functions: functions.decorate(
        transient_retry(attempts=1)(functions.send.__wrapped__)
    ),
    "awaitable": returning_awaitable,
}


@pytest.mark.parametrize("case", list(product(RULES, WAYS)), ids=", ".join)
async def test_calls_of_tenants_are_counted_throttled_and_probed(
    protected, region, registry, clock, case
):
    rule, way = case
    registry.configure(policy=BreakerPolicy(failure_threshold=3, **RULES[rule]))
    breaker = registry.get(REGION)
    send = WAYS[way](protected())
    assert await send("acme") == "sent"
    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError):
        await send("acme")
    with pytest.raises(TenantThrottledError):
        await send("acme")
    assert await send("other") == "sent"
    clock.advance(7)
    del region.answers["acme"]
    assert await send("acme") == "sent"
    assert not breaker.throttled_tenants
    snapshot = breaker.snapshot()
    assert (snapshot.successes, snapshot.answered, snapshot.failures) == (3, 1, 0)
    region.answers["other"] = HttpError(503)
    for _ in range(3):
        with pytest.raises(HttpError):
            await send("other")
    assert (breaker.snapshot().failures, breaker.state) == (3, OPEN)
    with pytest.raises(CircuitBreakerOpenError):
        await send("acme")


async def test_a_ramp_that_rejects_the_probe_of_a_tenant_leaves_its_place(
    protected, region, registry, breaker, clock
):
    policy = BreakerPolicy(failure_threshold=1, success_threshold=1, ramp=(1, 2))
    registry.configure(policy=policy)
    send = protected().send
    breaker.acquire().fail()
    clock.advance(60)
    breaker.acquire().succeed()
    breaker.tenants.throttle("acme", 7)
    clock.advance(7)
    gate = region.hold("other")
    other = asyncio.create_task(send("other"))
    await settle()
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await send("acme")
    assert caught.value.state is CLOSED
    gate.set()
    assert await other == "sent"
    assert await send("acme") == "sent"


def loop_time():
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 0.0


def functions_of(**policy):
    registry = CircuitBreakerRegistry(BreakerPolicy(**policy), clock=loop_time)
    answers = asyncio.Event()

    @region_breaker(region_from=lambda _tenant: REGION, tenant_from="tenant", registry=registry)
    async def send(tenant):
        await answers.wait()
        return "sent"

    return registry.get(REGION), answers, send


def test_a_probe_of_a_tenant_that_the_breaker_ends_leaves_its_place():
    breaker, answers, send = functions_of(call_timeout=5)

    async def story():
        breaker.tenants.throttle("acme", 7)
        await asyncio.sleep(7)
        with pytest.raises(TimeoutError):
            await send("acme")
        assert loop_time() == 12
        answers.set()
        assert await send("acme") == "sent"

    run_in_virtual_time(story(), FakeClock())
    assert (breaker.snapshot().failures, breaker.throttled_tenants) == (1, {})


def test_calls_of_tenants_end_when_the_circuit_opens():
    breaker, _, send = functions_of(cancel_stranded=True)

    async def story():
        breaker.tenants.throttle("acme", 7)
        await asyncio.sleep(7)
        tasks = [asyncio.create_task(send(tenant)) for tenant in ("acme", "other")]
        await settle()
        breaker.force_open("maintenance")
        for task in tasks:
            with pytest.raises(CircuitBreakerOpenError):
                await task
        assert isinstance(breaker.tenants.start("acme"), TenantProbe)

    run_in_virtual_time(story(), FakeClock())


# The modes


@pytest.mark.parametrize("mode", ["observe", "off"])
@pytest.mark.parametrize("on_throttled", ["reject", "wait"])
async def test_a_mode_that_rejects_nobody_holds_up_no_tenant(
    protected, region, registry, mode, on_throttled
):
    registry.configure(policy=BreakerPolicy(mode=mode))
    functions = protected(on_throttled)
    region.answers["acme"] = throttled(7)
    for send in (functions.send, as_async(functions.send_now)):
        for _ in range(3):
            with pytest.raises(HttpError):
                await send("acme")
    assert region.requests["acme"] == 6
    assert registry.get(REGION).snapshot().throttled_tenants == 1


async def test_observe_stops_no_retries_of_a_tenant(protected, region, registry, breaker):
    registry.configure(policy=BreakerPolicy(mode="observe"))

    async def throttled_meanwhile(_seconds):
        breaker.tenants.throttle("acme", 7)

    @protected().decorate
    @transient_retry(attempts=3, sleep=throttled_meanwhile)
    async def send(tenant):
        return region.answer(tenant)

    region.answers["acme"] = HttpError(503)
    with pytest.raises(HttpError):
        await send("acme")
    assert region.requests["acme"] == 3


@pytest.mark.parametrize("mode", ["observe", "off"])
async def test_switching_the_mode_lets_go_the_tenants_that_wait(protected, registry, breaker, mode):
    breaker.tenants.throttle("acme", 7)
    tasks = [asyncio.create_task(protected("wait").send("acme")) for _ in range(3)]
    await settle()
    registry.configure(policy=BreakerPolicy(mode=mode))
    assert await asyncio.gather(*tasks) == ["sent"] * 3
    assert await breaker.tenants.wait("acme", 0)


async def test_a_tenant_that_observe_would_have_held_up_is_held_up_by_enforce(
    protected, region, registry, clock, breaker
):
    registry.configure(policy=BreakerPolicy(mode="observe"))
    send = protected().send
    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError):
        await send("acme")
    registry.configure(policy=BreakerPolicy())
    with pytest.raises(TenantThrottledError):
        await send("acme")
    registry.configure(policy=BreakerPolicy(mode="observe"))
    clock.advance(7)
    del region.answers["acme"]
    assert await send("acme") == "sent"
    assert not breaker.throttled_tenants

"""Calls of a throttled tenant wait: one goes first, each may be cancelled, none waits for ever."""

import asyncio
import threading
from math import nan

import pytest

from resilience import (
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    TenantThrottledError,
    region_breaker,
)
from resilience._lock import lock
from tests.unit.tenants.conftest import REGION, HttpError, settle, throttled


async def start_waiting(functions, region, clock, count, seconds=7):
    region.answers["acme"] = throttled(seconds)
    with pytest.raises(HttpError):
        await functions.send("acme")
    region.answers.clear()
    tasks = [asyncio.create_task(functions.send("acme")) for _ in range(count)]
    await settle()
    assert region.requests["acme"] == 1
    return tasks


@pytest.mark.parametrize(
    ("timeout", "error"), [("1", TypeError), (True, TypeError), (-1, ValueError), (nan, ValueError)]
)
async def test_a_wrong_timeout_is_refused(breaker, timeout, error):
    breaker.tenants.throttle("acme", 7)
    with pytest.raises(error, match=r"^timeout must be None or seconds of at least 0, got"):
        await breaker.tenants.wait("acme", timeout)


async def test_one_goes_first_and_then_all(protected, region, clock):
    functions = protected("wait")
    tasks = await start_waiting(functions, region, clock, 5)
    gate = region.hold("acme")
    clock.advance(6.9)
    await settle()
    started = [task for task in tasks if task.done()]
    assert started == []
    clock.advance(0.1)
    await settle()
    gate.set()
    assert await asyncio.gather(*tasks) == ["sent"] * 5


async def test_only_the_probe_is_under_way_until_it_is_answered(protected, region, clock, breaker):
    functions = protected("wait")
    tasks = await start_waiting(functions, region, clock, 5)
    gate = region.hold("acme")
    clock.advance(7)
    await settle()
    clock.advance(1)
    await settle()
    assert region.requests["acme"] == 1
    region.answers["acme"] = throttled(9)
    gate.set()
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    assert region.requests["acme"] == 2
    assert breaker.tenants.wait_of("acme") == 9
    region.answers.clear()
    clock.advance(9)
    assert await asyncio.gather(*waiting) == ["sent"] * 4
    with pytest.raises(HttpError):
        await done.pop()


async def test_a_cancelled_probe_leaves_its_place_to_the_next_in_line(protected, region, clock):
    functions = protected("wait")
    tasks = await start_waiting(functions, region, clock, 3)
    region.hold("acme")
    clock.advance(7)
    await settle()
    region.gates.clear()
    tasks[0].cancel()  # first come, first served
    assert await asyncio.gather(*tasks[1:]) == ["sent"] * 2


async def test_a_call_that_waits_may_be_cancelled(protected, region, clock):
    functions = protected("wait")
    tasks = await start_waiting(functions, region, clock, 2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await functions.send("acme")
    tasks[0].cancel()
    clock.advance(7)
    assert await tasks[1] == "sent"
    assert tasks[0].cancelled()
    assert region.requests["acme"] == 2


async def test_an_opening_circuit_ends_the_wait(protected, region, clock, breaker):
    functions = protected("wait")
    tasks = await start_waiting(functions, region, clock, 3)
    breaker.force_open("maintenance")
    for task in tasks:
        with pytest.raises(CircuitBreakerOpenError):
            await task
    assert region.requests["acme"] == 1


async def test_what_ends_a_throttle_from_outside_ends_the_wait(protected, region, clock, breaker):
    functions = protected("wait")
    tasks = await start_waiting(functions, region, clock, 3)
    breaker.tenants.throttle("acme", 0)
    assert await asyncio.gather(*tasks) == ["sent"] * 3


async def test_real_time_ends_the_wait_too(region):
    registry = CircuitBreakerRegistry()
    registry.get(REGION).tenants.throttle("acme", 0.05)

    @region_breaker(
        region_from=lambda _: REGION, tenant_from="tenant", on_throttled="wait", registry=registry
    )
    async def send(tenant):
        return region.answer(tenant)

    assert await asyncio.gather(*[send("acme") for _ in range(3)]) == ["sent"] * 3


def test_a_def_waits_in_its_thread(protected, region, clock, breaker):
    functions = protected("wait")
    breaker.tenants.throttle("acme", 7)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(functions.send_now("acme")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    while breaker.tenants.waiting("acme") < 3:
        pass
    assert results == []
    while any(thread.is_alive() for thread in threads):
        clock.advance(7)
        threads[0].join(0.01)
    assert results == ["sent"] * 3


async def test_a_def_refuses_to_hold_up_an_event_loop(protected, breaker):
    functions = protected("wait")
    breaker.tenants.throttle("acme", 7)
    with pytest.raises(RuntimeError, match="would hold up the event loop"):
        functions.send_now("acme")


def test_a_signal_handler_that_interrupts_a_change_does_not_wait(protected, region, breaker):
    functions = protected("wait")
    breaker.tenants.throttle("acme", 7)
    with lock, pytest.raises(TenantThrottledError):
        functions.send_now("acme")
    with lock:
        assert functions.send_now("other") == "sent"
    assert region.requests == {"other": 1}

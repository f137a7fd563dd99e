"""`max_regions`: which breakers a full registry evicts, and what stays."""

import asyncio
import gc
import sys
import threading
import tracemalloc

import pytest

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.testing import FakeClock
from tests.support.driving import CLOSED, OPEN, ServerError, trip
from tests.support.regions import fail


def regions(registry):
    """Say what the registry knows, without holding any of it."""
    gc.collect()
    return {snapshot.region for snapshot in registry.snapshots()}


def warnings(log):
    return [entry["message"] for entry in log if entry["level"].name == "WARNING"]


def flood(registry, count=50):
    for number in range(count):
        registry.get(f"flood-{number}").acquire().fail()


def test_a_registry_holds_a_thousand_regions_and_says_once_that_there_are_more(clock, log):
    registry = CircuitBreakerRegistry(clock=clock)
    for number in range(1000):
        registry.get(f"region-{number}")
    assert len(registry) == 1000
    evictions = [line for line in warnings(log) if "max_regions" in line]
    assert evictions == []
    for number in range(1000, 1500):
        registry.get(f"region-{number}")
    gc.collect()  # of what other tests have left, too, which may be logged
    assert len(registry) <= 1000
    evictions = [line for line in warnings(log) if "max_regions" in line]
    assert len(evictions) == 1


def test_breakers_without_information_go_first(clock):
    registry = CircuitBreakerRegistry(max_regions=3, clock=clock)
    trip(registry.get("open"))
    registry.get("quiet").acquire().succeed()
    fail(registry, "streak")
    fail(registry, "fourth")
    assert regions(registry) == {"open", "streak", "fourth"}


def test_then_those_idle_for_ten_recovery_timeouts(clock):
    registry = CircuitBreakerRegistry(max_regions=3, clock=clock)
    fail(registry, "busy")
    fail(registry, "idle")
    clock.advance(600)
    fail(registry, "busy")
    fail(registry, "third")
    fail(registry, "fourth")
    assert regions(registry) == {"busy", "third", "fourth"}


def test_then_those_overdue_for_ten_recovery_timeouts(clock):
    registry = CircuitBreakerRegistry(max_regions=3, clock=clock)
    fail(registry, "busy")
    trip(registry.get("overdue"))
    clock.advance(60 + 600)
    fail(registry, "busy")
    fail(registry, "third")
    fail(registry, "fourth")
    assert regions(registry) == {"busy", "third", "fourth"}


def test_a_circuit_is_overdue_from_the_moment_it_is_due(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    fail(registry, "oldest")
    trip(registry.get("open"))
    clock.advance(599.5)
    fail(registry, "oldest")
    clock.advance(60)
    fail(registry, "third")
    assert regions(registry) == {"open", "third"}


def test_a_half_open_circuit_whose_probes_ended_lately_is_not_idle(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    trip(registry.get("probing"))
    clock.advance(60)
    probe = registry.get("probing").acquire()
    clock.advance(1)
    fail(registry, "idle")
    clock.advance(599)
    probe.succeed()
    del probe
    clock.advance(1)
    fail(registry, "third")
    assert regions(registry) == {"probing", "third"}


def test_no_information_goes_before_idle(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    fail(registry, "idle")
    clock.advance(10_000)
    registry.get("quiet").acquire().succeed()
    fail(registry, "third")
    assert regions(registry) == {"idle", "third"}


def test_then_the_oldest(clock):
    registry = CircuitBreakerRegistry(max_regions=3, clock=clock)
    for region in ("oldest", "middle", "youngest", "fourth"):
        fail(registry, region)
        clock.advance(1)
    assert regions(registry) == {"middle", "youngest", "fourth"}


def test_a_forced_circuit_is_never_evicted(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    for region in ("a", "b", "c"):
        registry.get(region).force_open("maintenance")
    clock.advance(1_000_000)
    flood(registry)
    assert {"a", "b", "c"} <= regions(registry)
    for region in ("a", "b", "c"):
        with pytest.raises(CircuitBreakerOpenError, match="maintenance"):
            registry.get(region).acquire()


def test_a_breaker_in_a_variable_stays_the_one(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    breaker = registry.get("held")
    flood(registry)
    assert registry.get("held") is breaker


def test_a_breaker_with_a_permit_out_stays_the_one(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    permit = registry.get("in-flight").acquire()
    flood(registry)
    gc.collect()
    permit.fail(ServerError())
    assert registry.get("in-flight").snapshot().streak == 1


async def test_a_breaker_with_a_call_in_flight_stays_the_one(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1), max_regions=2, clock=clock
    )
    answer = asyncio.Event()

    async def fail_later():
        await answer.wait()
        raise ServerError

    task = asyncio.create_task(registry.get("in-flight").call(fail_later))
    await asyncio.sleep(0)
    flood(registry)
    gc.collect()
    answer.set()
    with pytest.raises(ServerError):
        await task
    assert registry.get("in-flight").state is OPEN


def test_a_breaker_with_a_listener_stays_the_one(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    events = []
    registry.get("heard").listen(events.append)
    flood(registry)
    gc.collect()
    trip(registry.get("heard"))
    assert [event.new for event in events] == [OPEN]


async def test_a_breaker_somebody_waits_for_stays_the_one(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    trip(registry.get("awaited"))
    task = asyncio.create_task(registry.get("awaited").wait_until_ready())
    await asyncio.sleep(0)
    flood(registry)
    gc.collect()
    registry.get("awaited").reset()
    assert await task is True


def test_configuring_the_registry_reaches_an_evicted_breaker_that_is_still_held(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    events = []
    held = registry.get("held")
    trip(held)
    flood(registry)
    registry.listen(events.append)
    registry.configure(policy=BreakerPolicy(failure_threshold=4))
    assert held.policy.failure_threshold == 4
    registry.reset()
    assert held.state is CLOSED
    trip(held)
    assert [event.new for event in events if event.region == "held"] == [CLOSED, OPEN]


def test_threads_that_press_each_other_out_never_get_two_breakers_for_one_region(clock):
    policy = BreakerPolicy(failure_threshold=10**9)
    registry = CircuitBreakerRegistry(policy, max_regions=2, clock=clock)
    twins = []

    def work():
        for number in range(200):
            region = f"region-{number % 5}"
            breaker = registry.get(region)
            breaker.acquire().fail()
            if registry.get(region) is not breaker:
                twins.append(region)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert twins == []


def test_a_region_that_was_evicted_starts_again(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    fail(registry, "gone")
    flood(registry)
    assert "gone" not in regions(registry)
    assert registry.get("gone").snapshot().streak == 0


def growth(work, first, last):
    """Give the bytes that stay behind after `work` for each number, beyond a warm-up."""
    for number in range(first):
        work(number)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(first, last):
            work(number)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_endless_spellings_of_one_region_leave_nothing_behind():
    registry = CircuitBreakerRegistry(max_regions=10, normalize=lambda _: "one", clock=FakeClock())
    assert growth(lambda number: registry.get(f"{number:0200}"), 1000, 4000) < 50_000
    assert len(registry) == 1


def test_endless_regions_leave_nothing_behind():
    registry = CircuitBreakerRegistry(max_regions=10, clock=FakeClock())
    assert growth(lambda number: registry.get(f"{number:0200}"), 500, 2500) < 50_000
    assert len(registry) <= 10

"""Drives a breaker through its states."""

import asyncio

import pytest

from resilience import CircuitBreakerOpenError, CircuitState

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


HOUR = 3600.0


class ServerError(Exception):
    """What a client raises for a status. Its text is a secret."""

    def __init__(self, status=503, headers=None):
        super().__init__("Bearer hunter2")
        self.status, self.headers = status, headers


def trip(breaker):
    for _ in range(breaker.policy.failure_threshold):
        breaker.acquire().fail(ServerError())


def half_open(breaker, clock):
    """Open the circuit and wait for it to be due, without taking a probe's place."""
    trip(breaker)
    clock.advance(breaker.policy.recovery_timeout)


def close(breaker):
    for _ in range(breaker.policy.success_threshold):
        breaker.acquire().succeed()


def rejection(breaker):
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    return caught.value


def admits(breaker):
    """Whether a call would be admitted. The place that it gets is given back."""
    try:
        permit = breaker.acquire()
    except CircuitBreakerOpenError:
        return False
    permit.ignore()
    return True


async def give_way():
    for _ in range(5):
        await asyncio.sleep(0)


async def answer(value="sent"):
    await asyncio.sleep(0)
    return value


async def raise_(error):
    await asyncio.sleep(0)
    raise error


def record(breaker):
    events = []
    breaker.listen(events.append)
    return events


def moves(events):
    return [(event.old, event.new) for event in events]


def counters(breaker):
    snapshot = breaker.snapshot()
    names = ("successes", "failures", "answered", "ignored", "rejected", "probes", "trips")
    return {name: getattr(snapshot, name) for name in names if getattr(snapshot, name)}


def raise_in(breaker, error, times):
    for _ in range(times):
        with pytest.raises(type(error)), breaker.acquire():
            raise error

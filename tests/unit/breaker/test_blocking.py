"""block_until_ready: threads that wait until a call would be admitted."""

import asyncio
import threading

import pytest

from resilience import BreakerPolicy, CircuitBreaker


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)


def waiting(breaker):
    """Start a thread that waits; return it, with what it got in its list."""
    got = []
    thread = threading.Thread(target=lambda: got.append(breaker.block_until_ready()), daemon=True)
    thread.start()
    while not breaker._wait_queue or not breaker._wait_queue._waiters:
        thread.join(0.001)
    return thread, got


def test_a_circuit_that_is_ready_blocks_nobody(breaker):
    assert breaker.block_until_ready()
    assert breaker.block_until_ready(0)


def test_time_that_is_up_is_false(breaker):
    breaker.force_open("x")
    assert not breaker.block_until_ready(0)


def test_a_thread_goes_on_when_a_probe_is_due(breaker, clock):
    breaker.acquire().fail()
    thread, got = waiting(breaker)
    clock.advance(59)
    assert thread.is_alive()
    clock.advance(1)
    thread.join(60)
    assert got == [True]


def test_a_thread_goes_on_after_a_reset(breaker):
    breaker.force_open("x")
    thread, got = waiting(breaker)
    breaker.reset()
    thread.join(60)
    assert got == [True]


def test_it_leaves_no_event_loop_behind(breaker):
    breaker.block_until_ready()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


async def test_in_an_event_loop_it_is_an_error_that_names_the_way_out(breaker):
    with pytest.raises(RuntimeError, match="await wait_until_ready instead"):
        breaker.block_until_ready()


@pytest.mark.parametrize(
    ("timeout", "error"), [("1", TypeError), (-1, ValueError), (float("nan"), ValueError)]
)
def test_a_wrong_timeout_is_an_error(breaker, timeout, error):
    with pytest.raises(error, match="timeout"):
        breaker.block_until_ready(timeout)

"""Listeners that run in an event loop, and listeners that do not keep up."""

import asyncio
import contextvars
import selectors
import threading

import pytest

from resilience import CircuitBreakerRegistry, region_breaker
from resilience.scope import enclosing_calls
from tests.support.forks import forking, in_child
from tests.support.threads import join_all, run_all

REGION = "eu-west-1"


@pytest.fixture
def registry():
    return CircuitBreakerRegistry()


def there_and_back(breaker, times=1):
    for _ in range(times):
        breaker.force_open("maintenance")
        breaker.reset()


def warnings(log):
    return [record["message"] for record in log if record["level"].name == "WARNING"]


@pytest.mark.parametrize("of", ["registry", "breaker"])
async def test_events_come_in_order_and_in_the_loop(registry, of):
    breaker = registry.get(REGION)
    seen = []
    listened = registry if of == "registry" else breaker
    listened.listen(
        lambda event: seen.append((event.new, threading.current_thread())),
        loop=asyncio.get_running_loop(),
    )
    join_all(run_all([threading.Thread(target=there_and_back, args=(breaker, 3))]))
    assert seen == [], "nobody waits for the loop"
    await asyncio.sleep(0)
    me = threading.current_thread()
    assert seen == [("OPEN", me), ("CLOSED", me)] * 3


async def test_a_listener_that_is_stopped_gets_nothing_more(registry):
    seen = []
    stop = registry.listen(seen.append, loop=asyncio.get_running_loop())
    there_and_back(registry.get(REGION))
    stop()
    await asyncio.sleep(0)
    there_and_back(registry.get(REGION))
    await asyncio.sleep(0)
    assert seen == []


async def test_what_a_listener_raises_is_logged_and_the_next_event_comes(registry, log):
    seen = []

    def listener(event):
        seen.append(event.new)
        raise ZeroDivisionError

    registry.listen(listener, loop=asyncio.get_running_loop())
    there_and_back(registry.get(REGION))
    await asyncio.sleep(0)
    assert seen == ["OPEN", "CLOSED"]
    faults = [record["message"] for record in log if "raised ZeroDivision" in record["message"]]
    assert len(faults) == 2


def test_an_exit_ends_the_loop_after_all_events_were_delivered(registry):
    seen = []

    def listener(event):
        seen.append(event.new)
        raise SystemExit(7)

    async def work():
        registry.listen(listener, loop=asyncio.get_running_loop())
        there_and_back(registry.get(REGION))
        await asyncio.sleep(1)

    with pytest.raises(SystemExit):
        asyncio.run(work())
    assert seen == ["OPEN", "CLOSED"]


async def test_a_listener_is_not_part_of_the_call_that_caused_the_event(registry):
    variable = contextvars.ContextVar("variable", default="as it was added")
    seen = []
    registry.listen(
        lambda _: seen.append((list(enclosing_calls()), variable.get())),
        loop=asyncio.get_running_loop(),
    )

    @region_breaker(region_from=lambda: REGION, registry=registry)
    async def call():
        variable.set("as in the call")
        registry.get("another").force_open("maintenance")

    await asyncio.create_task(call())
    await asyncio.sleep(0)
    assert seen == [([], "as it was added")]


def test_a_loop_that_does_not_run_keeps_a_thousand_events(registry, log):
    loop = asyncio.new_event_loop()
    seen = []
    registry.listen(lambda event: seen.append(event.reason), loop=loop)
    breaker = registry.get(REGION)
    for number in range(700):
        breaker.force_open(f"number {number}")
        breaker.reset()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert len(seen) == 1000
    assert seen[-2] == "forced open: number 699", "those that are dropped are the oldest"
    dropped = [line for line in warnings(log) if "drops events" in line]
    (line,) = dropped
    assert "drops events for region eu-west-1: 1,000 of them wait for a listener already" in line


def test_a_loop_that_is_closed_meanwhile_is_like_one_that_was_closed(registry, log):
    class Closing(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *args, **kwargs):
            self.close()
            return super().call_soon_threadsafe(*args, **kwargs)

    registry.listen(print, loop=Closing())
    there_and_back(registry.get(REGION), times=2)
    assert len([line for line in warnings(log) if "its event loop is closed" in line]) == 1


@pytest.mark.parametrize("loop", [asyncio, 5, "loop", asyncio.SelectorEventLoop])
def test_what_is_no_loop_is_refused(registry, loop):
    for listened in (registry, registry.get(REGION)):
        with pytest.raises(TypeError, match="loop must be a AbstractEventLoop, got "):
            listened.listen(print, loop=loop)


def test_a_listener_that_takes_its_time_keeps_ten_thousand_events(registry, log):
    breaker = registry.get(REGION)
    started, may_end = threading.Event(), threading.Event()
    seen = []

    def listener(event):
        started.set()
        assert may_end.wait(60)
        seen.append(event.reason)

    registry.listen(listener)
    first = threading.Thread(target=breaker.force_open, args=("first",))
    first.start()
    assert started.wait(60)
    for number in range(6000):
        breaker.reset()
        breaker.force_open(f"number {number}")
    may_end.set()
    first.join(60)
    assert 9_000 < len(seen) <= 10_001
    assert seen[-1] == "forced open: number 5999"
    assert len([line for line in warnings(log) if "drops events" in line]) == 1


# Forks


@forking
def test_the_child_of_a_fork_leaves_to_its_parent_what_the_loop_was_to_deliver(registry):
    # Not epoll, which the two would share.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    seen = []
    registry.listen(lambda event: seen.append(event.reason), loop=loop)
    breaker = registry.get(REGION)
    breaker.force_open("in the parent")

    def child():
        breaker.reset()
        loop.run_until_complete(asyncio.sleep(0))
        assert seen == ["reset by hand"]

    in_child(child)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert seen == ["forced open: in the parent"]


def test_a_fork_before_the_loop_was_asked_silences_no_listener_in_the_child(registry, monkeypatch):
    class Forking(asyncio.SelectorEventLoop):
        was_forked = False

        def call_soon_threadsafe(self, *args, **kwargs):
            if self.was_forked:
                return super().call_soon_threadsafe(*args, **kwargs)
            self.was_forked = True  # and the thread that asks is not in the child
            return None

    loop = Forking()
    seen = []
    registry.listen(lambda event: seen.append(event.reason), loop=loop)
    breaker = registry.get(REGION)
    breaker.force_open("in the parent")
    monkeypatch.setattr("os.getpid", lambda: -1)  # as in the child
    breaker.reset()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert seen == ["reset by hand"]

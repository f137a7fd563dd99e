"""Listeners about what other processes did: they hold up neither the sharing nor a call."""

import asyncio
import sys
import threading

import pytest
from loguru import logger

from resilience import CircuitBreakerOpenError
from tests.support.sharing import lines, registries, shared
from tests.support.stores import serving, until

ONE, OTHER = "eu-west-1", "us-east-1"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with serving("valkey", tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def two(store):
    """Two registries that share both regions."""
    with store.client() as client:
        client.flushall()
    with registries() as make:
        made = make(store.url), make(store.url)
        for registry in made:
            shared(registry, ONE), shared(registry, OTHER)
        yield made


class Slow:
    """A listener that takes as long as the test likes."""

    def __init__(self):
        self.seen, self.threads = [], []
        self.started, self.may_end = threading.Event(), threading.Event()

    def __call__(self, event):
        self.threads.append(threading.current_thread().name)
        self.started.set()
        assert self.may_end.wait(60)
        self.seen.append((event.region, event.new))


@pytest.fixture
def slow():
    slow = Slow()
    yield slow
    slow.may_end.set()


def test_a_slow_listener_stalls_no_sharing(two, slow):
    here, there = two
    here.listen(slow)
    there.get(ONE).force_open("maintenance")
    assert slow.started.wait(60)
    there.get(OTHER).force_open("maintenance")
    until(lambda: here.get(OTHER).state == "OPEN", "the other region is heard")
    here.get(OTHER).reset()
    until(lambda: there.get(OTHER).state == "CLOSED", "and what happens here is said")
    there.get(ONE).reset()
    until(lambda: here.get(ONE).state == "CLOSED", "its own region goes on as well")
    assert slow.seen == []
    slow.may_end.set()
    until(lambda: len(slow.seen) == 4, "nothing is lost")
    of_one = [new for region, new in slow.seen if region == ONE]
    of_other = [new for region, new in slow.seen if region == OTHER]
    assert of_one == of_other == ["OPEN", "CLOSED"]
    assert slow.threads[0] == "resilience-listeners"


def test_a_slow_listener_of_one_region_delays_no_listener_of_another(two, slow):
    here, there = two
    seen = []
    here.get(ONE).listen(slow)
    here.get(OTHER).listen(lambda event: seen.append(event.new))
    there.get(ONE).force_open("maintenance")
    assert slow.started.wait(60)
    there.get(OTHER).force_open("maintenance")
    until(lambda: seen == ["OPEN"], "it is delivered")
    there.get(OTHER).reset()
    until(lambda: seen == ["OPEN", "CLOSED"], "it is delivered")
    assert slow.seen == []


def test_listeners_that_are_slow_for_many_regions_take_a_few_threads(two, slow):
    here, there = two
    here.listen(slow)
    before = threading.enumerate()  # those of the test before may be about to end
    regions = [f"region-{number}" for number in range(20)]
    for region in regions:
        shared(here, region)
        shared(there, region).force_open("maintenance")
    until(lambda: {here.get(region).state for region in regions} == {"OPEN"}, "all are heard")
    until(lambda: len(slow.threads) >= 8, "eight threads wait for the listener")
    until(lambda: len(set(threading.enumerate()).difference(before)) == 8, "there are no others")
    assert len(slow.threads) == 8
    slow.may_end.set()
    until(lambda: len(slow.seen) == 20, "nothing is lost")
    assert {region for region, _ in slow.seen} == set(regions)


def test_a_slow_listener_stalls_no_call(two, slow):
    here, there = two
    here.get(ONE).listen(slow)
    there.get(ONE).force_open("maintenance")
    assert slow.started.wait(60)
    with pytest.raises(CircuitBreakerOpenError):
        here.get(ONE).acquire()
    here.get(ONE).reset()
    for _ in range(2):
        here.get(ONE).acquire().fail(TimeoutError())
    assert here.get(ONE).state == "OPEN"
    assert slow.seen == []
    slow.may_end.set()
    until(lambda: len(slow.seen) == 3, "all of it is delivered")
    assert [new for _, new in slow.seen] == ["OPEN", "CLOSED", "OPEN"]
    assert set(slow.threads) == {"resilience-listeners"}


def test_a_slow_listener_does_not_hold_up_the_end(two, slow):
    here, there = two
    here.listen(slow)
    there.get(ONE).force_open("maintenance")
    assert slow.started.wait(60)
    here.close()
    assert here.get(ONE).snapshot().shared is False


def test_threads_come_and_go_with_the_events(two):
    here, there = two
    seen = []
    here.listen(seen.append)
    for times in (1, 2):
        there.get(ONE).force_open(f"maintenance {times}")
        until(lambda times=times: len(seen) == 2 * times - 1, "it is delivered")
        there.get(ONE).reset()
        until(lambda times=times: len(seen) == 2 * times, "it is delivered")
        until(
            lambda: "resilience-listeners" not in [t.name for t in threading.enumerate()],
            "the thread ends",
        )


@pytest.mark.parametrize("how", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_listener_that_exits_is_logged_and_the_next_events_come(two, log, how):
    here, there = two
    seen = []

    def listener(event):
        seen.append(event.new)
        raise how

    here.listen(listener)
    there.get(ONE).force_open("maintenance")
    until(lambda: here.get(ONE).state == "OPEN", "it is heard")
    there.get(ONE).reset()
    until(lambda: seen == ["OPEN", "CLOSED"], "both are delivered")
    until(lambda: [line for line in lines(log, "ERROR") if how.__name__ in line], "it is logged")


def test_a_sink_of_the_log_that_exits_ends_no_delivery(two):
    def sink(_):
        if threading.current_thread().name == "resilience-listeners":
            sys.exit("now")

    here, there = two
    seen = []
    here.listen(lambda event: seen.append(event.new))
    added = logger.add(sink, catch=False)
    there.get(ONE).force_open("maintenance")
    until(lambda: seen == ["OPEN"], "it is heard")
    there.get(ONE).reset()
    until(lambda: seen == ["OPEN", "CLOSED"], "both are delivered")
    logger.remove(added)


def test_without_threads_a_later_call_delivers(two, monkeypatch):
    here, there = two
    seen = []
    here.listen(lambda event: seen.append(threading.current_thread()))

    class NoThread(threading.Thread):
        def start(self):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "Thread", NoThread)
    there.get(ONE).force_open("maintenance")
    until(lambda: here.get(ONE).state == "OPEN", "it is heard")

    def delivered():
        here.get(OTHER).reset()
        return seen

    until(delivered, "it is delivered")
    assert seen == [threading.current_thread()]


# In an event loop


async def test_a_listener_for_a_loop_may_start_tasks_there(two):
    here, there = two
    seen, tasks = [], []

    async def work(event):
        seen.append((event.new, event.by is not None, threading.current_thread()))

    here.listen(
        lambda event: tasks.append(asyncio.create_task(work(event))),
        loop=asyncio.get_running_loop(),
    )
    there.get(ONE).force_open("maintenance")
    await asyncio.to_thread(until, lambda: len(seen) == 1, "it is heard")
    there.get(ONE).reset()
    await asyncio.to_thread(until, lambda: len(seen) == 2, "it is heard")
    me = threading.current_thread()
    assert seen == [("OPEN", True, me), ("CLOSED", True, me)]


def test_a_loop_that_is_closed_ends_nothing_and_is_logged_once(two, log):
    here, there = two
    loop = asyncio.new_event_loop()
    here.listen(lambda _: sys.exit("never"), loop=loop)
    loop.close()
    for _ in range(2):
        there.get(ONE).force_open("maintenance")
        until(lambda: here.get(ONE).state == "OPEN", "it is heard")
        there.get(ONE).reset()
        until(lambda: here.get(ONE).state == "CLOSED", "it is heard")
    closed = "cannot call a listener for region eu-west-1: its event loop is closed; end it before"
    until(lambda: [line for line in lines(log, "INFO") if "CLOSED" in line][3:], "all is logged")
    assert len([line for line in lines(log, "WARNING") if line.startswith(closed)]) == 1

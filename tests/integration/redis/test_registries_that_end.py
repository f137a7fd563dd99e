"""Registries that are dropped, closed, cleared, and set up again."""

import gc
import threading
import weakref
from pathlib import Path

import pytest
from loguru import logger

from resilience import BreakerPolicy, CircuitBreakerRegistry
from resilience.integrations.redis import RedisSharing
from tests.support.sharing import LONG, lines, registries, shared, trip
from tests.support.sharing_worker import REGION
from tests.support.stores import Store, binaries, serving, until


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving("valkey", tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def store(server):
    with server.client() as client:
        client.flushall()
    return server


@pytest.fixture
def held():
    """Return what this process holds: its threads for sharing, and its descriptors."""

    def count():
        names = [thread.name for thread in threading.enumerate()]
        return names.count("resilience-sharing"), len([*Path("/proc/self/fd").iterdir()])

    gc.collect()
    return count


def registry_on(store, **options):
    return CircuitBreakerRegistry(BreakerPolicy(**LONG), sharing=RedisSharing(store.url, **options))


def clients_of(store):
    with store.client() as client:
        return [one["name"] for one in client.client_list() if one["name"]]


# Dropped


def test_a_registry_that_is_dropped_leaves_no_thread_and_no_descriptor(store, held):
    before = held()
    for _ in range(3):
        registry = registry_on(store)
        shared(registry)
        assert held()[0] == before[0] + 1
        del registry
        until(lambda: gc.collect() is not None and held() == before, "all of it is given back")
    until(lambda: clients_of(store) == [], "the store knows of no process any more")


def test_one_that_is_dropped_while_the_store_is_down_ends_as_well(tmp_path, held):
    before = held()
    store = Store(binaries()["valkey"], tmp_path)
    registry = registry_on(store)
    registry.get(REGION)
    until(lambda: held()[0] == before[0] + 1, "it tries to connect")
    del registry
    until(lambda: gc.collect() is not None and held() == before, "all of it is given back")


def test_a_breaker_that_somebody_holds_keeps_its_registry_sharing(store, held):
    before = held()

    def follow():
        breaker = shared(registry_on(store))
        gc.collect()
        with registries() as make:
            trip(shared(make(store.url)))
            until(lambda: breaker.state == "OPEN", "it is heard")

    follow()
    until(lambda: gc.collect() is not None and held() == before, "all of it is given back")


def test_what_a_dropped_registry_held_is_given_back(store):
    with registries() as make:
        registry = registry_on(store, quorum=2)
        trip(shared(registry))
        with store.client() as client:
            key = "{region-breaker}:1:eu-west-1"
            until(lambda: client.hget(key, "votes"), "it has voted")
            del registry
            until(lambda: not gc.collect() or not client.hget(key, "votes"), "it has no vote")
        trip(shared(make(store.url, quorum=2)))


def test_a_sharing_whose_registry_is_gone_serves_the_next_one(store):
    sharing = RedisSharing(store.url)
    first = CircuitBreakerRegistry(sharing=sharing)
    shared(first)
    del first
    until(lambda: gc.collect() is not None and sharing._synchronizer is None, "it has ended")
    second = CircuitBreakerRegistry(sharing=sharing)
    shared(second)
    second.close()


def test_a_registry_that_takes_over_a_sharing_is_not_stopped_for_the_one_before(store):
    sharing = RedisSharing(store.url)
    first = CircuitBreakerRegistry(sharing=sharing)
    owner = sharing._owner
    del first
    gc.collect()
    second = CircuitBreakerRegistry(sharing=sharing)
    breaker = shared(second)
    sharing._release(owner)  # as a thread that comes late does
    assert sharing._synchronizer is not None
    assert breaker.snapshot().shared
    second.close()


def test_a_log_sink_may_close_the_registry_from_the_thread_that_shares(store):
    registry = registry_on(store)
    breaker = shared(registry)
    closed = []

    def close(_message):
        registry.close()
        closed.append(threading.current_thread().name)

    sink = logger.add(close, filter=lambda record: "sharing is lost" in record["message"])
    with store.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
        client.client_kill_filter(_type="pubsub")
        breaker.force_open("maintenance")
        until(lambda: closed, "it is closed")
    logger.remove(sink)
    assert closed == ["resilience-sharing"]
    assert breaker.snapshot().shared is False


# Set up again


def test_after_close_another_sharing_takes_the_breakers_over(store, held):
    before = held()
    registry = registry_on(store)
    breaker = shared(registry)
    with registries() as make:
        other = shared(make(store.url))
        for times in range(2):
            registry.close()
            assert breaker.snapshot().shared is False
            registry.configure(sharing=RedisSharing(store.url))
            assert registry.get(REGION) is breaker
            shared(registry)
            other.force_open(f"maintenance {times}")
            until(lambda: breaker.state == "OPEN", "it follows")
            breaker.reset()
            until(lambda: other.state == "CLOSED", "it is heard")
    registry.close()
    until(lambda: held() == before, "all of it is given back")


@pytest.mark.parametrize("what", ["trip", "force_open"])
def test_what_happened_between_the_two_is_news_for_the_fleet(store, what):
    registry = registry_on(store)
    breaker = shared(registry)
    registry.close()
    trip(breaker) if what == "trip" else breaker.force_open("maintenance")
    with registries() as make:
        other = shared(make(store.url))
        registry.configure(sharing=RedisSharing(store.url))
        until(lambda: other.state == "OPEN", "it is heard")
        other.reset()
        until(lambda: breaker.state == "CLOSED", "it follows")
    registry.close()


def test_another_store_is_believed_although_its_versions_are_lower(store, tmp_path):
    new = Store(binaries()["valkey"], tmp_path)
    new.start()
    registry = registry_on(store)
    breaker = shared(registry)
    breaker.circuit.version = 10**14
    registry.close()
    registry.configure(sharing=RedisSharing(new.url))
    shared(registry)
    with registries() as make:
        shared(make(new.url)).force_open("maintenance")
        until(lambda: breaker.state == "OPEN", "it follows")
    registry.close()
    new.kill()


def test_calls_after_the_second_start_cost_as_little_as_before(store):
    registry = registry_on(store)
    breaker = shared(registry)
    registry.close()
    registry.configure(sharing=RedisSharing(store.url))
    shared(registry)
    breaker.acquire().succeed()
    assert breaker.closed is not None
    registry.close()


def test_after_clear_everything_is_set_up_anew(store, held):
    before = held()
    registry = registry_on(store)
    old = shared(registry)
    for _ in range(2):
        registry.clear()
        until(lambda: held() == before, "all of it is given back")
        registry.configure(sharing=RedisSharing(store.url))
        assert registry.get(REGION) is not old
        shared(registry)
    registry.clear()


def test_a_sharing_that_is_open_is_not_replaced(store):
    with registries() as make:
        registry = make(store.url)
        breaker = shared(registry)
        for new in (RedisSharing(store.url), None):
            with pytest.raises(RuntimeError, match="while the registry is empty or after close"):
                registry.configure(sharing=new)
        assert breaker.snapshot().shared


def test_sharing_is_not_given_to_breakers_that_were_made_without_it(store):
    registry = CircuitBreakerRegistry()
    registry.get(REGION)
    with pytest.raises(RuntimeError, match=r"sharing can be set only while the registry is empty$"):
        registry.configure(sharing=RedisSharing(store.url))


def test_the_clock_stays_fixed_also_after_close(store):
    registry = registry_on(store)
    registry.get(REGION)
    registry.close()
    with pytest.raises(RuntimeError, match=r"clock can be set only while the registry is empty$"):
        registry.configure(sharing=RedisSharing(store.url), clock=lambda: 1.0)


def test_a_sharing_that_was_closed_and_replaced_is_freed(store):
    registry = registry_on(store)
    shared(registry)
    replaced = weakref.ref(registry._settings.sharing)
    registry.close()
    registry.configure(sharing=RedisSharing(store.url))
    shared(registry)
    until(lambda: gc.collect() is not None and replaced() is None, "it is freed")
    registry.close()


def test_nothing_of_this_is_logged(store, log):
    registry = registry_on(store)
    shared(registry)
    registry.close()
    registry.configure(sharing=RedisSharing(store.url))
    shared(registry)
    sharing = registry._settings.sharing
    del registry
    until(lambda: gc.collect() is not None and sharing._synchronizer is None, "it has ended")
    assert lines(log, "WARNING", "ERROR") == []

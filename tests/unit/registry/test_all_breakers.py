"""Iteration, reset and listeners: all breakers of a registry."""

import pytest

from resilience import CircuitSnapshot
from tests.support.driving import CLOSED, OPEN, trip
from tests.support.regions import fail

# Iteration


def test_len_iteration_and_in_agree(registry):
    kept = [registry.get(region) for region in ("a", "b", "c")]
    assert len(registry) == len(list(registry)) == 3
    assert {getattr(entry, "region", entry) for entry in registry} == {"a", "b", "c"}
    assert all(breaker.region in registry for breaker in kept)


def test_a_region_made_during_iteration_breaks_nothing(registry):
    kept = [registry.get(region) for region in ("a", "b", "c")]
    for number, _ in enumerate(registry):
        kept.append(registry.get(f"new-{number}"))
        if number == 10:
            break
    assert len(registry) == len(kept)


def test_snapshots_are_one_per_region(registry):
    registry.get("a").acquire().succeed()
    trip(registry.get("b"))
    snapshots = registry.snapshots()
    assert all(isinstance(snapshot, CircuitSnapshot) for snapshot in snapshots)
    assert {entry.region: entry.state for entry in snapshots} == {"a": CLOSED, "b": OPEN}
    assert {entry.region: entry.successes for entry in snapshots} == {"a": 1, "b": 0}


# Reset and listeners


def test_reset_closes_every_circuit_it_knows(registry):
    trip(registry.get("a"))
    registry.get("b").force_open("maintenance")
    fail(registry, "c")
    registry.reset()
    assert {entry.state for entry in registry.snapshots()} == {CLOSED}
    assert {entry.streak for entry in registry.snapshots()} == {0}


def test_a_listener_gets_the_events_of_breakers_made_before_and_after(registry):
    old = registry.get("old")
    events = []
    stop = registry.listen(events.append)
    new = registry.get("new")
    trip(old)
    trip(new)
    assert [(event.region, event.new) for event in events] == [("old", OPEN), ("new", OPEN)]
    stop()
    stop()
    registry.reset()
    trip(registry.get("third"))
    assert len(events) == 2


def test_listeners_of_the_registry_and_of_a_breaker_hear_each_event_once(registry):
    breaker = registry.get("a")
    heard = []
    registry.listen(lambda event: heard.append(("registry", event)))
    breaker.listen(lambda event: heard.append(("breaker", event)))
    trip(breaker)
    assert sorted(who for who, _ in heard) == ["breaker", "registry"]


@pytest.mark.parametrize("wrong", [None, 5, "listener"])
def test_a_listener_of_a_registry_must_be_callable(registry, wrong):
    with pytest.raises(TypeError, match="listener"):
        registry.listen(wrong)


def test_an_async_listener_of_a_registry_is_a_type_error(registry):
    async def listener(event):
        pass

    with pytest.raises(TypeError, match="listener"):
        registry.listen(listener)

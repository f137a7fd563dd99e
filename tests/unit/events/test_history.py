"""The history of a registry: what happened last, in the order in which it happened."""

import threading

import pytest

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState
from resilience.history import History

CLOSED, OPEN, HALF_OPEN = CircuitState


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)


def told(registry):
    return [(event.region, event.old, event.new) for event in registry.history]


def test_is_empty_before_anything_happens(registry):
    registry.get("a").acquire().succeed()
    assert (list(registry.history), len(registry.history), registry.history.total) == ([], 0, 0)


def test_keeps_the_changes_of_all_circuits_in_their_order(registry, clock):
    registry.get("a").acquire().fail()
    registry.get("b").acquire().fail()
    clock.advance(60)
    registry.get("a").acquire().fail()
    assert told(registry) == [
        ("a", CLOSED, OPEN),
        ("b", CLOSED, OPEN),
        ("a", OPEN, HALF_OPEN),
        ("a", HALF_OPEN, OPEN),
    ]


def test_is_complete_when_a_listener_is_called(registry):
    seen = []
    registry.listen(lambda event: seen.append(list(registry.history) == [event]))
    registry.get("a").force_open("a test")
    assert seen == [True]


def test_has_the_order_of_the_changes_where_listeners_are_called_later(registry):
    b = registry.get("b")
    # While the first listener of a is being told, b changes: b is told about at once, a later on.
    registry.get("a").listen(lambda _: b.force_open("a test"))
    heard = []
    registry.listen(lambda event: heard.append(event.region))
    registry.get("a").force_open("a test")
    assert heard == ["b", "a"]
    assert [event.region for event in registry.history] == ["a", "b"]


def test_keeps_200_and_counts_the_rest(registry):
    breaker = registry.get("a")
    for number in range(205):
        breaker.force_open(f"number {number}")
    kept = [event.reason for event in registry.history]
    assert kept == [f"forced open: number {number}" for number in range(5, 205)]
    assert (len(registry.history), registry.history.total) == (200, 205)


def test_can_be_made_larger_and_smaller(registry):
    breaker = registry.get("a")
    for number in range(5):
        breaker.force_open(f"number {number}")
    registry.history.resize(3)
    breaker.force_open("number 5")
    assert [event.reason[-1] for event in registry.history] == ["3", "4", "5"]
    registry.history.resize(4)
    breaker.force_open("number 6")
    assert [event.reason[-1] for event in registry.history] == ["3", "4", "5", "6"]
    assert registry.history.total == 7


@pytest.mark.parametrize("size", [0, -1])
def test_refuses_to_keep_nothing(registry, size):
    with pytest.raises(ValueError, match="size must be a whole number of at least 1"):
        registry.history.resize(size)
    with pytest.raises(ValueError, match="size must be a whole number of at least 1"):
        History(size)


def test_can_be_looked_through_while_it_grows(registry):
    breaker = registry.get("a")
    breaker.force_open("one")
    looking = iter(registry.history)
    breaker.force_open("two")
    assert [event.reason for event in looking] == ["forced open: one"]


def test_loses_nothing_to_threads(registry):
    registry.history.resize(10_000)

    def storm(name):
        for number in range(300):
            registry.get(name).force_open(str(number))

    threads = [threading.Thread(target=storm, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.history.total == len(registry.history) == 4 * 300
    for name in "abcd":
        its = [event.reason for event in registry.history if event.region == name]
        assert its == [f"forced open: {number}" for number in range(300)]


def test_a_snapshot_counts_the_transitions(registry, clock):
    breaker = registry.get("a")
    for _ in range(3):
        breaker.acquire().fail()
        clock.advance(60)
        for _ in range(3):
            breaker.acquire().succeed()
    breaker.force_open("one")
    breaker.force_open("two")
    breaker.reset()
    assert breaker.snapshot().transitions == (
        (CLOSED, OPEN, 4),
        (OPEN, HALF_OPEN, 3),
        (HALF_OPEN, CLOSED, 3),
        (OPEN, OPEN, 1),
        (OPEN, CLOSED, 1),
    )

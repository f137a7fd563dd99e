"""A replay with the recorded policy takes every decision that was taken when it was recorded."""

import gc
import random

import pytest

from resilience import Backoff, BreakerPolicy, CircuitBreaker, CircuitBreakerRegistry
from resilience.replay import compare, replay
from resilience.testing import FakeClock
from tests.support.driving import trip
from tests.support.recorded_traffic import REGIONS, Traffic, read_regions

SEEDS = range(40)


def assert_reproduced(path, changes, *, within=2e-6):
    for region, recorded in read_regions(path).items():
        happened = [change for change in changes if change.region == region]
        replayed = replay(recorded).transitions
        assert [(one.old, one.new, one.rule) for one in replayed] == [
            (one.old, one.new, one.rule) for one in happened
        ]
        for one, other in zip(replayed, happened, strict=True):
            assert abs(one.at - other.at) < within
        assert compare(recorded, {}).differences == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_random_traffic_with_random_policies(tmp_path, seed):
    traffic = Traffic(seed, FakeClock(random.Random(seed).choice([0.0, 1000.5, 314159.265])))
    recording = traffic.registry.record(tmp_path / "outcomes")
    traffic.run(400)
    recording.close()
    assert_reproduced(tmp_path / "outcomes", traffic.changes)


def test_it_covers_all_kinds_of_changes():
    """The seeds above are worth something: all transitions and rules happen in them."""
    changes = []
    for seed in SEEDS:
        traffic = Traffic(seed, FakeClock())
        traffic.run(400)
        changes += traffic.changes
    assert len({(one.old, one.new) for one in changes}) == 6
    assert {one.rule for one in changes} >= {None, "streak", "failure rate", "slow call rate"}


def test_more_calls_at_a_time_than_a_word_can_count(tmp_path, clock):
    registry = CircuitBreakerRegistry(clock=clock)
    changes = []
    registry.listen(changes.append)
    recording = registry.record(tmp_path / "outcomes")
    breaker = registry.get("eu-west-1")
    late = breaker.acquire()
    for _ in range(300):
        clock.advance(0.001)
        breaker.acquire().succeed()
    trip(breaker)
    clock.advance(60)
    probe = breaker.acquire()
    late.fail()
    probe.succeed()
    for _ in range(2):
        breaker.acquire().succeed()
    recording.close()
    assert_reproduced(tmp_path / "outcomes", changes)


def test_a_policy_that_changes_on_the_way(tmp_path, clock):
    traffic = Traffic(7, clock, BreakerPolicy(failure_threshold=5))
    recording = traffic.registry.record(tmp_path / "outcomes")
    traffic.run(300)
    traffic.registry.configure(policy=BreakerPolicy(failure_threshold=2, recovery_timeout=5))
    traffic.run(300)
    recording.close()
    assert len(traffic.changes) > 10
    assert_reproduced(tmp_path / "outcomes", traffic.changes)


def test_circuits_that_are_not_new(tmp_path, clock):
    registry = CircuitBreakerRegistry(clock=clock)
    for _ in range(4):
        registry.get("streak").acquire().fail()
    trip(registry.get("open"))
    clock.advance(60)
    trip(registry.get("half-open"))
    clock.advance(60)
    registry.get("half-open").acquire().ignore()
    registry.get("forced").force_open("maintenance")
    changes = []
    registry.listen(changes.append)
    recording = registry.record(tmp_path / "outcomes")
    for _ in range(6):
        registry.get("streak").acquire().fail()
    for region in ("open", "half-open"):
        for _ in range(3):
            registry.get(region).acquire().succeed()
    registry.get("forced").reset()
    recording.close()
    assert len(changes) == 5
    assert_reproduced(tmp_path / "outcomes", changes)


def test_a_delay_that_the_server_asks_for(tmp_path, clock):
    class BusyError(Exception):
        status, headers = 503, {"Retry-After": "70"}

    policy = BreakerPolicy(recovery_timeout=Backoff(10), honor_retry_after=True)
    registry = CircuitBreakerRegistry(policy, clock=clock)
    changes = []
    registry.listen(changes.append)
    recording = registry.record(tmp_path / "outcomes")
    breaker = registry.get("eu-west-1")
    for _ in range(9):
        breaker.acquire().fail()
    breaker.acquire().fail(BusyError())
    clock.advance(69)
    assert breaker.retry_after == 1
    clock.advance(1)
    breaker.acquire().attempt_failed(BusyError())
    clock.advance(70)
    breaker.acquire().succeed()
    recording.close()
    assert len(changes) == 4
    assert_reproduced(tmp_path / "outcomes", changes)


def test_a_region_that_was_forgotten_begins_anew(tmp_path, clock):
    registry = CircuitBreakerRegistry(clock=clock, max_regions=1)
    changes = []
    registry.listen(changes.append)
    recording = registry.record(tmp_path / "outcomes")
    for _ in range(9):
        registry.get("eu-west-1").acquire().fail()
    clock.advance(10_000)
    registry.get("us-east-1").acquire().succeed()
    gc.collect()
    registry.get("eu-west-1").acquire().fail()
    recording.close()
    assert not changes
    assert_reproduced(tmp_path / "outcomes", changes)


def test_files_that_take_turns(tmp_path):
    """The older file is read as well; what is before it is lost, but not the state."""
    traffic = Traffic(3, FakeClock(), BreakerPolicy(failure_threshold=2, recovery_timeout=5))
    recording = traffic.registry.record(tmp_path / "outcomes", limit=400)
    traffic.run(700)
    recording.close()
    assert (tmp_path / "outcomes.1").exists()
    assert len(traffic.changes) > 20
    for region in REGIONS:
        recorded = read_regions(tmp_path / "outcomes")[region]
        last = [one for one in traffic.changes if one.region == region][-5:]
        replayed = replay(recorded).transitions[-5:]
        assert [(one.old, one.new) for one in replayed] == [(one.old, one.new) for one in last]


@pytest.mark.parametrize("seed", range(5))
def test_recording_changes_nothing(tmp_path, seed):
    quiet, recorded = Traffic(seed, FakeClock()), Traffic(seed, FakeClock())
    recording = recorded.registry.record(tmp_path / "outcomes")
    for traffic in (quiet, recorded):
        traffic.run(400)
    recording.close()
    assert [(one.old, one.new, one.at) for one in quiet.changes] == [
        (one.old, one.new, one.at) for one in recorded.changes
    ]
    for one, other in zip(quiet.registry.snapshots(), recorded.registry.snapshots(), strict=True):
        assert one == other


def test_a_breaker_alone_has_no_recording(clock):
    assert CircuitBreaker("eu-west-1", clock=clock).closed is not None

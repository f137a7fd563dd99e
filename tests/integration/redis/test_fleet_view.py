"""Fleet: the records of a store, for operators."""

import pytest
import redis

from resilience import CircuitState
from resilience.integrations.redis import Fleet
from resilience.integrations.redis import fleet as fleet_module
from resilience.integrations.redis.connection import CommandConnection
from resilience.integrations.redis.protocol import InvalidReplyError
from tests.support.sharing import QUICK, registries, shared, trip
from tests.support.stores import serving, until


@pytest.fixture
def store(tmp_path):
    with serving("valkey", tmp_path) as store:
        yield store


@pytest.fixture
def fleet(store):
    with Fleet(store.url, name="ann") as fleet:
        yield fleet


@pytest.fixture
def join():
    with registries() as make:
        yield make


def test_a_change_by_hand_is_in_the_store(fleet):
    assert fleet.circuits() == []
    assert not fleet.force_open("eu-west-1", "moving")
    (circuit,) = fleet.circuits()
    assert (circuit.region, circuit.state, circuit.forced) == ("eu-west-1", CircuitState.OPEN, True)
    assert (circuit.reason, circuit.by) == ("forced open: moving", "ann")
    assert fleet.reset("eu-west-1")
    (circuit,) = fleet.circuits()
    assert (circuit.state, circuit.forced) == (CircuitState.CLOSED, False)


def test_a_vote_to_open_a_circuit_is_not_a_change_of_it(fleet, store, join):
    trip(shared(join(store.url, quorum=2)))
    with store.client() as client:
        until(lambda: client.keys("{region-breaker}:1:*"), "the vote is in the store")
    assert fleet.circuits() == []
    trip(shared(join(store.url, quorum=2)))
    until(fleet.circuits, "the quorum is reached")


def test_many_regions_with_odd_names_are_found(fleet, store, monkeypatch):
    monkeypatch.setattr(fleet_module, "_RECORDS_PER_REQUEST", 2)
    names = ["a", "b/c", "d e", "ü", "%41", "*"]
    for name in names:
        fleet.force_open(name, "x")
    with Fleet(store.url, prefix="region-brea*") as other:
        other.force_open("not of this prefix", "x")
        assert [one.region for one in other.circuits()] == ["not of this prefix"]
    assert sorted(one.region for one in fleet.circuits()) == sorted(names)


def test_a_region_is_found_among_thousands_of_other_keys(fleet, store):
    with store.client() as client:
        client.mset({f"other:{number}": "" for number in range(5000)})
    fleet.force_open("a", "x")
    assert [one.region for one in fleet.circuits()] == ["a"]


def test_what_is_not_a_record_is_left_out(fleet, store):
    with store.client() as client:
        client.set("{region-breaker}:1:odd", "not a record")
        client.hset("{region-breaker}:1:strange", "s", "O")
    fleet.force_open("eu-west-1", "x")
    assert [one.region for one in fleet.circuits()] == ["eu-west-1"]


def test_a_probe_of_a_process_is_seen(fleet, store, join):
    breaker = shared(join(store.url, policy=QUICK))
    trip(breaker)
    until(lambda: breaker.state is CircuitState.HALF_OPEN, "it is due")
    until(lambda: _probe(breaker) and fleet.circuits()[0].is_probed, "it is probed")
    assert fleet.circuits()[0].state is CircuitState.HALF_OPEN


def _probe(breaker):
    """Begin a probe, and never end it; True: one has begun before."""
    if breaker.snapshot().probes == 0:
        breaker.block_until_ready()
        breaker.acquire()
    return True


def test_a_store_that_is_away_is_an_error(store, fleet):
    store.kill()
    with pytest.raises(redis.ConnectionError):
        fleet.circuits()
    with pytest.raises(redis.ConnectionError):
        Fleet(store.url)


def test_a_command_that_comes_too_late_is_an_error(fleet, monkeypatch):
    monkeypatch.setattr(fleet_module, "_IN_TIME", -10_000)
    with pytest.raises(InvalidReplyError):
        fleet.reset("eu-west-1")


def test_an_odd_reply_is_an_error(fleet, monkeypatch):
    monkeypatch.setattr(CommandConnection, "_ask", lambda *_: [b"0"])
    with pytest.raises(InvalidReplyError):
        fleet.circuits()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda fleet: fleet.force_open("", "x"), ValueError),
        (lambda fleet: fleet.force_open("a", ""), ValueError),
        (lambda fleet: fleet.reset(7), TypeError),
        (lambda fleet: Fleet("redis://localhost", prefix="{}"), ValueError),
    ],
)
def test_wrong_arguments_are_errors(fleet, call, error):
    with pytest.raises(error):
        call(fleet)
    assert fleet.circuits() == []

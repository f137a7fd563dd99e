"""The events of a circuit: in order, complete, and none for what changes nothing."""

import dataclasses
from datetime import UTC, datetime

import pytest

from resilience import BreakerPolicy, CircuitBreaker, StateChanged
from tests.support.driving import CLOSED, HALF_OPEN, OPEN, close, moves, record, trip
from tests.support.outage import outage

OUTAGE = [
    (CLOSED, OPEN),
    (OPEN, HALF_OPEN),
    (HALF_OPEN, OPEN),
    (OPEN, HALF_OPEN),
    (HALF_OPEN, CLOSED),
    (CLOSED, OPEN),
    (OPEN, CLOSED),
]


def test_events_come_in_the_order_of_the_transitions(breaker, clock):
    events = record(breaker)
    outage(breaker, clock)
    assert moves(events) == OUTAGE


def test_each_event_starts_where_the_one_before_ended(breaker, clock):
    events = record(breaker)
    outage(breaker, clock)
    breaker.force_open("one")
    breaker.force_open("two")
    assert [event.old for event in events[1:]] == [event.new for event in events[:-1]]


def test_events_give_their_reason(breaker, clock):
    events = record(breaker)
    outage(breaker, clock)
    assert [event.reason for event in events] == [
        "ServerError 503",
        "recovery timeout of 60 s elapsed",
        "ServerError 500",
        "recovery timeout of 60 s elapsed",
        "3 consecutive successes",
        "forced open: maintenance",
        "reset by hand",
    ]


def test_an_event_of_opening_has_all_its_fields(breaker, clock):
    events = record(breaker)
    clock.advance(12.5)
    now = clock()
    before = datetime.now(UTC)
    trip(breaker)
    (event,) = events
    assert isinstance(event, StateChanged)
    assert (event.region, event.at, event.streak, event.retry_after) == ("eu-west-1", now, 10, 60.0)
    assert event.time.utcoffset() is not None
    assert before <= event.time <= datetime.now(UTC)


def test_events_say_how_long_to_wait(breaker, clock):
    events = record(breaker)
    outage(breaker, clock)
    opened = [event.retry_after for event in events if event.new is OPEN]
    closed = [event.retry_after for event in events if event.new is CLOSED]
    assert opened == [60.0, 60.0, None]
    assert closed == [0.0, 0.0]


def test_events_carry_the_streak(breaker, clock):
    events = record(breaker)
    outage(breaker, clock)
    assert [event.streak for event in events if event.new is OPEN] == [10, 11, 0]
    assert [event.streak for event in events if event.new is CLOSED] == [0, 0]


def test_an_event_is_frozen(breaker):
    events = record(breaker)
    breaker.force_open("maintenance")
    with pytest.raises(dataclasses.FrozenInstanceError):
        events[0].region = "elsewhere"


def test_events_name_small_numbers_properly(clock):
    policy = BreakerPolicy(failure_threshold=1, success_threshold=1, recovery_timeout=0.25)
    breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
    events = record(breaker)
    trip(breaker)
    clock.advance(0.25)
    close(breaker)
    assert [event.reason for event in events[1:]] == [
        "recovery timeout of 0.25 s elapsed",
        "1 success",
    ]


def test_forcing_an_open_circuit_makes_an_event(breaker):
    trip(breaker)
    events = record(breaker)
    breaker.force_open("maintenance")
    assert moves(events) == [(OPEN, OPEN)]


def test_forcing_again_with_the_same_reason_makes_no_event(breaker):
    events = record(breaker)
    breaker.force_open("maintenance")
    breaker.force_open("maintenance")
    assert len(events) == 1
    breaker.force_open("fire")
    assert moves(events) == [(CLOSED, OPEN), (OPEN, OPEN)]


def test_forcing_a_circuit_that_is_due_starts_from_the_state_of_the_event_before(breaker, clock):
    events = record(breaker)
    trip(breaker)
    clock.advance(60)
    breaker.force_open("maintenance")
    assert [event.old for event in events[1:]] == [event.new for event in events[:-1]]
    assert events[-1].new is OPEN


def test_resetting_a_closed_circuit_makes_no_event(breaker, log):
    events = record(breaker)
    breaker.reset()
    assert (events, log) == ([], [])

"""The log lines of an outage, to the letter."""

import pytest
from loguru import logger

from resilience import BreakerPolicy, CircuitBreaker
from tests.support.driving import CLOSED, HALF_OPEN, OPEN, ServerError, moves, record, trip
from tests.support.outage import outage, text_of

OPEN_AFTER = "Circuit breaker OPEN for region eu-west-1 after"


def test_the_log_describes_a_whole_outage_word_for_word(breaker, clock, log):
    outage(breaker, clock)
    assert text_of(log) == [
        ("ERROR", f"{OPEN_AFTER} 10 failures: ServerError 503"),
        (
            "WARNING",
            "Circuit breaker HALF_OPEN for region eu-west-1: recovery timeout of 60 s elapsed",
        ),
        (
            "ERROR",
            f"{OPEN_AFTER} 11 failures: ServerError 500 (probe failed)",
        ),
        (
            "WARNING",
            "Circuit breaker HALF_OPEN for region eu-west-1: recovery timeout of 60 s elapsed",
        ),
        ("INFO", "Circuit breaker CLOSED for region eu-west-1 — recovered"),
        ("ERROR", "Circuit breaker OPEN for region eu-west-1: forced open: maintenance"),
        ("INFO", "Circuit breaker CLOSED for region eu-west-1: reset by hand"),
    ]


def test_the_log_counts_one_failure_in_the_singular(clock, log):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    breaker.acquire().fail()
    assert text_of(log) == [
        (
            "ERROR",
            "Circuit breaker OPEN for region eu-west-1 after 1 failure: reported by the caller",
        )
    ]


def test_every_line_binds_region_states_reason_and_streak(breaker, clock, log):
    events = record(breaker)
    outage(breaker, clock)
    names = ("region", "old", "new", "reason", "streak")
    for entry, event in zip(log, events, strict=True):
        assert {name: entry["extra"][name] for name in names} == {
            name: getattr(event, name) for name in names
        }


def test_a_breaker_at_work_in_closed_logs_nothing(breaker, log):
    for _ in range(9):
        breaker.acquire().fail()
    for _ in range(20):
        breaker.acquire().succeed()
        breaker.acquire().ignore()
    assert log == []


def test_the_log_can_be_silenced(breaker, clock, log):
    events = record(breaker)
    logger.disable("resilience")
    try:
        outage(breaker, clock)
    finally:
        logger.enable("resilience")
    assert log == []
    assert len(events) == 7


@pytest.mark.parametrize("region", ["eu\nwest", "eu\x1b[31mwest", "eu\r\0west\x9b", "eu\u2028west"])
def test_control_characters_of_a_region_are_escaped_in_the_log(clock, log, region):
    breaker = CircuitBreaker(region, clock=clock)
    outage(breaker, clock)
    assert len(log) == 7
    assert all(entry["message"].isprintable() for entry in log)
    assert breaker.region == region


@pytest.mark.parametrize("reason", ["", "  ", "\n"], ids=repr)
def test_a_circuit_is_not_forced_open_without_a_reason(breaker, reason):
    with pytest.raises(ValueError, match="reason"):
        breaker.force_open(reason)
    assert breaker.state is CLOSED


def test_a_reason_that_is_not_a_string_is_a_type_error(breaker):
    with pytest.raises(TypeError, match="reason"):
        breaker.force_open(None)
    assert breaker.state is CLOSED


def test_control_characters_of_a_reason_are_escaped_everywhere(breaker, log):
    events = record(breaker)
    breaker.force_open("fire\n\x1b[31mCircuit breaker CLOSED")
    assert events[0].reason.isprintable()
    assert breaker.snapshot().reason.isprintable()
    assert log[0]["message"].isprintable()
    assert log[0]["extra"]["reason"].isprintable()


@pytest.mark.parametrize("text", ["{0} {secret}", "{", "}", "<red>", "</red>", "%s %d", "{{}}"])
def test_what_looks_like_formatting_is_logged_as_it_is(clock, log, text):
    breaker = CircuitBreaker(f"eu{text}", clock=clock)
    breaker.force_open(text)
    breaker.reset()
    assert text_of(log) == [
        ("ERROR", f"Circuit breaker OPEN for region eu{text}: forced open: {text}"),
        ("INFO", f"Circuit breaker CLOSED for region eu{text}: reset by hand"),
    ]


@pytest.mark.parametrize("reason", ["x" * 1000, "\x1b" * 1000])
def test_a_reason_has_two_hundred_characters_at_most(breaker, log, reason):
    events = record(breaker)
    breaker.force_open(reason)
    assert len(events[0].reason) <= 200
    assert len(breaker.snapshot().reason) <= 200
    assert events[0].reason.startswith("forced open: ")


def test_no_event_and_no_line_holds_the_text_of_an_error(breaker, clock, log):
    events = record(breaker)
    outage(breaker, clock)
    assert "hunter2" not in repr(events)
    assert "hunter2" not in repr([(entry["message"], entry["extra"]) for entry in log])


def test_a_sink_that_raises_harms_no_call(breaker, clock):
    def sink(message):
        raise OSError("disk full")

    events = record(breaker)
    handler = logger.add(sink, catch=False)
    try:
        for _ in range(10):
            with pytest.raises(ServerError), breaker.acquire():
                raise ServerError
        clock.advance(60)
        for _ in range(3):
            with breaker.acquire():
                pass
        breaker.force_open("maintenance")
        breaker.reset()
    finally:
        logger.remove(handler)
    assert moves(events) == [
        (CLOSED, OPEN),
        (OPEN, HALF_OPEN),
        (HALF_OPEN, CLOSED),
        (CLOSED, OPEN),
        (OPEN, CLOSED),
    ]


def test_a_sink_that_raises_harms_no_other_line(breaker, clock):
    """Warnings that are no transition go through the same sink."""

    def sink(message):
        raise OSError("disk full")

    def broken(event):
        raise RuntimeError

    breaker.listen(broken)
    handler = logger.add(sink, catch=False)
    try:
        trip(breaker)
        clock.advance(60)
        breaker.acquire()
        clock.advance(60)
        breaker.acquire().succeed()
        for _ in range(150):
            with pytest.raises(LookupError), breaker.acquire():
                raise LookupError
    finally:
        logger.remove(handler)
    assert breaker.state is HALF_OPEN


def test_a_reset_of_a_half_open_circuit_is_logged_as_one(breaker, clock, log):
    for _ in range(10):
        breaker.acquire().fail()
    clock.advance(60)
    breaker.acquire()
    breaker.reset()
    assert log[-1]["message"] == "Circuit breaker CLOSED for region eu-west-1: reset by hand"

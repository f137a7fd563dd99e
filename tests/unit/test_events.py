"""What is told about a circuit: events, listeners, and the log lines of the mission."""

import contextlib
import dataclasses
import io
import sys
import threading
from datetime import UTC, datetime

import pytest
from loguru import logger

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
    StateChanged,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class ServerError(Exception):
    def __init__(self, status=503):
        super().__init__("Bearer hunter2")
        self.status = status


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", clock=clock)


def trip(breaker):
    for _ in range(breaker.policy.failure_threshold):
        breaker.acquire().fail(ServerError())


def close(breaker):
    for _ in range(breaker.policy.success_threshold):
        breaker.acquire().succeed()


def record(breaker):
    events = []
    breaker.listen(events.append)
    return events


def moves(events):
    return [(event.old, event.new) for event in events]


def outage(breaker, clock):
    """Drive it through everything: trip, failed probe, recovery, forced, reset."""
    trip(breaker)
    clock.advance(60)
    breaker.acquire().fail(ServerError(500))
    clock.advance(60)
    close(breaker)
    breaker.force_open("maintenance")
    breaker.reset()


OUTAGE = [
    (CLOSED, OPEN),
    (OPEN, HALF_OPEN),
    (HALF_OPEN, OPEN),
    (OPEN, HALF_OPEN),
    (HALF_OPEN, CLOSED),
    (CLOSED, OPEN),
    (OPEN, CLOSED),
]


def text_of(log):
    return [(entry["level"].name, entry["message"]) for entry in log]


# Events


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


def test_forcing_an_open_circuit_is_told(breaker):
    trip(breaker)
    events = record(breaker)
    breaker.force_open("maintenance")
    assert moves(events) == [(OPEN, OPEN)]


def test_forcing_again_with_the_same_reason_is_not_told_again(breaker):
    events = record(breaker)
    breaker.force_open("maintenance")
    breaker.force_open("maintenance")
    assert len(events) == 1
    breaker.force_open("fire")
    assert moves(events) == [(CLOSED, OPEN), (OPEN, OPEN)]


def test_forcing_a_circuit_that_is_due_starts_from_a_state_it_was_told_to_be_in(breaker, clock):
    events = record(breaker)
    trip(breaker)
    clock.advance(60)
    breaker.force_open("maintenance")
    assert [event.old for event in events[1:]] == [event.new for event in events[:-1]]
    assert events[-1].new is OPEN


def test_resetting_a_closed_circuit_is_not_told(breaker, log):
    events = record(breaker)
    breaker.reset()
    assert (events, log) == ([], [])


# Listeners


def test_a_listener_finds_the_state_settled(breaker, clock):
    seen = []
    breaker.listen(lambda event: seen.append((event.new, breaker.state)))
    outage(breaker, clock)
    assert [state for _, state in seen] == [new for new, _ in seen]


def test_listeners_are_called_in_the_order_they_came(breaker):
    heard = []
    for number in range(5):
        breaker.listen(lambda _, number=number: heard.append(number))
    breaker.force_open("maintenance")
    assert heard == [0, 1, 2, 3, 4]


def test_a_listener_runs_outside_every_lock(breaker):
    """Another thread uses the breaker while the listener waits for it."""
    finished = []

    def use():
        assert breaker.state is OPEN
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()
        breaker.snapshot()
        breaker.listen(lambda event: None)()
        breaker.reset()
        breaker.acquire().fail()
        finished.append(True)

    def listener(event):
        if event.new is OPEN:
            thread = threading.Thread(target=use, daemon=True)
            thread.start()
            thread.join(30)

    breaker.listen(listener)
    breaker.force_open("maintenance")
    assert finished == [True]


def test_there_is_one_deliverer_at_a_time(breaker):
    busy, told, overlaps = threading.Lock(), [], []

    def listener(event):
        if not busy.acquire(blocking=False):
            overlaps.append(event)
            return
        told.append(event)
        for _ in range(50):
            assert breaker.region
        busy.release()

    breaker.listen(listener)
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        for turn in range(100):
            breaker.force_open(f"{number}-{turn}")
            breaker.reset()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert [event.old for event in told[1:]] == [event.new for event in told[:-1]]
    assert sum(event.reason.startswith("forced open") for event in told) == 800
    assert overlaps == []
    assert told[-1].new is breaker.state is CLOSED


def test_an_event_of_another_thread_waits_for_the_deliverer(breaker):
    inside, go_on, heard = threading.Event(), threading.Event(), []

    def listener(event):
        heard.append((event.new, threading.get_ident()))
        inside.set()
        go_on.wait(60)

    breaker.listen(listener)
    deliverer = threading.Thread(target=breaker.force_open, args=("maintenance",))
    deliverer.start()
    inside.wait(60)
    breaker.reset()
    assert [new for new, _ in heard] == [OPEN]
    go_on.set()
    deliverer.join()
    assert [new for new, _ in heard] == [OPEN, CLOSED]


def test_a_listener_that_raises_harms_nobody(breaker, log):
    def broken(event):
        token = "hun" + str(6 * 7)
        raise RuntimeError(token)

    breaker.listen(broken)
    events = record(breaker)
    trip(breaker)
    breaker.reset()
    assert moves(events) == [(CLOSED, OPEN), (OPEN, CLOSED)]
    complaints = [text for text in text_of(log) if "RuntimeError" in text[1]]
    assert [level for level, _ in complaints] == ["ERROR", "ERROR"]


def test_the_call_that_trips_raises_its_own_error_past_a_broken_listener(breaker):
    def broken(event):
        raise RuntimeError

    breaker.listen(broken)
    for _ in range(10):
        with pytest.raises(ServerError), breaker.acquire():
            raise ServerError
    assert breaker.state is OPEN


def test_a_listener_that_is_interrupted_does_not_silence_the_breaker(breaker):
    interrupts = [KeyboardInterrupt, None]

    def interrupted(event):
        if interrupt := interrupts.pop(0):
            raise interrupt

    breaker.listen(interrupted)
    events = record(breaker)
    with contextlib.suppress(KeyboardInterrupt):
        breaker.force_open("maintenance")
    assert breaker.state is OPEN
    breaker.reset()
    assert interrupts == []
    assert moves(events)[-1] == (OPEN, CLOSED)


def test_what_a_listener_raised_is_logged_with_its_stack_and_without_values(breaker):
    def broken(event):
        local = "value-" + str(6 * 7)
        raise RuntimeError("text-" + local)

    sink = io.StringIO()
    handler = logger.add(sink, diagnose=True, backtrace=True, format="{message}\n{exception}")
    try:
        breaker.listen(broken)
        breaker.force_open("maintenance")
    finally:
        logger.remove(handler)
    written = sink.getvalue()
    assert "RuntimeError" in written
    assert "broken" in written
    assert "test_events.py" in written
    assert "value-42" not in written


def test_a_listener_may_reset_the_breaker(breaker):
    def operator(event):
        if event.new is OPEN:
            breaker.reset()

    breaker.listen(operator)
    events = record(breaker)
    breaker.force_open("maintenance")
    assert breaker.state is CLOSED
    assert moves(events) == [(CLOSED, OPEN), (OPEN, CLOSED)]


def test_a_listener_may_call_through_the_breaker(breaker, clock):
    seen = []

    def operator(event):
        try:
            with breaker.acquire():
                seen.append("called")
        except CircuitBreakerOpenError:
            seen.append("rejected")

    breaker.listen(operator)
    breaker.force_open("maintenance")
    breaker.reset()
    assert seen == ["rejected", "called"]


def test_listeners_that_force_and_reset_take_turns_instead_of_nesting(breaker):
    depth, deepest, turns = [0], [0], []

    def operator(event):
        depth[0] += 1
        deepest[0] = max(deepest[0], depth[0])
        turns.append(event.new)
        if len(turns) < 2000:
            if event.new is OPEN:
                breaker.reset()
            else:
                breaker.force_open("again")
        depth[0] -= 1

    breaker.listen(operator)
    breaker.force_open("maintenance")
    assert deepest == [1]
    assert turns == [OPEN, CLOSED] * 1000


def test_an_async_listener_is_a_type_error(breaker):
    async def listener(event):
        pass

    with pytest.raises(TypeError, match="listener"):
        breaker.listen(listener)


@pytest.mark.parametrize("wrong", [None, 5, "listener"])
def test_a_listener_must_be_callable(breaker, wrong):
    with pytest.raises(TypeError, match="listener"):
        breaker.listen(wrong)


def test_stop_ends_one_listener_and_may_be_called_twice(breaker):
    events, others = [], []
    stop = breaker.listen(events.append)
    breaker.listen(others.append)
    breaker.force_open("maintenance")
    stop()
    stop()
    breaker.reset()
    assert (len(events), len(others)) == (1, 2)


def test_stop_called_twice_leaves_the_same_listener_added_again(breaker):
    events = []
    stop = breaker.listen(events.append)
    stop()
    breaker.listen(events.append)
    stop()
    breaker.force_open("maintenance")
    assert len(events) == 1


def test_a_listener_may_stop_itself(breaker):
    events, stops = [], []

    def once(event):
        events.append(event)
        stops[0]()

    stops.append(breaker.listen(once))
    others = record(breaker)
    breaker.force_open("maintenance")
    breaker.reset()
    assert (len(events), len(others)) == (1, 2)


# The log


OPEN_AFTER = "Circuit breaker OPEN for region eu-west-1 after"


def test_the_log_tells_a_whole_outage_word_for_word(breaker, clock, log):
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
        ("INFO", "Circuit breaker CLOSED for region eu-west-1 — reset by hand"),
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


def test_a_reason_that_is_no_text_is_a_type_error(breaker):
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
        ("INFO", f"Circuit breaker CLOSED for region eu{text} — reset by hand"),
    ]


@pytest.mark.parametrize("reason", ["x" * 1000, "\x1b" * 1000])
def test_a_reason_has_two_hundred_characters_at_most(breaker, log, reason):
    events = record(breaker)
    breaker.force_open(reason)
    assert len(events[0].reason) <= 200
    assert len(breaker.snapshot().reason) <= 200
    assert events[0].reason.startswith("forced open: ")


def test_nothing_that_is_told_holds_the_text_of_an_error(breaker, clock, log):
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
    assert log[-1]["message"] == "Circuit breaker CLOSED for region eu-west-1 — reset by hand"

"""A circuit that stays HALF_OPEN since its probes say nothing is seen, in the log and elsewhere."""

import asyncio
import contextlib
import dataclasses
import gc

import pytest

from resilience import CircuitBreaker, CircuitBreakerOpenError, Outcome
from tests.support.driving import (
    CLOSED,
    HALF_OPEN,
    ServerError,
    answer,
    give_way,
    half_open,
    raise_in,
    trip,
)

STAYS = "Circuit breaker stays HALF_OPEN for region eu-west-1"


def warnings(log):
    """Return the lines about ignored probes."""
    lines = [entry for entry in log if "in a row were ignored" in entry["message"]]
    assert {entry["level"].name for entry in lines} <= {"WARNING"}
    return [entry["message"] for entry in lines]


def shown(breaker):
    snapshot = breaker.snapshot()
    return snapshot.ignored_probes, snapshot.ignored_reasons


# The warning


def test_the_tenth_probe_that_says_nothing_is_warned_about_by_type_and_status(breaker, clock, log):
    half_open(breaker, clock)
    raise_in(breaker, KeyError("hunter2"), 8)
    raise_in(breaker, ServerError(302), 1)
    assert warnings(log) == []
    raise_in(breaker, KeyError("hunter2"), 1)
    assert warnings(log) == [f"{STAYS}, 10 probes in a row were ignored: ServerError 302, KeyError"]
    extra = log[-1]["extra"]
    assert (extra["region"], extra["state"], extra["probes"]) == ("eu-west-1", "HALF_OPEN", 10)
    assert extra["reasons"] == ("ServerError 302", "KeyError")
    assert "hunter2" not in repr((log[-1]["message"], log[-1]["extra"]))


def test_it_is_warned_about_again_each_recovery_timeout(breaker, clock, log):
    half_open(breaker, clock)
    for _ in range(181):
        raise_in(breaker, KeyError(), 1)
        clock.advance(1)
    counts = [message.split(", ")[1] for message in warnings(log)]
    assert counts == [f"{n} probes in a row were ignored: KeyError" for n in (10, 70, 130)]


@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_between_them_ends_the_row(breaker, clock, log, status):
    half_open(breaker, clock)
    for _ in range(2):
        raise_in(breaker, KeyError(), 9)
        assert shown(breaker) == (9, ("KeyError",))
        with contextlib.suppress(ServerError), breaker.acquire():
            if status == 404:
                raise ServerError(404)
        assert shown(breaker) == (0, ())
    assert warnings(log) == []


def test_a_circuit_that_reopens_or_closes_shows_none(breaker, clock):
    half_open(breaker, clock)
    raise_in(breaker, KeyError(), 3)
    breaker.acquire().fail()
    assert shown(breaker) == (0, ())
    clock.advance(60)
    assert (breaker.state, shown(breaker)) == (HALF_OPEN, (0, ()))
    raise_in(breaker, KeyError(), 3)
    for _ in range(3):
        breaker.acquire().answered()
    assert (breaker.state, shown(breaker)) == (CLOSED, (0, ()))


def test_ignored_calls_outside_of_half_open_are_no_probes(breaker, log):
    raise_in(breaker, KeyError(), 50)
    assert (shown(breaker), log) == ((0, ()), [])


def test_a_name_that_a_stranger_chose_stays_on_one_line_and_has_a_bound(breaker, clock, log):
    half_open(breaker, clock)
    for number in range(12):
        strange = type(f"Bad{number}\n\x1b[31m{{}}" + "x" * 500, (Exception,), {})
        raise_in(breaker, strange(), 1)
    (message,) = warnings(log)
    assert message.isprintable()
    assert len(message) < 1_200
    assert len(breaker.snapshot().ignored_reasons) == 5
    assert "{}" in message


def test_a_snapshot_with_reasons_is_plain_data(breaker, clock):
    half_open(breaker, clock)
    raise_in(breaker, KeyError(), 2)
    shown_data = dataclasses.asdict(breaker.snapshot())
    assert (shown_data["ignored_probes"], shown_data["ignored_reasons"]) == (2, ("KeyError",))


# What a probe may end with


async def test_probes_that_are_cancelled_are_counted_as_cancelled(breaker, clock, log):
    half_open(breaker, clock)
    for _ in range(10):
        task = asyncio.create_task(breaker.call(asyncio.Event().wait))
        await give_way()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert warnings(log) == [f"{STAYS}, 10 probes in a row were ignored: cancelled"]


async def test_a_timeout_around_the_call_is_cancelled_too(breaker, clock):
    half_open(breaker, clock)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await breaker.call(asyncio.Event().wait)
    assert shown(breaker) == (1, ("cancelled",))


async def test_a_coroutine_that_is_closed_is_cancelled(breaker, clock):
    half_open(breaker, clock)
    coroutine = breaker.call(asyncio.Event().wait)
    coroutine.send(None)
    coroutine.close()
    assert shown(breaker) == (1, ("cancelled",))


def test_a_group_of_cancellations_is_cancelled(breaker, clock):
    half_open(breaker, clock)
    raise_in(breaker, BaseExceptionGroup("", [asyncio.CancelledError()]), 1)
    assert shown(breaker) == (1, ("cancelled",))


async def test_an_awaitable_that_nobody_awaits_says_so(breaker, clock):
    half_open(breaker, clock)

    @breaker
    def send():
        return asyncio.get_running_loop().create_future()

    with pytest.warns(RuntimeWarning, match="never awaited"):
        send()
    gc.collect()
    assert shown(breaker) == (1, ("never awaited",))


def test_what_ends_the_program_is_named(breaker, clock):
    half_open(breaker, clock)
    raise_in(breaker, KeyboardInterrupt(), 1)
    assert shown(breaker) == (1, ("KeyboardInterrupt",))


def test_a_permit_that_is_ignored_by_hand_says_so(breaker, clock):
    half_open(breaker, clock)
    breaker.acquire().ignore()
    with pytest.raises(ServerError), breaker.acquire() as permit:
        permit.ignore()
        raise ServerError
    assert shown(breaker) == (2, ("reported by the caller",))


def test_a_call_whose_listener_exits_was_interrupted(breaker, clock):
    def exit_program(event):
        raise SystemExit

    half_open(breaker, clock)
    stop = breaker.listen(exit_program)
    with pytest.raises(SystemExit):
        breaker.acquire()
    stop()
    assert shown(breaker) == (1, ("interrupted before it began",))


def test_a_probe_that_another_circuit_rejects_inside_is_one_ignored_probe(breaker, clock):
    inner = CircuitBreaker("token", clock=clock)
    half_open(breaker, clock)
    trip(inner)

    @breaker
    def send():
        with breaker.acquire():  # a nested call: part of the probe
            inner(lambda: None)()

    with pytest.raises(CircuitBreakerOpenError):
        send()
    assert shown(breaker) == (1, ("CircuitBreakerOpenError",))


async def test_a_result_that_is_ignored_is_named_like_an_error(clock):
    class Redirect:
        status = 302

    breaker = CircuitBreaker("eu-west-1", result_classifier=lambda _: Outcome.IGNORED, clock=clock)
    half_open(breaker, clock)
    await breaker.call(answer, Redirect())
    assert shown(breaker) == (1, ("Redirect 302",))


def test_a_users_classifier_that_ignores_a_404_is_seen_to_keep_it_half_open(clock, log):
    breaker = CircuitBreaker("eu-west-1", classifier=lambda _: Outcome.IGNORED, clock=clock)
    half_open(breaker, clock)
    raise_in(breaker, ServerError(404), 10)
    assert warnings(log) == [f"{STAYS}, 10 probes in a row were ignored: ServerError 404"]


def test_an_error_whose_cause_cannot_be_read_is_described_all_the_same(breaker, clock, log):
    class OddError(Exception):
        @property
        def __cause__(self):
            raise ZeroDivisionError

    half_open(breaker, clock)
    raise_in(breaker, OddError(), 10)
    assert shown(breaker) == (10, ("OddError",))
    assert warnings(log) == [f"{STAYS}, 10 probes in a row were ignored: OddError"]

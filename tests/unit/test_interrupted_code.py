"""Code that runs in between: signal handlers, finalizers, interrupts, and calls from odd places."""

import asyncio
import contextlib
import functools
import gc
import threading
import weakref

import pytest
from loguru import logger
from tenacity import wait_none

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    Outcome,
    listeners,
    region_breaker,
    scope,
)
from resilience._lock import lock_is_held
from resilience.circuit import Circuit
from resilience.retry import transient_retry

PATIENCE = 20.0


class UnavailableError(Exception):
    status = 503


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("a", BreakerPolicy(failure_threshold=1), clock=clock)


@pytest.mark.parametrize(
    "door",
    [
        lambda breaker, handler: breaker.read(lambda _now: handler()),
        lambda breaker, handler: breaker.apply(lambda _now: handler()),
    ],
    ids=["read", "apply"],
)
def test_a_forced_opening_out_of_a_signal_handler_is_never_lost(breaker, door):
    opened = threading.Event()
    breaker.listen(lambda _event: opened.set())
    door(breaker, lambda: breaker.force_open("maintenance"))
    assert opened.wait(PATIENCE)
    assert breaker.state is CircuitState.OPEN
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()


def test_a_call_out_of_a_signal_handler_does_not_touch_a_circuit_in_a_change(breaker, clock):
    breaker.acquire().fail()
    clock.advance(60)
    events = []
    breaker.listen(events.append)

    def handler(_now):
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()

    breaker.apply(handler)
    assert events == []
    breaker.acquire().succeed()
    assert [event.new.value for event in events] == ["HALF_OPEN"]


class InterruptedCircuit(Circuit):
    """A circuit whose change is interrupted when it is done."""

    def record(self, ticket, report, now):
        super().record(ticket, report, now)
        if report.outcome is Outcome.FAILURE:
            raise KeyboardInterrupt


def test_a_circuit_that_opened_in_an_interrupted_change_rejects_calls(clock):
    circuit = InterruptedCircuit(BreakerPolicy(failure_threshold=1), clock())
    breaker = CircuitBreaker("a", circuit=circuit, clock=clock)
    calls = []

    @breaker
    def send():
        calls.append(1)
        raise UnavailableError

    with pytest.raises(KeyboardInterrupt):
        send()
    with pytest.raises(CircuitBreakerOpenError):
        send()
    assert len(calls) == 1


def test_a_policy_beside_a_circuit_of_another_is_refused(clock):
    circuit = Circuit(BreakerPolicy(failure_threshold=1), clock())
    with pytest.raises(ValueError, match="policy must be that of the circuit"):
        CircuitBreaker("a", BreakerPolicy(failure_threshold=2), circuit=circuit)
    assert CircuitBreaker("a", circuit=circuit).policy.failure_threshold == 1


# A permit in two places


def test_a_permit_is_entered_once(breaker):
    permit = breaker.acquire()
    with permit, pytest.raises(RuntimeError, match="in use: acquire a new one"), permit:
        pass
    assert breaker.snapshot().successes == 1


async def test_a_permit_is_entered_by_one_task(breaker):
    permit = breaker.acquire()

    async def worker():
        with permit:
            await asyncio.sleep(0)

    results = await asyncio.gather(worker(), worker(), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), RuntimeError]


# Probes behind context managers


@pytest.mark.parametrize("how", ["wait_for", "gather", "task group", "plain"])
async def test_a_probe_behind_asynccontextmanager_closes_the_circuit(clock, how):
    breaker = CircuitBreaker(
        "a", BreakerPolicy(failure_threshold=1, success_threshold=2), clock=clock
    )

    @contextlib.asynccontextmanager
    async def protected():
        with breaker.acquire():
            yield

    @breaker
    async def token():
        await asyncio.sleep(0)

    async def call():
        async with protected():
            if how == "wait_for":
                await asyncio.wait_for(token(), PATIENCE)
            elif how == "gather":
                await asyncio.gather(token(), token())
            elif how == "task group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(token())
            else:
                await token()

    breaker.acquire().fail()
    clock.advance(60)
    await call()
    await call()
    assert breaker.state is CircuitState.CLOSED


async def test_waiting_inside_the_own_probe_waits_for_nothing(breaker, clock):
    breaker.acquire().fail()
    clock.advance(60)
    with breaker.acquire():
        assert await breaker.wait_until_ready() is True
        breaker.acquire().succeed()


# What users' functions raise


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_out_of_a_rejection_listener_is_raised(clock, kind):
    registry = CircuitBreakerRegistry(clock=clock)
    seen = []

    def leave(_error):
        raise kind

    registry.on_rejection(leave)
    registry.on_rejection(seen.append)
    registry.get("a").force_open("maintenance")
    with pytest.raises(kind):
        registry.get("a").acquire()
    assert len(seen) == 1


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit])
def test_a_classifier_that_raises_no_exception_replaces_no_error(clock, log, kind):
    def classify(_error):
        raise kind

    breaker = CircuitBreaker("a", classifier=classify, clock=clock)

    @breaker
    def send():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        send()
    assert breaker.snapshot().ignored == 1
    assert f"raised {kind.__name__}" in log[-1]["message"]


class Rules(dict):
    """A classifier that is false, since it is empty."""

    def __call__(self, _what):
        return Outcome.FAILURE


def test_a_classifier_that_is_false_is_asked(clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)

    @region_breaker(region_from="region", registry=registry, classifier=Rules())
    def fail(region):
        raise LookupError

    @region_breaker(region_from="region", registry=registry, result_classifier=Rules())
    def answer(region):
        return "answer"

    with pytest.raises(LookupError):
        fail("a")
    answer("b")
    assert {one.region: one.state.value for one in registry} == {"a": "OPEN", "b": "OPEN"}


def test_keyword_arguments_do_not_hide_behind_a_positional_only_name():
    registry = CircuitBreakerRegistry()

    @region_breaker(region_from="options.region", registry=registry)
    def call(region, /, **options):
        return region, options

    call("not a region", region="eu-west-1")
    assert [one.region for one in registry] == ["eu-west-1"]


# What an error is made of


@pytest.mark.parametrize("error", [ConnectionError({"code": 5}, "text"), OSError([], "text")])
def test_an_errno_that_is_not_a_number_replaces_no_error(breaker, error):
    @breaker
    def send():
        raise error

    with pytest.raises(OSError) as raised:
        send()
    assert raised.value is error
    snapshot = breaker.snapshot()
    assert snapshot.failures + snapshot.ignored == 1


class NamelessListener:
    """A listener that answers to its name with an error."""

    def __call__(self, _event):
        raise ValueError

    @property
    def func(self):
        raise LookupError


def test_a_listener_that_has_no_name_is_logged_and_harms_nobody(breaker, log):
    seen = []
    breaker.listen(NamelessListener())
    breaker.listen(seen.append)
    breaker.force_open("maintenance")
    assert len(seen) == 1
    assert "listener NamelessListener" in log[-1]["message"]


def test_a_sink_that_exits_keeps_the_event_from_no_listener(breaker):
    seen = []
    breaker.listen(seen.append)

    def leave(_message):
        raise SystemExit

    sink = logger.add(leave, catch=False)
    try:
        with pytest.raises(SystemExit):
            breaker.force_open("maintenance")
    finally:
        logger.remove(sink)
    assert [event.new.value for event in seen] == ["OPEN"]


def test_a_fork_in_a_listener_leaves_the_rest_to_the_parent(breaker, monkeypatch):
    seen = []

    def fork(_event):
        monkeypatch.setattr(listeners.os, "getpid", lambda: -1)  # as in the child

    breaker.listen(fork)
    breaker.listen(seen.append)
    breaker.force_open("maintenance")
    assert seen == []
    breaker.reset()
    assert [event.new.value for event in seen] == ["CLOSED"]


@pytest.mark.parametrize("by", ["decorator", "block"])
def test_what_ends_while_the_lock_is_held_is_judged_when_it_is_free(clock, by):
    held, opened = [], threading.Event()

    def classify(_error):
        held.append(lock_is_held())
        return Outcome.FAILURE

    policy = BreakerPolicy(failure_threshold=1)
    breaker = CircuitBreaker("a", policy, classifier=classify, clock=clock)
    breaker.listen(lambda _event: opened.set())

    @breaker
    def send():
        raise LookupError

    def block():
        with breaker.acquire():
            raise LookupError

    def end(_now):
        with contextlib.suppress(LookupError):
            (send if by == "decorator" else block)()

    breaker.read(end)
    assert opened.wait(PATIENCE)
    assert held == [False]


async def test_a_loop_whose_circuit_closes_in_that_moment_raises_its_own_error(clock):
    closing = []

    def read():
        if closing:
            closing.clear()
            breaker.reset()
        return clock()

    breaker = CircuitBreaker("a", BreakerPolicy(failure_threshold=1), clock=read)

    async def open_it(_seconds):
        breaker.force_open("maintenance")
        closing.append(True)

    @breaker
    @transient_retry(wait=wait_none(), sleep=open_it)
    async def send():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await send()


# Clocks that fail


@pytest.mark.parametrize("reading", [float("nan"), float("inf"), float("-inf")])
def test_a_reading_that_is_not_a_time_keeps_no_circuit_open(reading):
    readings = [0.0]
    policy = BreakerPolicy(failure_threshold=1, recovery_timeout=60)
    breaker = CircuitBreaker("a", policy, clock=lambda: readings[-1])
    readings.append(reading)
    breaker.acquire().fail()
    readings.append(60.0)
    breaker.acquire().succeed()
    with pytest.raises(ValueError, match="clock must return a finite number"):
        CircuitBreaker("a", clock=lambda: reading)


def test_a_clock_that_raises_fails_no_call_that_is_under_way(clock, log):
    is_broken = []

    def read():
        if is_broken:
            raise LookupError
        return clock()

    breaker = CircuitBreaker("a", BreakerPolicy(failure_threshold=1), clock=read)
    breaker.acquire().fail()
    clock.advance(60)

    @breaker
    def send():
        is_broken.append(True)
        return "sent"

    assert send() == "sent"
    is_broken.clear()
    assert breaker.retry_after == 0.0
    assert any("clock" in record["message"] for record in log)


# Blocks that generators leave open


def rows(breaker):
    with breaker.acquire():
        yield 1
        yield 2


def test_a_suspended_generator_stops_no_calls_of_another_region(clock):
    registry = CircuitBreakerRegistry(clock=clock)
    suspended = rows(registry.get("a"))
    next(suspended)
    registry.get("a").force_open("maintenance")

    @region_breaker(region_from="region", registry=registry)
    @transient_retry()
    def send(region):
        return "sent"

    assert send("b") == "sent"
    suspended.close()


@pytest.mark.parametrize("stack", [True, False])
def test_calls_beside_a_suspended_generator_are_no_part_of_its_probe(breaker, clock, stack):
    def stacked():
        with contextlib.ExitStack() as block:
            block.enter_context(breaker.acquire())
            yield

    breaker.acquire().fail()
    clock.advance(60)
    suspended = stacked() if stack else rows(breaker)
    next(suspended)
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()
    suspended.close()


def test_what_a_generator_calls_is_part_of_its_probe(breaker, clock):
    def calls():
        with breaker.acquire():
            breaker.acquire().succeed()
            yield

    breaker.acquire().fail()
    clock.advance(60)
    list(calls())
    assert breaker.snapshot().probes == 1


# Retries that are hidden


def test_retries_of_a_partial_and_of_a_callable_object_end_when_the_circuit_opens(clock):
    breaker = CircuitBreaker("a", BreakerPolicy(failure_threshold=1), clock=clock)

    class Client:
        @transient_retry(wait=wait_none())
        def __call__(self):
            attempts.append(1)
            breaker.force_open("maintenance")
            raise TimeoutError

    for fn in (Client(), functools.partial(Client().__call__)):
        attempts = []
        breaker.reset()
        with pytest.raises((TimeoutError, CircuitBreakerOpenError)):
            breaker(fn)()
        assert len(attempts) == 1


# What is kept alive


async def test_a_task_that_outlives_a_message_keeps_no_errors_alive(breaker):
    end, errors = asyncio.Event(), []

    @breaker
    async def fail():
        raise UnavailableError

    async def background():
        await end.wait()
        try:
            await fail()
        except UnavailableError as error:
            errors.append(weakref.ref(error))

    with scope.watch_outcomes() as outcomes:
        task = asyncio.create_task(background())
        await asyncio.sleep(0)
    end.set()
    await task
    del task
    gc.collect()
    assert [error() for error in errors] == [None]
    assert outcomes.outcome_of(LookupError()) is None


# A registry that is changed while breakers are made


def test_a_breaker_that_was_made_for_old_settings_does_not_come_into_use(clock):
    registry = CircuitBreakerRegistry(clock=clock)
    events, waiting_for_a_call = [], []

    def old_clock():
        if waiting_for_a_call:
            waiting_for_a_call.clear()
            registry.clear()
            registry.configure(clock=clock)
            registry.listen(events.append)
        return 4498.0

    registry.configure(clock=old_clock)
    waiting_for_a_call.append(True)
    breaker = registry.get("a")
    assert breaker.now() == clock()
    breaker.force_open("maintenance")
    assert len(events) == len(registry.history) == 1


# Outcomes that travel


def failure_of(error):
    with scope.watch_outcomes() as outcomes:
        outcomes.record(RECORDED, Outcome.FAILURE)
        outcomes.record(OTHER, Outcome.IGNORED)
        outcomes.record(REFUSED, Outcome.ANSWERED)
        return outcomes.outcome_of(error)


RECORDED, REFUSED, OTHER = TimeoutError("recorded"), KeyError("refused"), ValueError("other")


def raised_beside(error):
    try:
        try:
            raise error
        except Exception:
            raise LookupError  # noqa: B904 - without a cause
    except LookupError as beside:
        return beside


def circle():
    one, other = LookupError(), LookupError()
    one.__cause__, other.__cause__ = other, one
    return one


def nested_groups():
    group = ExceptionGroup("", [LookupError()])
    for _ in range(200):
        group = ExceptionGroup("", [group])
    return group


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RECORDED, Outcome.FAILURE),
        (OTHER, Outcome.IGNORED),
        (raised_beside(RECORDED), Outcome.FAILURE),
        (ExceptionGroup("", [OTHER, RECORDED]), Outcome.FAILURE),
        (ExceptionGroup("", [OTHER, ExceptionGroup("", [OTHER])]), Outcome.IGNORED),
        (REFUSED, Outcome.ANSWERED),
        (ExceptionGroup("", [REFUSED, OTHER]), Outcome.ANSWERED),
        (ExceptionGroup("", [REFUSED, ExceptionGroup("", [OTHER, RECORDED])]), Outcome.FAILURE),
        (ExceptionGroup("", [REFUSED, LookupError()]), None),
        (ExceptionGroup("", [OTHER, LookupError()]), None),
        (raised_beside(ExceptionGroup("", [RECORDED])), Outcome.FAILURE),
        (LookupError(), None),
        (circle(), None),
        (nested_groups(), None),
    ],
)
def test_the_recorded_outcome_is_found_however_the_error_is_passed_on(error, outcome):
    assert failure_of(error) is outcome


def test_an_inner_failure_is_not_hidden_by_an_outer_breaker():
    with scope.watch_outcomes() as outcomes:
        outcomes.record(RECORDED, Outcome.FAILURE)
        outcomes.record(RECORDED, Outcome.IGNORED)
        assert outcomes.outcome_of(RECORDED) is Outcome.FAILURE


def test_what_a_block_reported_is_recorded_for_what_it_raises(breaker):
    with scope.watch_outcomes() as outcomes:
        error = TimeoutError()
        with contextlib.suppress(TimeoutError), breaker.acquire() as permit:
            permit.ignore()
            raise error
        assert outcomes.outcome_of(error) is Outcome.IGNORED

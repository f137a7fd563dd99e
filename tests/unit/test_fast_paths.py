"""The fast paths that most calls take: they give what the slow ones give."""

import asyncio
import copy
import pickle
import signal
from collections import UserDict
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tenacity import RetryError

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    Outcome,
    classify_error,
    failures,
    region_breaker,
)
from tests.support.threads import without_the_lock

POLICY = BreakerPolicy(failure_threshold=1, recovery_timeout=60, success_threshold=1)


class ServerError(Exception):
    status = 503


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(POLICY, clock=clock)


# An error


class WithStatusError(Exception):
    def __init__(self, status):
        super().__init__(status)
        self.status = status


class SlottedError(Exception):
    __slots__ = ("status",)


class OutOfClassError(Exception):
    status_code = 500


class GenerousError(Exception):
    def __getattr__(self, name):
        if name == "status":
            return 500
        raise AttributeError(name)


class UbiquitousError(Exception):
    def __getattribute__(self, name):
        return 503 if name == "status" else super().__getattribute__(name)


def slotted(status):
    error = SlottedError()
    error.status = status
    return error


def holding(**attributes):
    error = LookupError("x")
    vars(error).update(attributes)
    return error


def attempt_of(error):
    attempt = Future()
    attempt.set_exception(error)
    return attempt


def attempt_that_gave(status):
    attempt = Future()
    attempt.set_result(SimpleNamespace(status=status))
    return attempt


def caused(by, error):
    error.__cause__ = by
    return error


def in_the_wake_of(other, error):
    error.__context__ = other
    return error


statuses = st.sampled_from([None, True, 0, 200, 404, 429, 499, 500, 503, "503", 10**6, -1])
leaves = st.one_of(
    st.builds(ValueError, st.text(max_size=2)),
    st.builds(WithStatusError, statuses),
    st.builds(slotted, statuses),
    st.builds(lambda status: holding(status=status), statuses),
    st.builds(lambda status: holding(status_code=status), statuses),
    st.builds(lambda status: holding(response=SimpleNamespace(status=status)), statuses),
    st.builds(lambda s: holding(status=404, last_attempt=attempt_that_gave(s)), statuses),
    st.sampled_from([TimeoutError, asyncio.CancelledError, KeyboardInterrupt]).map(lambda k: k()),
    st.sampled_from([OSError(24, "too many files"), ConnectionResetError(104, "reset")]),
    st.builds(OutOfClassError),
    st.builds(GenerousError),
    st.builds(UbiquitousError),
    st.builds(lambda: CircuitBreakerOpenError("a", CircuitState.OPEN)),
)
errors = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(caused, inner, leaves),
        st.builds(in_the_wake_of, inner, leaves),
        st.builds(lambda error: RetryError(attempt_of(error)), inner),
        st.builds(lambda error: holding(status=None, last_attempt=attempt_of(error)), inner),
        st.builds(lambda error: holding(status=404, last_attempt=attempt_of(error)), inner),
        st.builds(lambda error: holding(status=503, last_attempt=attempt_of(error)), inner),
        st.builds(lambda error: holding(reason=error), inner),
        st.builds(lambda error: ValueError("x", error), inner),
        st.builds(lambda several: BaseExceptionGroup("g", several), st.lists(inner, min_size=1)),
    ),
    max_leaves=4,
)


@given(errors)
@example(holding(status=404, last_attempt=attempt_that_gave(503)))
def test_the_short_look_at_an_error_gives_what_the_long_one_does(error):
    class NobodyRaisesError(Exception):
        pass

    examine_thoroughly = failures(NobodyRaisesError)  # it cannot take the short look
    assert classify_error(error) is examine_thoroughly(error)


def test_a_hundred_unknown_errors_are_logged_even_if_each_was_raised_while_handling_another(log):
    breaker = CircuitBreaker("a")

    @breaker
    def work():
        try:
            {}["x"]
        except KeyError:
            raise LookupError("not there")  # noqa: B904 - the point

    for _ in range(100):
        with pytest.raises(LookupError):
            work()
    (warning,) = [entry["message"] for entry in log]
    assert "ignored 100 of the last 100 calls for region a" in warning


def test_an_error_that_counts_is_not_one_of_a_hundred_that_say_nothing(log):
    verdicts = iter([Outcome.IGNORED] * 99 + [Outcome.FAILURE] + [Outcome.IGNORED])
    breaker = CircuitBreaker("a", classifier=lambda _: next(verdicts))

    @breaker
    def work():
        raise LookupError

    for expected in [0] * 100 + [1]:
        with pytest.raises(LookupError):
            work()
        assert len(log) == expected
    assert breaker.snapshot().failures == 1


def test_what_said_nothing_stays_counted_through_every_change_of_state(registry, clock):
    @region_breaker(region_from="region", registry=registry)
    def send(region, error):
        raise error

    for status in (404, 429, 407, 503):
        with pytest.raises(WithStatusError):
            send("a", WithStatusError(status))
    clock.advance(60)
    for status in (407, 404):
        with pytest.raises(WithStatusError):
            send("a", WithStatusError(status))
    assert registry.get("a").state == "CLOSED"
    snapshot = registry.get("a").snapshot()
    assert (snapshot.answered, snapshot.ignored, snapshot.failures) == (3, 2, 1)


def test_an_interrupted_classifier_lets_the_interruption_through_and_counts_no_failure(registry):
    def interrupted(_):
        signal.raise_signal(signal.SIGINT)  # as Ctrl-C does

    @region_breaker(region_from="region", registry=registry, classifier=interrupted)
    def send(region):
        raise LookupError(region)

    with pytest.raises(KeyboardInterrupt):
        send("a")
    assert registry.get("a").state == "CLOSED"
    assert registry.get("a").snapshot().failures == 0


# A result


class Later:
    def __await__(self):
        yield from ()
        return "later"


async def test_an_awaitable_is_seen_after_any_number_of_ordinary_results(registry):
    results = iter(["text", "text", Later(), 1, Later(), Later(), None])

    @region_breaker(region_from="region", registry=registry)
    def send(region):
        return next(results)

    assert [send("a"), send("a")] == ["text", "text"]
    assert await send("a") == "later"
    assert send("a") == 1
    first, second = send("a"), send("a")
    assert send("a") is None
    assert registry.get("a").snapshot().successes == 5
    assert (await first, await second) == ("later", "later")
    assert registry.get("a").snapshot().successes == 7


# A region


def test_holders_of_all_kinds_are_distinguished_one_after_the_other(registry):
    @region_breaker(region_from="credentials.region", registry=registry)
    def send(credentials):
        return registry.get("a").snapshot().successes

    class Both(UserDict):
        region = "b"  # a mapping is asked for its key

    class Indexed:
        region = "a"  # what only looks like a mapping is not

        def __getitem__(self, _):
            return "b"

    send(SimpleNamespace(region="b"))
    mappings = [{"region": "a"}, UserDict(region="a"), Both(region="a")]
    holders = [SimpleNamespace(region="a"), *mappings, Indexed(), SimpleNamespace(region="a")]
    order = [*holders, *holders, *reversed(holders)]
    assert [send(holder) for holder in order] == list(range(len(order)))
    assert [send(credentials=holder) for holder in holders] == list(range(18, 24))


def test_a_bad_holder_is_named_after_any_number_of_good_ones(registry):
    @region_breaker(region_from="credentials.region", registry=registry)
    def send(credentials):
        return "sent"

    class Broken:
        def __init__(self, region):
            self.text = region

        @property
        def region(self):
            if self.text is None:
                raise RuntimeError("hunter2")
            return self.text

    good = Broken("a")
    assert send(good) == send(good) == "sent"
    with pytest.raises(ValueError, match=r"'region' raised RuntimeError") as raised:
        send(Broken(None))
    assert "hunter2" not in str(raised.value)
    with pytest.raises(TypeError, match=r"region must be a str, got list"):
        send(Broken([]))
    with pytest.raises(ValueError, match=r"region must not be empty"):
        send(Broken(" "))
    assert send({"region": "a"}) == send({"region": "a"}) == "sent"
    with pytest.raises(TypeError, match=r": dict has no 'region'"):
        send({})
    with pytest.raises(TypeError, match=r"missing a required argument: 'credentials'"):
        send()
    with pytest.raises(TypeError, match=r": int has no 'region'"):
        send(5)
    assert registry.get("a").snapshot().successes == 4


def test_a_registry_that_evicted_a_region_makes_it_again(clock):
    registry = CircuitBreakerRegistry(POLICY, max_regions=1, clock=clock)

    @region_breaker(region_from="credentials.region", registry=registry)
    def send(credentials):
        return "sent"

    for region in ("a", "b", "a", "a"):
        send(SimpleNamespace(region=region))
    assert [breaker.region for breaker in registry] == ["a"]


# A rejection


@pytest.fixture
def open_breaker(registry):
    """Return an OPEN circuit that has rejected a call: the next ones take no lock."""
    breaker = registry.get("a")
    breaker.acquire().fail(ServerError())
    reject(breaker)
    return breaker


def reject(breaker):
    with pytest.raises(CircuitBreakerOpenError) as raised:
        breaker.acquire()
    return raised.value


def test_a_rejection_without_the_lock_says_what_one_with_it_says(open_breaker, clock):
    with_lock, rejections = [], []
    for _ in range(60):
        with_lock.append(open_breaker.retry_after)
        rejections.append(without_the_lock(lambda: reject(open_breaker)))
        clock.advance(1)
    assert [error.retry_after for error in rejections] == with_lock
    assert {(e.region, e.state, e.reason) for e in rejections} == {("a", "OPEN", "ServerError 503")}


def test_what_is_left_is_rounded_up_without_the_lock_too(registry, clock):
    clock.advance(0.1)
    breaker = registry.get("a")
    breaker.acquire().fail(ServerError())
    reject(breaker)
    for step in (0.2, 0.7, 1.1, 58.0 - 1e-9):
        clock.advance(step)
        now = clock()
        assert now + reject(breaker).retry_after >= 60.1
        assert breaker.retry_after == reject(breaker).retry_after


def test_rejections_with_and_without_the_lock_are_counted_together(open_breaker, clock):
    for _ in range(4):
        reject(open_breaker)
    assert open_breaker.snapshot().rejected == 5
    clock.advance(60)
    open_breaker.acquire().fail(ServerError())
    assert open_breaker.snapshot().rejected == 5
    reject(open_breaker)
    reject(open_breaker)
    assert open_breaker.snapshot().rejected == 7


def test_a_forced_opening_rejects_without_the_lock_and_without_an_end(registry, clock):
    breaker = registry.get("a")
    breaker.force_open("maintenance")
    reject(breaker)
    clock.advance(59)
    assert without_the_lock(lambda: reject(breaker)).retry_after is None


def test_a_new_policy_holds_immediately_for_rejections_too(registry, open_breaker, clock):
    clock.advance(5)
    registry.configure(policy=BreakerPolicy(recovery_timeout=10, success_threshold=1))
    assert reject(open_breaker).retry_after == 5.0
    assert reject(open_breaker).retry_after == 5.0
    registry.configure(policy=BreakerPolicy(recovery_timeout=5, success_threshold=1))
    open_breaker.acquire().succeed()
    assert open_breaker.state == "CLOSED"


def test_a_circuit_that_is_due_admits_whatever_it_rejected(open_breaker, clock):
    reject(open_breaker)
    clock.advance(60)
    with open_breaker.acquire():
        pass
    assert open_breaker.state == "CLOSED"


def test_a_clock_that_steps_back_behind_the_opening_starts_it_again(open_breaker, clock):
    clock.advance(-1000)
    assert reject(open_breaker).retry_after == 60.0
    assert reject(open_breaker).retry_after == 60.0
    clock.advance(60)
    open_breaker.acquire()


def test_a_forced_opening_is_shown_by_the_next_rejection(open_breaker):
    reject(open_breaker)
    open_breaker.force_open("maintenance")
    assert reject(open_breaker).reason == "forced open: maintenance"
    open_breaker.reset()
    open_breaker.acquire()


# What is raised


@pytest.mark.parametrize("again", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_rejection_given_by_keywords_can_be_copied(again):
    error = CircuitBreakerOpenError(region="a", state=CircuitState.OPEN, retry_after=1.5)
    error.add_note("seen")
    twin = again(error)
    assert (twin.region, twin.state, twin.reason, twin.retry_after) == ("a", "OPEN", None, 1.5)
    assert twin.__notes__ == ["seen"]
    assert str(twin) == str(error)

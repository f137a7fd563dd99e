"""A breaker by itself: calls, permits, classifiers, what it tells."""

# A wrong line that is no error is one: both checkers refuse a `type: ignore` without a cause.
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import assert_type

from resilience import (
    Backoff,
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitSnapshot,
    CircuitState,
    Outcome,
    Permit,
    ResilienceError,
    StateChanged,
    classify_error,
    classify_status,
    failures,
)
from resilience.mode import Mode
from resilience.rules.trip import TripRule

breaker = CircuitBreaker("eu-west-1")


async def deliver(text: str, *, urgent: bool = False) -> int:
    return len(text) + urgent


async def calls() -> None:
    assert_type(await breaker.call(deliver, "hello"), int)
    assert_type(await breaker.call(deliver, "hello", urgent=True), int)
    assert_type(await breaker.wait_until_ready(), bool)
    assert_type(await breaker.wait_until_ready(timeout=1.5), bool)

    await breaker.call(deliver)  # type: ignore[call-arg]
    await breaker.call(deliver, 1)  # type: ignore[arg-type]
    await breaker.call(deliver, "hello", late=True)  # type: ignore[call-arg]
    await breaker.call(len, "hello")  # type: ignore[arg-type]
    await breaker.wait_until_ready("soon")  # type: ignore[arg-type]


def permits() -> None:
    assert_type(breaker.acquire(), Permit)
    with breaker.acquire() as permit:
        assert_type(permit, Permit)
    assert_type(permit.succeed(), None)
    assert_type(permit.fail(), None)
    permit.fail(TimeoutError())
    assert_type(permit.answered(), None)
    assert_type(permit.ignore(), None)
    assert_type(permit.attempt_failed(TimeoutError()), None)

    permit.attempt_failed()  # type: ignore[call-arg]
    permit.fail("too slow")  # type: ignore[arg-type]


def a_block_swallows_no_error() -> int:
    # If it might, the function could end without a return, and this would be an error.
    with breaker.acquire():
        return 1


def properties() -> None:
    assert_type(breaker.region, str)
    assert_type(breaker.policy, BreakerPolicy)
    assert_type(breaker.state, CircuitState)
    assert_type(breaker.retry_after, float | None)
    assert_type(breaker.reset(), None)
    assert_type(breaker.force_open("maintenance"), None)

    breaker.state = CircuitState.OPEN  # type: ignore[misc]
    breaker.force_open()  # type: ignore[call-arg]


def snapshots(snapshot: CircuitSnapshot) -> None:
    assert_type(breaker.snapshot(), CircuitSnapshot)
    assert_type(snapshot.region, str)
    assert_type(snapshot.state, CircuitState)
    assert_type(snapshot.since, float)
    assert_type(snapshot.streak, int)
    assert_type(snapshot.retry_after, float | None)
    assert_type(snapshot.reason, str | None)
    assert_type(snapshot.successes, int)
    assert_type(snapshot.failures, int)
    assert_type(snapshot.answered, int)
    assert_type(snapshot.ignored, int)
    assert_type(snapshot.ignored_probes, int)
    assert_type(snapshot.ignored_reasons, tuple[str, ...])
    assert_type(snapshot.rejected, int)
    assert_type(snapshot.probes, int)
    assert_type(snapshot.trips, int)
    assert_type(snapshot.mode, Mode)
    assert_type(snapshot.trips_by_rule, tuple[tuple[TripRule, int], ...])
    dataclasses.asdict(snapshot)

    snapshot.streak = 0  # type: ignore[misc]


def listeners() -> None:
    def on_change(event: StateChanged) -> None:
        assert_type(event.region, str)
        assert_type(event.old, CircuitState)
        assert_type(event.new, CircuitState)
        assert_type(event.reason, str)
        assert_type(event.at, float)
        assert_type(event.time, datetime)
        assert_type(event.streak, int)
        assert_type(event.retry_after, float | None)

    seen: list[StateChanged] = []
    assert_type(breaker.listen(on_change), Callable[[], None])
    breaker.listen(seen.append)
    breaker.listen(lambda event: event.streak)

    def of_a_text(text: str) -> None: ...

    breaker.listen(of_a_text)  # type: ignore[arg-type]


def classifiers() -> None:
    assert_type(classify_error(TimeoutError()), Outcome)
    assert_type(classify_status(object()), Outcome)
    assert_type(failures(ValueError, KeyError), Callable[[BaseException], Outcome])

    def strict(error: BaseException) -> Outcome:
        return Outcome.FAILURE if isinstance(error, ValueError) else classify_error(error)

    def judged(arguments: tuple[object, ...]) -> Outcome:
        return Outcome.FAILURE if arguments else Outcome.IGNORED

    def of_exceptions(error: Exception) -> Outcome:
        return classify_error(error)

    def of_some(error: ValueError) -> Outcome:
        return classify_error(error)

    CircuitBreaker("eu-west-1", classifier=strict, result_classifier=classify_status)
    CircuitBreaker("eu-west-1", classifier=of_exceptions)
    CircuitBreaker("eu-west-1", classifier=of_some)  # type: ignore[arg-type]
    CircuitBreaker("eu-west-1", classifier=lambda error: judged(error.args))

    def wrong(error: BaseException) -> bool:
        return bool(error)

    async def awaited(error: BaseException) -> Outcome:
        return classify_error(error)

    CircuitBreaker("eu-west-1", classifier=wrong)  # type: ignore[arg-type]
    CircuitBreaker("eu-west-1", classifier=awaited)  # type: ignore[arg-type]
    failures("ValueError")  # type: ignore[arg-type]

    class OwnTimeout(BaseException): ...

    assert_type(failures(OwnTimeout)(OwnTimeout()), Outcome)


def policies() -> None:
    policy = BreakerPolicy(failure_threshold=5, recovery_timeout=30, probe_timeout=2.5)
    assert_type(policy.failure_threshold, int)
    assert_type(policy.recovery_timeout, float | Backoff)
    assert_type(policy.success_threshold, int)
    assert_type(policy.half_open_probes, int)
    assert_type(policy.probe_timeout, float | None)
    CircuitBreaker("eu-west-1", policy)

    BreakerPolicy(5)  # type: ignore[call-arg]
    BreakerPolicy(timeout=30)  # type: ignore[call-arg]
    BreakerPolicy(failure_threshold="5")  # type: ignore[arg-type]
    policy.failure_threshold = 7  # type: ignore[misc]
    CircuitBreaker("eu-west-1", {})  # type: ignore[arg-type]
    CircuitBreaker("eu-west-1", policy, classify_error)  # type: ignore[call-arg]
    CircuitBreaker(None)  # type: ignore[arg-type]


def errors(error: CircuitBreakerOpenError) -> None:
    base: ResilienceError = error
    assert_type(str(base), str)
    assert_type(error.region, str)
    assert_type(error.state, CircuitState)
    assert_type(error.reason, str | None)
    assert_type(error.retry_after, float | None)


def states(state: CircuitState, outcome: Outcome) -> str:
    value: str = state.value
    if state is CircuitState.CLOSED:
        return value
    match outcome:
        case Outcome.SUCCESS | Outcome.FAILURE:
            return "counts"
        case Outcome.ANSWERED | Outcome.IGNORED:
            return "does not count"

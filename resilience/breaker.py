"""CircuitBreaker: permit -> your coroutine -> outcome; the only place that reads the clock.

A call travels through `guard`, at the end of this file. What it meets there in a CLOSED circuit
without a streak is all that a call which goes well pays for.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from resilience import events
from resilience.checks import (
    check_callable,
    check_clock,
    check_text,
    check_timeout,
    check_type,
    is_async,
)
from resilience.circuit import Circuit, CircuitState, Closed, Probe, Rejection, Ticket, Transition
from resilience.classify import (
    Classifier,
    Outcome,
    ResultClassifier,
    classify_error,
    describe_error,
    describe_result,
    says_nothing,
)
from resilience.errors import CircuitBreakerOpenError
from resilience.lock import lock
from resilience.policy import BreakerPolicy
from resilience.text import one_line
from resilience.waiting import Line

P = ParamSpec("P")
T = TypeVar("T")

# So many errors in a row that no rule knows: this breaker may never count anything.
_UNKNOWN_ERRORS_TO_WARN = 100


@dataclass(frozen=True, slots=True)
class CircuitSnapshot:
    """What a breaker knows at one moment; `dataclasses.asdict` makes it fit for JSON.

    Args:
        region: The region.
        state: What a call would meet now.
        since: The breaker's clock when this state began, in seconds.
        streak: Consecutive failures.
        retry_after: Seconds until a call may be admitted; None while forced open.
        reason: Why the circuit opened; None while it is CLOSED.
        successes: Calls since the start that succeeded.
        failures: Calls since the start that failed.
        ignored: Calls since the start that said nothing about the region.
        rejected: Calls since the start that were not made.
        probes: Calls since the start that were admitted in HALF_OPEN.
        trips: How often failures opened the CLOSED circuit.
    """

    region: str
    state: CircuitState
    since: float
    streak: int
    retry_after: float | None
    reason: str | None
    successes: int
    failures: int
    ignored: int
    rejected: int
    probes: int
    trips: int


class CircuitBreaker:
    """Keeps calls from a region that is down, and finds out when it is back (T10).

    One breaker serves any number of tasks, event loops and threads at a time.

    Args:
        region: The name of what is called.
        policy: When the circuit opens and closes.
        classifier: Decides what an exception says.
        result_classifier: Decides what a returned value says; None: it is a success.
        clock: Returns seconds; None means `time.monotonic`.

    Raises:
        TypeError: An argument has the wrong type, or a classifier is an `async def`.
        ValueError: The region is empty.
    """

    __slots__ = (
        "__weakref__",
        "_circuit",
        "_classifier",
        "_clock",
        "_known_outcomes",
        "_line",
        "_outbox",
        "_passing",
        "_result_classifier",
        "_unknown_errors",
        "region",
    )

    def __init__(
        self,
        region: str,
        policy: BreakerPolicy = BreakerPolicy(),  # noqa: B008 - immutable
        *,
        classifier: Classifier = classify_error,
        result_classifier: ResultClassifier | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.region = check_text("region", region)
        check_clock(clock)
        check_type("policy", policy, BreakerPolicy)
        check_classifiers(classifier, result_classifier)
        self._clock = clock
        self._circuit = Circuit(policy, self._now())
        self._outbox = events.Outbox()
        self._line: Line | None = None
        self._known_outcomes = self._unknown_errors = 0
        self._passing: Closed | None = None
        self._configure(policy, classifier, result_classifier)

    @property
    def policy(self) -> BreakerPolicy:
        """The thresholds in force."""
        return self._circuit.policy

    @property
    def state(self) -> CircuitState:
        """What a call would meet now; looking changes nothing."""
        with lock:
            return self._circuit.phase(self._now())

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may be admitted: 0.0 is now, None is not before `reset`."""
        with lock:
            return self._circuit.retry_after(self._now())

    def snapshot(self) -> CircuitSnapshot:
        """Describe the circuit as it is now."""
        with lock:
            circuit, now = self._circuit, self._now()
            return CircuitSnapshot(
                region=self.region,
                state=circuit.phase(now),
                since=circuit.phase_since(now),
                streak=circuit.state.streak,
                retry_after=circuit.retry_after(now),
                reason=circuit.state.reason,
                successes=circuit.successes,
                failures=circuit.failures,
                ignored=circuit.ignored,
                rejected=circuit.rejected,
                probes=circuit.probes,
                trips=circuit.trips,
            )

    async def call(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a coroutine function under the protection of the circuit (T10's `call`).

        Args:
            fn: What to call.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Returns:
            What it returns.

        Raises:
            CircuitBreakerOpenError: The call was rejected; `fn` has not run.
        """
        with self.acquire() as permit:
            result = await fn(*args, **kwargs)
            permit._returned(result)
            return result

    def acquire(self) -> Permit:
        """Ask leave to make one call; never waits.

        Returns:
            A permit, to be settled once; best as ``with breaker.acquire():`` around the call.

        Raises:
            CircuitBreakerOpenError: The circuit admits no call now.
        """
        ticket = self._admit()
        if isinstance(ticket, tuple):
            raise CircuitBreakerOpenError(self.region, *ticket)
        return Permit(self, ticket)

    def __call__(self, fn: Callable[P, T]) -> Callable[P, T]:
        """Decorate one function, `async def` or `def`, with this very breaker."""
        check_guardable(fn, "a circuit breaker")
        return guard(fn, lambda _args, _kwargs: self)

    def reset(self) -> None:
        """Close the circuit by hand, forget its streak and end a forced opening."""
        with lock:
            self._follow(self._circuit.reset(self._now()))
        self._outbox.deliver()

    def force_open(self, reason: str) -> None:
        """Keep the circuit open until `reset`.

        Args:
            reason: Why; the log and the rejected calls show it.

        Raises:
            TypeError: The reason is no text.
            ValueError: The reason is empty.
        """
        reason = one_line(f"forced open: {check_text('reason', reason)}")
        with lock:
            self._follow(self._circuit.force_open(reason, self._now()))
        self._outbox.deliver()

    def listen(self, listener: events.Listener) -> Callable[[], None]:
        """Tell a function about each change of this circuit's state.

        Args:
            listener: Takes one `StateChanged`, after the state is settled; a call waits for it, so
                it should be quick. What it raises is logged.

        Returns:
            A function that ends it.

        Raises:
            TypeError: The listener cannot be called, or is an `async def`.
        """
        return self._outbox.listeners.add(listener)

    async def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Wait, in asyncio, until a call would be admitted; it reserves nothing.

        Args:
            timeout: Seconds to wait at most; None waits for ever.

        Returns:
            True when a call would be admitted, False when the time was up before that.

        Raises:
            TypeError: The timeout is no number.
            ValueError: The timeout is negative or NaN.
        """
        check_timeout(timeout)
        return await self._waiting_line().wait(timeout)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.region!r} {self.state}>"

    # For the registry

    def _configure(
        self,
        policy: BreakerPolicy,
        classifier: Classifier,
        result_classifier: ResultClassifier | None,
    ) -> None:
        with lock:
            self._circuit.policy = policy
            self._classifier = classifier
            self._result_classifier = result_classifier
            self._follow(None)

    def _spare(self) -> int | None:
        """Say how well the registry can do without it; None: it must be kept."""
        return None if self._outbox.listeners else self._circuit.spare(self._now())

    # One call

    def _admit(self) -> Ticket | Rejection:
        with lock:
            ticket = self._circuit.acquire(self._now())
            if isinstance(ticket, Probe):
                self._follow(ticket.opened)
        if isinstance(ticket, Probe):
            for probe in ticket.displaced:
                events.log_lost_probe(self.region, probe.timeout)
            self._outbox.deliver()
        return ticket

    def _returned(
        self, ticket: Ticket, result: object, classifier: ResultClassifier | None = None
    ) -> None:
        """Record what a call returned."""
        outcome, reason = Outcome.IGNORED, ""
        try:
            outcome, reason = self._judge_result(result, classifier)
        finally:
            self._record(ticket, outcome, reason)

    def _raised(
        self, ticket: Ticket, error: BaseException, classifier: Classifier | None = None
    ) -> None:
        """Record what a call raised."""
        outcome, reason = Outcome.IGNORED, ""
        try:
            outcome, reason = self._judge_error(error, classifier)
        finally:
            self._record(ticket, outcome, reason)

    def _judge_result(
        self, result: object, classifier: ResultClassifier | None = None
    ) -> tuple[Outcome, str]:
        classifier = classifier or self._result_classifier
        if classifier is None:
            return Outcome.SUCCESS, ""
        outcome = self._ask("result_classifier", classifier, result)
        return outcome, describe_result(result) if outcome is Outcome.FAILURE else ""

    def _judge_error(
        self, error: BaseException, classifier: Classifier | None = None
    ) -> tuple[Outcome, str]:
        if not isinstance(error, Exception) or isinstance(error, CircuitBreakerOpenError):
            return Outcome.IGNORED, ""
        outcome = self._ask("classifier", classifier or self._classifier, error)
        if outcome is Outcome.FAILURE:
            return outcome, describe_error(error)
        if outcome is Outcome.IGNORED and says_nothing(error):
            self._count_unknown(error)
        return outcome, ""

    def _ask(self, role: str, classify: Callable[[Any], Outcome], what: object) -> Outcome:
        try:
            outcome = classify(what)
        except Exception as fault:  # noqa: BLE001 - the call's own error must reach the caller
            events.log_fault(role, classify, fault, self.region)
            return Outcome.IGNORED
        if isinstance(outcome, Outcome):
            return outcome
        events.log_not_an_outcome(role, classify, outcome, self.region)
        return Outcome.IGNORED

    def _record(self, ticket: Ticket, outcome: Outcome, reason: str) -> None:
        with lock:
            transition = self._circuit.record(ticket, outcome, reason, self._now())
            if transition is not None or isinstance(ticket, Probe):
                self._follow(transition)
        self._outbox.deliver()

    def _count_unknown(self, error: BaseException) -> None:
        with lock:
            known = self._circuit.successes + self._circuit.failures
            if known != self._known_outcomes:
                self._known_outcomes, self._unknown_errors = known, 0
            self._unknown_errors += 1
            warn = self._unknown_errors == _UNKNOWN_ERRORS_TO_WARN
        if warn:
            events.log_unknown_errors(self.region, _UNKNOWN_ERRORS_TO_WARN, error)

    # After each change, under the lock

    def _follow(self, transition: Transition | None) -> None:
        """Bring up to date what hangs on the circuit: the fast way, the events, who waits."""
        state = self._circuit.state
        closed = state if isinstance(state, Closed) else None
        # The CLOSED state while a call that goes well has nothing to tell but that, else None.
        self._passing = closed if self._result_classifier is None else None
        if transition is not None:
            self._outbox.put(_event(self.region, transition))
        if self._line is not None:
            self._line.wake_first() if closed is None else self._line.wake_all()

    def _now(self) -> float:
        return time.monotonic() if self._clock is None else self._clock()

    # Waiting

    def _waiting_line(self) -> Line:
        with lock:
            if self._line is None:
                self._line = Line(self._next_try)
                on_advance = getattr(self._clock, "on_advance", None)
                if on_advance is not None:  # a FakeClock, whose time no timer follows
                    on_advance(self._look_again)
            return self._line

    def _next_try(self) -> float | None:
        with lock:
            now = self._now()
            self._circuit.reanchor(now)
            return self._circuit.retry_after(now)

    def _look_again(self) -> None:
        if self._line is not None:
            self._line.wake_first()


class Permit:
    """Leave to make one call; settle it once, the rest changes nothing.

    As a context manager, in sync and async code, it settles itself: a block that ends well is a
    success, and what a block raises is for the classifier.
    """

    __slots__ = ("_attempts_counted", "_breaker", "_ticket")

    def __init__(self, breaker: CircuitBreaker, ticket: Ticket) -> None:
        self._breaker = breaker
        self._ticket: Ticket | None = ticket
        self._attempts_counted = False

    def succeed(self) -> None:
        """Report that the region did what was asked."""
        self._settle(Outcome.SUCCESS, "")

    def fail(self, error: BaseException | None = None) -> None:
        """Report a failure of the region; no classifier is asked.

        Args:
            error: What went wrong; its type and status become the reason.
        """
        self._settle(Outcome.FAILURE, _reported(error))

    def ignore(self) -> None:
        """Report that the call said nothing about the region."""
        self._settle(Outcome.IGNORED, "")

    def attempt_failed(self, error: BaseException) -> None:
        """Count the failure of one attempt while the call goes on.

        The failure of the call itself is not counted once more then; its success ends the streak.

        Args:
            error: What went wrong; its type and status become the reason.
        """
        ticket = self._ticket
        if ticket is not None:
            self._attempts_counted = True
            self._breaker._record(ticket, Outcome.FAILURE, _reported(error))

    def __enter__(self) -> Self:
        if self._ticket is None:
            raise RuntimeError("this permit is settled: acquire a new one for each call")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.succeed()
        elif self._ticket is not None:
            outcome, reason = Outcome.IGNORED, ""
            try:
                outcome, reason = self._breaker._judge_error(error)
            finally:
                self._settle(outcome, reason)

    def _returned(self, result: object) -> None:
        outcome, reason = Outcome.IGNORED, ""
        try:
            outcome, reason = self._breaker._judge_result(result)
        finally:
            self._settle(outcome, reason)

    def _settle(self, outcome: Outcome, reason: str) -> None:
        with lock:
            ticket, self._ticket = self._ticket, None
        counted_already = self._attempts_counted and outcome is Outcome.FAILURE
        if ticket is not None and not counted_already:
            self._breaker._record(ticket, outcome, reason)


def _reported(error: BaseException | None) -> str:
    return "reported by the caller" if error is None else describe_error(error)


def _event(region: str, change: Transition) -> events.StateChanged:
    return events.StateChanged(
        region=region,
        old=change.old,
        new=change.new,
        reason=change.reason,
        at=change.at,
        time=datetime.now(UTC),
        streak=change.streak,
        retry_after=change.retry_after,
    )


def guard(
    fn: Callable[P, T],
    find: Callable[[tuple[Any, ...], dict[str, Any]], CircuitBreaker],
    *,
    classifier: Classifier | None = None,
    result_classifier: ResultClassifier | None = None,
) -> Callable[P, T]:
    """Wrap a function so that each call goes through the breaker that `find` gives for it.

    The two wrappers say the same, once with and once without `await`: a call that goes well has
    no time for a helper between them.
    """
    unjudged = result_classifier is None

    @functools.wraps(fn)
    async def guarded_async(*args: Any, **kwargs: Any) -> Any:
        breaker = find(args, kwargs)
        passing = breaker._passing if unjudged else None
        ticket: Any = passing
        if passing is None:
            ticket = breaker._admit()
            if isinstance(ticket, tuple):
                raise CircuitBreakerOpenError(breaker.region, *ticket)
        try:
            result = await cast("Any", fn)(*args, **kwargs)
        except BaseException as error:
            breaker._raised(ticket, error, classifier)
            raise
        if passing is not None and passing.quiet:
            passing.passed += 1
        else:
            breaker._returned(ticket, result, result_classifier)
        return result

    @functools.wraps(fn)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        breaker = find(args, kwargs)
        passing = breaker._passing if unjudged else None
        ticket: Any = passing
        if passing is None:
            ticket = breaker._admit()
            if isinstance(ticket, tuple):
                raise CircuitBreakerOpenError(breaker.region, *ticket)
        try:
            result: Any = fn(*args, **kwargs)
        except BaseException as error:
            breaker._raised(ticket, error, classifier)
            raise
        if hasattr(result, "__await__"):
            return _awaited(breaker, ticket, result, classifier, result_classifier)
        if passing is not None and passing.quiet:
            passing.passed += 1
        else:
            breaker._returned(ticket, result, result_classifier)
        return result

    return cast("Callable[P, T]", guarded_async if is_async(fn) else guarded)


async def _awaited(
    breaker: CircuitBreaker,
    ticket: Ticket,
    awaitable: Awaitable[T],
    classifier: Classifier | None,
    result_classifier: ResultClassifier | None,
) -> T:
    """Await what a plain function returned: the call is over only then."""
    try:
        result = await awaitable
    except BaseException as error:
        breaker._raised(ticket, error, classifier)
        raise
    breaker._returned(ticket, result, result_classifier)
    return result


def check_guardable(fn: object, decorator: str) -> None:
    """Refuse what cannot be decorated, and say how to do it instead."""
    name = getattr(fn, "__qualname__", repr(fn))
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise TypeError(
            f"{decorator} cannot decorate the generator {name}: its calls end before its work does;"
            " write `with breaker.acquire():` around each call inside it"
        )
    if isinstance(fn, classmethod | staticmethod):
        kind = type(fn).__name__
        raise TypeError(f"{decorator} goes under @{kind}, not over it, on {name}")
    if isinstance(fn, type) or not callable(fn):
        raise TypeError(f"{decorator} decorates a function, got {fn!r}")


def check_classifiers(classifier: object, result_classifier: object) -> None:
    """Refuse classifiers that cannot be called without awaiting."""
    check_callable("classifier", classifier, "an exception and returns an Outcome")
    if result_classifier is not None:
        check_callable("result_classifier", result_classifier, "a result and returns an Outcome")

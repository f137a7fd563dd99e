"""CircuitBreaker: permit -> your coroutine -> outcome; the only place that reads the clock."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar, cast

from resilience import _validate, classify, events, gate, gated, log
from resilience._lock import lock
from resilience._text import one_line
from resilience.circuit import Circuit, CircuitState, Closed, Probe, Rejection, Ticket, Transition
from resilience.classify import IGNORED, SUCCESS, Classifier, Outcome, Report, ResultClassifier
from resilience.errors import CircuitBreakerOpenError
from resilience.guards import Finder, check_guardable
from resilience.permit import Permit
from resilience.policy import BreakerPolicy
from resilience.rejections import Rejections
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
        shared: Whether other processes are told what this one knows, and it hears what they know;
            None where the circuit is its own.
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
    shared: bool | None = None


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
        "__weakref__", "_circuit", "_classifier", "_clock", "_line", "_outbox", "_passing",
        "_result_classifier", "_unknown", "region",
    )  # fmt: skip

    def __init__(
        self,
        region: str,
        policy: BreakerPolicy = BreakerPolicy(),  # noqa: B008 - immutable
        *,
        classifier: Classifier = classify.classify_error,
        result_classifier: ResultClassifier | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.region = _validate.check_text("region", region)
        _validate.check_callable("clock", clock, "nothing and returns seconds", optional=True)
        _validate.check_type("policy", policy, BreakerPolicy)
        _validate.check_classifiers(classifier, result_classifier)
        self._clock = clock
        self._circuit = Circuit(policy, Closed(self._now()))
        self._outbox = events.Outbox()
        self._line: Line | None = None
        # Errors in a row that no rule knows, and how many outcomes there were before them.
        self._unknown: tuple[int, int] = 0, 0
        self._configure(policy, classifier, result_classifier)

    @property
    def policy(self) -> BreakerPolicy:
        """The thresholds in force."""
        return self._circuit.policy

    @property
    def state(self) -> CircuitState:
        """What a call would meet now; looking makes no transition."""
        return self._look(self._circuit.phase)

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may be admitted; 0.0 is now, None is not before `reset`."""
        return self._look(self._circuit.retry_after)

    def snapshot(self) -> CircuitSnapshot:
        """Describe the circuit as it is now."""
        return self._look(self._describe)

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
        return cast("T", await gated.call_through(self, fn, *args, **kwargs))

    def acquire(self) -> Permit:
        """Ask leave to make one call; never waits.

        Returns:
            A permit, to be settled once; best as ``with breaker.acquire():`` around the call.

        Raises:
            CircuitBreakerOpenError: The circuit admits no call now.
        """
        permit = self._admit()
        if isinstance(permit, tuple):
            raise CircuitBreakerOpenError(self.region, *permit)
        return permit

    def __call__(self, fn: Callable[P, T]) -> Callable[P, T]:
        """Decorate one function, `async def` or `def`, with this very breaker."""
        check_guardable(fn, "a circuit breaker")
        return cast("Callable[P, T]", gated.protect(fn, Finder(lambda _args, _kwargs: self)))

    def reset(self) -> None:
        """Close the circuit by hand, forget its streak and end a forced opening."""
        self._change(self._circuit.reset)

    def force_open(self, reason: str) -> None:
        """Keep the circuit open until `reset`.

        Args:
            reason: Why; the log and the rejected calls show it.

        Raises:
            TypeError: The reason is no text.
            ValueError: The reason is empty.
        """
        reason = one_line(f"forced open: {_validate.check_text('reason', reason)}")
        self._change(self._circuit.force_open, reason)

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
        return self._outbox.add(listener)

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
        _validate.check_timeout(timeout)
        return await self._waiting_line().wait(timeout)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.region!r} {self.state}>"

    # For the registry

    def _configure(self, policy: BreakerPolicy, on_error: Any, on_result: Any) -> None:
        with lock:
            self._circuit.policy = policy
            self._circuit.keep_quiet()
            self._classifier, self._result_classifier = on_error, on_result
            self._follow(None)

    def _eviction_rank(self) -> int | None:
        """Say in which order a full registry lets go of it; None: never."""
        return None if self._outbox.entries else self._circuit.eviction_rank(self._now())

    # For one call

    def _admit(self, on_error: Any = None, on_result: Any = None) -> Permit | Rejection:
        now = time.monotonic() if self._clock is None else self._clock()
        if (refused := self._circuit.refuse(now)) is not None:
            return refused
        if self._circuit.state.name is CircuitState.HALF_OPEN and gate.is_carried(self):
            return gated.Passenger(self)
        with lock:
            ticket = self._circuit.acquire(now)
            if isinstance(ticket, Probe):
                self._follow(ticket.opened)
        if isinstance(ticket, tuple):
            self._tell_rejection(ticket, now)
            return ticket
        permit = Permit(self, ticket, on_error, on_result)
        if isinstance(ticket, Probe):
            try:
                log.log_lost_probes(self.region, ticket.displaced)
                self._outbox.deliver()
            except BaseException:  # a listener may exit the process, or be interrupted
                permit.ignore()
                raise
        return permit

    def _tell_rejection(self, rejection: Rejection, now: float) -> None:
        with lock:
            told = self._outbox.log
            if not isinstance(told, Rejections):
                told = self._outbox.log = Rejections(self.region, self._circuit)
        told.tell(rejection, now, self._outbox.registry_listeners.watchers)

    def _record(self, ticket: Ticket, report: Report) -> None:
        self._change(self._circuit.record, ticket, report)

    def _judge_result(self, result: object, classifier: ResultClassifier | None) -> Report:
        judge = self._result_classifier if classifier is None else classifier
        return SUCCESS if judge is None else self._ask("result_classifier", judge, result)

    def _judge_error(self, error: BaseException, classifier: Classifier | None) -> Report:
        judge = self._classifier if classifier is None else classifier
        known, report = classify.verdict(error), IGNORED
        ask = known is classify.FAILED or judge is not classify.classify_error
        if ask and isinstance(error, Exception) and not isinstance(error, CircuitBreakerOpenError):
            report = self._ask("classifier", judge, error)
        if known is None and report is IGNORED:
            self._count_unknown(error)
        return report

    def _ask(self, role: str, judge: Callable[[Any], Outcome], what: object) -> Report:
        try:
            outcome = judge(what)
            if outcome is Outcome.FAILURE:
                return outcome, classify.describe(what)
            if isinstance(outcome, Outcome):
                return SUCCESS if outcome is Outcome.SUCCESS else IGNORED
            wrong = f"returned a {type(outcome).__name__}, expected an Outcome"
        except Exception as fault:  # noqa: BLE001 - the call's own error must reach the caller
            wrong = log.describe_exception(fault)
        log.log_fault(role, judge, wrong, self.region)
        return IGNORED

    def _count_unknown(self, error: BaseException) -> None:
        # Without the lock: at worst a race makes the warning late.
        circuit, (count, then) = self._circuit, self._unknown
        now = circuit.successes + circuit.failures + circuit.state.passed
        count = count + 1 if now == then else 1
        self._unknown = count, now
        if count == _UNKNOWN_ERRORS_TO_WARN:
            log.log_unknown_errors(self.region, _UNKNOWN_ERRORS_TO_WARN, error)

    # By a call, by hand, or by what other processes know

    def _change(self, make: Callable[..., Transition | None], *what: Any) -> None:
        now = self._now()
        with lock:
            self._follow(make(*what, now))
        self._outbox.deliver()

    # Under the lock, after each change

    def _follow(self, change: Transition | None) -> None:
        """Bring up to date what hangs on the circuit: the fast way, the events, who waits."""
        state = self._circuit.state
        closed = state if isinstance(state, Closed) else None
        # The CLOSED state while a call that goes well has nothing to tell but that, else None.
        self._passing: Closed | None = closed if self._result_classifier is None else None
        if change is not None:
            what, time_of_day = asdict(change), datetime.now(UTC)
            self._outbox.put(events.StateChanged(region=self.region, time=time_of_day, **what))
            gate.wake_sleepers(self)
        if self._line is not None:
            self._line.wake_first() if closed is None else self._line.wake_all()

    def _now(self) -> float:
        return time.monotonic() if self._clock is None else self._clock()

    # For those who wait

    def _waiting_line(self) -> Line:
        with lock:
            if self._line is None:
                self._line = Line(lambda: self._look(self._circuit.ask))
                # No timer follows the time of a FakeClock, which tells of it.
                getattr(self._clock, "on_advance", bool)(self._line.wake_first)
            return self._line

    # For those who look

    def _look(self, at: Callable[[float], T]) -> T:
        now = self._now()
        with lock:
            self._circuit.reanchor(now)
            return at(now)

    def _describe(self, now: float) -> CircuitSnapshot:
        of, state = self._circuit, self._circuit.state
        seen = of.phase(now), of.phase_since(now), state.streak, of.retry_after(now), state.reason
        return CircuitSnapshot(self.region, *seen, *of.counts(), getattr(of, "shared", None))

"""BreakerPolicy: the rules of a circuit and their numbers, checked once."""

from dataclasses import dataclass, fields
from typing import Literal

from resilience._validate import (
    check_amount,
    check_count,
    check_factor,
    check_flag,
    check_seconds,
    check_share,
    kind_of,
    shown,
)
from resilience.explanation import Explanation
from resilience.mode import FORCED_MODE, Mode, check_unless_off, parse_mode
from resilience.recovery import Backoff

_COUNTS = ("failure_threshold", "success_threshold", "half_open_probes", "minimum_calls")
_SHORTEST_WINDOW = 0.001
_OPTIONAL_SECONDS = (
    "probe_timeout",
    "streak_window",
    "slow_call_duration",
    "call_timeout",
    "stranded_after",
)
_RAMP_NUMBERS = 2
_OPTIONAL_SHARES = ("failure_rate_threshold", "slow_call_rate_threshold")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a circuit opens, how long it stays open, and what closes it again.

    A circuit opens as soon as one of its rules trips it. The streak of failures always counts; the
    other rules are off unless their thresholds are given.

    Args:
        failure_threshold: Consecutive failures that trip the circuit.
        recovery_timeout: Seconds from opening until the first probe, or a `Backoff`, with which
            they grow after each failed probe.
        success_threshold: Consecutive successful probes that close the circuit.
        half_open_probes: Probes that may run at the same time.
        probe_timeout: Seconds that a probe may keep its place; None means `recovery_timeout`, or
            the `maximum` of its `Backoff`.
        streak_window: Seconds; two failures that are further apart belong to different streaks.
            None: a streak lasts until the next success.
        failure_rate_threshold: The share of the calls in the window, above 0 and up to 1, that
            trips the circuit when they have failed. None: no rate is watched.
        slow_call_duration: Seconds from which on a call is slow, however it ends.
        slow_call_rate_threshold: The share of the calls in the window, above 0 and up to 1, that
            trips the circuit when they were slow. None: slow calls are not watched.
        minimum_calls: Calls that the window must hold before a rate trips the circuit.
        window: Seconds that the rates look back.
        recovery_jitter: The share of a fixed `recovery_timeout` that is added at random at most, so
            that processes that do not share their circuits do not probe at the same time.
        honor_retry_after: Whether a failure that opens the circuit, or fails as a probe, prolongs
            that one OPEN if the server asked for a delay with it, up to the `maximum` of the
            `Backoff`.
        ramp: How many calls may run at the same time after the circuit has closed, and by how much
            that number grows each time that as many calls were answered: ``(2, 2)`` allows 2, 4, 8,
            and so on. None: all of them, immediately.
        call_timeout: Seconds after which the breaker ends a call of an `async def` with a
            `TimeoutError` and counts a failure. The integrations of HTTP clients limit requests of
            sync code as far as they can. None: calls have no timeout here.
        abandoned_threshold: Calls in a row, cancelled from outside without an answer between them,
            that trip the circuit. None: they are not counted.
        stranded_after: Seconds; a call that is in flight for as long, while the region has answered
            no call since it began, counts as a failure at that moment. None: a call counts when it
            ends.
        cancel_stranded: Whether the calls of `async def` that are in flight when the circuit opens
            are cancelled; their callers get a `CircuitBreakerOpenError`.
        mode: "enforce"; "observe", which counts, logs and emits what the circuit would do, but
            rejects and ends no call; or "off", which does nothing at all. The environment variable
            RESILIENCE_MODE overrides it.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field has a wrong value, or contradicts another one.
    """

    failure_threshold: int = 10
    recovery_timeout: float | Backoff = 60.0
    success_threshold: int = 3
    half_open_probes: int = 1
    probe_timeout: float | None = None
    streak_window: float | None = None
    failure_rate_threshold: float | None = None
    slow_call_duration: float | None = None
    slow_call_rate_threshold: float | None = None
    minimum_calls: int = 20
    window: float = 60.0
    recovery_jitter: float = 0.0
    honor_retry_after: bool = False
    ramp: tuple[int, float] | None = None
    call_timeout: float | None = None
    abandoned_threshold: int | None = None
    stranded_after: float | None = None
    cancel_stranded: bool = False
    mode: Literal["enforce", "observe", "off"] = "enforce"

    def __post_init__(self) -> None:
        if not check_unless_off(self._check):
            for field in fields(self):
                object.__setattr__(self, field.name, field.default)

    def _check(self) -> None:
        parse_mode("mode", self.mode)
        for name in _COUNTS:
            check_count(name, getattr(self, name))
        if self.abandoned_threshold is not None:
            check_count("abandoned_threshold", self.abandoned_threshold)
        check_flag("cancel_stranded", self.cancel_stranded)
        check_seconds("window", self.window)
        if self.window < _SHORTEST_WINDOW:
            least = f"at least {_SHORTEST_WINDOW:g} s"
            raise ValueError(f"window must be {least}, got {shown(self.window)}: raise it")
        for name in _OPTIONAL_SECONDS:
            if getattr(self, name) is not None:
                check_seconds(name, getattr(self, name))
        for name in _OPTIONAL_SHARES:
            if getattr(self, name) is not None:
                check_share(name, getattr(self, name))
        self._check_recovery()
        self._check_ramp()
        self._check_rules_fit()

    @property
    def mode_in_force(self) -> Mode:
        """The mode: that of RESILIENCE_MODE if it is set, else the policy's own."""
        return Mode(self.mode) if FORCED_MODE is None else FORCED_MODE

    @property
    def backoff(self) -> Backoff:
        """The recovery timeout as a `Backoff`, which a fixed one is as well."""
        if isinstance(self.recovery_timeout, Backoff):
            return self.recovery_timeout
        first, jitter = self.recovery_timeout, self.recovery_jitter
        return Backoff(first, factor=1, maximum=first * (1 + jitter), jitter=jitter)

    @property
    def longest_recovery(self) -> float:
        """Seconds from opening until the first probe, at most; jitter is left out."""
        timeout = self.recovery_timeout
        return timeout.maximum if isinstance(timeout, Backoff) else timeout

    @property
    def probe_lease(self) -> float:
        """Seconds that a probe may keep its place."""
        return self.longest_recovery if self.probe_timeout is None else self.probe_timeout

    @property
    def watches_rates(self) -> bool:
        """Whether each call is timed and counted in a window."""
        thresholds = (self.failure_rate_threshold, self.slow_call_rate_threshold)
        return thresholds != (None, None)

    @property
    def watches_calls(self) -> bool:
        """Whether each call needs a permit, which watches it while it runs."""
        has_times = (self.call_timeout, self.stranded_after) != (None, None)
        return has_times or self.cancel_stranded

    def explain(
        self,
        *,
        attempts: int = 5,
        call_timeout: float | None = 10.0,
        calls_per_second: float = 10.0,
        concurrency: int = 100,
    ) -> Explanation:
        """Explain what the policy means for one process, in figures; `str` makes sentences of them.

        Args:
            attempts: How many requests a call makes at most; 1 where nothing is retried. The waits
                between them are those of `transient_retry`.
            call_timeout: Seconds after which the client ends each request; None: never.
            calls_per_second: How many calls come in a second, at random moments.
            concurrency: How many of them run at the same time at most.

        Returns:
            When the circuit opens and closes, and what that costs.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: An argument has a wrong value.
        """
        # It runs circuits, which need policies: imported by those that ask, and only then.
        from resilience.explain import explain  # noqa: PLC0415

        return explain(
            self,
            attempts=attempts,
            call_timeout=call_timeout,
            calls_per_second=calls_per_second,
            concurrency=concurrency,
        )

    def _check_recovery(self) -> None:
        check_amount("recovery_jitter", self.recovery_jitter)
        check_flag("honor_retry_after", self.honor_retry_after)
        if not isinstance(self.recovery_timeout, Backoff):
            check_seconds("recovery_timeout", self.recovery_timeout)
            longest = self.recovery_timeout * (1 + self.recovery_jitter)
            check_seconds("recovery_timeout with its recovery_jitter", longest)
            if self.honor_retry_after:
                raise ValueError(
                    "honor_retry_after needs a bound: give recovery_timeout as a Backoff, whose"
                    f" maximum is one, such as Backoff({shown(self.recovery_timeout)}, factor=1)"
                )
        elif self.recovery_jitter:
            raise ValueError(
                "recovery_jitter is for a recovery_timeout in seconds: set the jitter of the"
                " Backoff instead"
            )

    def _check_ramp(self) -> None:
        if self.ramp is None:
            return
        expected = "ramp must be a tuple (start, factor), such as (2, 2)"
        given: object = self.ramp
        if not isinstance(given, tuple) or len(self.ramp) != _RAMP_NUMBERS:
            raise TypeError(f"{expected}, got {kind_of(given)}")
        start, factor = self.ramp
        check_count("the start of ramp", start)
        check_factor("the factor of ramp", factor)
        if factor == 1:
            raise ValueError("the factor of ramp must be above 1, or the ramp never ends, got 1")

    def _check_rules_fit(self) -> None:
        """Reject numbers that contradict each other."""
        if self.streak_window is not None and self.failure_threshold == 1:
            raise ValueError(
                "streak_window has no effect with failure_threshold=1, which trips at the first"
                " failure: raise failure_threshold, or leave streak_window out"
            )
        if (self.slow_call_duration is None) != (self.slow_call_rate_threshold is None):
            given, missing = "slow_call_rate_threshold", "slow_call_duration"
            if self.slow_call_rate_threshold is None:
                given, missing = missing, given
            raise ValueError(f"{given} needs {missing}: give both, or neither")
        for name in ("slow_call_duration", "stranded_after"):
            seconds, limit = getattr(self, name), self.call_timeout
            if seconds is not None and limit is not None and seconds >= limit:
                raise ValueError(
                    f"{name} must be less than call_timeout, which ends every call after"
                    f" {limit:g} s, got {shown(seconds)}: lower it, or raise call_timeout"
                )

"""BreakerPolicy: the rules of a circuit and their numbers, checked once."""

from dataclasses import dataclass

from resilience._validate import check_count, check_seconds, check_share

_COUNTS = ("failure_threshold", "success_threshold", "half_open_probes", "minimum_calls")
_SECONDS = ("recovery_timeout", "window")
_OPTIONAL_SECONDS = ("probe_timeout", "streak_window", "slow_call_duration")
_OPTIONAL_SHARES = ("failure_rate_threshold", "slow_call_rate_threshold")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a circuit opens, how long it stays open, and what closes it again.

    A circuit opens as soon as one of its rules trips it. The streak of failures always counts; the
    other rules are off unless their thresholds are given.

    Args:
        failure_threshold: Consecutive failures that trip the circuit.
        recovery_timeout: Seconds from opening until the first probe.
        success_threshold: Consecutive successful probes that close the circuit.
        half_open_probes: Probes that may run at the same time.
        probe_timeout: Seconds that a probe may keep its place; None means `recovery_timeout`.
        streak_window: Seconds; two failures that are further apart belong to different streaks.
            None: a streak lasts until the next success.
        failure_rate_threshold: The share of the calls in the window, above 0 and up to 1, that
            trips the circuit when they have failed. None: no rate is watched.
        slow_call_duration: Seconds from which on a call is slow, however it ends.
        slow_call_rate_threshold: The share of the calls in the window, above 0 and up to 1, that
            trips the circuit when they were slow. None: slow calls are not watched.
        minimum_calls: Calls that the window must hold before a rate trips the circuit.
        window: Seconds that the rates look back.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field has a wrong value, or contradicts another one.
    """

    failure_threshold: int = 10
    recovery_timeout: float = 60.0
    success_threshold: int = 3
    half_open_probes: int = 1
    probe_timeout: float | None = None
    streak_window: float | None = None
    failure_rate_threshold: float | None = None
    slow_call_duration: float | None = None
    slow_call_rate_threshold: float | None = None
    minimum_calls: int = 20
    window: float = 60.0

    def __post_init__(self) -> None:
        for name in _COUNTS:
            check_count(name, getattr(self, name))
        for name in _SECONDS:
            check_seconds(name, getattr(self, name))
        for name in _OPTIONAL_SECONDS:
            if getattr(self, name) is not None:
                check_seconds(name, getattr(self, name))
        for name in _OPTIONAL_SHARES:
            if getattr(self, name) is not None:
                check_share(name, getattr(self, name))
        self._check_rules_fit()

    @property
    def probe_lease(self) -> float:
        """Seconds that a probe may keep its place."""
        return self.recovery_timeout if self.probe_timeout is None else self.probe_timeout

    @property
    def watches_rates(self) -> bool:
        """Whether each call is timed and counted in a window."""
        thresholds = (self.failure_rate_threshold, self.slow_call_rate_threshold)
        return thresholds != (None, None)

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

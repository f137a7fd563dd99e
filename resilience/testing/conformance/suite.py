"""The suite: each scenario, and the answers to it that conform."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from resilience.testing.conformance import scenarios
from resilience.testing.conformance.adapter import CLOSED, HALF_OPEN, SUCCESSES, BreakerAdapter
from resilience.testing.conformance.clock import ManualClock, run_timeless
from resilience.testing.conformance.situation import Situation

_YES = ("yes",)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found out about a breaker.

    Args:
        name: The name of the check.
        question: What it asks.
        answer: What the breaker does.
        expected: The answers that conform.
    """

    name: str
    question: str
    answer: str
    expected: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the breaker conforms."""
        return self.answer in self.expected

    def __str__(self) -> str:
        verdict = "ok  " if self.passed else "FAIL"
        text = f"{verdict} {self.name}: {self.question}: {self.answer}"
        return text if self.passed else f"{text} (expected: {' or '.join(self.expected)})"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the suite.

    Args:
        scenario: Puts a breaker into a situation, and returns what has become of it.
        expected: The answers that conform.
    """

    scenario: Callable[[Situation], Awaitable[str]]
    expected: tuple[str, ...] = _YES

    @property
    def name(self) -> str:
        """The name of the check, such as ``"probe-hung"``."""
        return self.scenario.__name__.replace("_", "-")

    @property
    def question(self) -> str:
        """What the check asks."""
        return (self.scenario.__doc__ or "").rstrip(".")

    def run(self, adapter: Callable[..., BreakerAdapter]) -> Finding:
        """Put a fresh breaker into the situation.

        Args:
            adapter: The class of the adapter, or a function that takes ``clock=`` and returns one.

        Returns:
            What has become of it.
        """
        clock = ManualClock()

        async def play() -> str:
            return await self.scenario(Situation(adapter(clock=clock), clock))

        with clock.under(getattr(adapter, "patches", {})):
            answer = run_timeless(play())
        return Finding(self.name, self.question, answer, self.expected)


#: Every check of the suite.
CHECKS: tuple[Check, ...] = (
    Check(scenarios.opens_and_closes),
    Check(scenarios.half_open_crowd, tuple(str(count) for count in range(1, SUCCESSES + 1))),
    Check(scenarios.probe_cancelled, (HALF_OPEN,)),
    Check(scenarios.probe_hung),
    Check(scenarios.probe_nested),
    Check(scenarios.probes_refused, (CLOSED,)),
    Check(scenarios.filter_raises),
    Check(scenarios.late_success_in_open),
    Check(scenarios.late_success_in_half_open),
    Check(scenarios.late_failure_in_half_open),
    Check(scenarios.late_failures_in_new_closed),
    Check(scenarios.retry_error),
    Check(scenarios.wall_clock_back),
    Check(scenarios.async_generator, ("yes", "refused when decorating")),
    Check(scenarios.threads_in_closed, (str(scenarios.THREADS),)),
)


def check_breaker(adapter: Callable[..., BreakerAdapter]) -> list[Finding]:
    """Run a breaker through the whole suite.

    Args:
        adapter: The class of its adapter.

    Returns:
        What each check has found.
    """
    return [check.run(adapter) for check in CHECKS]

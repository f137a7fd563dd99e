"""The suite for circuit breakers: this one conforms, and simpler ones are found out."""

import asyncio
import functools
import inspect
import threading
import time
from datetime import UTC, datetime
from typing import ClassVar

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    Outcome,
    region_breaker,
)
from resilience.testing import conformance
from resilience.testing.conformance import CHECKS, BreakerAdapter, check_breaker, is_failure
from resilience.testing.conformance.clock import run_timeless


class Ours(BreakerAdapter):
    rejection = CircuitBreakerOpenError

    def __init__(self, *, clock):
        policy = BreakerPolicy(failure_threshold=conformance.THRESHOLD)
        self.registry = CircuitBreakerRegistry(policy, clock=clock.monotonic)

    def protect(self, fn):
        return region_breaker(region_from="region", registry=self.registry)(fn)

    def use_classifier_that_raises(self):
        def classifier(error):
            return Outcome.FAILURE if is_failure(error) else Outcome.IGNORED

        self.registry.configure(classifier=classifier)

    def state(self):
        return self.registry.get("eu-west-1").state.value


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_this_breaker_conforms(check):
    finding = check.run(Ours)
    assert finding.passed, finding


class RejectedError(Exception):
    """The circuit is open."""


class Simple(BreakerAdapter):
    """What one writes in an afternoon: no limit of probes, no memory of when a call began."""

    rejection = RejectedError
    patches: ClassVar = {f"{__name__}.monotonic": "monotonic", f"{__name__}.datetime": "datetime"}
    clock_is_wall = False
    most_probes = 1_000_000
    holds_a_lock = False

    def __init__(self, *, clock):
        del clock
        self.failures = self.successes = self.probes = 0
        self.opened_at = None
        self.lock = threading.Lock() if self.holds_a_lock else threading.Semaphore(1000)

    def now(self):
        return datetime.now(UTC).timestamp() if self.clock_is_wall else monotonic()

    def state(self):
        if self.opened_at is None:
            return "CLOSED"
        return "OPEN" if self.now() - self.opened_at < conformance.RECOVERY else "HALF_OPEN"

    def admit(self):
        self.began_in_half_open = self.state() == "HALF_OPEN"
        if self.state() == "OPEN" or (self.began_in_half_open and self.probes >= self.most_probes):
            raise RejectedError
        self.probes += self.began_in_half_open

    def settle(self, error):
        if error is None:
            self.failures, self.successes = 0, self.successes + 1
            if self.successes >= conformance.SUCCESSES:
                self.opened_at, self.probes = None, 0
        elif is_failure(error):
            self.failures, self.successes = self.failures + 1, 0
            if self.opened_at is not None or self.failures >= conformance.THRESHOLD:
                self.opened_at, self.probes = self.now(), 0

    def protect(self, fn):
        if not inspect.iscoroutinefunction(fn):
            return self.protect_plain(fn)

        @functools.wraps(fn)
        async def protected(*args):
            self.admit()
            try:
                result = await fn(*args)
            except BaseException as error:
                self.settle(error)
                raise
            self.settle(None)
            return result

        return protected

    def protect_plain(self, fn):
        @functools.wraps(fn)
        def protected(*args):
            with self.lock:
                return fn(*args)

        return protected


monotonic = time.monotonic


def failed(adapter):
    return {finding.name for finding in check_breaker(adapter) if not finding.passed}


def test_a_simple_breaker_fails_where_calls_overlap():
    assert failed(Simple) == {
        "half-open-crowd",
        "late-success-in-half-open",
        "late-failure-in-half-open",
        "late-failures-in-new-closed",
        "probes-refused",
        "retry-error",
        "async-generator",
    }


def test_a_limit_of_probes_without_a_lease_gets_stuck():
    class Stuck(Simple):
        most_probes = 1

    assert {"probe-hung", "probe-nested", "filter-raises"} <= failed(Stuck)
    assert "half-open-crowd" not in failed(Stuck)


def test_a_breaker_on_the_wall_clock_stays_open_when_it_is_set_back():
    class OnTheWall(Simple):
        clock_is_wall = True

    assert "wall-clock-back" in failed(OnTheWall)


def test_a_breaker_that_holds_a_lock_lets_in_one_thread(monkeypatch):
    class Locked(Simple):
        holds_a_lock = True

    monkeypatch.setattr("resilience.testing.conformance.scenarios.PATIENCE", 0.05)
    assert "threads-in-closed" in failed(Locked)


def test_a_breaker_that_never_opens_or_never_closes_is_found():
    class NeverOpens(Simple):
        def state(self):
            return "CLOSED"

    class NeverCloses(Ours):
        def state(self):
            return "OPEN"

    assert "opens-and-closes" in failed(NeverOpens)
    assert "opens-and-closes" in failed(NeverCloses)


def test_a_finding_says_what_was_expected():
    (crowd,) = (check for check in CHECKS if check.name == "half-open-crowd")
    text = str(crowd.run(Simple))
    assert text.startswith("FAIL half-open-crowd: 100 callers at the half-open instant")
    assert text.endswith(": 100 (expected: 1 or 2 or 3)")
    assert str(crowd.run(Ours)).startswith("ok   half-open-crowd")


def test_what_an_adapter_lacks_is_an_error():
    with pytest.raises(NotImplementedError):
        BreakerAdapter(clock=None)
    bare = object.__new__(BreakerAdapter)
    with pytest.raises(NotImplementedError):
        bare.protect(print)
    with pytest.raises(NotImplementedError):
        bare.state()


def test_a_scenario_in_which_everybody_waits_is_an_error():
    async def wait_for_ever():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="every task waits"):
        run_timeless(wait_for_ever())

"""The modes: observe counts and rejects nobody, off does nothing, and the environment overrides."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading

import pytest
from tenacity import stop_after_attempt, wait_none

from resilience import (
    Backoff,
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    Outcome,
)
from resilience._lock import lock
from resilience.mode import Mode, parse_mode
from resilience.retry import transient_retry
from tests.support.driving import ServerError

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def registry_of(clock, mode, **policy):
    rules = {"failure_threshold": 3, "success_threshold": 1, "recovery_timeout": 10, **policy}
    return CircuitBreakerRegistry(BreakerPolicy(mode=mode, **rules), clock=clock)


def fail(breaker, times=1):
    @breaker
    def call():
        raise ServerError

    for _ in range(times):
        with pytest.raises(ServerError):
            call()


def succeed(breaker):
    assert breaker(lambda: "delivered")() == "delivered"


# observe


def test_observe_counts_emits_and_logs_what_it_would_do_and_rejects_nobody(clock, log):
    registry = registry_of(clock, "observe")
    breaker, events, rejections = registry.get("eu-west-1"), [], []
    breaker.listen(events.append)
    registry.on_rejection(rejections.append)
    fail(breaker, 5)
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.mode) == (OPEN, "observe")
    assert (snapshot.failures, snapshot.rejected, snapshot.trips) == (3, 2, 1)
    assert (breaker.state, breaker.retry_after) == (CLOSED, 0.0)
    clock.advance(10)
    succeed(breaker)
    assert breaker.snapshot().state is CLOSED
    assert [(event.old, event.new, event.mode, event.rejected) for event in events] == [
        (CLOSED, OPEN, "observe", 0),
        (OPEN, HALF_OPEN, "observe", 2),
        (HALF_OPEN, CLOSED, "observe", 0),
    ]
    assert rejections == []
    observed = " (mode observe: it rejects nobody)"
    elapsed = "recovery timeout of 10 s elapsed"
    assert [record["message"] for record in log] == [
        f"Circuit breaker OPEN for region eu-west-1 after 3 failures: ServerError 503{observed}",
        "Circuit breaker would reject calls for region eu-west-1, which is OPEN: ServerError 503",
        "Circuit breaker would have rejected 2 calls for region eu-west-1 in 10 s",
        f"Circuit breaker HALF_OPEN for region eu-west-1: {elapsed}{observed}",
        f"Circuit breaker CLOSED for region eu-west-1 — recovered{observed}",
    ]


async def test_observe_stops_no_retries_and_wakes_none(clock):
    breaker = registry_of(clock, "observe", failure_threshold=1).get("eu-west-1")
    attempts = 0

    @breaker
    @transient_retry(stop=stop_after_attempt(4), wait=wait_none())
    async def call():
        nonlocal attempts
        attempts += 1
        raise ServerError

    for _ in range(2):
        with pytest.raises(ServerError):
            await call()
    assert attempts == 8
    assert breaker.snapshot().state is OPEN


async def test_observe_lets_nobody_wait(clock):
    breaker = registry_of(clock, "observe", failure_threshold=1).get("eu-west-1")
    fail(breaker)
    assert await breaker.wait_until_ready(0)


async def test_observe_ends_no_calls(clock):
    breaker = registry_of(
        clock,
        "observe",
        failure_threshold=1,
        call_timeout=0.01,
        cancel_stranded=True,
    ).get("eu-west-1")
    started = asyncio.Event()

    async def slow():
        started.set()
        await asyncio.sleep(0.05)
        return "delivered"

    call = asyncio.ensure_future(breaker.call(slow))
    await started.wait()
    fail(breaker)
    assert await call == "delivered"


def test_observe_rejects_nobody_on_a_ramp(clock):
    breaker = registry_of(clock, "observe", failure_threshold=1, ramp=(1, 2)).get("eu-west-1")
    fail(breaker)
    clock.advance(10)
    succeed(breaker)
    permits = [breaker.acquire() for _ in range(5)]
    assert breaker.snapshot().rejected == 4
    permits[0].succeed()


# off


def test_off_does_nothing(clock, log):
    breaker = registry_of(clock, "off").get("eu-west-1")
    fail(breaker, 100)
    succeed(breaker)
    breaker.acquire().fail()
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.mode, snapshot.failures) == (CLOSED, "off", 0)
    assert log == []


def test_off_asks_no_classifier_for_calls_and_answers_questions(clock):
    asked = []

    def classifier(error):
        asked.append(error)
        return Outcome.FAILURE

    registry = CircuitBreakerRegistry(
        BreakerPolicy(mode="off"), classifier=classifier, result_classifier=classifier
    )
    breaker = registry.get("eu-west-1")
    fail(breaker)
    succeed(breaker)
    with breaker.acquire():
        pass
    assert asked == []
    assert breaker.classify(ServerError()) is Outcome.FAILURE
    assert breaker.judge.with_classifiers(classifier, None).of_result(1).outcome is Outcome.SUCCESS


# Live


def test_the_mode_changes_live(clock):
    registry = registry_of(clock, "enforce", failure_threshold=1)
    breaker = registry.get("eu-west-1")
    fail(breaker)
    assert breaker.state is OPEN
    for mode in ("off", "observe"):
        registry.configure(policy=BreakerPolicy(failure_threshold=1, mode=mode))
        assert (breaker.state, breaker.retry_after) == (CLOSED, 0.0)
        succeed(breaker)
    registry.configure(policy=BreakerPolicy(failure_threshold=1, recovery_timeout=10))
    assert breaker.state is OPEN
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()


async def test_switching_off_lets_go_everybody_who_waits(clock):
    registry = registry_of(clock, "enforce", failure_threshold=1)
    breaker = registry.get("eu-west-1")
    fail(breaker)
    waiting = [asyncio.ensure_future(breaker.wait_until_ready()) for _ in range(3)]
    await asyncio.sleep(0)
    registry.configure(policy=BreakerPolicy(mode="off"))
    assert await asyncio.gather(*waiting) == [True, True, True]


def test_each_region_may_have_its_own_mode(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1),
        policies={"new": BreakerPolicy(failure_threshold=1, mode="observe")},
        clock=clock,
    )
    for region in ("old", "new"):
        fail(registry.get(region))
    succeed(registry.get("new"))
    with pytest.raises(CircuitBreakerOpenError):
        registry.get("old").acquire()


def test_in_the_middle_of_a_change_observe_rejects_nobody(clock):
    breaker = registry_of(clock, "observe", failure_threshold=1).get("eu-west-1")
    fail(breaker)
    with lock:  # as in a signal handler
        breaker.acquire().succeed()


@pytest.mark.parametrize("value", ["on", "OFF", ""])
def test_an_unknown_mode_is_refused(value):
    with pytest.raises(ValueError, match="mode must be one of 'enforce', 'observe', 'off'"):
        BreakerPolicy(mode=value)
    with pytest.raises(TypeError, match="mode must be one of"):
        parse_mode("mode", None)
    assert parse_mode("mode", Mode.OFF) is Mode.OFF


# RESILIENCE_MODE


def run(mode, program):
    """Run a program with the variable set, and return what it prints."""
    environment = {**os.environ, "RESILIENCE_MODE": mode}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, done.stderr


def test_the_variable_overrides_every_policy():
    out, err = run(
        " Off ",
        """
        from resilience import *
        for region, policy in {"a": BreakerPolicy(), "b": BreakerPolicy(mode="observe")}.items():
            breaker = CircuitBreaker(region, policy)
            for _ in range(50):
                breaker.acquire().fail()
            print(breaker.snapshot().mode, breaker.state)
        """,
    )
    assert out.split() == ["off", "CLOSED"] * 2
    assert err.count("RESILIENCE_MODE overrides the policies") == 1


def test_off_works_with_a_policy_that_does_not_load():
    out, err = run(
        "off",
        """
        from resilience import *
        policy = BreakerPolicy(
            failure_threshold=0, recovery_timeout=Backoff(10, 2, 5), window="60", mode="on",
            failure_rate_threshold=50, slow_call_duration=1, probe_timeout="x", ramp=3,
        )
        registry = CircuitBreakerRegistry(policy)
        breaker = registry.get("a")
        for _ in range(50):
            breaker.acquire().fail()
        registry.configure(policy=BreakerPolicy(recovery_timeout="60"))
        breaker.acquire().succeed()
        print(breaker.snapshot().mode)
        """,
    )
    assert out == "off\n", err
    assert "not used, since RESILIENCE_MODE is off, and wrong: maximum must be" in err
    assert "not used, since RESILIENCE_MODE is off, and wrong: mode must be" in err


def test_off_works_with_a_wrong_policy_for_tenants_that_were_throttled_as_well():
    out, err = run(
        "off",
        """
        from resilience import *
        from resilience.testing import FakeClock

        class TooManyRequests(Exception):
            status, headers = 429, {"Retry-After": "5"}

        wrong = {"recovery_timeout": "60", "probe_timeout": "10"}
        clock = FakeClock()
        for policy in BreakerPolicy(**wrong), BreakerPolicy(recovery_timeout=Backoff("60")):
            registry = CircuitBreakerRegistry(policy, max_regions=2, clock=clock)

            @region_breaker(region_from="region", tenant_from="tenant", registry=registry)
            def send(region, tenant):
                raise TooManyRequests

            for region in "abcabc":
                try:
                    send(region, "acme")
                except TooManyRequests:
                    clock.advance(3)
            print(policy.longest_recovery, len(registry))
        """,
    )
    assert out.split() == ["60.0", "2", "900.0", "2"], err


def test_what_is_simulated_does_not_follow_the_variable_and_nothing_is_recorded(tmp_path):
    out, err = run(
        "off",
        f"""
        from math import inf
        from resilience import BreakerPolicy, CircuitBreakerRegistry
        from resilience.explain import Phase, Scenario, simulate
        from resilience.recording import read_recording

        outage = Scenario(phases=(Phase(seconds=60, failure_rate=0.6),), attempts=1)
        policy = BreakerPolicy(failure_rate_threshold=0.5)
        print(simulate(policy, outage).opens_after < inf)
        print(BreakerPolicy(stranded_after=5).explain(call_timeout=None).black_hole.after < inf)

        registry = CircuitBreakerRegistry(BreakerPolicy(recovery_timeout=object()))
        recording = registry.record({str(tmp_path / "outcomes")!r})
        registry.get("eu-west-1").acquire().fail()
        recording.close()
        print(read_recording(recording.path).regions)
        """,
    )
    assert out.split() == ["True", "True", "[]"], err


@pytest.mark.parametrize("mode", ["observe", "enforce", ""])
def test_in_all_other_modes_a_wrong_policy_is_an_error(mode):
    _, err = run(mode, "from resilience import *; BreakerPolicy(failure_threshold=0)")
    assert "ValueError: failure_threshold must be" in err


def test_a_variable_that_says_something_else_is_an_error():
    _, err = run("disabled", "import resilience")
    message = "RESILIENCE_MODE must be one of 'enforce', 'observe', 'off', got 'disabled'"
    assert message in err


def test_observe_with_threads_rejects_nobody(clock):
    breaker = registry_of(clock, "observe", failure_threshold=1).get("eu-west-1")
    errors = []

    def work():
        try:
            for _ in range(200):
                breaker.acquire().fail()
        except CircuitBreakerOpenError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_switched_off_a_wrong_policy_is_a_warning_and_the_log_says_so_once(monkeypatch, log):
    monkeypatch.setattr("resilience.mode.FORCED_MODE", Mode.OFF)
    monkeypatch.setattr("resilience.breaker.FORCED_MODE", Mode.OFF)
    with pytest.warns(RuntimeWarning, match="RESILIENCE_MODE is off, and wrong: failure_threshold"):
        policy = BreakerPolicy(failure_threshold=0, mode="off")
    for region in "ab":
        CircuitBreakerRegistry(policy).get(region)
    assert len(log) <= 1


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_a_circuit_that_has_rejected_calls_rejects_nobody_in_another_mode(clock, mode):
    registry = registry_of(clock, "enforce", failure_threshold=1)
    breaker = registry.get("eu-west-1")
    fail(breaker)
    for _ in range(3):
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()
    registry.configure(policy=BreakerPolicy(mode=mode, failure_threshold=1))
    for _ in range(3):
        succeed(breaker)
    observed = 3 if mode == "observe" else 0
    assert breaker.snapshot().rejected == 3 + observed
    registry.configure(policy=BreakerPolicy(failure_threshold=1))
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()


def test_a_running_open_is_as_long_as_before_when_it_was_switched_off_and_on(clock):
    rules = {"failure_threshold": 1, "honor_retry_after": True}
    rules["recovery_timeout"] = Backoff(30, maximum=300)
    registry = CircuitBreakerRegistry(BreakerPolicy(**rules), clock=clock)
    breaker = registry.get("eu-west-1")
    error = ServerError(503)
    error.headers = {"Retry-After": "200"}
    with pytest.raises(ServerError), breaker.acquire():
        raise error
    assert breaker.retry_after == 200
    registry.configure(policy=BreakerPolicy(mode="off", **rules))
    registry.configure(policy=BreakerPolicy(**rules))
    assert breaker.retry_after == 200
    registry.configure(policy=BreakerPolicy(mode="off", failure_threshold=1))
    registry.configure(policy=BreakerPolicy(failure_threshold=1, recovery_timeout=40))
    assert breaker.retry_after == 40


def test_switched_off_a_wrong_policy_or_backoff_has_the_numbers_of_a_right_one(monkeypatch):
    monkeypatch.setattr("resilience.mode.FORCED_MODE", Mode.OFF)
    with pytest.warns(RuntimeWarning):
        assert BreakerPolicy(recovery_timeout="soon") == BreakerPolicy()
    with pytest.warns(RuntimeWarning):
        assert Backoff(10, factor="x") == Backoff(60)

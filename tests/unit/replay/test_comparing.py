"""What other policies would have done with the same calls, and how that is printed."""

import runpy
import sys

import pytest

from resilience import Backoff, BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.__main__ import main
from resilience.recording import read_recording
from resilience.recording.policies import describe_policy, parse_policy
from resilience.replay import compare, incident_reports, replay
from resilience.replay.compare import clock_time
from resilience.replay.incident import other_policies
from resilience.testing import FakeClock
from tests.support.driving import close, trip
from tests.support.recorded_traffic import Traffic, read_regions

DEFAULT = BreakerPolicy()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outcomes"


def record_outage(path, clock, policy=DEFAULT):
    """Record a call every second; the region is down from second 100 to 200."""
    registry = CircuitBreakerRegistry(policy, clock=clock)
    recording = registry.record(path)
    breaker = registry.get("eu-west-1")
    for second in range(400):
        clock.advance(1)
        try:
            permit = breaker.acquire()
        except CircuitBreakerOpenError:
            continue
        permit.fail(TimeoutError()) if 100 <= second < 200 else permit.succeed()
    recording.close()
    [recorded] = read_recording(path).regions
    return recorded


def test_a_lower_threshold_opens_sooner(path, clock):
    recorded = record_outage(path, clock)
    result = replay(recorded, BreakerPolicy(failure_threshold=3))
    assert result.transitions[0].at == replay(recorded).transitions[0].at - 7
    assert result.rejected > 0
    assert result.rejects_recorded_from == result.transitions[0].at + 1


def test_a_policy_that_never_opens(path, clock):
    recorded = record_outage(path, clock)
    result = replay(recorded, BreakerPolicy(failure_threshold=1000))
    assert result.transitions == []
    assert result.made == 400
    assert result.rejected == result.rejected_good == 0
    was_rejected = replay(recorded).rejected
    assert result.assumed == was_rejected
    assert result.assumed_from == replay(recorded).transitions[0].at + 1


def test_every_call_is_made_or_rejected(path):
    traffic = Traffic(9, FakeClock(), BreakerPolicy(failure_threshold=3, recovery_timeout=5))
    recording = traffic.registry.record(path)
    traffic.has_attempts = False
    traffic.run(2000)
    recording.close()
    for recorded in read_regions(path).values():
        for policy in (
            BreakerPolicy(failure_threshold=2, recovery_timeout=1),
            BreakerPolicy(
                failure_rate_threshold=0.4,
                minimum_calls=5,
                slow_call_duration=1,
                slow_call_rate_threshold=0.5,
            ),
            BreakerPolicy(ramp=(1, 2), failure_threshold=4, recovery_timeout=3),
            BreakerPolicy(stranded_after=1, failure_threshold=4, recovery_timeout=3),
        ):
            result = replay(recorded, policy)
            assert result.transitions
            assert result.made + result.rejected == recorded.count()


def test_the_attempts_of_a_call_that_is_rejected(path, clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=5), clock=clock)
    recording = registry.record(path)
    registry.get("eu-west-1").acquire().fail()
    permit = registry.get("eu-west-1").acquire()
    permit.attempt_failed(TimeoutError())
    permit.attempt_failed(TimeoutError())
    permit.succeed()
    recording.close()
    [recorded] = read_recording(path).regions
    result = replay(recorded, BreakerPolicy(failure_threshold=1))
    assert (result.made, result.rejected, result.rejected_good) == (1, 1, 1)


def test_a_mode_that_rejects_nobody_is_replayed_as_if_it_did(path, clock):
    recorded = record_outage(path, clock, BreakerPolicy(mode="observe"))
    assert replay(recorded, BreakerPolicy(mode="off")).transitions


def test_manual_control_applies_to_every_policy(path, clock):
    registry = CircuitBreakerRegistry(clock=clock)
    recording = registry.record(path)
    breaker = registry.get("eu-west-1")
    breaker.force_open("maintenance")
    breaker.reset()
    registry.configure(policy=BreakerPolicy(failure_threshold=3))
    breaker.acquire().succeed()
    recording.close()
    [recorded] = read_recording(path).regions
    assert len(replay(recorded, BreakerPolicy(failure_threshold=7)).transitions) == 2


def test_probes_that_nothing_is_known_about(path, clock):
    registry = CircuitBreakerRegistry(clock=clock)
    recording = registry.record(path)
    trip(registry.get("eu-west-1"))
    clock.advance(30)
    with pytest.raises(CircuitBreakerOpenError):
        registry.get("eu-west-1").acquire()
    recording.close()
    [recorded] = read_recording(path).regions
    result = replay(recorded, BreakerPolicy(recovery_timeout=10))
    assert result.assumed == 1
    assert result.transitions[-1].new == "HALF_OPEN"


def test_dominance(path, clock):
    recorded = record_outage(path, clock)
    better = BreakerPolicy(failure_threshold=3, recovery_timeout=20)
    compared = compare(recorded, {"better": better, "never": BreakerPolicy(failure_threshold=999)})
    assert "as recorded" not in compared.dominant()
    assert set(compared.dominant()) == {"better", "never"}
    assert compare(recorded, {"same": BreakerPolicy()}).dominant() == ["as recorded", "same"]


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr()


def test_the_replay_command(path, clock, capsys):
    record_outage(path, clock)
    code, out = run(
        capsys, "replay", path, "--policy", "failure_threshold=3", "--policy", "failure_threshold=5"
    )
    assert code == 0
    assert "400 recorded calls of 1 region." in out.out
    assert "policy 1: failure_threshold=3" in out.out
    assert "policy 2: failure_threshold=5" in out.out
    assert "Not known: " in out.out
    assert "Depends on the callers: " in out.out
    assert "reproduces all 5 changes of state" in out.out


def test_the_replay_command_without_policies(path, clock, capsys):
    record_outage(path, clock)
    code, out = run(capsys, "replay", path)
    assert code == 0
    assert "policy 1: default" in out.out
    assert "No policy dominates" in out.out


def test_one_dominates(path, clock, capsys):
    record_outage(path, clock, BreakerPolicy(failure_threshold=50, recovery_timeout=300))
    _, out = run(capsys, "replay", path, "--policy", "failure_threshold=2, recovery_timeout=10")
    assert "policy 1 dominates: " in out.out


def test_several_dominate(path, clock, capsys):
    record_outage(path, clock, BreakerPolicy(failure_threshold=50, recovery_timeout=40))
    text = "failure_threshold=2, recovery_timeout=10"
    _, out = run(capsys, "replay", path, "--policy", text, "--policy", "failure_threshold=1000")
    assert "policy 1, policy 2 dominate as recorded" in out.out


def test_many_changes_are_cut(path, clock, capsys):
    record_outage(path, clock, BreakerPolicy(failure_threshold=1, recovery_timeout=1))
    _, out = run(capsys, "replay", path)
    assert "more changes" in out.out


def test_what_another_process_did_is_not_reproduced(path, clock, capsys):
    registry = CircuitBreakerRegistry(clock=clock)
    recording = registry.record(path)
    breaker = registry.get("eu-west-1")
    breaker.apply(lambda now: breaker.circuit.force_open("by another process", now))
    recording.close()
    _, out = run(capsys, "replay", path)
    assert "differs from what happened in 1 changes" in out.out
    assert "never opens" in out.out


def test_parts_that_are_missing(path, clock, capsys):
    registry = CircuitBreakerRegistry(clock=clock)
    recording = registry.record(path, limit=10)
    for region in ("eu-west-1", "us-east-1"):
        for _ in range(20):
            registry.get(region).acquire().succeed()
    recording.close()
    path.write_bytes(path.read_bytes() + b"123")
    _, out = run(capsys, "replay", path, "--region", "us-east-1")
    assert "Older calls were dropped" in out.out
    assert "The end of the file is missing" in out.out
    assert "Region us-east-1" in out.out
    assert "Region eu-west-1" not in out.out


@pytest.mark.parametrize("command", ["replay", "incidents"])
def test_files_that_cannot_be_read(path, capsys, command):
    code, out = run(capsys, command, path)
    assert code == 1
    assert "No such file" in out.err
    path.write_text("something else")
    code, out = run(capsys, command, path)
    assert code == 1
    assert "is not a recording" in out.err


def test_a_wrong_policy(path, capsys):
    with pytest.raises(SystemExit):
        main(["replay", str(path), "--policy", "failure_threshold=0"])
    assert "failure_threshold must be" in capsys.readouterr().err


def test_the_incidents_command(path, clock, capsys):
    record_outage(path, clock)
    code, out = run(capsys, "incidents", path)
    assert code == 0
    assert "Outage of region eu-west-1" in out.out
    assert "by: TimeoutError" in out.out
    assert "10 since the last answer, of which 10 failed" in out.out
    assert "found at most" in out.out
    assert "half as many failures in a row" in out.out
    assert len(out.out.splitlines()) < 40


def test_no_incidents(path, capsys):
    CircuitBreakerRegistry().record(path).close()
    _, out = run(capsys, "incidents", path)
    assert "No outage" in out.out


def test_a_region_that_was_not_asked(path, clock):
    registry = CircuitBreakerRegistry(clock=clock)
    recording = registry.record(path)
    trip(registry.get("eu-west-1"))
    registry.get("eu-west-1").reset()
    registry.get("us-east-1").acquire().succeed()
    recording.close()
    [report] = incident_reports(path)
    assert "it was not asked" in report
    assert incident_reports(path, "us-east-1") == []


def test_an_outage_after_many_calls(path, clock, monkeypatch):
    monkeypatch.setattr("resilience.replay.incident._BEFORE", 20)
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=5), clock=clock)
    recording = registry.record(path)
    breaker = registry.get("eu-west-1")
    for _ in range(100):
        breaker.acquire().succeed()
    trip(breaker)
    clock.advance(60)
    breaker.acquire().fail()
    registry.configure(policy=BreakerPolicy(failure_threshold=5, success_threshold=1))
    clock.advance(60)
    breaker.acquire().succeed()
    recording.close()
    [report] = incident_reports(path)
    assert "with 1 failed probes" in report
    assert "+0.0 s" in report


@pytest.mark.parametrize(
    "policy",
    [
        BreakerPolicy(),
        BreakerPolicy(failure_threshold=1),
        BreakerPolicy(failure_threshold=2, streak_window=5, failure_rate_threshold=0.4),
        BreakerPolicy(recovery_timeout=Backoff(10), honor_retry_after=True),
    ],
)
def test_three_other_policies(policy):
    others = other_policies(policy)
    assert len(others) == 3
    assert sum(other != policy for other in others.values()) >= 2


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", BreakerPolicy()),
        ("default", BreakerPolicy()),
        ("failure_threshold=5", BreakerPolicy(failure_threshold=5)),
        ("ramp=(2, 2), window=5", BreakerPolicy(ramp=(2, 2), window=5)),
        (
            "recovery_timeout=Backoff(5, factor=3)",
            BreakerPolicy(recovery_timeout=Backoff(5, factor=3)),
        ),
    ],
)
def test_policies_as_text(text, policy):
    assert parse_policy(text) == policy
    assert parse_policy(describe_policy(policy)) == policy


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "failure_threshold",
        "failure_threshold=",
        "failure_treshold=5",
        "failure_threshold=0",
        "failure_threshold='many'",
        "failure_threshold=__import__('os').getpid()",
        "recovery_timeout=print(1)",
        "recovery_timeout=Backoff(first=print(1))",
        "recovery_timeout=Backoff(**{})",
        "**{'failure_threshold': 5}",
        "window=1) or (2",
        "window=" + "(" * 500,
    ],
)
def test_texts_that_are_not_policies(text):
    with pytest.raises(ValueError, match="not a policy"):
        parse_policy(text)


def test_a_clock_may_show_anything():
    assert clock_time(0, 0) == "1970-01-01 00:00:00.000"
    assert clock_time(1e30, 0).endswith(" s")


def test_it_runs_as_a_program(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "resilience.__main__")
    monkeypatch.setattr(sys, "argv", ["resilience", "replay", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module("resilience", run_name="__main__")
    assert "python -m resilience replay" in capsys.readouterr().out


def test_closing_needs_the_probes(path, clock):
    registry = CircuitBreakerRegistry(clock=clock)
    recording = registry.record(path)
    breaker = registry.get("eu-west-1")
    trip(breaker)
    clock.advance(60)
    close(breaker)
    recording.close()
    [report] = incident_reports(path)
    assert "found at most 60.0 s after it was" in report

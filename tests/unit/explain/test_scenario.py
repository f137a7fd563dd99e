"""Scenarios: wrong ones are refused, with what is wrong."""

import pytest

from resilience.explain import Phase, Scenario

HOUR = Phase(seconds=3600)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"seconds": 0}, ValueError, "seconds must be a finite number of seconds > 0, got 0"),
        ({"latency": "1"}, TypeError, "latency must be a finite number of seconds > 0, got str"),
        ({"slow_latency": -1}, ValueError, "slow_latency"),
        ({"failure_rate": 1.5}, ValueError, "failure_rate must be a share from 0 to 1, got 1.5"),
        ({"hang_rate": -1}, ValueError, "hang_rate"),
        ({"slow_rate": None}, TypeError, "slow_rate"),
        ({"failure_rate": 0.6, "hang_rate": 0.6}, ValueError, "not be more than 1 together"),
    ],
)
def test_a_wrong_phase_is_refused(fields, error, text):
    with pytest.raises(error, match=text):
        Phase(**{"seconds": 1, **fields})


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"phases": ()}, TypeError, "phases must be a tuple of at least one Phase, got \\(\\)"),
        ({"phases": HOUR}, TypeError, "phases must be a tuple of at least one Phase, got Phase$"),
        ({"phases": (HOUR, 5)}, TypeError, "phases must be a tuple .*, got tuple$"),
        ({"calls_per_second": 0}, ValueError, "calls_per_second"),
        ({"concurrency": 1.5}, TypeError, "concurrency"),
        ({"attempts": 0}, ValueError, "attempts"),
        ({"request_timeout": 0}, ValueError, "request_timeout"),
        ({"gives_up_after": "1"}, TypeError, "gives_up_after"),
    ],
)
def test_a_wrong_scenario_is_refused(fields, error, text):
    with pytest.raises(error, match=text):
        Scenario(**{"phases": (HOUR,), **fields})


def test_phases_follow_each_other_and_the_last_one_stays():
    outage = Phase(seconds=60, failure_rate=1.0)
    scenario = Scenario(phases=(HOUR, outage), request_timeout=None)
    assert scenario.seconds == 3660
    assert [scenario.phase_at(now) for now in (0, 3599, 3600, 3660, 9999)] == [
        HOUR,
        HOUR,
        outage,
        outage,
        outage,
    ]

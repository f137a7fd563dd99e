"""The log: what a broken sink does, and what a line of it holds."""

import pytest
from loguru import logger

from resilience import BreakerPolicy, CircuitBreaker, CircuitState
from resilience import log as package_log


class BrokenSinkError(Exception):
    """Of a kind of its own, since each kind is reported once."""


@pytest.fixture
def broken_sink():
    def sink(_message):
        raise BrokenSinkError

    number = logger.add(sink, catch=False)
    yield
    logger.remove(number)
    package_log._broken_sinks.clear()


@pytest.mark.usefixtures("broken_sink")
def test_a_broken_sink_fails_no_call_and_is_reported_once(clock, capsys):
    breaker = CircuitBreaker("a", BreakerPolicy(failure_threshold=1), clock=clock)
    for _ in range(3):
        breaker.force_open("maintenance")
        breaker.reset()
    assert breaker.state is CircuitState.CLOSED
    written = capsys.readouterr().err
    assert written.count("a log sink raised BrokenSinkError") == 1
    assert "test_log_sinks.py" in written


@pytest.mark.usefixtures("broken_sink")
def test_a_standard_error_that_is_closed_fails_no_call(clock, monkeypatch):
    class Closed:
        def write(self, _text):
            raise ValueError("closed")

    monkeypatch.setattr("sys.stderr", Closed())
    breaker = CircuitBreaker("a", clock=clock)
    breaker.force_open("maintenance")
    monkeypatch.setattr("sys.stderr", None)
    package_log._broken_sinks.clear()
    breaker.reset()
    assert breaker.state is CircuitState.CLOSED


def test_a_re_opening_says_that_a_probe_failed(clock, log):
    breaker = CircuitBreaker("a", BreakerPolicy(failure_threshold=2), clock=clock)
    for _ in range(2):
        breaker.acquire().fail()
    clock.advance(60)
    breaker.acquire().fail()
    opened = [record["message"] for record in log if "OPEN for region a after" in record["message"]]
    assert opened == [
        "Circuit breaker OPEN for region a after 2 failures: reported by the caller",
        "Circuit breaker OPEN for region a after 3 failures: reported by the caller (probe failed)",
    ]

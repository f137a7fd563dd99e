"""The log somewhere else than in loguru: in logging, in structlog, or nowhere."""

import json
import logging
import os
import re
import subprocess
import sys

import pytest
import structlog
from loguru import logger as loguru_logger

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerRegistry
from resilience import log as package_log
from resilience.integrations.logging import use_logging, use_structlog
from tests.support.outage import outage, text_of


@pytest.fixture
def stops():
    """Functions that are called at the end, so that the log is in loguru again."""
    stops = []
    yield stops
    for stop in stops:
        stop()


def test_the_standard_library_gets_the_same_lines_and_loguru_none(
    breaker, clock, log, caplog, stops
):
    outage(breaker, clock)
    expected = text_of(log)
    log.clear()
    caplog.set_level(logging.INFO)
    stops.append(use_logging())
    breaker.reset()
    outage(breaker, clock)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == expected
    assert {record.name for record in caplog.records} == {"resilience"}
    assert log == []


def test_a_record_has_what_belongs_to_the_line(breaker, caplog, stops):
    stops.append(use_logging())
    breaker.force_open("100 % {gone} %s")
    (record,) = caplog.records
    assert record.getMessage().endswith("forced open: 100 % {gone} %s")
    fields = {name: getattr(record, name) for name in ("region", "old", "new", "streak", "by")}
    assert json.loads(json.dumps(fields)) == {
        "region": "eu-west-1",
        "old": "CLOSED",
        "new": "OPEN",
        "streak": 0,
        "by": None,
    }
    assert record.reason == "forced open: 100 % {gone} %s"


def test_a_logger_of_ones_own(breaker, caplog, stops):
    stops.append(use_logging(logging.getLogger("mine")))
    breaker.force_open("x")
    stops.append(use_logging("named"))
    breaker.reset()
    caplog.set_level(logging.INFO)
    breaker.force_open("y")
    stops.append(use_logging(logging.LoggerAdapter(logging.getLogger("adapted"), {})))
    breaker.force_open("z")
    assert [record.name for record in caplog.records] == ["mine", "named", "adapted"]


def test_a_logger_adapter_adds_its_attributes_to_those_of_the_line(breaker, caplog, stops):
    adapter = logging.LoggerAdapter(logging.getLogger("adapted"), {"app": "worker", "region": ""})
    stops.append(use_logging(adapter))
    breaker.force_open("x")
    (record,) = caplog.records
    assert (record.app, record.region, record.new) == ("worker", breaker.region, "OPEN")


@pytest.mark.parametrize("wrong", [None, 7, logging, logging.Handler()])
def test_what_is_not_a_logger_is_refused(wrong, breaker, log):
    with pytest.raises(TypeError, match="logger must be a logger or a name, got a"):
        use_logging(wrong)
    breaker.force_open("x")
    assert len(log) == 1, "and the log stays where it was"


def test_an_earlier_end_does_not_end_a_later_destination(breaker, caplog, log, stops):
    first = use_logging("first")
    second = use_logging("second")
    stops += [first, second]
    first()
    breaker.force_open("x")
    second()
    second()
    breaker.reset()
    assert [record.name for record in caplog.records] == ["second"]
    assert [record["message"] for record in log] == [
        "Circuit breaker CLOSED for region eu-west-1: reset by hand"
    ]


def test_a_handler_that_raises_fails_no_call(breaker, stops, capsys):
    class BrokenHandlerError(Exception):
        pass

    class Broken(logging.Handler):
        def emit(self, record):
            raise BrokenHandlerError

    target = logging.Logger("broken")  # noqa: LOG001 - of this test alone
    target.addHandler(Broken())
    stops.append(use_logging(target))
    breaker.force_open("x")
    breaker.reset()
    assert capsys.readouterr().err.count("a log sink raised BrokenHandlerError") == 1
    package_log._broken_sinks.clear()


def test_structlog_gets_lines_and_fields(breaker, stops, log):
    with structlog.testing.capture_logs() as captured:
        stops.append(use_structlog())
        breaker.force_open("x")
        breaker.reset()
    assert log == []
    opened, closed = captured
    assert opened == {
        "event": "Circuit breaker OPEN for region eu-west-1: forced open: x",
        "log_level": "error",
        "region": "eu-west-1",
        "old": "CLOSED",
        "new": "OPEN",
        "reason": "forced open: x",
        "streak": 0,
        "by": None,
        "rule": None,
        "mode": "enforce",
    }
    assert closed["log_level"] == "info"


def test_structlog_with_a_logger_of_ones_own(breaker, stops):
    with structlog.testing.capture_logs() as captured:
        stops.append(use_structlog(structlog.get_logger().bind(service="worker")))
        breaker.force_open("x")
    assert captured[0]["service"] == "worker"


SILENT = """
import sys
from loguru import logger
from resilience import CircuitBreaker
from resilience.integrations.logging import use_logging

logger.remove()
logger.add(sys.stdout)
CircuitBreaker("a").force_open("x")
import logging
logging.basicConfig(stream=sys.stdout)
use_logging()
CircuitBreaker("a").force_open("x")
"""


@pytest.mark.parametrize(
    ("value", "lines"), [("off", 0), (" OFF ", 0), ("on", 2), ("", 2), (None, 2)]
)
def test_the_environment_turns_the_log_off(value, lines):
    environment = {k: v for k, v in os.environ.items() if k != "RESILIENCE_LOG"}
    if value is not None:
        environment["RESILIENCE_LOG"] = value
    done = subprocess.run(
        [sys.executable, "-c", SILENT],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert len(done.stdout.splitlines()) == lines
    assert done.stderr == ""


def test_nothing_is_written_while_the_log_is_off(breaker, log, monkeypatch):
    monkeypatch.setattr(package_log, "_IS_OFF", True)
    breaker.force_open("x")
    assert log == []


def test_all_lines_of_an_outage_are_ascii_but_that_of_the_recovery(breaker, clock, log):
    outage(breaker, clock)
    odd = [record["message"] for record in log if not record["message"].isascii()]
    assert odd == ["Circuit breaker CLOSED for region eu-west-1 — recovered"]


def test_no_line_speaks_of_0_s(log):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1, recovery_timeout=0.001))
    breaker = registry.get("eu-west-1")
    breaker.acquire().fail()
    for _ in range(3):
        breaker.rejection()
    breaker.force_open("x")
    with pytest.raises(Exception, match="forced open"):
        breaker.acquire()
    breaker.reset()
    text = "\n".join(record["message"] for record in log)
    assert "rejected 1 call for region eu-west-1 in less than 1 s" in text
    assert not re.search(r"\b0 s\b", text)


def test_loguru_is_the_default(log):
    CircuitBreaker("a").force_open("x")
    assert log[0]["name"] == "resilience.log"
    assert loguru_logger is package_log.logger

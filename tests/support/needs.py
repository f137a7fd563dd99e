"""Servers and programs that a test cannot run without: `needs("rabbitmq-server")`.

A test, or a fixture for it, is skipped where the machine does not have them. The end of the run
names each of them in one line. `--nothing-skipped` turns a skipped test into a failed run.
"""

import shutil
from collections import Counter

import pytest

from tests.support import ip, rabbitmq_broker

NOTHING_SKIPPED = "--nothing-skipped"


def _is_on_the_path(program):
    return lambda: shutil.which(program) is not None


# What may be missing: whether it is here, and how to get it.
SERVERS = {
    "rabbitmq-server": (rabbitmq_broker.is_there, rabbitmq_broker.HOW_TO_GET_IT),
    # One that is named by AMQP_URL is nobody's to kill.
    "rabbitmq-server of its own": (rabbitmq_broker.is_installed, "apt-get install rabbitmq-server"),
    "redis-server": (_is_on_the_path("redis-server"), "apt-get install redis-server"),
    "openssl": (_is_on_the_path("openssl"), "apt-get install openssl"),
    "chromium": (_is_on_the_path("chromium"), "apt-get install chromium"),
    "promtool": (_is_on_the_path("promtool"), "apt-get install prometheus"),
    "network namespaces": (ip.available, "apt-get install iproute2, and run as root"),
}


def needs(name):
    """Skip the running test, or every test of the running fixture, where the server is missing."""
    is_here, _ = SERVERS[name]
    if not is_here():
        pytest.skip(f"needs {name}")


def needs_store(server):
    """Skip where this kind of store is not installed; Valkey comes with the environment."""
    if server == "redis":
        needs("redis-server")


def missing(skipped):
    """Return a line for each server that tests wait for.

    Args:
        skipped: The reports of the skipped tests.
    """
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    return [_line(reason, count) for reason, count in sorted(reasons.items())]


def _line(reason, count):
    name = reason.removeprefix("needs ")
    tests = "1 test waits" if count == 1 else f"{count} tests wait"
    if name not in SERVERS:
        return f"{tests}: {reason}"
    _, how_to_get_it = SERVERS[name]
    return f"{tests} for {name} ({how_to_get_it})"


# What pytest calls: tests/conftest.py imports these.


def pytest_addoption(parser):
    parser.addoption(NOTHING_SKIPPED, action="store_true", help="fail if a test was skipped")


def pytest_sessionfinish(session):
    if session.config.getoption(NOTHING_SKIPPED) and _skipped(session.config):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    for line in missing(_skipped(config)):
        terminalreporter.write_line(f"not run here: {line}", yellow=True)
    if config.getoption(NOTHING_SKIPPED) and _skipped(config):
        terminalreporter.write_line(f"{NOTHING_SKIPPED}: that is a failure", red=True)


def _skipped(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("skipped", ()) if reporter else ()

"""What several test files share: a clock, the log, and HTTP that is only pretended."""

import inspect
import os
import signal
from unittest.mock import Mock

import aiohttp
import aioresponses.core
import pytest
from aioresponses import aioresponses as pretended_http
from loguru import logger
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from resilience import default_registry, scope
from resilience.testing import FakeClock
from tests.support import rabbitmq_broker, rabbitmq_support
from tests.support.needs import (
    needs,
    pytest_addoption,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

__all__ = ["pytest_addoption", "pytest_sessionfinish", "pytest_terminal_summary"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Run one test more at a time than there are cores: many of them wait for servers."""
    return (os.cpu_count() or 1) + 1


def pytest_configure():
    """Let Ctrl-C reach the tests, and what they start, also where a shell runs them behind it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def untouched_default_registry():
    """Fail a test that leaves a region behind where every other test would see it."""
    before = len(default_registry)
    yield
    assert len(default_registry) == before, "use a registry of the test's own"


@pytest.fixture(autouse=True)
def outside_of_every_call():
    """Begin where no call is under way, whatever permit an earlier test has left unsettled."""
    scope.innermost.set(None)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def log():
    """Loguru's records of this package, in the order in which they were written."""
    records = []
    sink = logger.add(
        lambda message: records.append(message.record),
        level="TRACE",
        filter=lambda record: record["name"].split(".")[0] == "resilience",
        catch=False,
    )
    yield records
    logger.remove(sink)


def make_http_error(status, *, message="", token="a-tenants-bearer-token"):
    url = URL("https://api.mypurecloud.ie/api/v2/conversations/messages/7/inbound/open/message")
    sent = CIMultiDictProxy(CIMultiDict({"Authorization": f"Bearer {token}"}))
    return aiohttp.ClientResponseError(
        aiohttp.RequestInfo(url, "POST", sent, url),
        (),
        status=status,
        message=message,
        headers=CIMultiDictProxy(CIMultiDict({"Content-Type": "application/json"})),
    )


@pytest.fixture
def http_error():
    """Make the error that aiohttp raises for an answer with this status."""
    return make_http_error


@pytest.fixture
def mocked_http(monkeypatch):
    """Stand in for every HTTP server: nothing leaves the process."""
    monkeypatch.setattr(aioresponses.core, "ClientResponse", _response_class())
    with pretended_http() as mocked:
        yield mocked


def _response_class():
    # aiohttp 3.14 asks for the writer of the request, which aioresponses 0.7.9 does not pass.
    if "stream_writer" not in inspect.signature(aiohttp.ClientResponse).parameters:
        return aiohttp.ClientResponse

    class PretendedResponse(aiohttp.ClientResponse):
        def __init__(self, *args, **kwargs):
            kwargs.setdefault("stream_writer", Mock(output_size=0))
            super().__init__(*args, **kwargs)

    return PretendedResponse


@pytest.fixture(scope="session")
def shared_broker():
    """A RabbitMQ for all tests that leave it running; use queues with names of their own."""
    broker = rabbitmq_broker.open_broker()
    yield broker
    broker.close()


@pytest.fixture
def broker(request):
    """The shared RabbitMQ, or a skipped test where there is none."""
    needs("rabbitmq-server")
    return request.getfixturevalue("shared_broker")


@pytest.fixture
async def bench(broker):
    """A robust connection to the shared RabbitMQ, and queues that are gone afterwards."""
    async with rabbitmq_support.bench_at(broker.url) as bench:
        yield bench


@pytest.fixture
def own_broker():
    """A RabbitMQ that the test may stop, kill and start again."""
    needs("rabbitmq-server of its own")
    broker = rabbitmq_broker.started_broker()
    yield broker
    broker.close()

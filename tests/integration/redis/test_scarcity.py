"""Without descriptors or threads calls go on, and the process shares as soon as it can."""

import json
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from resilience import BreakerPolicy, CircuitBreakerRegistry, _threads
from resilience.integrations.redis import RedisSharing
from resilience.integrations.redis import sharing as sharing_module
from tests.support import scarce_worker
from tests.support.sharing import lines, registries, shared
from tests.support.stores import free_port, serving, until


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with serving("valkey", tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.mark.skipif(sys.platform != "linux", reason="needs the limits of Linux")
@pytest.mark.parametrize("how", ["new", "fork"])
@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("descriptors", "EMFILE: Too many open files"),
        ("threads", "no thread can be started"),
    ],
)
def test_no_call_fails_and_a_later_one_lets_it_share(store, what, why, how):
    with store.client() as client:
        client.flushall()
    process = subprocess.run(
        [sys.executable, scarce_worker.__file__, store.url, what, how],
        capture_output=True,
        check=False,
        text=True,
        timeout=100,
    )
    assert process.stderr == ""
    seen = json.loads(process.stdout)
    assert seen["answers"] == ["fine"] * 5 + ["failed"] * 2 + ["fine"] * 2
    assert seen["shared_without"] == [False, False]
    assert seen["states_without"] == ["CLOSED", "OPEN"]
    expected = f"Circuit breaker sharing cannot start yet, circuits go on alone: {why}"
    assert seen["lines"] == [expected]


@pytest.fixture
def no_threads(monkeypatch):
    """Let the second thread of each start fail, which is started by the first."""
    failed = []

    class NoThread(threading.Thread):
        def start(self):
            failed.append(self.name)
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_threads.threading, "Thread", NoThread)
    return failed


def test_a_thread_that_fails_to_start_later_is_started_by_a_later_call(store, no_threads, log):
    with registries() as make, pytest.MonkeyPatch.context() as patch:
        registry = make(store.url)
        breaker = registry.get("eu-west-1")
        until(lambda: "resilience-sharing" in no_threads, "it was tried")
        sharing = registry._settings.sharing
        until(lambda: sharing._synchronizer is None, "it was given up")
        assert breaker.closed is None, "the next call asks"
        patch.setattr(_threads.threading, "Thread", NoThreadAnyMore)
        breaker.acquire().succeed()
        shared(registry)
        breaker.acquire().succeed()
        assert breaker.closed is not None, "and later ones cost nothing again"
    until(lambda: lines(log, "WARNING"), "it is logged")
    assert lines(log, "WARNING") == [
        "sharing cannot start yet, circuits go on alone: no thread can be started"
    ]


NoThreadAnyMore = threading.Thread


def test_closing_what_could_not_start_waits_for_nothing(no_threads):
    with registries() as make:
        registry = make(f"redis://127.0.0.1:{free_port()}", socket_timeout=1000.0, probe_lease=4e3)
        registry.get("eu-west-1")
        until(lambda: "resilience-sharing" in no_threads, "it was tried")


def test_a_registry_that_is_closed_before_its_thread_has_failed_stays_closed(monkeypatch, store):
    failures = []

    def start(run, name, on_failure=None):
        failures.append(on_failure)

    monkeypatch.setattr("resilience.integrations.redis.synchronizer.start_thread", start)
    monkeypatch.setattr(sharing_module, "_TIMEOUTS_TO_CLOSE", 0.0)
    with registries() as make:
        registry = make(store.url)
        breaker = registry.get("eu-west-1")
        registry.close()
        failures[0]()
        breaker.acquire().succeed()
        assert breaker.closed is not None
        assert len(failures) == 1


def test_where_no_thread_can_be_started_at_all_the_circuits_go_on_alone(monkeypatch, log):
    def lack(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_threads, "_thread", SimpleNamespace(start_new_thread=lack))
    sharing = RedisSharing("redis://127.0.0.1:1/0")
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), sharing=sharing)
    registry.get("a").acquire().fail()
    assert registry.get("a").state.value == "OPEN"
    until(lambda: [one for one in log if "no thread can be started" in one["message"]], "logged")
    monkeypatch.undo()
    registry.close()


def test_a_sharing_that_no_registry_has_can_be_closed():
    RedisSharing("redis://127.0.0.1:1/0").close()

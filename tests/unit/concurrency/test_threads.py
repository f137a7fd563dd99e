"""Starting a thread where there may be none."""

import threading

import pytest

from resilience import _threads
from resilience._threads import start_thread
from tests.support.threads import join_all


def no_thread(*_args):
    raise RuntimeError("can't start new thread")


@pytest.fixture(params=["the first thread", "the second thread"])
def scarcity(request, monkeypatch):
    """Let one of the two threads fail to start that each start takes."""
    if request.param == "the first thread":
        monkeypatch.setattr(_threads._thread, "start_new_thread", no_thread)
    else:
        monkeypatch.setattr(_threads._thread, "start_new_thread", lambda run, args: run(*args))
        monkeypatch.setattr(threading.Thread, "start", no_thread)


def test_a_failure_is_told_and_raises_nothing(scarcity):
    failed = []
    start_thread(no_thread, "never", on_failure=lambda: failed.append(True))
    assert failed == [True]


def test_nobody_needs_to_be_told(scarcity):
    start_thread(no_thread, "never")


def test_what_is_started_runs_in_a_daemon_thread_of_that_name():
    ran, threads = threading.Event(), []

    def run():
        threads.append(threading.current_thread())
        ran.set()

    start_thread(run, "a name")
    assert ran.wait(30)
    assert threads[0].name == "a name"
    assert threads[0].daemon
    join_all(threads)

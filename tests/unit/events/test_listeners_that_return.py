"""Listeners that return something to be awaited: nobody awaits it, and the log says so once."""

import asyncio
import functools
import warnings

import pytest

from resilience import CircuitBreakerOpenError, CircuitBreakerRegistry
from tests.support.driving import CLOSED


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(clock=clock)


@pytest.fixture(autouse=True)
def no_coroutine_is_left_over():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


async def send(event):
    pytest.fail("nobody awaits it")


class Notification:
    def __await__(self):
        return iter(())


def notify(event):
    return send(event)


def faults(log):
    return [r["message"] for r in log if r["message"].startswith("Circuit breaker listener")]


@pytest.mark.parametrize(
    ("listener", "kind"),
    [
        (notify, "coroutine"),
        (functools.partial(notify), "coroutine"),
        (lambda _: Notification(), "Notification"),
    ],
    ids=["coroutine", "partial", "object"],
)
def test_it_is_logged_once_for_each_listener(registry, log, listener, kind):
    breaker = registry.get("eu-west-1")
    breaker.listen(listener)
    registry.listen(listener)
    for _ in range(3):
        breaker.force_open("maintenance")
        breaker.reset()
    assert breaker.state is CLOSED
    lines = faults(log)
    assert len(lines) == 2
    ending = f"for region eu-west-1 returned a {kind}, which nobody awaits: use asyncio.create_task"
    assert all(line.endswith(ending) for line in lines)


def test_so_it_is_for_a_listener_of_rejections(registry, log):
    registry.on_rejection(notify)
    registry.get("eu-west-1").force_open("maintenance")
    for _ in range(3):
        with pytest.raises(CircuitBreakerOpenError):
            registry.get("eu-west-1").acquire()
    assert len(faults(log)) == 1


async def test_a_task_runs_by_itself_and_is_no_fault(registry, log):
    seen, tasks = [], set()

    async def keep(event):
        seen.append(event.new)

    def listener(event):
        tasks.add(task := asyncio.create_task(keep(event)))
        return task

    registry.listen(listener)
    registry.get("eu-west-1").force_open("maintenance")
    await asyncio.gather(*tasks)
    assert [str(state) for state in seen] == ["OPEN"]
    assert faults(log) == []


def test_any_other_value_is_of_no_interest(registry, log):
    registry.listen(lambda event: event.new)
    registry.get("eu-west-1").force_open("maintenance")
    assert faults(log) == []

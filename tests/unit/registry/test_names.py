"""Registries with names, in logs, events and snapshots; and names of regions that nobody uses."""

import pytest

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerRegistry, default_registry
from tests.support.outage import outage, text_of


def named(name, clock=None):
    return CircuitBreakerRegistry(name=name, clock=clock)


def used(registry, region="eu-west-1"):
    breaker = registry.get(region)
    breaker.acquire().succeed()
    return breaker


def test_every_line_names_a_registry_that_has_a_name(clock, log):
    outage(used(named("tokens", clock)), clock)
    named_lines = text_of(log)
    assert {record["extra"]["registry"] for record in log} == {"tokens"}
    log.clear()
    outage(used(named("", clock)), clock)
    expected = [
        (level, text.replace("region eu-west-1", "region eu-west-1 of registry tokens"))
        for level, text in text_of(log)
    ]
    assert named_lines == expected


@pytest.mark.parametrize("name", ["", "default"])
def test_the_default_registry_is_not_named_in_the_log(name, clock, log):
    outage(used(named(name, clock)), clock)
    assert not any("registry" in record["extra"] for record in log)
    assert not any("registry" in text for _, text in text_of(log))


def test_faults_and_warnings_name_the_registry_too(clock, log):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1), name="tokens", clock=clock, max_regions=2
    )

    def broken(_event):
        raise RuntimeError

    stop = registry.listen(broken)
    used(registry).force_open("x")
    stop()
    registry.configure(classifier=lambda _error: 1 / 0)
    with pytest.raises(KeyError), registry.get("b").acquire():
        raise KeyError
    registry.get("c")
    registry.get("d")
    texts = [text for _, text in text_of(log)]
    assert "listener" in texts[1]
    assert "for region eu-west-1 of registry tokens raised RuntimeError" in texts[1]
    assert "for region b of registry tokens raised ZeroDivisionError" in texts[2]
    assert texts[3].startswith("Circuit breaker registry tokens keeps 2 regions")


def test_events_and_snapshots_name_the_registry():
    for name in ("tokens", "", "default"):
        registry = named(name)
        events = []
        registry.listen(events.append)
        used(registry).force_open("x")
        assert [event.registry for event in events] == [name]
        assert [one.registry for one in registry.snapshots()] == [name]
        assert registry.name == name
    assert CircuitBreaker("a").snapshot().registry == ""
    assert default_registry.name == "default"


def test_the_name_stays_when_the_registry_is_cleared(clock, log):
    registry = named("tokens", clock)
    registry.clear()
    with registry.isolated():
        used(registry).force_open("x")
    assert log[0]["extra"]["registry"] == "tokens"


def test_a_hostile_name_is_one_line(log):
    used(named("a\nb\x1b[31m{}" + "x" * 1000)).force_open("x")
    assert log[0]["message"].isprintable()
    assert len(log[0]["message"]) < 600


@pytest.mark.parametrize(
    ("name", "error"), [(None, TypeError), (7, TypeError), (" ", ValueError), ("\n", ValueError)]
)
def test_a_wrong_name_is_an_error(name, error):
    with pytest.raises(error, match="name"):
        CircuitBreakerRegistry(name=name)


def test_a_name_cannot_be_configured():
    with pytest.raises(TypeError, match="unknown setting 'name'"):
        named("a").configure(name="b")


# --- regions that nobody uses --------------------------------------------------------------------

UNUSED = "which has not been called: is the name spelled correctly?"


def test_a_region_that_nobody_has_called_is_pointed_out(log):
    registry = named("")
    registry.get("typo").force_open("maintenance")
    assert text_of(log) == [
        ("ERROR", "Circuit breaker OPEN for region typo: forced open: maintenance"),
        ("WARNING", f"Circuit breaker is held open for region typo, {UNUSED}"),
    ]


@pytest.mark.parametrize("method", ["succeed", "fail", "ignore", "answered"])
def test_a_region_that_was_called_is_not(log, method):
    breaker = named("").get("eu-west-1")
    getattr(breaker.acquire(), method)()
    breaker.force_open("maintenance")
    assert [level for level, _ in text_of(log)] == ["ERROR"]


def test_nor_is_a_breaker_that_stands_alone(log):
    CircuitBreaker("eu-west-1").force_open("maintenance")
    assert [level for level, _ in text_of(log)] == ["ERROR"]

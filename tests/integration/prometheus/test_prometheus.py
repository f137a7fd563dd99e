"""Prometheus: what a scrape shows is what the snapshots say."""

import math
import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry, CircuitState
from resilience._text import display_name
from resilience.integrations.prometheus import CircuitCollector
from resilience.mode import Mode
from resilience.rules.trip import TripRule
from tests.support.needs import needs

HOSTILE = ['a"b', "a\\b", "a\nb", 'x"} 1\nforged{a="b', "\ud800", "x" * 100_000, "<img src=x>", "ü"]


class ServerError(Exception):
    status = 503


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2), clock=clock)


@pytest.fixture
def scrape(registry):
    prometheus = CollectorRegistry()
    prometheus.register(CircuitCollector(registry))
    return lambda: generate_latest(prometheus).decode()


def figures(text):
    return {
        (
            sample.name.removeprefix("circuit_breaker_"),
            sample.labels.pop("region"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def reject(breaker, times):
    for _ in range(times):
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()


def busy(registry, clock, count):
    """Give every region a life of its own."""
    for number in range(count):
        breaker = registry.get(f"region-{number}")
        for _ in range(number % 7):
            breaker.acquire().succeed()
        for _ in range(number % 3):
            breaker.acquire().ignore()
        for _ in range(number % 5):
            breaker.acquire().answered()
        if number % 4:
            for _ in range(number % 4):
                if breaker.state is CircuitState.CLOSED:
                    breaker.acquire().fail(ServerError())
        if breaker.state is CircuitState.OPEN:
            reject(breaker, number % 5)
        if number % 50 == 0:
            breaker.force_open("a test")
        clock.advance(0.1)


def test_a_scrape_equals_the_snapshots_of_1000_regions(registry, clock, scrape):
    busy(registry, clock, 1000)
    seen = figures(scrape())
    snapshots = registry.snapshots()
    assert len(snapshots) == 1000
    assert len({snapshot.state for snapshot in snapshots}) == 3
    for one in snapshots:
        name = one.region
        states = {state: seen["state", name, state] for state in CircuitState}
        assert states == {state: float(one.state == state) for state in CircuitState}
        for outcome, count in (
            ("success", one.successes),
            ("failure", one.failures),
            ("answered", one.answered),
            ("ignored", one.ignored),
            ("rejected", one.rejected),
        ):
            assert seen["calls_total", name, outcome] == count
        assert seen["probes_total", name] == one.probes
        assert seen["trips_total", name] == one.trips
        rules = {rule: seen["trips_by_rule_total", name, rule] for rule in TripRule}
        assert rules == {rule: one.trips * (rule is TripRule.STREAK) for rule in TripRule}
        modes = {mode: seen["mode", name, mode] for mode in Mode}
        assert modes == {mode: float(mode is Mode.ENFORCE) for mode in Mode}
        assert seen["streak", name] == one.streak
        wait = math.inf if one.retry_after is None else one.retry_after
        assert seen["retry_after_seconds", name] == pytest.approx(wait)
        assert seen["time_in_state_seconds", name] == pytest.approx(clock() - one.since)
        assert seen["ignored_probes", name] == one.ignored_probes
    assert len(seen) == 1000 * 29


def test_the_mode_and_the_rule_that_tripped(clock, scrape, registry):
    registry.configure(
        policy=BreakerPolicy(failure_rate_threshold=0.5, minimum_calls=2, mode="observe")
    )
    breaker = registry.get("a")
    breaker.acquire().succeed()
    breaker.acquire().fail(ServerError())
    seen = figures(scrape())
    assert seen["trips_by_rule_total", "a", "failure rate"] == 1
    assert seen["trips_by_rule_total", "a", "streak"] == 0
    assert (seen["mode", "a", "observe"], seen["mode", "a", "enforce"]) == (1, 0)


def test_transitions_are_counted_by_from_and_to(registry, clock, scrape):
    breaker = registry.get("a")
    for _ in range(2):
        breaker.acquire().fail(ServerError())
    clock.advance(60)
    breaker.acquire().fail(ServerError())
    clock.advance(60)
    for _ in range(3):
        breaker.acquire().succeed()
    seen = figures(scrape())
    moves = {key[2:]: value for key, value in seen.items() if key[0] == "transitions_total"}
    assert moves == {
        ("CLOSED", "OPEN"): 1,
        ("OPEN", "HALF_OPEN"): 2,
        ("HALF_OPEN", "OPEN"): 1,
        ("HALF_OPEN", "CLOSED"): 1,
        ("OPEN", "CLOSED"): 0,
        ("OPEN", "OPEN"): 0,
    }


def test_probes_that_say_nothing_are_shown_while_it_is_half_open(registry, clock, scrape):
    breaker = registry.get("a")
    for _ in range(2):
        breaker.acquire().fail(ServerError())
    clock.advance(60)
    for number in range(12):
        assert figures(scrape())["ignored_probes", "a"] == number
        breaker.acquire().ignore()
    for _ in range(3):
        breaker.acquire().answered()
    seen = figures(scrape())
    assert (seen["ignored_probes", "a"], seen["calls_total", "a", "answered"]) == (0, 3)
    assert seen["calls_total", "a", "ignored"] == 12


def test_a_region_that_the_registry_evicts_disappears(registry, scrape):
    registry.configure(max_regions=2)
    for name in "abc":
        registry.get(name)
    assert {key[1] for key in figures(scrape())} == {"b", "c"}


def test_looking_changes_nothing(registry, clock, scrape):
    busy(registry, clock, 50)
    before = registry.snapshots()
    assert scrape() == scrape()
    assert registry.snapshots() == before


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_a_label(registry, scrape, name):
    registry.get(name).force_open("a test")
    seen = figures(scrape())
    assert len(seen) == 29
    assert {key[1] for key in seen} == {display_name(registry.get(name).region)}
    assert len(display_name(name)) <= 200


def test_names_that_look_alike_are_kept_apart():
    assert display_name("x" * 1000) != display_name("x" * 1001)
    assert display_name("a\nb") != display_name("a\\nb")
    assert display_name("eu-west-1") == "eu-west-1"


def test_the_same_registry_twice_is_refused(registry):
    prometheus = CollectorRegistry()
    prometheus.register(CircuitCollector(registry))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        prometheus.register(CircuitCollector(registry))


def test_an_empty_registry_shows_the_metrics_without_figures(scrape):
    assert figures(scrape()) == {}
    assert scrape().count("# TYPE circuit_breaker_") == 18


def test_names_and_units_are_as_prometheus_wants_them(registry, clock, scrape):
    needs("promtool")
    busy(registry, clock, 10)
    done = subprocess.run(
        [shutil.which("promtool"), "check", "metrics"],
        input=scrape(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

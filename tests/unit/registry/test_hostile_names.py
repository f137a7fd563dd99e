"""Names of regions that somebody else chooses: how long they are kept, and whom they push out."""

import gc
import tracemalloc

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    region_breaker,
)
from resilience._text import bounded_name, display_name
from resilience.genesys import KNOWN_REGIONS, GenesysRegion, canonical_region
from resilience.integrations.metrics import read_circuits
from resilience.testing import FakeClock
from tests.support.driving import CLOSED, HALF_OPEN, OPEN, trip

LONG = "x" * 10**6


# How long a name is


def test_a_long_name_is_one_circuit_with_a_short_name():
    registry = CircuitBreakerRegistry()
    breaker = registry.get(LONG)
    assert len(breaker.region) <= 200
    assert registry.get(LONG) is breaker
    assert registry.get(breaker.region) is breaker
    assert LONG in registry
    assert registry.get(LONG + "x") is not breaker


@pytest.mark.parametrize("length", [1, 199, 200])
def test_a_name_of_at_most_200_characters_stays_as_it_is(length):
    assert CircuitBreaker("é" * length).region == "é" * length


@pytest.mark.parametrize("length", [201, 1_000, 10**6])
def test_a_longer_name_is_shortened_and_different_for_each(length):
    names = {CircuitBreaker(f"{'x' * (length - 1)}{last}").region for last in "abc\ud800\n"}
    assert len(names) == 5
    assert max(map(len, names)) <= 200


def test_a_rejection_an_event_and_the_log_show_the_short_name(log):
    breaker = CircuitBreaker(LONG)
    events = []
    breaker.listen(events.append)
    breaker.force_open("by a test")
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    assert len(str(caught.value)) < 400
    assert caught.value.region == events[0].region == breaker.snapshot().region == breaker.region
    assert breaker.region in log[0]["message"]
    assert max(len(line["message"]) for line in log) < 400


def test_a_policy_of_a_long_name_is_found():
    own = BreakerPolicy(failure_threshold=2)
    registry = CircuitBreakerRegistry(policies={LONG: own})
    assert registry.get(LONG).policy is own


def test_what_normalize_gives_is_shortened():
    registry = CircuitBreakerRegistry(normalize=lambda name: name * 10**5)
    assert len(registry.get("long").region) <= 200


def test_long_names_in_several_spellings_take_no_memory_with_them():
    registry = CircuitBreakerRegistry(normalize=str.strip, max_regions=50)

    @region_breaker(region_from="region", registry=registry)
    def send(region):
        return None

    gc.collect()
    tracemalloc.start()
    for number in range(100):
        send(f"{number}-" + "x" * 100_000)
        send(f" {number}-" + "x" * 100_000)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(registry) == 50
    assert size < 2 * 10**6


# What is shown


PAIRS = [
    ("a\nb", "a\\nb"),
    ("a\nb", display_name("a\nb")),
    ("\ud800", "\\ud800"),
    ("x" * 300, "x" * 301),
    ("x" * 300, bounded_name("x" * 300)),
    ("x" * 300, display_name(bounded_name("x" * 300))),
    ("a\u202eb", "a\u202db"),
    ("a~" + "0" * 32, display_name("a~" + "0" * 32)),
    ("a~" + "0" * 32, "a~" + "0" * 31 + "1"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=range(len(PAIRS)))
def test_two_circuits_are_never_shown_as_one(one, other):
    registry = CircuitBreakerRegistry()
    circuits = {registry.get(one), registry.get(other)}
    shown = [reading.name for reading in read_circuits(registry)]
    assert len(set(shown)) == len(circuits)


def test_a_plain_name_is_shown_as_it_is_and_every_other_on_one_line():
    assert display_name("eu-west-1") == "eu-west-1"
    assert display_name("a~b") == "a~b"
    for name in ("a\nb", "\x1b[31m", "\ud800", "x" * 10**5 + "\n", "\u202e"):
        assert display_name(name).isprintable()
        assert len(display_name(name)) <= 200


# Who is evicted


def in_use(registry, region):
    registry.get(region).acquire().succeed()
    trip(registry.get(region))


def flood(registry, count=300, failures=10):
    for number in range(count):
        breaker = registry.get(f"made-up-{number}")
        for _ in range(failures):
            breaker.acquire().fail()
    gc.collect()


@pytest.mark.parametrize("failures", [0, 1, 10])
def test_an_open_circuit_of_a_region_in_use_outlives_any_number_of_names(clock, failures):
    registry = CircuitBreakerRegistry(max_regions=10, clock=clock)
    in_use(registry, "real")
    flood(registry, failures=failures)
    gc.collect()
    assert len(registry) <= 10
    assert registry.get("real").state is OPEN
    assert registry.get("real").snapshot().trips == 1


@pytest.mark.parametrize("failures", [0, 1, 10])
def test_open_circuits_that_fill_a_registry_outlive_them_too(clock, failures):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    in_use(registry, "real")
    in_use(registry, "other")
    flood(registry, failures=failures)
    gc.collect()
    assert [breaker.region for breaker in registry] == ["real", "other"]
    assert {registry.get(name).state for name in ("real", "other")} == {OPEN}


def test_a_region_without_room_has_a_circuit_that_opens(clock, log):
    registry = CircuitBreakerRegistry(max_regions=1, clock=clock)
    in_use(registry, "real")
    for _ in range(10):
        registry.get("new").acquire().fail()
    gc.collect()
    assert registry.get("new").state is OPEN
    assert [breaker.region for breaker in registry] == ["real"]
    assert sum("max_regions" in line["message"] for line in log) == 1


def test_an_open_circuit_makes_room_for_another_region_that_was_in_use(clock):
    registry = CircuitBreakerRegistry(max_regions=1, clock=clock)
    in_use(registry, "real")
    in_use(registry, "new")
    assert [(breaker.region, breaker.state) for breaker in registry] == [("new", OPEN)]


@pytest.mark.parametrize("failures", [0, 1, 10])
def test_a_half_open_circuit_of_a_region_in_use_outlives_them_too(clock, failures):
    registry = CircuitBreakerRegistry(max_regions=10, clock=clock)
    in_use(registry, "real")
    clock.advance(60)
    registry.get("real").acquire().succeed()
    flood(registry, failures=failures)
    assert registry.get("real").state is HALF_OPEN


def test_it_outlives_them_when_nobody_has_called_it_for_long(clock):
    registry = CircuitBreakerRegistry(max_regions=10, clock=clock)
    in_use(registry, "real")
    for _ in range(20):
        clock.advance(60)
        flood(registry, count=20, failures=1)
    assert registry.get("real").snapshot().trips == 1


def test_an_open_circuit_that_was_there_before_outlives_made_up_ones(clock):
    registry = CircuitBreakerRegistry(max_regions=10, clock=clock)
    trip(registry.get("never answered"))
    flood(registry)
    assert registry.get("never answered").state is OPEN


def test_the_bound_holds_where_all_regions_were_in_use(clock):
    registry = CircuitBreakerRegistry(max_regions=10, clock=clock)
    for number in range(30):
        in_use(registry, f"real-{number}")
    gc.collect()
    assert len(registry) == 10
    assert registry.get("real-29").state is OPEN


def test_a_circuit_that_closes_again_is_evicted_as_any_other(clock):
    registry = CircuitBreakerRegistry(max_regions=10, clock=clock)
    in_use(registry, "real")
    registry.get("real").reset()
    flood(registry)
    assert registry.get("real").snapshot().trips == 0


def test_exporters_show_no_more_regions_than_there_may_be(clock):
    registry = CircuitBreakerRegistry(max_regions=10, clock=clock)
    for number in range(30):
        registry.get(f"forced-{number}").force_open("by a test")
    assert len(registry) > 10
    assert len(list(read_circuits(registry))) == 10


# Which regions there are


def test_only_the_allowed_regions_have_circuits():
    registry = CircuitBreakerRegistry(allowed_regions={"a", "b"})
    assert registry.get("a").state is CLOSED
    with pytest.raises(ValueError, match="region 'c' is not one of the allowed regions"):
        registry.get("c")
    assert len(registry) == 1


def test_a_function_may_decide_which_regions_there_are():
    registry = CircuitBreakerRegistry(allowed_regions=lambda name: name.startswith("eu-"))
    registry.get("eu-west-1")
    with pytest.raises(ValueError, match="allowed"):
        registry.get("us-east-1")


def test_a_call_of_another_region_is_refused_and_not_made():
    registry = CircuitBreakerRegistry(allowed_regions=["a"])
    made = []

    @region_breaker(region_from="region", registry=registry)
    def send(region):
        made.append(region)

    send("a")
    with pytest.raises(ValueError, match=r"send\(\).*'b' is not one of the allowed regions"):
        send("b")
    assert made == ["a"]


def test_a_region_that_is_no_longer_allowed_is_not_found_by_a_look_up_that_began_before():
    def allows(name):
        if asked:
            registry.configure(allowed_regions={"b"})
        asked.append(name)
        return True

    asked = []
    registry = CircuitBreakerRegistry(normalize=str.lower, allowed_regions=allows)
    registry.get("a")
    for _ in range(2):
        with pytest.raises(ValueError, match="allowed"):
            registry.get("A")


def test_allowed_regions_are_compared_by_their_one_name():
    registry = CircuitBreakerRegistry(
        allowed_regions=["mypurecloud.ie"], normalize=canonical_region
    )
    assert registry.get("eu-west-1") is registry.get("https://api.mypurecloud.ie")


def test_they_can_be_changed_and_ended():
    registry = CircuitBreakerRegistry()
    registry.get("a")
    registry.configure(allowed_regions=["b"])
    with pytest.raises(ValueError, match="allowed"):
        registry.get("a")
    registry.configure(allowed_regions=None)
    assert registry.get("a").state is CLOSED


@pytest.mark.parametrize("value", ["eu-west-1", 7, [7], [""], {"a": 1, None: 2}, object()])
def test_what_is_not_a_collection_of_regions_is_refused(value):
    with pytest.raises((TypeError, ValueError), match="allowed_regions"):
        CircuitBreakerRegistry(allowed_regions=value)


def test_an_async_function_cannot_decide():
    async def allows(_):
        return True

    with pytest.raises(TypeError, match="allowed_regions must be a plain function"):
        CircuitBreakerRegistry(allowed_regions=allows)


def test_a_function_that_raises_refuses_the_region_that_it_raised_for():
    def allows(_):
        raise ZeroDivisionError

    class Undecided:
        __bool__ = allows

    for function in (allows, lambda _: Undecided()):
        registry = CircuitBreakerRegistry(allowed_regions=function)
        with pytest.raises(ValueError, match="allowed_regions raised ZeroDivisionError for 'a'"):
            registry.get("a")
    registry = CircuitBreakerRegistry(allowed_regions=allows)
    with pytest.raises(ValueError, match="allowed_regions raised ZeroDivisionError for 'a'"):
        registry.get("a")


def test_the_genesys_regions_and_their_login_hosts_are_known():
    assert len(KNOWN_REGIONS) == 36
    registry = CircuitBreakerRegistry(allowed_regions=KNOWN_REGIONS, normalize=canonical_region)
    for region in GenesysRegion:
        assert registry.get(region.domain).region == region.value
    with pytest.raises(ValueError, match="allowed"):
        registry.get("mypurecloud.example")
    by_host = CircuitBreakerRegistry(allowed_regions=KNOWN_REGIONS)
    assert by_host.get("login.mypurecloud.ie").region == "login.mypurecloud.ie"


def test_a_flood_of_names_that_are_not_allowed_makes_nothing():
    registry = CircuitBreakerRegistry(allowed_regions=KNOWN_REGIONS, clock=FakeClock())
    for number in range(1000):
        with pytest.raises(ValueError, match="allowed"):
            registry.get(f"made-up-{number}")
    assert len(registry) == 0
    assert registry.aliases == {}

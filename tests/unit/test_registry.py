"""CircuitBreakerRegistry: one breaker per region, made on first use, bounded, and never two."""

import asyncio
import gc
import subprocess
import sys
import threading
import tracemalloc

import pytest

import resilience
from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitSnapshot,
    CircuitState,
    Outcome,
    classify_status,
)
from resilience.genesys import canonical_region
from resilience.testing import FakeClock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FIVE_SPELLINGS = (
    "us-east-1",
    "us_east_1",
    "mypurecloud.com",
    "api.mypurecloud.com",
    "https://api.mypurecloud.com/api/v2/conversations",
)


class ServerError(Exception):
    status = 503


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(clock=clock)


def fail(registry, region):
    registry.get(region).acquire().fail(ServerError())


def trip(breaker):
    for _ in range(breaker.policy.failure_threshold):
        breaker.acquire().fail(ServerError())


def regions(registry):
    """Say what the registry knows, without holding any of it."""
    gc.collect()
    return {snapshot.region for snapshot in registry.snapshots()}


def warnings(log):
    return [entry["message"] for entry in log if entry["level"].name == "WARNING"]


def flood(registry, count=50):
    for number in range(count):
        registry.get(f"flood-{number}").acquire().fail()


# Making and finding


def test_a_breaker_is_made_on_first_use(registry):
    assert len(registry) == 0
    assert "eu-west-1" not in registry
    breaker = registry.get("eu-west-1")
    assert isinstance(breaker, CircuitBreaker)
    assert (breaker.region, breaker.state) == ("eu-west-1", CLOSED)
    assert len(registry) == 1
    assert "eu-west-1" in registry


def test_looking_makes_nothing(registry):
    assert "eu-west-1" not in registry
    assert registry.snapshots() == []
    assert list(registry) == []
    assert len(registry) == 0


def test_the_same_region_is_the_same_breaker_ever_after(registry):
    assert registry.get("eu-west-1") is registry.get("eu-west-1")


def test_each_region_has_a_circuit_of_its_own(registry):
    trip(registry.get("eu-west-1"))
    assert registry.get("eu-west-1").state is OPEN
    assert registry.get("us-east-1").state is CLOSED
    registry.get("us-east-1").acquire()


def test_two_registries_share_nothing(clock):
    first, second = CircuitBreakerRegistry(clock=clock), CircuitBreakerRegistry(clock=clock)
    assert first.get("eu-west-1") is not second.get("eu-west-1")


def test_without_normalize_every_spelling_is_its_own(registry):
    assert registry.get("EU") is not registry.get("eu")


def test_breakers_get_what_the_registry_was_given(clock):
    policy = BreakerPolicy(failure_threshold=1)
    registry = CircuitBreakerRegistry(
        policy, classifier=lambda _: Outcome.FAILURE, result_classifier=classify_status, clock=clock
    )
    breaker = registry.get("eu-west-1")
    assert breaker.policy == policy
    with pytest.raises(ValueError, match="a bug"), breaker.acquire():
        raise ValueError("a bug")
    assert breaker.state is OPEN
    clock.advance(60)
    breaker(lambda: ServerError)()  # what it returns has a status
    assert breaker.state is OPEN


def test_eight_threads_that_arrive_together_get_one_breaker(registry):
    barrier = threading.Barrier(8)
    got = [[] for _ in range(8)]

    def work(mine):
        for number in range(100):
            barrier.wait()
            mine.append(registry.get(f"region-{number}"))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(mine,)) for mine in got]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    for same in zip(*got, strict=True):
        assert len({id(breaker) for breaker in same}) == 1
    assert len(got[0]) == len(registry) == 100


# Iteration


def test_len_iteration_and_in_agree(registry):
    kept = [registry.get(region) for region in ("a", "b", "c")]
    assert len(registry) == len(list(registry)) == 3
    assert {getattr(entry, "region", entry) for entry in registry} == {"a", "b", "c"}
    assert all(breaker.region in registry for breaker in kept)


def test_a_region_made_during_iteration_breaks_nothing(registry):
    kept = [registry.get(region) for region in ("a", "b", "c")]
    for number, _ in enumerate(registry):
        kept.append(registry.get(f"new-{number}"))
        if number == 10:
            break
    assert len(registry) == len(kept)


def test_snapshots_are_one_per_region(registry):
    registry.get("a").acquire().succeed()
    trip(registry.get("b"))
    snapshots = registry.snapshots()
    assert all(isinstance(snapshot, CircuitSnapshot) for snapshot in snapshots)
    assert {entry.region: entry.state for entry in snapshots} == {"a": CLOSED, "b": OPEN}
    assert {entry.region: entry.successes for entry in snapshots} == {"a": 1, "b": 0}


# Reset and listeners


def test_reset_closes_every_circuit_it_knows(registry):
    trip(registry.get("a"))
    registry.get("b").force_open("maintenance")
    fail(registry, "c")
    registry.reset()
    assert {entry.state for entry in registry.snapshots()} == {CLOSED}
    assert {entry.streak for entry in registry.snapshots()} == {0}


def test_a_listener_hears_breakers_made_before_and_after(registry):
    old = registry.get("old")
    events = []
    stop = registry.listen(events.append)
    new = registry.get("new")
    trip(old)
    trip(new)
    assert [(event.region, event.new) for event in events] == [("old", OPEN), ("new", OPEN)]
    stop()
    stop()
    registry.reset()
    trip(registry.get("third"))
    assert len(events) == 2


def test_listeners_of_the_registry_and_of_a_breaker_hear_each_event_once(registry):
    breaker = registry.get("a")
    heard = []
    registry.listen(lambda event: heard.append(("registry", event)))
    breaker.listen(lambda event: heard.append(("breaker", event)))
    trip(breaker)
    assert sorted(who for who, _ in heard) == ["breaker", "registry"]


@pytest.mark.parametrize("wrong", [None, 5, "listener"])
def test_a_listener_of_a_registry_must_be_callable(registry, wrong):
    with pytest.raises(TypeError, match="listener"):
        registry.listen(wrong)


def test_an_async_listener_of_a_registry_is_a_type_error(registry):
    async def listener(event):
        pass

    with pytest.raises(TypeError, match="listener"):
        registry.listen(listener)


# Bad regions


@pytest.mark.parametrize("region", [None, 5, b"eu-west-1", ["eu-west-1"]], ids=repr)
def test_a_region_that_is_no_text_is_a_type_error(registry, region):
    with pytest.raises(TypeError, match="region"):
        registry.get(region)
    assert len(registry) == 0


@pytest.mark.parametrize("region", ["", " ", "\n\t "], ids=repr)
def test_a_region_without_a_name_is_a_value_error(registry, region):
    with pytest.raises(ValueError, match="region"):
        registry.get(region)
    assert len(registry) == 0


# Names


@pytest.mark.parametrize("first", FIVE_SPELLINGS)
def test_five_spellings_are_one_circuit_whoever_came_first(clock, first):
    registry = CircuitBreakerRegistry(normalize=canonical_region, clock=clock)
    breaker = registry.get(first)
    assert breaker.region == "us-east-1"
    assert all(registry.get(spelling) is breaker for spelling in FIVE_SPELLINGS)
    assert all(spelling in registry for spelling in FIVE_SPELLINGS)
    assert len(registry) == 1


def test_unknown_names_stay_exactly_as_they_are(clock):
    registry = CircuitBreakerRegistry(normalize=canonical_region, clock=clock)
    for text in ("Mars-North", "tokens:us-east-1", " padded "):
        assert registry.get(text).region == text


def test_the_default_registry_knows_the_genesys_names():
    program = (
        "from resilience import CircuitBreakerRegistry, default_registry as registry\n"
        f"found = {{id(registry.get(text)) for text in {FIVE_SPELLINGS!r}}}\n"
        "assert isinstance(registry, CircuitBreakerRegistry)\n"
        "assert len(found) == len(registry) == 1\n"
        "assert registry.get('mypurecloud.com').region == 'us-east-1'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_default_registry_is_a_module_level_name():
    assert isinstance(resilience.default_registry, CircuitBreakerRegistry)


@pytest.mark.parametrize("junk", [None, 5, "", "  ", b"us", ["us"]], ids=repr)
def test_a_normalize_that_returns_junk_is_a_clear_error(clock, junk):
    registry = CircuitBreakerRegistry(normalize=lambda _: junk, clock=clock)
    with pytest.raises((TypeError, ValueError), match=r"region|normalize"):
        registry.get("us-east-1")
    assert len(registry) == 0


def test_a_normalize_that_raises_makes_no_breaker_and_breaks_nothing(clock):
    def normalize(text):
        if text == "bad":
            raise LookupError("no such region")
        return text

    registry = CircuitBreakerRegistry(normalize=normalize, clock=clock)
    with pytest.raises((LookupError, TypeError, ValueError)) as caught:
        registry.get("bad")
    assert "no such region" in f"{caught.value} {caught.value.__cause__}"
    assert len(registry) == 0
    assert registry.get("good").region == "good"


def test_what_is_no_text_never_reaches_normalize(clock):
    def normalize(text):
        pytest.fail("it promises to take text")

    registry = CircuitBreakerRegistry(normalize=normalize, clock=clock)
    with pytest.raises(TypeError):
        registry.get(None)


def test_a_normalize_that_asks_the_registry_does_not_lock_up(clock):
    registry = CircuitBreakerRegistry(
        normalize=lambda text: registry.get("other").region if text == "one" else text, clock=clock
    )
    assert registry.get("one") is registry.get("other")


# Bounds


def test_a_registry_holds_a_thousand_regions_and_says_once_that_there_are_more(clock, log):
    registry = CircuitBreakerRegistry(clock=clock)
    for number in range(1000):
        registry.get(f"region-{number}")
    assert len(registry) == 1000
    assert warnings(log) == []
    for number in range(1000, 1500):
        registry.get(f"region-{number}")
    gc.collect()
    assert len(registry) <= 1000
    assert len(warnings(log)) == 1
    assert "max_regions" in warnings(log)[0]


def test_breakers_without_information_go_first(clock):
    registry = CircuitBreakerRegistry(max_regions=3, clock=clock)
    trip(registry.get("open"))
    registry.get("quiet").acquire().succeed()
    fail(registry, "streak")
    fail(registry, "fourth")
    assert regions(registry) == {"open", "streak", "fourth"}


def test_then_those_idle_for_ten_recovery_timeouts(clock):
    registry = CircuitBreakerRegistry(max_regions=3, clock=clock)
    fail(registry, "busy")
    fail(registry, "idle")
    clock.advance(600)
    fail(registry, "busy")
    fail(registry, "third")
    fail(registry, "fourth")
    assert regions(registry) == {"busy", "third", "fourth"}


def test_then_those_overdue_for_ten_recovery_timeouts(clock):
    registry = CircuitBreakerRegistry(max_regions=3, clock=clock)
    fail(registry, "busy")
    trip(registry.get("overdue"))
    clock.advance(60 + 600)
    fail(registry, "busy")
    fail(registry, "third")
    fail(registry, "fourth")
    assert regions(registry) == {"busy", "third", "fourth"}


def test_a_circuit_is_overdue_from_the_moment_it_is_due(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    fail(registry, "oldest")
    trip(registry.get("open"))
    clock.advance(599.5)
    fail(registry, "oldest")
    clock.advance(60)
    fail(registry, "third")
    assert regions(registry) == {"open", "third"}


def test_a_half_open_circuit_whose_probes_ended_lately_is_not_idle(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    trip(registry.get("probing"))
    clock.advance(60)
    probe = registry.get("probing").acquire()
    clock.advance(1)
    fail(registry, "idle")
    clock.advance(599)
    probe.succeed()
    del probe
    clock.advance(1)
    fail(registry, "third")
    assert regions(registry) == {"probing", "third"}


def test_no_information_goes_before_idle(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    fail(registry, "idle")
    clock.advance(10_000)
    registry.get("quiet").acquire().succeed()
    fail(registry, "third")
    assert regions(registry) == {"idle", "third"}


def test_then_the_oldest(clock):
    registry = CircuitBreakerRegistry(max_regions=3, clock=clock)
    for region in ("oldest", "middle", "youngest", "fourth"):
        fail(registry, region)
        clock.advance(1)
    assert regions(registry) == {"middle", "youngest", "fourth"}


def test_a_forced_circuit_is_never_let_go(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    for region in ("a", "b", "c"):
        registry.get(region).force_open("maintenance")
    clock.advance(1_000_000)
    flood(registry)
    assert {"a", "b", "c"} <= regions(registry)
    for region in ("a", "b", "c"):
        with pytest.raises(CircuitBreakerOpenError, match="maintenance"):
            registry.get(region).acquire()


def test_a_breaker_in_a_variable_stays_the_one(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    breaker = registry.get("held")
    flood(registry)
    assert registry.get("held") is breaker


def test_a_breaker_with_a_permit_out_stays_the_one(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    permit = registry.get("in-flight").acquire()
    flood(registry)
    gc.collect()
    permit.fail(ServerError())
    assert registry.get("in-flight").snapshot().streak == 1


async def test_a_breaker_with_a_call_in_flight_stays_the_one(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1), max_regions=2, clock=clock
    )
    answer = asyncio.Event()

    async def fail_later():
        await answer.wait()
        raise ServerError

    task = asyncio.create_task(registry.get("in-flight").call(fail_later))
    await asyncio.sleep(0)
    flood(registry)
    gc.collect()
    answer.set()
    with pytest.raises(ServerError):
        await task
    assert registry.get("in-flight").state is OPEN


def test_a_breaker_with_a_listener_stays_the_one(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    events = []
    registry.get("heard").listen(events.append)
    flood(registry)
    gc.collect()
    trip(registry.get("heard"))
    assert [event.new for event in events] == [OPEN]


async def test_a_breaker_somebody_waits_for_stays_the_one(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    trip(registry.get("awaited"))
    task = asyncio.create_task(registry.get("awaited").wait_until_ready())
    await asyncio.sleep(0)
    flood(registry)
    gc.collect()
    registry.get("awaited").reset()
    assert await task is True


def test_what_is_told_to_the_registry_reaches_a_breaker_that_somebody_still_holds(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    events = []
    held = registry.get("held")
    trip(held)
    flood(registry)
    registry.listen(events.append)
    registry.configure(policy=BreakerPolicy(failure_threshold=4))
    assert held.policy.failure_threshold == 4
    registry.reset()
    assert held.state is CLOSED
    trip(held)
    assert [event.new for event in events if event.region == "held"] == [CLOSED, OPEN]


def test_threads_that_press_each_other_out_never_get_two_breakers_for_one_region(clock):
    policy = BreakerPolicy(failure_threshold=10**9)
    registry = CircuitBreakerRegistry(policy, max_regions=2, clock=clock)
    twins = []

    def work():
        for number in range(200):
            region = f"region-{number % 5}"
            breaker = registry.get(region)
            breaker.acquire().fail()
            if registry.get(region) is not breaker:
                twins.append(region)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert twins == []


def test_a_region_that_was_let_go_starts_anew(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    trip(registry.get("gone"))
    flood(registry)
    assert "gone" not in regions(registry)
    assert registry.get("gone").state is CLOSED


def growth(work, first, last):
    """Give the bytes that stay behind after `work` for each number, beyond a warm-up."""
    for number in range(first):
        work(number)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(first, last):
            work(number)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_endless_spellings_of_one_region_leave_nothing_behind():
    registry = CircuitBreakerRegistry(max_regions=10, normalize=lambda _: "one", clock=FakeClock())
    assert growth(lambda number: registry.get(f"{number:0200}"), 2000, 12_000) < 100_000
    assert len(registry) == 1


def test_endless_regions_leave_nothing_behind():
    registry = CircuitBreakerRegistry(max_regions=10, clock=FakeClock())
    assert growth(lambda number: registry.get(f"{number:0200}"), 1000, 5000) < 100_000
    assert len(registry) <= 10


# Configure


def test_configure_applies_at_once_to_the_circuits_that_exist(registry):
    breaker = registry.get("a")
    for _ in range(4):
        breaker.acquire().fail()
    registry.configure(policy=BreakerPolicy(failure_threshold=5))
    assert breaker.policy.failure_threshold == 5
    breaker.acquire().fail()
    assert breaker.state is OPEN
    assert registry.get("b").policy.failure_threshold == 5


@pytest.mark.parametrize(("timeout", "left"), [(20, 10.0), (300, 290.0)])
def test_configure_moves_the_end_of_a_running_open(registry, clock, timeout, left):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(10)
    registry.configure(policy=BreakerPolicy(recovery_timeout=timeout))
    assert breaker.retry_after == left
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    assert caught.value.retry_after == left
    clock.advance(left)
    breaker.acquire()


def test_configure_may_end_a_running_open_at_once(registry, clock):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(30)
    registry.configure(policy=BreakerPolicy(recovery_timeout=5))
    assert breaker.state is HALF_OPEN
    breaker.acquire()


async def test_configure_that_ends_an_open_wakes_who_waits_for_it(registry, clock):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(30)
    task = asyncio.create_task(breaker.wait_until_ready())
    await asyncio.sleep(0)
    registry.configure(policy=BreakerPolicy(recovery_timeout=5))
    assert await task is True


def test_leases_keep_their_end(registry, clock):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(60)
    breaker.acquire()
    registry.configure(policy=BreakerPolicy(probe_timeout=5))
    clock.advance(59.75)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    assert caught.value.retry_after == 0.25
    clock.advance(0.25)
    breaker.acquire()
    clock.advance(5)
    breaker.acquire()


def test_configure_changes_how_many_may_probe(registry, clock):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(60)
    breaker.acquire()
    registry.configure(policy=BreakerPolicy(half_open_probes=2))
    breaker.acquire()
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()


def test_fewer_places_than_probes_are_waited_for_until_one_is_really_free(registry, clock):
    breaker = registry.get("a")
    registry.configure(policy=BreakerPolicy(half_open_probes=2))
    trip(breaker)
    clock.advance(60)
    breaker.acquire()
    clock.advance(0.5)
    breaker.acquire()
    registry.configure(policy=BreakerPolicy(half_open_probes=1))
    clock.advance(59.25)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    assert caught.value.retry_after == 0.75
    clock.advance(0.75)
    breaker.acquire()
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()


def test_configure_changes_how_many_successes_close(registry, clock):
    breaker = registry.get("a")
    trip(breaker)
    clock.advance(60)
    breaker.acquire().succeed()
    registry.configure(policy=BreakerPolicy(success_threshold=2))
    breaker.acquire().succeed()
    assert breaker.state is CLOSED


def test_configure_changes_the_classifiers_of_circuits_that_exist(registry):
    breaker = registry.get("a")
    registry.configure(
        classifier=lambda _: Outcome.FAILURE, result_classifier=lambda _: Outcome.IGNORED
    )
    with pytest.raises(ValueError, match="a bug"), breaker.acquire():
        raise ValueError("a bug")
    breaker(lambda: "sent")()
    snapshot = breaker.snapshot()
    assert (snapshot.failures, snapshot.ignored, snapshot.successes) == (1, 1, 0)


def test_configure_changes_a_function_decorated_before(registry):
    send = registry.get("a")(lambda: "sent")
    send()
    registry.configure(result_classifier=lambda _: Outcome.FAILURE)
    send()
    assert registry.get("a").snapshot().failures == 1


def test_configure_keeps_what_it_is_not_told(registry):
    policy = BreakerPolicy(failure_threshold=2)
    registry.configure(policy=policy, classifier=lambda _: Outcome.FAILURE)
    registry.configure()
    registry.configure(max_regions=50)
    breaker = registry.get("a")
    assert breaker.policy == policy
    with pytest.raises(KeyError), breaker.acquire():
        raise KeyError
    assert breaker.snapshot().failures == 1


def test_a_smaller_bound_applies_at_the_next_region(registry):
    for number in range(20):
        registry.get(f"region-{number}")
    registry.configure(max_regions=5)
    registry.get("one-more")
    gc.collect()
    assert len(registry) <= 5


def test_normalize_and_clock_are_configured_while_the_registry_is_empty():
    registry, clock = CircuitBreakerRegistry(), FakeClock()
    registry.configure(normalize=str.lower, clock=clock)
    breaker = registry.get("EU")
    assert breaker.region == "eu"
    trip(breaker)
    clock.advance(60)
    assert breaker.state is HALF_OPEN


@pytest.mark.parametrize("change", [{"normalize": str.lower}, {"clock": FakeClock()}])
def test_normalize_and_clock_are_fixed_once_there_are_breakers(registry, change):
    kept = registry.get("EU")
    with pytest.raises(RuntimeError, match=next(iter(change))):
        registry.configure(policy=BreakerPolicy(failure_threshold=2), **change)
    assert kept.policy == BreakerPolicy()


# A policy per region


def test_a_region_may_have_a_policy_of_its_own(clock):
    own = BreakerPolicy(failure_threshold=1)
    registry = CircuitBreakerRegistry(policies={"small": own}, clock=clock)
    assert registry.get("small").policy == own
    assert registry.get("other").policy == BreakerPolicy()


def test_a_policy_of_its_own_is_found_under_every_spelling(clock):
    own = BreakerPolicy(failure_threshold=1)
    registry = CircuitBreakerRegistry(
        policies={"mypurecloud.com": own}, normalize=canonical_region, clock=clock
    )
    assert all(registry.get(spelling).policy == own for spelling in FIVE_SPELLINGS)


def test_policies_are_configured_for_circuits_that_exist(registry):
    own = BreakerPolicy(failure_threshold=1)
    small, other = registry.get("small"), registry.get("other")
    registry.configure(policies={"small": own})
    assert (small.policy, other.policy) == (own, BreakerPolicy())
    registry.configure(policy=BreakerPolicy(failure_threshold=7))
    assert (small.policy, other.policy) == (own, BreakerPolicy(failure_threshold=7))
    registry.configure(policies={})
    assert small.policy == BreakerPolicy(failure_threshold=7)


def test_the_mapping_of_policies_is_copied(clock):
    policies = {"small": BreakerPolicy(failure_threshold=1)}
    registry = CircuitBreakerRegistry(policies=policies, clock=clock)
    policies.clear()
    assert registry.get("small").policy.failure_threshold == 1


# Bad settings

BAD = [
    ("policy", "strict", TypeError),
    ("policy", 10, TypeError),
    ("policies", ["small"], TypeError),
    ("policies", {"small": 10}, TypeError),
    ("policies", {5: BreakerPolicy()}, TypeError),
    ("max_regions", "5", TypeError),
    ("max_regions", 5.0, TypeError),
    ("max_regions", True, TypeError),
    ("max_regions", 0, ValueError),
    ("max_regions", -1, ValueError),
    ("classifier", 5, TypeError),
    ("result_classifier", 5, TypeError),
    ("normalize", 5, TypeError),
    ("clock", 5, TypeError),
]


@pytest.mark.parametrize(("name", "value", "kind"), BAD)
def test_a_bad_setting_is_refused_when_given(name, value, kind):
    with pytest.raises(kind, match=name.removesuffix("ies")):
        CircuitBreakerRegistry(**{name: value})


@pytest.mark.parametrize(("name", "value", "kind"), BAD)
def test_a_bad_setting_is_refused_by_configure_which_then_changes_nothing(name, value, kind):
    registry = CircuitBreakerRegistry()
    good = {"policy": BreakerPolicy(failure_threshold=2), "max_regions": 7}
    with pytest.raises(kind, match=name.removesuffix("ies")):
        registry.configure(**{**good, name: value})
    assert registry.get("a").policy == BreakerPolicy()


@pytest.mark.parametrize("name", ["classifier", "result_classifier"])
def test_an_async_classifier_is_a_type_error(registry, name):
    async def judge(_):
        return Outcome.FAILURE

    with pytest.raises(TypeError, match=name):
        CircuitBreakerRegistry(**{name: judge})
    with pytest.raises(TypeError, match=name):
        registry.configure(**{name: judge})


def test_an_unknown_setting_is_refused(registry):
    with pytest.raises(TypeError, match="retries"):
        registry.configure(retries=3)


def test_a_region_that_policies_names_in_two_spellings_is_a_value_error():
    policies = {"us-east-1": BreakerPolicy(), "mypurecloud.com": BreakerPolicy()}
    with pytest.raises(ValueError, match=r"policies names a region twice: us-east-1, mypurecloud"):
        CircuitBreakerRegistry(policies=policies, normalize=canonical_region)


def test_a_breaker_that_was_let_go_of_idle_is_kept_again_once_it_knows_something(clock):
    registry = CircuitBreakerRegistry(max_regions=1, clock=clock)
    first = registry.get("first")
    registry.get("second")
    assert "first" not in registry
    first.force_open("maintenance")
    del first
    gc.collect()
    assert registry.get("first").snapshot().reason == "forced open: maintenance"
    assert "first" in registry


def test_a_full_registry_that_can_let_go_of_nobody_does_not_say_that_it_did(clock, log):
    registry = CircuitBreakerRegistry(max_regions=1, clock=clock)
    registry.get("first").force_open("maintenance")
    registry.get("second").force_open("maintenance")
    registry.get("third")
    assert len(registry) == 3
    assert not [record for record in log if "max_regions" in record["message"]]


@pytest.mark.parametrize("region", [None, 7, b"eu-west-1", "", " "])
def test_what_is_no_region_is_not_in_the_registry(region):
    assert region not in CircuitBreakerRegistry()


def test_the_warning_of_a_full_registry_names_its_limit_and_comes_once(clock, log):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    for number in range(6):
        registry.get(f"region-{number}")
    (record,) = log
    assert record["message"] == (
        "Circuit breaker registry keeps 2 regions (max_regions) and has evicted one: does"
        " region_from give a region, or something that never repeats?"
    )


def test_a_normalize_that_raises_is_named_with_its_error_and_the_region():
    def normalize(region):
        raise LookupError(region)

    with pytest.raises(ValueError, match=r"^normalize raised LookupError for 'eu-west-1'$"):
        CircuitBreakerRegistry(normalize=normalize).get("eu-west-1")


def test_the_spellings_of_every_region_stay_known(clock):
    registry = CircuitBreakerRegistry(normalize=str.lower, max_regions=3, clock=clock)
    spellings = ["one", "ONE", "two", "TWO", "three", "THREE"]
    for spelling in spellings:
        registry.get(spelling)
    assert list(registry.aliases) == spellings

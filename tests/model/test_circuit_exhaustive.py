"""The circuit, explored exhaustively: what is claimed here holds in every state it can reach.

tests/support/explore.py walks the states, by the doors of the breaker. The claims need no example:
each is checked in each state, or after each step. Small thresholds reach every line and every order
of events; test_circuit_model.py has the default ones.
"""

import functools
import itertools
from dataclasses import asdict, replace

import pytest
from loguru import logger

from resilience import (
    Backoff,
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitState,
    Outcome,
    Permit,
)
from resilience.circuit_states import HalfOpen, Open, Probe, TrackedClosed
from tests.support.explore import (
    CALLERS,
    MOST_BEHIND,
    OUTCOMES,
    REFUSED,
    UNAIDED,
    settle,
    walk,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def policy(*, probes=1, lease=2, threshold=2, recovery_timeout=3, **rules):
    return BreakerPolicy(
        **rules,
        failure_threshold=threshold,
        recovery_timeout=recovery_timeout,
        success_threshold=2,
        half_open_probes=probes,
        probe_timeout=lease,
    )


WALKS = {
    "one probe": (policy(probes=1),),
    "two probes": (policy(probes=2),),
    "a policy that changes": (policy(probes=2, lease=1), policy(probes=1, lease=2)),
    "a rate": (
        policy(
            threshold=3,
            recovery_timeout=1,
            failure_rate_threshold=0.5,
            minimum_calls=2,
            window=1,
        ),
    ),
    "a streak that ages": (policy(streak_window=1),),
    "slow calls": (
        policy(
            recovery_timeout=1,
            slow_call_duration=1,
            slow_call_rate_threshold=0.5,
            minimum_calls=2,
            window=1,
        ),
    ),
    "a recovery timeout that grows": (policy(recovery_timeout=Backoff(1, 2, 2), lease=1),),
}

# Here CLOSED may reject a call: it has claims of its own.
RAMP = (policy(recovery_timeout=1, lease=1, ramp=(1, 2000)),)

walk_once = functools.cache(walk)


@pytest.fixture(params=WALKS)
def walked(request):
    return walk_once(*WALKS[request.param])


@pytest.fixture
def worlds(walked):
    return walked.states.values()


@pytest.fixture(autouse=True)
def quiet():
    """Keep thousands of lines out of the reports."""
    logger.disable("resilience")
    yield
    logger.enable("resilience")


def alive(world):
    """Return the calls whose report would change something, found by trying."""
    return [
        index
        for index in range(len(world.calls))
        if any(changes_something(world, index, outcome) for outcome in Outcome)
    ]


def changes_something(world, index, outcome):
    trial = world.copy()
    before = trial.picture()
    settle(Permit().begin(trial.breaker, trial.calls[index].ticket), outcome)
    return bool(trial.events) or trial.picture() != before


def admits(world, *, after=0):
    """Whether an idle circuit admits a call after this many ticks."""
    trial = world.copy()
    trial.now += after
    try:
        trial.breaker.acquire()
    except CircuitBreakerOpenError:
        return False
    return True


def rejects(world):
    """Return the world after one rejected call, and the rejection."""
    after = world.copy()
    with pytest.raises(CircuitBreakerOpenError) as caught:
        after.breaker.acquire()
    return after, caught.value


def seen_at(world, now):
    """Return what the breaker shows at a time, and the world after that."""
    trial = world.copy()
    trial.now = now
    shown = trial.breaker.snapshot(), trial.breaker.state, trial.breaker.retry_after
    return shown, trial


# The walk itself


def test_the_walk_meets_what_it_is_for(walked):
    worlds = walked.states.values()
    print(f"states explored: {len(worlds)}, steps: {len(walked.steps)}")
    assert {world.circuit.state.name for world in worlds} == {CLOSED, OPEN, HALF_OPEN}
    assert set(OUTCOMES.values()) == set(Outcome)
    assert {step.name for step in walked.steps} >= {
        *("acquire", "go away", *OUTCOMES),
        *("reset", "force", "tick", "step back"),
    }
    assert max(sum(call.late for call in world.calls) for world in worlds) == CALLERS
    assert any(
        world.now - timed.since == -MOST_BEHIND for world in worlds for timed in world.timed()
    ), "the clock was behind"
    assert any(
        len(world.calls) > sum(call.late for call in world.calls) > 0
        for world in worlds
        if isinstance(world.circuit.state, HalfOpen)
    ), "late and live probes met"


# Probes


def test_never_more_live_probes_than_allowed(worlds):
    for world in worlds:
        allowed = max(policy.half_open_probes for policy in world.policies)
        if isinstance(world.circuit.state, HalfOpen):
            assert len(alive(world)) <= len(world.circuit.state.probes) <= allowed


def test_a_call_is_admitted_only_where_there_is_a_place(walked):
    for step in walked.steps:
        if step.name == "acquire" and isinstance(step.after.circuit.state, HalfOpen):
            admitted = len(step.after.calls) > len(step.before.calls)
            if admitted:
                allowed = step.after.policy.half_open_probes
                assert len(step.after.circuit.state.probes) <= allowed


def test_a_probe_loses_its_place_only_after_its_lease_and_only_where_no_other_is_left(walked):
    displaced = 0
    for step in walked.steps:
        if step.name != "acquire" or not isinstance(step.before.circuit.state, HalfOpen):
            continue
        places = step.before.policy.half_open_probes
        for before, after in zip(step.before.calls, step.after.calls, strict=False):
            if after.late and not before.late:
                displaced += 1
                assert len(step.before.circuit.state.probes) >= places
                lease = after.ticket.until - after.ticket.since
                assert step.after.now >= after.since + lease
    assert displaced


def test_as_many_probes_go_as_must(walked):
    for step in walked.steps:
        if step.name == "acquire" and isinstance(step.before.circuit.state, HalfOpen):
            before, after = step.before.circuit.state.probes, step.after.circuit.state.probes
            if len(step.after.calls) == len(step.before.calls):
                assert len(after) == len(before)
            else:
                too_many = max(0, len(before) + 1 - step.before.policy.half_open_probes)
                assert len(before) + 1 - len(after) == too_many


def test_probes_that_hang_block_the_circuit_for_one_lease_at_most(worlds):
    for world in worlds:
        if isinstance(world.circuit.state, HalfOpen) and not admits(world):
            after, rejection = rejects(world)
            assert 0 < rejection.retry_after <= 1
            leases = [probe.until - probe.since for probe in world.circuit.state.probes]
            assert admits(after, after=int(max(leases)))


# Late reports


def test_a_report_has_an_effect_exactly_until_its_permit_is_late(worlds):
    for world in worlds:
        expected = [index for index, call in enumerate(world.calls) if not call.late]
        assert alive(world) == expected


def test_a_live_report_moves_one_counter_and_nobody_elses(walked):
    for step in walked.steps:
        before, after = counters(step.before), counters(step.after)
        expected = dict.fromkeys(before, 0)
        match step.name:
            case "succeed":
                expected["successes"] = 1
                expected["trips"] = int(trips_by_slow_calls(step))
            case "fail":
                expected["failures"] = 1
                expected["trips"] = int(step.before.circuit.state.name is CLOSED and moved(step))
            case "answered":
                expected["answered"] = 1
                expected["trips"] = int(trips_by_slow_calls(step))
            case "ignore":
                expected["ignored"] = 1
            case "acquire" if len(step.after.calls) == len(step.before.calls):
                expected["rejected"] = 1
            case "acquire" if isinstance(step.after.calls[-1].ticket, Probe):
                expected["probes"] = 1
        assert {name: after[name] - before[name] for name in before} == expected


def counters(world):
    return asdict(world.circuit.totals())


def trips_by_slow_calls(step):
    """Whether a call that was slow has opened the circuit, although it went well."""
    is_watched = step.before.policy.slow_call_rate_threshold is not None
    return is_watched and step.before.circuit.state.name is CLOSED and moved(step)


def moved(step):
    return step.transition is not None


# Never stuck


@pytest.mark.parametrize("unaided", [UNAIDED, REFUSED], ids=["by successes", "by refusals"])
def test_closed_can_be_reached_again_from_every_state_that_is_not_forced(walked, unaided):
    assert stuck_states(walked, unaided) == []


def stuck_states(walked, unaided):
    """Return the states from which these steps do not lead to CLOSED."""
    leads_to = {}
    for step in walked.steps:
        if step.name in unaided:
            leads_to.setdefault(step.after.key(), set()).add(step.before.key())
    reached = {key for key, world in walked.states.items() if world.circuit.state.name is CLOSED}
    ahead = list(reached)
    while ahead:
        new = leads_to.get(ahead.pop(), set()) - reached
        reached |= new
        ahead += new
    return [key for key, world in walked.states.items() if not world.forced and key not in reached]


def test_a_forced_circuit_admits_nobody_and_only_reset_ends_it(walked):
    for world in walked.states.values():
        if world.forced:
            assert world.breaker.state is OPEN
            assert world.breaker.retry_after is None
            assert not admits(world)
            assert not admits(world, after=10**9)
    for step in walked.steps:
        if step.before.forced:
            assert step.after.forced == (step.name != "reset")


def test_a_call_that_is_rejected_and_waits_for_retry_after_is_admitted(worlds):
    # However the clock stepped: the first call starts the time again.
    for world in worlds:
        if isinstance(world.circuit.state, Open) and not world.forced and not admits(world):
            after, rejection = rejects(world)
            retry_after = int(rejection.retry_after)
            assert 0 < retry_after <= world.policy.longest_recovery
            assert not admits(after, after=retry_after - 1)
            assert admits(after, after=retry_after)


def test_never_open_for_longer_than_the_recovery_timeout_however_the_clock_stepped(worlds):
    for world in worlds:
        if not isinstance(world.circuit.state, Open) or world.forced:
            continue
        for back in range(MOST_BEHIND + 1):
            _, looked = seen_at(world, world.now - back)
            assert admits(looked, after=int(world.policy.longest_recovery))


# Transitions


def test_open_and_close_alternate(walked):
    by_itself = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
    by_hand = {
        "reset": {(OPEN, CLOSED), (HALF_OPEN, CLOSED)},
        "force": {(CLOSED, OPEN), (OPEN, OPEN), (HALF_OPEN, OPEN)},
    }
    caused_by = {
        (CLOSED, OPEN): ("fail",),
        (OPEN, HALF_OPEN): ("acquire",),
        (HALF_OPEN, OPEN): ("fail",),
        (HALF_OPEN, CLOSED): ("succeed", "answered"),
    }
    met = set()
    for step in walked.steps:
        old, new = step.before.circuit.state.name, step.after.circuit.state.name
        if step.transition is None:
            assert old is new
            continue
        edge = (step.transition.old, step.transition.new)
        assert edge == (old, new)
        assert edge in by_hand.get(step.name, by_itself)
        by_slow_call = edge == (CLOSED, OPEN) and trips_by_slow_calls(step)
        assert step.name in by_hand or step.name in caused_by[edge] or by_slow_call
        met.add((step.name in by_hand, edge))
    assert {edge for hand, edge in met if not hand} == by_itself
    assert {edge for hand, edge in met if hand} == set().union(*by_hand.values())


def test_a_transition_says_what_is_so_at_that_moment(walked):
    for step in walked.steps:
        if step.transition is not None and step.name != "acquire":
            circuit, now = step.after.circuit, step.after.now
            assert step.transition.at == now == circuit.state.since
            assert step.transition.retry_after == circuit.retry_after(now)
            assert step.transition.streak == circuit.state.streak
        elif step.transition is not None:  # made before the probe took its place
            assert step.transition.retry_after == 0.0


# Answered and ignored


def decisive(world):
    """Return what decides in a CLOSED circuit."""
    state = world.circuit.state
    return state.name, state.streak, state.since


def test_an_answered_or_ignored_call_moves_no_streak(walked):
    met = set()
    for step in walked.steps:
        if step.name in ("answered", "ignore") and step.transition is None:
            before, after = step.before.circuit.state, step.after.circuit.state
            assert decisive(step.after) == decisive(step.before)
            met.add((step.name, after.name))
            if isinstance(after, HalfOpen):
                assert after.successes - before.successes == (step.name == "answered")
                assert after.ignored_probes == (step.name == "ignore") * (before.ignored_probes + 1)
    assert met == {
        (name, state) for name in ("answered", "ignore") for state in (CLOSED, HALF_OPEN)
    }


def test_an_answered_probe_closes_exactly_where_a_success_would(walked):
    """The two differ in the streak and in the counters, and in nothing else."""
    compared = 0
    by_name = {}
    for step in walked.steps:
        if step.name in ("succeed", "answered"):
            if not isinstance(step.before.circuit.state, HalfOpen):
                continue
            by_name.setdefault(id(step.before), {}).setdefault(step.name, []).append(step.after)
    for ends in by_name.values():
        assert len(ends["succeed"]) == len(ends["answered"])
        for good, refused in zip(ends["succeed"], ends["answered"], strict=True):
            compared += 1
            assert refused.key() == good.key()
            assert [event.new for event in refused.events] == [event.new for event in good.events]
    assert compared


# Reading


def test_reading_changes_nothing_but_what_a_clock_behind_requires(worlds):
    for world in worlds:
        before = world.picture()
        for now in (world.now - 1, world.now, world.now + 100):
            first, looked = seen_at(world, now)
            again, _ = seen_at(looked, now)
            assert first == again
            assert looked.events == []
            assert looked.circuit.state.name is world.circuit.state.name
            assert looked.circuit.totals() == world.circuit.totals()
            assert (looked.picture() != before) == world.has_to_follow(now)


def test_what_is_read_is_what_a_call_meets(worlds):
    for world, after in itertools.product(worlds, (0, 1, 100)):
        (snapshot, state, retry_after), looked = seen_at(world, world.now + after)
        assert (snapshot.state, snapshot.retry_after) == (state, retry_after)
        admitted = admits(world, after=after)
        assert admits(looked) == admitted
        assert (retry_after == 0.0) == admitted
        if state is CLOSED:
            assert admitted
        elif state is OPEN:
            assert not admitted
        if admitted:
            looked.breaker.acquire()
            assert looked.circuit.state.name is state


def test_a_rejection_changes_nothing_but_its_count_and_what_a_clock_behind_requires(worlds):
    for world in worlds:
        if admits(world):
            continue
        snapshot = seen_at(world, world.now)[0][0]
        after, rejection = rejects(world)
        shown = (rejection.state, rejection.reason, rejection.retry_after)
        assert shown == (snapshot.state, snapshot.reason, snapshot.retry_after)
        assert after.breaker.snapshot() == replace(snapshot, rejected=snapshot.rejected + 1)
        after.circuit.state.rejected -= 1
        assert (after.picture() != world.picture()) == world.has_to_follow(world.now)


# The ramp


def test_a_ramp_never_admits_more_calls_at_a_time_than_it_allows():
    limits = set()
    for world in walk_once(*RAMP).states.values():
        ramp = world.circuit.state.ramp if isinstance(world.circuit.state, TrackedClosed) else None
        if ramp is not None:
            limits.add(ramp.limit)
            assert len([c for c in world.calls if ramp.is_running(c.ticket)]) <= ramp.limit
    assert limits == {1}  # the next step is the end


def test_a_ramp_holds_up_a_call_for_one_lease_at_most():
    held_up = 0
    for world in walk_once(*RAMP).states.values():
        if world.circuit.state.name is CLOSED and not admits(world):
            held_up += 1
            after, rejection = rejects(world)
            assert rejection.state is CLOSED
            assert 0 < rejection.retry_after <= 1
            assert admits(after, after=1)
    assert held_up


def test_closed_can_be_reached_again_with_a_ramp():
    assert stuck_states(walk_once(*RAMP), UNAIDED) == []

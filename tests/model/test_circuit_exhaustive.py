"""The circuit, explored exhaustively: what is claimed here holds in every state it can reach.

`explore.py` walks the states. The claims need no example: each is checked in each state, or after
each step. Small thresholds reach every line and every order of events; the numbers of T10 are for
test_circuit_model.py.
"""

import functools
import itertools

import pytest

from resilience import BreakerPolicy, CircuitState, Outcome
from resilience.circuit import Closed, HalfOpen, Open, Probe
from tests.support.explore import MOST_BEHIND, PERMITS, UNAIDED, walk

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def policy(*, probes, lease=2):
    return BreakerPolicy(
        failure_threshold=2,
        recovery_timeout=3,
        success_threshold=2,
        half_open_probes=probes,
        probe_timeout=lease,
    )


WALKS = {
    "one probe": (policy(probes=1),),
    "two probes": (policy(probes=2),),
    "a policy that changes": (policy(probes=2, lease=1), policy(probes=1, lease=2)),
}
# The documentation quotes these: states explored and steps taken.
EXPECTED = {
    "one probe": (131, 1_114),
    "two probes": (503, 4_800),
    "a policy that changes": (1_586, 16_746),
}

walk_once = functools.cache(walk)


@pytest.fixture(params=WALKS)
def walked(request):
    return walk_once(*WALKS[request.param])


@pytest.fixture
def worlds(walked):
    return walked.states.values()


def alive(world):
    """The permits whose report would change something, found by trying."""
    return [
        index
        for index in range(len(world.permits))
        if any(changes_something(world, index, outcome) for outcome in Outcome)
    ]


def changes_something(world, index, outcome):
    trial = world.copy()
    before = trial.picture()
    transition = trial.circuit.record(trial.permits[index].ticket, (outcome, "late"), trial.now)
    return transition is not None or trial.picture() != before


def admits(world, *, after=0):
    """Whether an idle circuit admits a call after so many ticks."""
    trial = world.copy()
    return not isinstance(trial.circuit.acquire(trial.now + after), tuple)


def rejects(world):
    """The world after one rejected call, and what the caller was told."""
    after = world.copy()
    answer = after.circuit.acquire(after.now)
    assert isinstance(answer, tuple)
    return after, answer


# The walk itself


@pytest.mark.parametrize("name", WALKS)
def test_the_number_of_states_is_the_one_in_the_documentation(name):
    walked = walk_once(*WALKS[name])
    states, steps = len(walked.states), len(walked.steps)
    print(f"{name}: states explored: {states}, steps: {steps}")  # noqa: T201 - for pytest -s
    assert (states, steps) == EXPECTED[name]


def test_the_walk_meets_what_it_is_for(walked):
    worlds = walked.states.values()
    assert {type(world.circuit.state) for world in worlds} == {Closed, Open, HalfOpen}
    assert {step.name for step in walked.steps} >= {
        *("acquire", "succeed", "fail", "ignore", "go away"),
        *("reset", "force", "tick", "step back"),
    }
    assert max(sum(permit.late for permit in world.permits) for world in worlds) == PERMITS
    assert any(
        world.now - since == -MOST_BEHIND for world in worlds for since, _ in world.times()
    ), "the clock was behind"
    assert any(
        len(world.permits) > sum(permit.late for permit in world.permits) > 0
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
            admitted = len(step.after.permits) > len(step.before.permits)
            if admitted:
                allowed = step.after.policy.half_open_probes
                assert len(step.after.circuit.state.probes) <= allowed


def test_a_probe_loses_its_place_only_after_its_lease_and_only_where_no_other_is_left(walked):
    displaced = 0
    for step in walked.steps:
        if step.name != "acquire" or not isinstance(step.before.circuit.state, HalfOpen):
            continue
        places = step.before.policy.half_open_probes
        for before, after in zip(step.before.permits, step.after.permits, strict=False):
            if after.late and not before.late:
                displaced += 1
                assert len(step.before.circuit.state.probes) >= places
                assert step.after.now >= after.since + after.ticket.timeout
    assert displaced


def test_as_many_probes_go_as_must_and_the_new_one_names_them(walked):
    for step in walked.steps:
        if step.name == "acquire" and isinstance(step.before.circuit.state, HalfOpen):
            before, after = step.before.circuit.state.probes, step.after.circuit.state.probes
            if len(step.after.permits) == len(step.before.permits):
                assert len(after) == len(before)
            else:
                too_many = max(0, len(before) + 1 - step.before.policy.half_open_probes)
                named = step.after.permits[-1].ticket.displaced
                assert len(named) == too_many == len(before) + 1 - len(after)


def test_probes_that_hang_block_the_circuit_for_one_lease_at_most(worlds):
    for world in worlds:
        if isinstance(world.circuit.state, HalfOpen) and not admits(world):
            after, (_, _, retry_after) = rejects(world)
            assert 0 < retry_after <= 1
            assert admits(after, after=max(probe.timeout for probe in world.circuit.state.probes))


# Late reports


def test_a_report_has_an_effect_exactly_until_its_permit_is_late(worlds):
    for world in worlds:
        expected = [index for index, permit in enumerate(world.permits) if not permit.late]
        assert alive(world) == expected


def test_a_live_report_moves_one_counter_and_nobody_elses(walked):
    for step in walked.steps:
        before, after = counters(step.before), counters(step.after)
        expected = dict.fromkeys(before, 0)
        match step.name:
            case "succeed":
                expected["successes"] = 1
            case "fail":
                expected["failures"] = 1
                expected["trips"] = int(step.before.circuit.state.name is CLOSED and moved(step))
            case "ignore":
                expected["ignored"] = 1
            case "acquire" if len(step.after.permits) == len(step.before.permits):
                expected["rejected"] = 1
            case "acquire" if isinstance(step.after.permits[-1].ticket, Probe):
                expected["probes"] = 1
        assert {name: after[name] - before[name] for name in before} == expected


def counters(world):
    names = ("successes", "failures", "ignored", "rejected", "probes", "trips")
    return dict(zip(names, world.circuit.counts(), strict=True))


def moved(step):
    return step.transition is not None


# Never stuck


def test_closed_can_be_reached_again_from_every_state_that_is_not_forced(walked):
    leads_to = {}
    for step in walked.steps:
        if step.name in UNAIDED:
            leads_to.setdefault(step.after.key(), set()).add(step.before.key())
    reached = {key for key, world in walked.states.items() if world.circuit.state.name is CLOSED}
    ahead = list(reached)
    while ahead:
        new = leads_to.get(ahead.pop(), set()) - reached
        reached |= new
        ahead += new
    stuck = [key for key, world in walked.states.items() if not world.forced and key not in reached]
    assert stuck == []


def test_a_forced_circuit_admits_nobody_and_only_reset_ends_it(walked):
    for world in walked.states.values():
        if world.forced:
            assert world.circuit.phase(world.now) is OPEN
            assert world.circuit.retry_after(world.now) is None
            assert not admits(world)
            assert not admits(world, after=10**9)
    for step in walked.steps:
        if step.before.forced:
            assert step.after.forced == (step.name != "reset")


def test_whoever_is_rejected_and_waits_as_told_is_admitted(worlds):
    # However the clock stepped: the first who asks starts the time anew, so that it holds.
    for world in worlds:
        if isinstance(world.circuit.state, Open) and not world.forced and not admits(world):
            after, (_, _, retry_after) = rejects(world)
            assert 0 < retry_after <= world.policy.recovery_timeout
            assert not admits(after, after=retry_after - 1)
            assert admits(after, after=retry_after)


def test_never_open_for_longer_than_the_recovery_timeout_however_the_clock_stepped(worlds):
    for world in worlds:
        if isinstance(world.circuit.state, Open) and not world.forced:
            asked = world if admits(world) else rejects(world)[0]
            for back in range(MOST_BEHIND + 1):
                trial = asked.copy()
                trial.now -= back
                if not admits(trial):
                    trial = rejects(trial)[0]
                assert admits(trial, after=world.policy.recovery_timeout)


# Transitions


def test_open_and_close_alternate(walked):
    by_itself = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
    by_hand = {
        "reset": {(OPEN, CLOSED), (HALF_OPEN, CLOSED)},
        "force": {(CLOSED, OPEN), (OPEN, OPEN), (HALF_OPEN, OPEN)},
    }
    caused_by = {
        (CLOSED, OPEN): "fail",
        (OPEN, HALF_OPEN): "acquire",
        (HALF_OPEN, OPEN): "fail",
        (HALF_OPEN, CLOSED): "succeed",
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
        assert step.name in by_hand or caused_by[edge] == step.name
        met.add((step.name in by_hand, edge))
    assert {edge for hand, edge in met if not hand} == by_itself
    assert {edge for hand, edge in met if hand} == set().union(*by_hand.values())


def test_a_transition_says_what_is_so_at_that_moment(walked):
    for step in walked.steps:
        if step.transition is not None and step.name != "acquire":
            circuit, now = step.after.circuit, step.after.now
            assert step.transition.at == now == circuit.state.at
            assert step.transition.retry_after == circuit.retry_after(now)
            assert step.transition.streak == circuit.state.streak
        elif step.transition is not None:  # told before the probe took its place
            assert step.transition.retry_after == 0.0


# Looking


def test_looking_changes_nothing(worlds):
    for world in worlds:
        circuit, before = world.circuit, world.picture()
        for now in (world.now - 1, world.now, world.now + 100):
            first, second = (
                (
                    circuit.phase(now),
                    circuit.phase_since(now),
                    circuit.retry_after(now),
                    circuit.counts(),
                    circuit.eviction_rank(now),
                )
                for _ in range(2)
            )
            assert first == second
        assert world.picture() == before


def test_what_a_look_says_is_what_a_call_meets(worlds):
    for world, after in itertools.product(worlds, (0, 1, 100)):
        circuit, now = world.circuit, world.now + after
        admitted = admits(world, after=after)
        assert (circuit.retry_after(now) == 0.0) == admitted
        phase = circuit.phase(now)
        if phase is CLOSED:
            assert admitted
        elif phase is OPEN:
            assert not admitted
        if admitted:
            trial = world.copy()
            trial.circuit.acquire(now)
            assert trial.circuit.state.name is phase


def test_a_rejection_changes_nothing_but_its_count_and_what_a_clock_behind_requires(worlds):
    for world in worlds:
        if admits(world):
            continue
        trial = world.copy()
        before = trial.picture()
        said = (trial.circuit.state.name, trial.circuit.state.reason)
        wait = trial.circuit.retry_after(trial.now)
        assert trial.circuit.acquire(trial.now) == (*said, wait)
        trial.circuit.rejected -= 1
        behind = any(world.now < since for since, _ in world.times())
        assert (trial.picture() == before) is not behind

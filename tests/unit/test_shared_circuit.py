"""What a circuit makes of what others know: each rule, and each hole of a first design."""

import math

import pytest

from resilience import BreakerPolicy
from resilience.circuit_events import ProbesIgnored, RejectionsBegan
from resilience.circuit_states import Closed
from resilience.integrations.redis.protocol import parse_replies, parse_reply
from resilience.outcome import SUCCESS
from resilience.shared_record import Change
from tests.support.fleet import ANSWERED, FAILURE, IGNORED, KEY, POLICY, World


@pytest.fixture
def world():
    return World()


@pytest.fixture
def pair(world):
    return world.processes


def opened(processes=2, **options):
    """A fleet whose first process has tripped, when the recovery timeout is just over."""
    world = World(processes, **options)
    world.processes[0].trip()
    world.settle()
    world.pass_(60.0)
    return world


def granted(world, process):
    """Let a process have the lease."""
    while process.circuit.expects_call(world.now) != 0.0:
        world.pass_(0.1)
        process.send()
    assert process.circuit.holds_lease
    return process


# Opening


def test_a_trip_opens_every_circuit_for_the_rest_of_the_recovery_timeout(world, pair):
    one, other = pair
    one.trip()
    world.pass_(10.0)
    world.settle()
    assert world.states() == ["OPEN", "OPEN"]
    assert other.circuit.retry_after(world.now) == pytest.approx(50.0)


def test_the_others_see_which_process_opened_it_and_why(world, pair):
    one, other = pair
    one.trip()
    world.settle()
    (event,) = other.events
    assert (event.old, event.new, event.reason, event.by) == (
        "CLOSED", "OPEN", "TimeoutError", "host/0",
    )  # fmt: skip
    assert one.events[-1].by is None


def test_two_that_trip_at_the_same_time_agree_on_the_first(world, pair):
    one, other = pair
    one.trip()
    world.pass_(1.0)
    other.trip()
    one.send()
    world.settle()
    assert world.states() == ["OPEN", "OPEN"]
    left = [process.circuit.retry_after(world.now) for process in pair]
    assert left == pytest.approx([59.0, 59.0])
    assert [len(process.events) for process in pair] == [1, 1]


def test_a_call_that_began_before_another_opened_the_circuit_is_late(world, pair):
    one, other = pair
    late = other.begin()
    one.trip()
    world.settle()
    failures = other.circuit.totals().failures
    other.end(late, FAILURE)
    assert other.circuit.totals().failures == failures


def test_a_process_that_starts_while_it_is_open_learns_it():
    world = World(3)
    one, _, late = world.processes
    late.start_again()
    one.trip()
    one.send()
    late.read()
    assert late.state == "OPEN"


# The quorum


def test_below_the_quorum_a_process_stays_alone_with_its_opinion():
    world = World(3, quorum=2)
    one, _, third = world.processes
    one.trip()
    world.settle()
    assert world.states() == ["OPEN", "CLOSED", "CLOSED"]
    third.trip()
    world.settle()
    assert world.states() == ["OPEN", "OPEN", "OPEN"]


def test_an_opinion_is_probed_alone_immediately():
    world = World(2, quorum=2)
    one = world.processes[0]
    one.trip()
    world.settle()
    world.pass_(60.0)
    assert [one.call(), one.call(), one.call()] == ["called"] * 3
    assert one.state == "CLOSED"


def test_a_vote_is_withdrawn_by_its_own_close():
    world = World(3, quorum=2)
    one, other, _ = world.processes
    one.trip()
    world.settle()
    world.pass_(59.0)
    one.circuit.configure(BreakerPolicy(failure_threshold=2, recovery_timeout=30.0))
    for _ in range(3):
        one.call()
    assert one.send() == ["withdraw"]
    other.trip()
    world.settle()
    assert world.states() == ["CLOSED", "OPEN", "CLOSED"]


def test_an_opinion_that_nobody_has_heard_of_ends_in_silence():
    world = World(2, quorum=2)
    one = world.processes[0]
    one.disconnect()
    one.trip()
    world.pass_(60.0)
    for _ in range(3):
        one.call()
    one.read()
    assert one.send() == []


def test_a_vote_ends_with_the_recovery_timeout():
    world = World(2, quorum=2)
    one, other = world.processes
    one.trip()
    world.settle()
    world.pass_(60.0)
    other.trip()
    world.settle()
    assert world.states() == ["HALF_OPEN", "OPEN"]


def test_an_opinion_that_opens_again_votes_again():
    world = World(2, quorum=2)
    one, other = world.processes
    one.trip()
    world.settle()
    world.pass_(60.0)
    one.call(FAILURE)
    assert one.send() == ["trip"]
    other.trip()
    world.settle()
    assert world.states() == ["OPEN", "OPEN"]


# The lease


@pytest.mark.parametrize("answer", [SUCCESS, ANSWERED])
def test_one_process_makes_all_the_probes_and_closes_for_all(answer):
    world = opened(8)
    calls = []
    for _ in range(200):
        for process in world.processes:
            calls += [process] * (process.state != "CLOSED" and process.call(answer) == "called")
        world.pass_(0.01)
        world.settle()
    assert world.states() == ["CLOSED"] * 8
    assert len(calls) == 3
    assert len(set(calls)) == 1


def test_a_due_call_is_rejected_for_a_moment_and_rings():
    world = opened()
    other = world.processes[1]
    notified = other.notified
    assert other.call() == 0.25
    assert other.notified == notified + 1
    assert other.send() == ["take"]
    assert other.call() == "called"


def test_a_rejection_beside_the_lease_of_another_says_what_is_left_of_it_at_most_a_second():
    world = opened()
    one, other = world.processes
    granted(world, other)
    world.pass_(0.3)
    one.read()
    assert one.call() == 1.0
    assert one.circuit.acquire(world.now).state == "HALF_OPEN"


def test_the_first_rejection_of_an_outage_names_the_state_that_the_call_meets():
    world = opened()
    other = world.processes[1]
    rejection = other.circuit.acquire(world.now)
    assert other.circuit.events == [RejectionsBegan(rejection.state, "TimeoutError")]
    assert rejection.state == "HALF_OPEN"


def test_the_process_that_opened_it_asks_later_than_the_others():
    # Hole 10: a sick process that gets the lease prolongs the outage.
    world = opened()
    one, _ = world.processes
    assert one.call() == 0.25
    assert one.send() == []
    world.pass_(0.25)
    one.call()
    assert one.send() == ["take"]


def test_rare_calls_probe_immediately_and_ask_at_the_same_time():
    # Hole 1: with calls rarer than the lease is long, the flag alone never recovers.
    world = opened(8)
    requests = 0
    for _ in range(3):
        for process in world.processes:
            if process.state != "CLOSED":
                requests += process.call() == "called"
            for _ in range(5):
                world.settle()
                world.pass_(0.25)
                world.settle()
    assert world.states() == ["CLOSED"] * 8
    assert requests == 3


def test_a_process_that_comes_back_after_retry_after_is_not_a_rare_caller():
    # Hole 2: all that slept exactly `retry_after` would be let through at once.
    world = World(8)
    world.processes[0].trip()
    world.settle()
    waits = [process.call() for process in world.processes]
    world.pass_(max(waits))
    assert [process.call() for process in world.processes] == [0.25] * 8
    world.settle()
    world.pass_(0.25)
    assert [process.call() for process in world.processes].count("called") == 1


def test_the_sleepers_behind_a_lease_that_goes_back_are_no_rare_callers():
    world = opened(8)
    holder = granted(world, world.processes[1])
    world.settle()
    others = [process for process in world.processes if process is not holder]
    for process in others:
        assert process.call() == 1.0
    world.pass_(0.6)
    world.settle()
    assert not holder.circuit.holds_lease
    world.pass_(0.4)
    assert "called" not in [process.call() for process in others]


def test_rare_callers_of_a_large_fleet_leave_a_free_place_to_the_process_that_asks_for_it():
    # Each of them calls rarely, all of them together often: they would all probe at once.
    world = opened(8)
    holder = granted(world, world.processes[1])
    others = [process for process in world.processes if process is not holder]
    world.settle()
    for process in others:
        process.call()
    world.pass_(2.0)
    world.settle()
    assert not holder.circuit.holds_lease, "it went back"
    assert [process.call() for process in others] == [0.25] * 7
    world.settle()
    world.pass_(0.1)
    assert [process.call() for process in others].count("called") == 1


def test_a_process_that_waits_asks_too():
    # Hole 3: waiters and paused consumers make no call.
    world = opened()
    other = world.processes[1]
    assert other.circuit.expects_call(world.now) == 0.25
    assert other.send() == ["take"]
    assert other.circuit.expects_call(world.now) == 0.0


def test_a_process_that_only_reads_asks_for_nothing():
    world = opened()
    other = world.processes[1]
    notified = other.notified
    assert other.circuit.retry_after(world.now) == 0.25
    assert other.state == "HALF_OPEN"
    assert (other.notified, other.send()) == (notified, [])


def test_without_an_answer_it_probes_alone():
    world = opened()
    other = world.processes[1]
    assert other.call() == 0.25
    world.pass_(0.24)
    assert other.call() == pytest.approx(0.01)
    world.pass_(0.01)
    assert other.call() == "called"


def test_a_lone_probe_is_late_when_another_turns_out_to_hold_the_lease():
    world = opened(3)
    _, other, third = world.processes
    other.call()
    world.pass_(0.25)
    lone = other.begin()
    granted(world, third)
    other.read()
    other.end(lone, FAILURE)
    assert other.state == "HALF_OPEN"
    assert other.circuit.totals().failures == 0


def test_a_lone_probe_that_gets_the_lease_counts_with_it():
    world = opened(3)
    other = world.processes[1]
    other.call()
    world.pass_(10.0)
    assert other.call() == "called"
    assert other.send() == ["take", "renew"]
    assert world.record().successes == 1
    other.call()
    other.call()
    world.settle()
    assert world.states() == ["CLOSED"] * 3


@pytest.mark.parametrize("answer", [SUCCESS, ANSWERED])
def test_three_lone_answers_close_for_all(answer):
    world = opened()
    other = world.processes[1]
    other.call()
    world.pass_(0.25)
    for _ in range(3):
        assert other.call(answer) == "called"
    assert other.send() == ["close"]
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"]


def test_a_lone_failure_opens_for_all_for_a_full_recovery_timeout():
    world = opened()
    one, other = world.processes
    other.call()
    world.pass_(0.25)
    other.call(FAILURE)
    assert other.send() == ["reopen"]
    world.settle()
    assert one.circuit.retry_after(world.now) == pytest.approx(60.0)
    assert one.events[-1].new == "OPEN"
    assert len(one.events) == 1, "it was open already: nothing to tell"


def test_a_failed_probe_of_the_holder_opens_for_all():
    world = opened()
    _, other = world.processes
    granted(world, other)
    other.call(FAILURE)
    world.settle()
    assert world.states() == ["OPEN", "OPEN"]
    assert [p.circuit.retry_after(world.now) for p in world.processes] == pytest.approx([60, 60])


def test_the_count_of_a_holder_is_not_lost_with_its_lease():
    # Hole 8: it is in the store after each success.
    world = opened()
    one, other = world.processes
    granted(world, other)
    other.call()
    assert other.send() == ["renew"]
    other.call()
    other.send()
    world.pass_(5.0)
    granted(world, one)
    assert one.call() == "called"
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"]


def test_a_lease_without_a_call_goes_back():
    world = opened()
    one, other = world.processes
    assert other.circuit.next_command_in(world.now) == math.inf
    granted(world, other)
    assert other.circuit.next_command_in(world.now) == 0.5
    world.pass_(0.5)
    assert other.send() == ["release"]
    one.read()
    world.pass_(0.25)
    one.call()
    assert one.send() == ["take"]


def test_the_lease_is_renewed_only_while_a_probe_runs_within_its_time_out():
    policy = BreakerPolicy(failure_threshold=2, recovery_timeout=60.0, probe_timeout=4.0)
    world = opened(policy=policy)
    one, other = world.processes
    granted(world, other)
    hung = other.begin()
    said = []
    for _ in range(50):
        for _ in range(3):
            assert one.call() != "called" or not other.circuit.holds_lease
        said += other.send()
        world.pass_(0.1)
        one.read()
    assert said == ["renew", "renew", "release"], "rejected traffic prolongs nothing"
    other.end(hung)
    assert world.record().successes == 0


def test_a_holder_that_slept_over_its_lease_reports_too_late():
    world = opened()
    _, other = world.processes
    granted(world, other)
    late = other.begin()
    world.pass_(5.0)
    other.end(late, FAILURE)
    assert other.state == "HALF_OPEN"
    assert other.circuit.totals().failures == 0
    assert other.circuit.ignored_probes() == ProbesIgnored(1, ("longer than the lease",))


def test_an_answered_probe_is_reported_to_the_store_like_a_success():
    world = opened()
    other = granted(world, world.processes[1])
    other.call(ANSWERED)
    assert other.send() == ["renew"]
    assert world.record().successes == 1
    other.call()
    other.call(ANSWERED)
    assert other.events[-1].reason == "3 consecutive answers"
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"]


def test_a_cancelled_probe_gives_its_place_back_immediately():
    world = opened()
    other = granted(world, world.processes[1])
    for _ in range(3):
        assert other.call(IGNORED) == "called"
    assert other.send() == []
    assert other.circuit.next_command_in(world.now) == pytest.approx(0.1)
    world.pass_(0.1)
    assert other.send() == ["release"], "for another, if its own process has no more calls"


# What comes too late


def test_a_trip_that_comes_after_its_time_opens_nobody(world, pair):
    # Hole 4.
    one, _ = pair
    one.trip()
    trip = one.request(one.circuit.next_command(world.now))
    one.reset()
    world.pass_(2.0)
    assert parse_reply(one.run(trip), 0.0).is_late
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"]


def test_a_take_from_before_a_pause_does_not_reopen_a_closed_fleet():
    # Hole 5.
    world = opened(3)
    _, other, sleeper = world.processes
    sleeper.call()
    take = sleeper.request(sleeper.circuit.next_command(world.now), not_after=10**14)
    granted(world, other)
    for _ in range(2):
        other.call()
    other.call()
    other.send()
    assert parse_reply(sleeper.run(take), 0.0).view.state == "C"
    world.settle()
    assert world.states() == ["CLOSED"] * 3


def test_a_close_does_not_close_with_another_ones_fence():
    # Hole 5.
    world = opened(3)
    _, other, third = world.processes
    granted(world, other)
    for _ in range(3):
        other.circuit.record(other.circuit.acquire(world.now), SUCCESS, world.now)
    close = other.circuit._command(Change.CLOSE, world.now)
    world.pass_(5.0)
    granted(world, third)
    reply = parse_reply(other.run(other.request(close)), 0.0)
    assert (reply.view.done, reply.view.state) == (False, "H")


def test_an_answer_of_an_older_version_is_what_a_store_says_that_forgot(world, pair):
    one, other = pair
    one.trip()
    world.settle()
    world.lose_data()
    other.read()
    assert other.state == "OPEN"
    assert other.send() == ["trip"]
    assert world.record().state == "O"


# The store comes and goes


@pytest.mark.parametrize("quorum", [1, 2])
def test_an_empty_restart_lets_no_call_through_and_the_fleet_is_open_again(quorum):
    world = World(3, quorum=quorum)
    for process in world.processes[:2]:
        process.trip()
    world.settle()
    world.pass_(20.0)
    version = world.record().version
    world.lose_data()
    world.settle()
    assert world.states() == ["OPEN"] * 3
    assert world.record().state == "O"
    assert world.record().version > version
    left = [process.circuit.retry_after(world.now) for process in world.processes]
    assert left == pytest.approx([40.0] * 3)


def test_a_lease_survives_an_empty_restart():
    world = opened()
    _, other = world.processes
    granted(world, other)
    other.call()
    other.send()
    world.lose_data()
    world.settle()
    assert (world.record().owner, world.record().successes) == (other.protocol.client_id, 1)
    assert other.circuit.holds_lease


def test_the_count_survives_an_empty_restart_that_takes_the_lease_along():
    world = opened()
    _, other = world.processes
    granted(world, other)
    other.call()
    other.call()
    other.send()
    world.pass_(0.6)
    assert other.send() == ["release"]
    world.lose_data()
    world.pass_(20.0)
    assert other.call() == "called"
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"]


def test_a_close_reaches_all_across_an_empty_restart():
    world = opened()
    _, other = world.processes
    granted(world, other)
    world.lose_data()
    for _ in range(3):
        other.call()
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"]


def test_a_forced_opening_survives_an_empty_restart(world, pair):
    one, _ = pair
    one.force()
    world.settle()
    world.lose_data()
    world.settle()
    assert world.states() == ["OPEN", "OPEN"]
    assert world.record().state == "F"


def test_without_the_store_each_goes_on_alone(world, pair):
    one, _ = pair
    one.trip()
    world.settle()
    for process in pair:
        process.disconnect()
    world.pass_(60.0)
    assert [process.call() for process in pair] == ["called"] * 2


def test_a_circuit_that_opened_while_the_store_was_gone_opens_the_fleet_when_it_is_back(
    world, pair
):
    one, other = pair
    one.disconnect()
    one.trip()
    world.pass_(20.0)
    world.settle()
    assert other.circuit.retry_after(world.now) == pytest.approx(40.0)


def test_a_circuit_that_closed_while_the_store_was_gone_closes_the_fleet_when_it_is_back():
    world = opened()
    one, _ = world.processes
    one.disconnect()
    for _ in range(3):
        one.call()
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"]


def test_a_close_from_before_its_own_opening_is_not_followed(world, pair):
    one, other = pair
    one.trip()
    world.settle()
    other.reset()
    other.send()
    world.pass_(1.0)
    one.circuit.state = one.circuit._stored_state = Closed(world.now)
    one.trip()
    one.send()
    assert world.record().state == "O"
    world.settle()
    assert world.states() == ["OPEN", "OPEN"]


def test_a_close_right_after_an_opening_whose_answer_was_slow_is_followed(world, pair):
    one, other = pair
    one.trip()
    one.send()
    (opening,) = parse_replies(other.run(other.protocol.read([KEY])), 1, 0.5)
    world.pass_(0.1)
    one.reset()
    one.send()
    world.pass_(0.4)
    other.circuit.on_record(opening.view, world.now)
    assert world.states() == ["CLOSED", "OPEN"]
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"]


def test_a_close_right_after_an_own_opening_is_followed_though_its_answer_is_slow(world, pair):
    one, other = pair
    one.trip()
    one.send()
    world.pass_(0.1)
    other.reset()
    other.send()
    one.read(delay=0.5)
    assert world.states() == ["CLOSED", "CLOSED"]
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"]


def test_halves_that_were_cut_off_agree_when_they_are_healed():
    world = World(4)
    for process in world.processes[2:]:
        process.disconnect()
    for process in world.processes[:2]:
        process.trip()
    world.processes[0].send()
    world.pass_(5.0)
    world.settle()
    assert world.states() == ["OPEN"] * 4


# By hand


def test_a_reset_and_a_forced_opening_are_the_whole_fleets(world, pair):
    one, other = pair
    one.force()
    world.settle()
    assert other.circuit.retry_after(world.now) is None
    assert other.events[-1].reason == "forced open: maintenance"
    other.reset()
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"]
    assert one.events[-1].reason == "reset by hand"


def test_forcing_it_open_again_for_the_same_reason_changes_nothing(world, pair):
    one, _ = pair
    one.force()
    world.settle()
    notified = one.notified
    one.force()
    assert one.notified == notified
    assert one.send() == []


def test_a_reset_ends_an_opinion_too():
    world = World(2, quorum=2)
    one, other = world.processes
    one.trip()
    world.settle()
    other.reset()
    world.settle()
    assert one.state == "CLOSED"


def test_a_forced_opening_is_sent_when_the_store_is_back(world, pair):
    one, other = pair
    one.disconnect()
    one.force()
    other.trip()
    other.send()
    world.pass_(100.0)
    world.settle()
    assert [process.circuit.retry_after(world.now) for process in pair] == [None, None]


def test_a_trip_after_a_reset_that_was_not_sent_yet_stands(world, pair):
    one, _ = pair
    one.disconnect()
    one.reset()
    one.trip()
    world.pass_(1.0)
    assert one.send() == ["reset", "trip"]
    world.settle()
    assert world.states() == ["OPEN", "OPEN"]


def test_a_reset_that_could_not_be_sent_is_dropped_when_the_fleet_has_moved_on(world, pair):
    one, other = pair
    one.disconnect()
    one.reset()
    other.trip()
    other.send()
    world.pass_(10.0)
    world.settle()
    assert world.states() == ["OPEN", "OPEN"]


# Another's probes, seen by a CLOSED circuit


def test_a_circuit_that_closed_by_itself_is_open_while_another_probes():
    world = opened(3)
    _, other, third = world.processes
    granted(world, other)
    third.start_again()
    third.read()
    assert third.state == "HALF_OPEN"
    assert third.call() == 1.0


# A fork


def test_the_child_of_a_fork_holds_nothing_and_says_nothing():
    world = opened()
    other = granted(world, world.processes[1])
    other.circuit.forked()
    assert not other.circuit.holds_lease
    assert not other.circuit.shared
    assert other.send() == []
    assert other.state == "HALF_OPEN"


def test_the_first_call_after_a_fork_notifies_whatever_its_state(world, pair):
    for process in pair:
        process.circuit.forked()
        assert process.circuit.admits_without_asking() is None
    closed, opened = pair
    closed.call()
    assert closed.notified == 1
    assert closed.circuit.admits_without_asking() is closed.circuit.state
    opened.force()
    opened.call()
    notified = opened.notified
    opened.circuit.forked()
    assert opened.call() is None
    assert opened.notified == notified + 1
    assert opened.call() is None
    assert opened.notified == notified + 1


def test_what_it_holds_is_given_back_at_the_end():
    world = opened(2)
    one, other = world.processes
    assert other.circuit.final_command(world.now) is None
    granted(world, other)
    assert other.circuit.final_command(world.now).change == "release"
    world = World(2, quorum=2)
    one = world.processes[0]
    one.trip()
    one.send()
    assert one.circuit.final_command(world.now).change == "withdraw"


def test_the_key_of_the_tests_is_the_stores():
    assert KEY in opened().store.hashes
    assert POLICY.recovery_timeout == 60.0


# A clock that steps back


@pytest.mark.parametrize("store_is_there", [True, False])
def test_a_clock_that_steps_back_keeps_no_circuit_open_for_longer(store_is_there):
    world = opened()
    holder, other = world.processes
    granted(world, other)
    world.settle()
    if not store_is_there:
        for process in (holder, other):
            process.circuit.on_disconnect()
    now = world.now - 10_000.0
    waits = []
    for circuit in (holder.circuit, other.circuit):
        seconds = 0.0
        while seconds < 200.0:
            circuit.follow_clock(now + seconds)  # as a breaker does for each call
            wait = circuit.expects_call(now + seconds)
            if wait == 0.0:
                break
            seconds += max(wait, 0.05)
        waits.append(seconds)
    assert max(waits) < 200.0

"""The circuit's rules, one by one and by their numbers, as they stand at the top of circuit.py."""

import gc
import math
import sys
from dataclasses import astuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resilience import BreakerPolicy, CircuitBreaker, CircuitState, Outcome
from resilience.circuit import Circuit, Rejection, Totals
from resilience.circuit_events import ProbeExpired, ProbesIgnored, Transition
from resilience.circuit_states import Probe
from resilience.outcome import Report

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
SUCCESS, ANSWERED = Report(Outcome.SUCCESS), Report(Outcome.ANSWERED)
IGNORED = Report(Outcome.IGNORED)
FAILURE = Report(Outcome.FAILURE, "ServerError 503")


def circuit_of(*, now=0.0, **thresholds):
    return Circuit(BreakerPolicy(**thresholds), now)


def report(circuit, what, *, now=0.0, times=1):
    """Let one call after the other report the same, and return the last transition."""
    transition = None
    for _ in range(times):
        transition = transition_of(circuit.record, admitted(circuit, now=now), what, now)
    return transition


def transition_of(method, *arguments):
    """Call a method of a circuit, and return the last transition that it made, or None."""
    events = method.__self__.events
    before = len(events)
    method(*arguments)
    transitions = [event for event in events[before:] if isinstance(event, Transition)]
    return transitions[-1] if transitions else None


def admitted(circuit, *, now):
    ticket = circuit.acquire(now)
    assert not isinstance(ticket, Rejection), ticket
    return ticket


def rejected(circuit, *, now):
    answer = circuit.acquire(now)
    assert isinstance(answer, Rejection), answer
    return answer


def expired(circuit):
    """Return the leases of the probes whose places were taken."""
    return [event.after for event in circuit.events if isinstance(event, ProbeExpired)]


def opened(*, at=0.0, **thresholds):
    circuit = circuit_of(now=at, **thresholds)
    report(circuit, FAILURE, now=at, times=circuit.policy.failure_threshold)
    assert circuit.state.name is OPEN
    return circuit


def move(transition):
    return transition.old, transition.new


# Rule 1: time goes in, events come out


def test_a_new_circuit_is_closed_since_it_was_made():
    circuit = circuit_of(now=7.0)
    assert circuit.phase(9.0) is CLOSED
    assert circuit.phase_since(9.0) == 7.0
    assert circuit.retry_after(9.0) == 0.0
    assert circuit.totals() == Totals()


def test_a_transition_says_all_that_a_listener_needs():
    circuit = circuit_of(failure_threshold=2, recovery_timeout=60)
    transition = report(circuit, FAILURE, now=5.0, times=2)
    assert move(transition) == (CLOSED, OPEN)
    assert transition.reason == "ServerError 503"
    assert (transition.at, transition.streak, transition.retry_after) == (5.0, 2, 60.0)


def test_a_report_that_changes_no_state_gives_no_transition():
    circuit = circuit_of(failure_threshold=2)
    assert report(circuit, SUCCESS) is None
    assert report(circuit, FAILURE) is None
    assert report(circuit, ANSWERED) is None
    assert report(circuit, IGNORED) is None


# Rule 2: CLOSED


@pytest.mark.parametrize("threshold", [1, 2, 10])
def test_this_many_consecutive_failures_open_it_and_one_less_does_not(threshold):
    circuit = circuit_of(failure_threshold=threshold)
    report(circuit, FAILURE, times=threshold - 1)
    assert circuit.state.name is CLOSED
    assert move(report(circuit, FAILURE)) == (CLOSED, OPEN)


def test_a_success_ends_the_streak():
    circuit = circuit_of(failure_threshold=3)
    report(circuit, FAILURE, times=2)
    report(circuit, SUCCESS)
    assert circuit.state.streak == 0
    report(circuit, FAILURE, times=2)
    assert circuit.state.name is CLOSED


def test_closed_admits_any_number_of_calls_at_a_time():
    circuit = circuit_of(failure_threshold=1)
    tickets = [admitted(circuit, now=0.0) for _ in range(1000)]
    assert circuit.state.name is CLOSED
    assert transition_of(circuit.record, tickets[-1], FAILURE, 0.0) is not None


def test_failures_do_not_age_while_the_circuit_is_closed():
    circuit = circuit_of(failure_threshold=2, recovery_timeout=1)
    report(circuit, FAILURE, now=0.0)
    assert move(report(circuit, FAILURE, now=1e6)) == (CLOSED, OPEN)


@pytest.mark.parametrize("what", [ANSWERED, IGNORED])
def test_an_answered_or_ignored_call_leaves_the_streak_as_it_is(what):
    circuit = circuit_of()
    report(circuit, FAILURE, times=2)
    report(circuit, what)
    assert circuit.state.streak == 2


@pytest.mark.parametrize("counter", ["successes", "answered", "ignored"])
@pytest.mark.parametrize("leave", [Circuit.reset, lambda c, now: c.force_open("by hand", now)])
def test_what_a_caller_counts_itself_counts_only_until_the_state_is_left(leave, counter):
    circuit = circuit_of()
    left = admitted(circuit, now=0.0)
    setattr(left, counter, 1)
    assert circuit.totals() == Totals(**{counter: 1})
    leave(circuit, 0.0)
    setattr(left, counter, 2)
    assert circuit.totals() == Totals(**{counter: 1})


# Rule 3: OPEN


def test_open_rejects_until_the_very_moment_the_recovery_timeout_is_over():
    circuit = opened(at=100.0, recovery_timeout=60)
    assert rejected(circuit, now=100.0) == (OPEN, "ServerError 503", 60.0)
    assert rejected(circuit, now=130.0) == (OPEN, "ServerError 503", 30.0)
    assert rejected(circuit, now=159.75) == (OPEN, "ServerError 503", 0.25)
    assert isinstance(admitted(circuit, now=160.0), Probe)


def test_a_rejection_neither_prolongs_the_time_nor_adds_to_the_streak():
    circuit = opened(recovery_timeout=60, failure_threshold=3)
    for now in range(60):
        rejected(circuit, now=float(now))
    assert circuit.state.streak == 3
    assert circuit.retry_after(60.0) == 0.0


# Rule 4: HALF_OPEN


@pytest.mark.parametrize("probes", [1, 2, 5])
def test_half_open_admits_this_many_at_a_time_and_not_one_more(probes):
    circuit = opened(recovery_timeout=60, half_open_probes=probes)
    tickets = [admitted(circuit, now=60.0) for _ in range(probes)]
    assert rejected(circuit, now=60.0)[0] is HALF_OPEN
    circuit.record(tickets[0], SUCCESS, 60.0)
    admitted(circuit, now=60.0)
    assert rejected(circuit, now=60.0)[0] is HALF_OPEN


@pytest.mark.parametrize("threshold", [1, 2, 3])
def test_this_many_successes_close_it_and_one_less_does_not(threshold):
    circuit = opened(recovery_timeout=60, success_threshold=threshold)
    assert report(circuit, SUCCESS, now=60.0, times=threshold - 1) is None
    assert circuit.phase(60.0) is HALF_OPEN
    assert move(report(circuit, SUCCESS, now=60.0)) == (HALF_OPEN, CLOSED)


@pytest.mark.parametrize(
    ("threshold", "reason"), [(1, "1 success"), (3, "3 consecutive successes")]
)
def test_recovery_says_how_many_successes_it_took(threshold, reason):
    circuit = opened(recovery_timeout=60, success_threshold=threshold)
    transition = report(circuit, SUCCESS, now=61.0, times=threshold)
    assert transition.reason == reason
    assert (transition.at, transition.streak, transition.retry_after) == (61.0, 0, 0.0)


@pytest.mark.parametrize("successes", [0, 1, 2])
def test_one_failure_opens_it_again_for_a_full_fresh_time(successes):
    circuit = opened(recovery_timeout=60)
    report(circuit, SUCCESS, now=70.0, times=successes)
    assert move(report(circuit, FAILURE, now=75.0)) == (HALF_OPEN, OPEN)
    assert circuit.retry_after(75.0) == 60.0
    assert rejected(circuit, now=134.75)[0] is OPEN
    admitted(circuit, now=135.0)


@pytest.mark.parametrize("reports", [[ANSWERED] * 3, [ANSWERED, SUCCESS, ANSWERED]])
def test_answers_that_are_refusals_close_it_as_successes_do(reports):
    circuit = opened(recovery_timeout=60, success_threshold=3)
    for what in reports[:-1]:
        assert report(circuit, what, now=60.0) is None
        assert circuit.state.name is HALF_OPEN
    closing = report(circuit, reports[-1], now=60.0)
    assert (move(closing), closing.reason) == ((HALF_OPEN, CLOSED), "3 consecutive answers")


def test_one_answer_that_closes_is_named_in_the_singular():
    circuit = opened(recovery_timeout=60, success_threshold=1)
    assert report(circuit, ANSWERED, now=60.0).reason == "1 answer"


def test_a_failure_after_an_answered_probe_opens_it_again():
    circuit = opened(recovery_timeout=60, success_threshold=3)
    report(circuit, ANSWERED, now=60.0, times=2)
    assert move(report(circuit, FAILURE, now=60.0)) == (HALF_OPEN, OPEN)
    assert report(circuit, ANSWERED, now=120.0, times=2) is None


def test_successes_before_a_reopening_do_not_count_in_the_next_half_open():
    circuit = opened(recovery_timeout=60, success_threshold=3)
    report(circuit, SUCCESS, now=60.0, times=2)
    report(circuit, FAILURE, now=60.0)
    assert report(circuit, SUCCESS, now=120.0, times=2) is None
    assert circuit.state.name is HALF_OPEN


def test_a_failed_first_probe_adds_to_the_streak_and_a_success_ends_it():
    circuit = opened(recovery_timeout=60, failure_threshold=10)
    assert report(circuit, FAILURE, now=60.0).streak == 11
    assert report(circuit, FAILURE, now=120.0).streak == 12
    report(circuit, ANSWERED, now=180.0)
    assert circuit.state.streak == 12
    report(circuit, SUCCESS, now=180.0)
    assert circuit.state.streak == 0
    assert report(circuit, FAILURE, now=180.0).streak == 1


def test_only_opening_from_closed_is_a_trip():
    circuit = opened(recovery_timeout=60)
    report(circuit, FAILURE, now=60.0)
    circuit.force_open("by hand", 60.0)
    assert circuit.totals().trips == 1


def test_a_reopening_names_the_new_failure_and_half_open_the_last_one():
    circuit = opened(recovery_timeout=60)
    admitted(circuit, now=60.0)
    assert circuit.state.reason == "ServerError 503"
    circuit.record(circuit.state.probes[0], Report(Outcome.FAILURE, "TimeoutError"), 60.0)
    assert circuit.state.reason == "TimeoutError"


def test_closed_again_has_no_reason_and_no_streak():
    circuit = opened(recovery_timeout=60)
    report(circuit, SUCCESS, now=60.0, times=3)
    assert (circuit.state.reason, circuit.state.streak) == (None, 0)


# Rule 5: OPEN becomes HALF_OPEN in the first acquire that is due


def test_it_reads_half_open_from_the_moment_it_is_due_and_reading_changes_nothing():
    circuit = opened(at=100.0, recovery_timeout=60)
    state = circuit.state
    assert (circuit.phase(159.75), circuit.phase_since(159.75)) == (OPEN, 100.0)
    assert (circuit.phase(160.0), circuit.phase_since(160.0)) == (HALF_OPEN, 160.0)
    assert (circuit.phase(500.0), circuit.phase_since(500.0)) == (HALF_OPEN, 160.0)
    assert circuit.retry_after(500.0) == 0.0
    assert circuit.state is state


def test_the_first_probe_brings_the_transition_and_the_second_does_not():
    circuit = opened(recovery_timeout=60, half_open_probes=2)
    first = transition_of(circuit.acquire, 72.0)
    assert move(first) == (OPEN, HALF_OPEN)
    assert first.reason == "recovery timeout of 60 s elapsed"
    assert (first.at, first.streak, first.retry_after) == (72.0, 10, 0.0)
    assert transition_of(circuit.acquire, 72.0) is None


def test_a_timeout_is_written_without_needless_zeros():
    circuit = opened(recovery_timeout=2.5)
    assert transition_of(circuit.acquire, 2.5).reason == "recovery timeout of 2.5 s elapsed"


def test_half_open_counts_from_the_first_acquire_and_not_from_when_it_was_due():
    circuit = opened(recovery_timeout=60)
    admitted(circuit, now=500.0)
    assert circuit.phase_since(501.0) == 500.0


# Rule 6: a ticket belongs to the state that issued it


def test_late_failures_of_a_burst_open_it_once_and_count_no_further():
    circuit = circuit_of(failure_threshold=10)
    tickets = [admitted(circuit, now=0.0) for _ in range(50)]
    transitions = [transition_of(circuit.record, ticket, FAILURE, 1.0) for ticket in tickets]
    assert [move(t) for t in transitions if t is not None] == [(CLOSED, OPEN)]
    assert circuit.state.streak == 10
    assert circuit.totals() == Totals(failures=10, trips=1)


@pytest.mark.parametrize("what", [SUCCESS, FAILURE, ANSWERED, IGNORED])
def test_a_closed_ticket_is_late_in_every_later_state(what):
    circuit = circuit_of(failure_threshold=1, recovery_timeout=60, success_threshold=1)
    late = admitted(circuit, now=0.0)
    report(circuit, FAILURE, now=0.0)
    for now, go_on in ((1.0, None), (60.0, None), (60.0, SUCCESS)):
        if now == 60.0 and go_on is None:
            probe = admitted(circuit, now=now)
        elif go_on:
            circuit.record(probe, go_on, now)
        before = circuit.state, astuple(circuit.totals())
        assert transition_of(circuit.record, late, what, now) is None
        assert (circuit.state, astuple(circuit.totals())) == before
        assert circuit.state.streak == (0 if circuit.state.name is CLOSED else 1)


@pytest.mark.parametrize("what", [SUCCESS, FAILURE, ANSWERED, IGNORED])
def test_a_sibling_of_the_probe_that_failed_is_late(what):
    circuit = opened(recovery_timeout=60, half_open_probes=2)
    first, second = admitted(circuit, now=60.0), admitted(circuit, now=60.0)
    circuit.record(first, FAILURE, 61.0)
    assert transition_of(circuit.record, second, what, 70.0) is None
    assert circuit.retry_after(70.0) == 51.0
    assert circuit.state.streak == 11


def test_a_reset_of_a_closed_circuit_makes_older_tickets_late_and_is_not_a_transition():
    circuit = circuit_of(failure_threshold=2)
    report(circuit, FAILURE)
    late = admitted(circuit, now=0.0)
    assert transition_of(circuit.reset, 3.0) is None
    assert circuit.state.streak == 0
    assert transition_of(circuit.record, late, FAILURE, 3.0) is None
    assert report(circuit, FAILURE) is None
    assert circuit.phase_since(4.0) == 3.0


def test_a_reset_keeps_the_counts_since_the_start():
    circuit = circuit_of()
    report(circuit, SUCCESS, times=3)
    report(circuit, FAILURE)
    circuit.reset(0.0)
    report(circuit, SUCCESS)
    assert circuit.totals() == Totals(successes=4, failures=1)


# Rule 7: a probe's ticket is good for one report


@pytest.mark.parametrize("again", [SUCCESS, FAILURE, ANSWERED, IGNORED])
@pytest.mark.parametrize("first", [SUCCESS, ANSWERED, IGNORED])
def test_a_second_report_of_a_probe_changes_nothing(first, again):
    circuit = opened(recovery_timeout=60, success_threshold=2)
    probe = admitted(circuit, now=60.0)
    circuit.record(probe, first, 60.0)
    before = astuple(circuit.totals())
    assert transition_of(circuit.record, probe, again, 60.0) is None
    assert astuple(circuit.totals()) == before
    assert circuit.state.name is HALF_OPEN


def test_a_second_report_frees_nobody_elses_place():
    circuit = opened(recovery_timeout=60)
    first = admitted(circuit, now=60.0)
    circuit.record(first, SUCCESS, 60.0)
    admitted(circuit, now=60.0)
    circuit.record(first, IGNORED, 60.0)
    rejected(circuit, now=60.0)


# Rule 8: a probe's place is a lease of its own


def test_a_place_is_kept_until_the_very_moment_its_lease_is_over():
    circuit = opened(recovery_timeout=60, probe_timeout=5)
    admitted(circuit, now=60.0)
    assert rejected(circuit, now=64.75) == (HALF_OPEN, "ServerError 503", 0.25)
    successor = admitted(circuit, now=65.0)
    assert circuit.state.probes == [successor]


def test_a_probe_that_takes_a_place_is_an_event_and_one_that_takes_none_is_not():
    circuit = opened(recovery_timeout=60, probe_timeout=5)
    admitted(circuit, now=60.0)
    assert expired(circuit) == []
    admitted(circuit, now=65.0)
    assert expired(circuit) == [5]
    circuit.record(circuit.state.probes[0], SUCCESS, 65.0)
    admitted(circuit, now=100.0)
    assert expired(circuit) == [5]


def test_a_lease_lasts_as_long_as_the_recovery_timeout_by_default():
    circuit = opened(recovery_timeout=60)
    admitted(circuit, now=60.0)
    rejected(circuit, now=119.75)
    admitted(circuit, now=120.0)


def test_a_slow_probe_counts_as_long_as_nobody_took_its_place():
    circuit = opened(recovery_timeout=60, probe_timeout=5, success_threshold=1)
    slow = admitted(circuit, now=60.0)
    assert circuit.retry_after(90.0) == 0.0
    assert move(transition_of(circuit.record, slow, SUCCESS, 90.0)) == (HALF_OPEN, CLOSED)


@pytest.mark.parametrize("what", [SUCCESS, FAILURE, ANSWERED, IGNORED])
def test_a_slow_probe_changes_nothing_once_its_place_is_taken(what):
    circuit = opened(recovery_timeout=60, probe_timeout=5, success_threshold=1)
    slow = admitted(circuit, now=60.0)
    successor = admitted(circuit, now=65.0)
    counts = astuple(circuit.totals())
    assert transition_of(circuit.record, slow, what, 66.0) is None
    assert circuit.state.probes == [successor]
    assert astuple(circuit.totals()) == counts
    rejected(circuit, now=66.0)


def test_a_lease_that_is_over_does_not_touch_its_siblings():
    circuit = opened(recovery_timeout=60, probe_timeout=5, half_open_probes=2)
    _, sibling = admitted(circuit, now=60.0), admitted(circuit, now=63.0)
    successor = admitted(circuit, now=65.0)
    assert circuit.state.probes == [sibling, successor]
    circuit.record(sibling, SUCCESS, 66.0)
    assert circuit.state.successes == 1


def test_a_free_place_is_taken_before_one_whose_lease_is_over():
    circuit = opened(recovery_timeout=60, probe_timeout=5, half_open_probes=2)
    slow = admitted(circuit, now=60.0)
    second = admitted(circuit, now=100.0)
    assert expired(circuit) == []
    assert circuit.state.probes == [slow, second]


def test_of_two_that_are_overdue_only_one_goes_for_one_caller():
    circuit = opened(recovery_timeout=60, probe_timeout=5, half_open_probes=2)
    _, second = admitted(circuit, now=60.0), admitted(circuit, now=61.0)
    third = admitted(circuit, now=100.0)
    assert expired(circuit) == [5]
    assert circuit.state.probes == [second, third]


def test_a_call_that_finds_the_places_taken_waits_for_the_shortest_lease_and_one_second_at_most():
    circuit = opened(recovery_timeout=60, probe_timeout=5, half_open_probes=2)
    admitted(circuit, now=60.0)
    admitted(circuit, now=62.0)
    assert rejected(circuit, now=62.0)[2] == 1.0
    assert rejected(circuit, now=64.5)[2] == 0.5


def test_the_shortest_lease_need_not_be_the_oldest():
    circuit = opened(recovery_timeout=60, probe_timeout=5, half_open_probes=2)
    admitted(circuit, now=60.0)
    circuit.configure(BreakerPolicy(half_open_probes=2, probe_timeout=0.5))
    admitted(circuit, now=60.25)
    assert rejected(circuit, now=60.5)[2] == 0.25
    admitted(circuit, now=60.75)
    assert expired(circuit) == [0.5]


def test_probes_that_hang_one_after_the_other_and_end_late_leave_nothing_behind(clock, log):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    breaker.acquire().fail()
    before, hung = probes_in_memory(), None
    for _ in range(100):
        clock.advance(60.0)
        successor = breaker.acquire()
        if hung is not None:
            hung.succeed()
        hung = successor
    assert probes_in_memory() - before <= 2


def probes_in_memory():
    gc.collect()
    return sum(issubclass(type(thing), Probe) for thing in gc.get_objects())


# Rule 9: an answered or ignored outcome moves no streak


@pytest.mark.parametrize("what", [ANSWERED, IGNORED])
def test_nine_failures_one_other_outcome_and_one_failure_are_ten(what):
    circuit = circuit_of(failure_threshold=10)
    report(circuit, FAILURE, times=9)
    assert report(circuit, what) is None
    assert circuit.state.streak == 9
    assert move(report(circuit, FAILURE)) == (CLOSED, OPEN)


def test_an_ignored_probe_frees_its_place_and_neither_closes_nor_opens():
    circuit = opened(recovery_timeout=60, success_threshold=2)
    report(circuit, SUCCESS, now=60.0)
    assert report(circuit, IGNORED, now=60.0, times=5) is None
    assert (circuit.state.name, circuit.state.successes) == (HALF_OPEN, 1)
    assert move(report(circuit, SUCCESS, now=60.0)) == (HALF_OPEN, CLOSED)


# Rule 10: a clock that steps back


def test_a_clock_behind_the_opening_starts_the_recovery_timeout_again():
    circuit = opened(at=1000.0, recovery_timeout=60)
    circuit.follow_clock(0.0)
    assert circuit.retry_after(0.0) == 60.0
    assert rejected(circuit, now=0.0)[2] == 60.0
    assert rejected(circuit, now=59.75)[2] == 0.25
    admitted(circuit, now=60.0)


def test_a_clock_that_steps_back_but_not_behind_the_opening_changes_nothing():
    circuit = opened(at=1000.0, recovery_timeout=60)
    assert rejected(circuit, now=1050.0)[2] == 10.0
    assert rejected(circuit, now=1010.0)[2] == 50.0
    assert circuit.state.since == 1000.0


def test_a_clock_behind_the_start_of_a_lease_starts_it_again():
    circuit = opened(at=1000.0, recovery_timeout=60, probe_timeout=5)
    admitted(circuit, now=1060.0)
    rejected(circuit, now=2.0)
    rejected(circuit, now=6.75)
    admitted(circuit, now=7.0)


def test_a_clock_that_jumps_forward_makes_it_due_immediately():
    circuit = opened(at=0.0, recovery_timeout=60)
    admitted(circuit, now=1e9)


def test_a_poller_waits_one_recovery_timeout_too_after_a_clock_stepped_back(clock, log):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    breaker.acquire().fail()
    clock.advance(-500.0)
    clock.advance(breaker.retry_after)
    assert breaker.state is HALF_OPEN


# Rule 11: a forced opening


def test_forced_open_has_no_recovery_timeout_and_reset_ends_it():
    circuit = circuit_of(recovery_timeout=60)
    transition = transition_of(circuit.force_open, "forced open: maintenance", 5.0)
    assert (move(transition), transition.retry_after) == ((CLOSED, OPEN), None)
    assert rejected(circuit, now=1e9) == (OPEN, "forced open: maintenance", None)
    assert (circuit.phase(1e9), circuit.phase_since(1e9)) == (OPEN, 5.0)
    transition = transition_of(circuit.reset, 6.0)
    assert (move(transition), transition.reason) == ((OPEN, CLOSED), "reset by hand")
    admitted(circuit, now=6.0)


def test_forcing_again_is_an_event_for_another_reason_only():
    circuit = circuit_of()
    circuit.force_open("one", 0.0)
    state = circuit.state
    assert transition_of(circuit.force_open, "one", 1.0) is None
    assert circuit.state is state
    assert move(transition_of(circuit.force_open, "two", 2.0)) == (OPEN, OPEN)
    assert rejected(circuit, now=2.0)[1] == "two"


def test_forcing_an_open_circuit_ends_its_recovery_even_for_the_reason_it_opened():
    circuit = opened(recovery_timeout=60)
    assert move(transition_of(circuit.force_open, "ServerError 503", 0.0)) == (OPEN, OPEN)
    rejected(circuit, now=60.0)


def test_forcing_and_opening_keep_the_streak_they_found():
    circuit = circuit_of(failure_threshold=10)
    report(circuit, FAILURE, times=4)
    assert transition_of(circuit.force_open, "by hand", 0.0).streak == 4
    assert transition_of(circuit.reset, 0.0).streak == 0


@pytest.mark.parametrize("by_hand", [Circuit.reset, lambda c, now: c.force_open("stop", now)])
def test_what_is_done_by_hand_makes_probes_late(by_hand):
    circuit = opened(recovery_timeout=60)
    probe = admitted(circuit, now=60.0)
    by_hand(circuit, 60.0)
    assert transition_of(circuit.record, probe, FAILURE, 61.0) is None


# A policy that is replaced while the circuit runs


def test_a_new_recovery_timeout_holds_for_a_running_open():
    circuit = opened(at=0.0, recovery_timeout=60)
    circuit.configure(BreakerPolicy(recovery_timeout=10))
    assert circuit.retry_after(4.0) == 6.0
    circuit.configure(BreakerPolicy(recovery_timeout=100))
    assert circuit.retry_after(70.0) == 30.0
    assert circuit.phase(70.0) is OPEN
    assert (circuit.phase(100.0), circuit.phase_since(100.0)) == (HALF_OPEN, 100.0)


def test_a_lower_failure_threshold_opens_at_the_next_failure():
    circuit = circuit_of(failure_threshold=10)
    report(circuit, FAILURE, times=5)
    circuit.configure(BreakerPolicy(failure_threshold=3))
    assert circuit.state.name is CLOSED
    assert report(circuit, FAILURE).streak == 6


def test_a_lower_success_threshold_closes_at_the_next_success():
    circuit = opened(recovery_timeout=60, success_threshold=5)
    report(circuit, SUCCESS, now=60.0, times=3)
    circuit.configure(BreakerPolicy(success_threshold=2))
    assert report(circuit, SUCCESS, now=60.0).reason == "4 consecutive successes"


def test_a_lease_keeps_its_length_when_the_policy_changes():
    circuit = opened(recovery_timeout=60, probe_timeout=5)
    admitted(circuit, now=60.0)
    circuit.configure(BreakerPolicy(probe_timeout=500))
    rejected(circuit, now=64.75)
    admitted(circuit, now=65.0)
    rejected(circuit, now=564.75)
    admitted(circuit, now=565.0)


def test_more_places_admit_more_at_the_same_time():
    circuit = opened(recovery_timeout=60)
    admitted(circuit, now=60.0)
    circuit.configure(BreakerPolicy(half_open_probes=2))
    assert circuit.retry_after(60.0) == 0.0
    admitted(circuit, now=60.0)
    rejected(circuit, now=60.0)


def test_with_more_probes_than_places_enough_must_go_for_the_next_one_to_fit():
    circuit = opened(recovery_timeout=60, half_open_probes=3, probe_timeout=5)
    _, _, third = (admitted(circuit, now=now) for now in (60.0, 61.0, 62.0))
    circuit.configure(BreakerPolicy(half_open_probes=2, probe_timeout=5))
    assert rejected(circuit, now=65.5)[2] == 0.5
    fourth = admitted(circuit, now=66.0)
    assert expired(circuit) == [5, 5]
    assert circuit.state.probes == [third, fourth]


def test_with_more_probes_than_places_each_of_them_still_counts():
    circuit = opened(recovery_timeout=60, half_open_probes=3, success_threshold=3)
    probes = [admitted(circuit, now=60.0) for _ in range(3)]
    circuit.configure(BreakerPolicy(half_open_probes=1, success_threshold=3))
    transitions = [transition_of(circuit.record, probe, SUCCESS, 60.0) for probe in probes]
    assert [t and move(t) for t in transitions] == [None, None, (HALF_OPEN, CLOSED)]


def test_with_more_probes_than_places_the_last_of_the_leases_that_must_end_counts():
    circuit = opened(recovery_timeout=60, half_open_probes=3, probe_timeout=0.5)
    for now in (60.0, 60.125, 60.25):
        admitted(circuit, now=now)
    for places, left in ((3, 0.25), (2, 0.375), (1, 0.5)):
        circuit.configure(BreakerPolicy(half_open_probes=places))
        assert circuit.retry_after(60.25) == left
        assert rejected(circuit, now=60.25)[2] == left


# What a registry that is full asks


def test_a_closed_circuit_without_a_streak_holds_no_information():
    circuit = circuit_of()
    report(circuit, SUCCESS)
    assert circuit.is_blank()
    report(circuit, FAILURE)
    assert not circuit.is_blank()
    assert not opened().is_blank()


def test_a_streak_is_worth_keeping_for_ten_recovery_timeouts_after_the_last_failure():
    circuit = circuit_of(recovery_timeout=60)
    report(circuit, FAILURE, now=100.0)
    report(circuit, FAILURE, now=500.0)
    assert circuit.stale_at() == 1100.0


def test_an_open_circuit_is_worth_keeping_until_it_is_overdue_for_ten_recovery_timeouts():
    assert opened(at=100.0, recovery_timeout=60).stale_at() == 760.0


def test_half_open_is_worth_keeping_for_ten_recovery_timeouts_after_its_last_sign_of_life():
    circuit = opened(recovery_timeout=60)
    probe = admitted(circuit, now=100.0)
    assert circuit.stale_at() == 700.0
    circuit.record(probe, SUCCESS, 150.0)
    assert circuit.stale_at() == 750.0
    admitted(circuit, now=200.0)
    assert circuit.stale_at() == 800.0


def test_a_forced_circuit_must_be_kept():
    circuit = circuit_of(recovery_timeout=60)
    circuit.force_open("maintenance", 0.0)
    assert circuit.is_forced()
    assert circuit.stale_at() == math.inf
    assert not opened().is_forced()


# Floats: a caller that waits for `retry_after` finds it due, whatever the numbers round to

clocks = st.floats(-1e9, 1e9, allow_nan=False)
seconds = st.floats(1e-6, 1e7, exclude_min=True, allow_nan=False)
float_settings = settings(max_examples=200, derandomize=True, database=None, deadline=None)


@float_settings
@example(at=0.1, timeout=0.2, share=0.5)
@example(at=1e9, timeout=0.1, share=0.3)
@example(at=2.0**53, timeout=1.0, share=0.5)
@given(at=clocks, timeout=seconds, share=st.floats(0, 1))
def test_after_now_and_retry_after_it_is_due_for_awkward_floats(at, timeout, share):
    circuit = opened(at=at, recovery_timeout=timeout)
    now = at + timeout * share
    wait = circuit.retry_after(now)
    assert 0.0 <= wait <= timeout + math.ulp(abs(at) + timeout)
    assert (wait == 0.0) == (circuit.phase(now) is HALF_OPEN)
    assert circuit.retry_after(now + wait) == 0.0
    admitted(circuit, now=now + wait)


@float_settings
@example(at=0.1, timeout=0.7, share=0.1)
@given(at=clocks, timeout=st.floats(1e-6, 1.0), share=st.floats(0, 1))
def test_after_now_and_retry_after_a_lease_is_over_for_awkward_floats(at, timeout, share):
    circuit = opened(at=at, recovery_timeout=1.0, probe_timeout=timeout)
    start = at + 1.5
    admitted(circuit, now=start)
    now = start + timeout * share
    wait = circuit.retry_after(now)
    assert circuit.retry_after(now + wait) == 0.0
    admitted(circuit, now=now + wait)


@float_settings
@given(at=clocks, timeout=seconds)
def test_the_moment_it_is_due_is_the_opening_plus_the_timeout_to_the_last_bit(at, timeout):
    due = at + timeout
    if due > at:
        rejected(opened(at=at, recovery_timeout=timeout), now=math.nextafter(due, -math.inf))
    admitted(opened(at=at, recovery_timeout=timeout), now=due)


@pytest.mark.parametrize(
    ("at", "timeout", "now"), [(0.3, 6.6, 2.1), (0.2, 1.6, 0.4), (0.9, 6.2, 3.1), (0.4, 4.7, 1.1)]
)
def test_where_floats_round_down_the_wait_is_rounded_up(at, timeout, now):
    due = at + timeout
    assert now + (due - now) < due, "the plain difference would be too short here"
    circuit = opened(at=at, recovery_timeout=timeout)
    admitted(circuit, now=now + rejected(circuit, now=now)[2])


def test_a_timeout_too_small_for_the_clock_is_over_immediately():
    admitted(opened(at=1e9, recovery_timeout=sys.float_info.min), now=1e9)


# Rule 13: nothing but ignored probes


def ignored(reason):
    return Report(Outcome.IGNORED, reason)


def reported(circuit):
    """Return the events about ignored probes, oldest first."""
    return [event for event in circuit.events if isinstance(event, ProbesIgnored)]


def test_the_tenth_ignored_probe_in_a_row_is_an_event_and_the_ninth_is_not():
    circuit = opened(recovery_timeout=60)
    report(circuit, ignored("ValueError"), now=60.0, times=9)
    assert reported(circuit) == []
    report(circuit, ignored("cancelled"), now=60.0)
    assert reported(circuit) == [ProbesIgnored(10, ("ValueError", "cancelled"))]


def test_while_it_goes_on_there_is_one_event_for_each_recovery_timeout():
    circuit = opened(recovery_timeout=60)
    for second in range(60, 60 + 190):
        report(circuit, ignored("ValueError"), now=float(second))
    # The tenth probe comes at 69 s, and from then on each recovery timeout has one.
    assert [event.count for event in reported(circuit)] == [10, 70, 130, 190]


def test_rare_probes_are_reported_each_time():
    circuit = opened(recovery_timeout=60)
    for number in range(1, 13):
        report(circuit, ignored("ValueError"), now=60.0 * number)
    assert [event.count for event in reported(circuit)] == [10, 11, 12]


@pytest.mark.parametrize("answer", [SUCCESS, ANSWERED])
def test_an_answer_between_them_begins_the_count_again(answer):
    circuit = opened(recovery_timeout=60, success_threshold=3)
    report(circuit, ignored("ValueError"), now=60.0, times=9)
    report(circuit, answer, now=60.0)
    assert circuit.ignored_probes() == ProbesIgnored(0, ())
    report(circuit, ignored("cancelled"), now=60.0, times=9)
    assert reported(circuit) == []
    report(circuit, ignored("cancelled"), now=60.0)
    assert reported(circuit) == [ProbesIgnored(10, ("cancelled",))]


def test_answers_between_them_do_not_bring_more_events_than_one_each_recovery_timeout():
    circuit = opened(recovery_timeout=60, success_threshold=100)
    for _ in range(5):
        report(circuit, ignored("ValueError"), now=60.0, times=10)
        report(circuit, ANSWERED, now=60.0)
    assert [event.count for event in reported(circuit)] == [10]
    report(circuit, ignored("ValueError"), now=120.0, times=10)
    assert [event.count for event in reported(circuit)] == [10, 10]


def test_the_next_half_open_counts_from_the_beginning():
    circuit = opened(recovery_timeout=60)
    report(circuit, ignored("ValueError"), now=60.0, times=9)
    report(circuit, FAILURE, now=60.0)
    assert circuit.ignored_probes() == ProbesIgnored(0, ())
    report(circuit, ignored("ValueError"), now=120.0, times=9)
    assert reported(circuit) == []
    assert circuit.ignored_probes() == ProbesIgnored(9, ("ValueError",))


def test_the_last_five_different_reasons_are_kept_the_latest_last():
    circuit = opened(recovery_timeout=60)
    for kind in "ABCDEFGAC":
        report(circuit, ignored(kind), now=60.0)
    report(circuit, IGNORED, now=60.0)  # without a reason
    assert reported(circuit) == [ProbesIgnored(10, ("E", "F", "G", "A", "C"))]


def test_a_clock_that_steps_back_does_not_silence_the_events():
    circuit = opened(at=1000.0, recovery_timeout=60)
    report(circuit, ignored("ValueError"), now=1060.0, times=10)
    report(circuit, ignored("ValueError"), now=3.0, times=2)
    assert [event.count for event in reported(circuit)] == [10, 11]
    report(circuit, ignored("ValueError"), now=62.75)
    report(circuit, ignored("ValueError"), now=63.0)
    assert [event.count for event in reported(circuit)] == [10, 11, 14]


def test_late_probes_are_not_among_them():
    circuit = opened(recovery_timeout=60, probe_timeout=5)
    slow = admitted(circuit, now=60.0)
    admitted(circuit, now=65.0)
    circuit.record(slow, ignored("ValueError"), 66.0)
    assert circuit.ignored_probes() == ProbesIgnored(0, ())


def test_the_calls_that_said_something_are_counted_in_every_state():
    circuit = Circuit(BreakerPolicy(failure_threshold=2), 0.0)
    for outcome in (Outcome.SUCCESS, Outcome.ANSWERED, Outcome.IGNORED):
        circuit.record(circuit.acquire(0.0), Report(outcome), 0.0)
    assert circuit.count_outcomes() == 2
    for _ in range(2):
        circuit.record(circuit.acquire(0.0), Report(Outcome.FAILURE, "503"), 0.0)
    assert circuit.phase(0.0) is CircuitState.OPEN
    assert circuit.count_outcomes() == 4

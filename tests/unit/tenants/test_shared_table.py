"""Tenants of whom a whole fleet knows: one stops them for all, one probes for all."""

import tracemalloc
import uuid

import pytest

from resilience import BreakerPolicy
from resilience.limits import LONGEST_WAIT, LimitReading, TenantProbe, shared_limit
from resilience.shared_circuit import SharedCircuit
from resilience.shared_lease import ANSWER_TIMEOUT, HEAD_START
from resilience.shared_tenant_table import (
    SharedTenantTable,
    ThrottleChange,
    ThrottleCommand,
    ThrottleView,
)
from resilience.testing import FakeClock
from tests.support.tenant_store import LEASE, PROBE_TIMEOUT, TenantProcess, TenantStore, settle

THROTTLE, END, TAKE, RELEASE = ThrottleChange


@pytest.fixture
def clock():
    return FakeClock(1000.0)


@pytest.fixture
def store(clock):
    return TenantStore(clock)


@pytest.fixture
def fleet(store):
    return [TenantProcess(store) for _ in range(3)]


@pytest.fixture
def due(fleet, clock):
    """A fleet that has waited for a tenant as long as it was asked to."""
    fleet[0].refuse(7)
    settle(*fleet)
    clock.advance(7)
    return fleet


def wait_of(process, tenant="a"):
    return process.table.wait_of(tenant, process.now)


def test_one_refusal_stops_the_tenant_everywhere(fleet, clock):
    fleet[0].refuse(7)
    clock.advance(1)
    settle(*fleet)
    assert [wait_of(process) for process in fleet] == [6, 6, 6]
    assert [process.start() for process in fleet] == [6, 6, 6]


def test_many_refusals_are_one_command_and_a_call_is_none(fleet, store):
    for _ in range(50):
        fleet[0].refuse(7)
    assert fleet[0].send() == [THROTTLE]
    for _ in range(50):
        fleet[0].start()
    assert fleet[0].send() == []
    assert store.commands == 1


def test_refusals_that_say_nothing_new_are_not_announced(fleet):
    for process in fleet:
        process.refuse(7)
        process.send()
    assert [len(process.inbox) for process in fleet] == [0, 1, 1]


def test_one_process_probes_and_its_success_ends_the_throttle_everywhere(due):
    assert [process.start() for process in due] == [ANSWER_TIMEOUT] * 3
    settle(*due)
    probe = due[0].probe()
    assert [process.start() for process in due[1:]] == [1.0, 1.0]
    assert due[0].start() == 1.0
    assert due[0].succeed(probe)
    settle(*due)
    assert [process.start() for process in due] == [None] * 3


def test_a_probe_that_is_refused_prolongs_the_wait_everywhere(due):
    due[1].start()
    settle(*due)
    due[1].refuse(30, due[1].probe())
    settle(*due)
    assert [wait_of(process) for process in due] == [30] * 3


def test_the_process_whose_probe_was_refused_has_no_right_to_the_next_one(due, clock):
    one, other, _ = due
    one.start()
    settle(*due)
    one.refuse(1, one.probe())
    settle(*due)
    clock.advance(1)
    other.start()
    other.send()
    assert isinstance(other.start(), TenantProbe)
    assert not isinstance(one.start(), TenantProbe)


def test_a_wait_that_doubles_does_so_whoever_is_refused(fleet, clock):
    waits = []
    for process in [*fleet, *fleet]:
        process.refuse(None)
        settle(*fleet)
        waits.append(round(wait_of(process)))
        clock.advance(wait_of(process))
    assert waits == [1, 2, 4, 8, 16, 32]


def test_two_that_claim_in_the_same_moment_are_one_probe(due):
    one, other, _ = due
    one.start()
    other.start()
    one.send()
    other.send()  # it has not listened yet
    assert isinstance(one.start(), TenantProbe)
    assert other.start() == 1.0


def test_a_probe_that_says_nothing_lets_another_process_probe(due):
    one, other, _ = due
    one.start()
    settle(*due)
    one.table.give_back(one.probe())
    assert one.start() == HEAD_START
    settle(*due)
    assert other.start() == ANSWER_TIMEOUT
    settle(*due)
    assert isinstance(other.start(), TenantProbe)
    assert one.start() == 1.0


def test_a_holder_that_dies_is_followed_by_another(due, clock):
    due[0].start()
    settle(*due)
    due[0].probe()
    clock.advance(LEASE - 1)
    assert due[1].start() == 1.0
    clock.advance(1)
    assert due[1].start() == ANSWER_TIMEOUT
    settle(*due[1:])
    assert isinstance(due[1].start(), TenantProbe)


def test_the_lease_is_renewed_for_as_long_as_a_probe_may_run(due, clock):
    due[0].start()
    settle(*due)
    due[0].probe()
    for _ in range(int(PROBE_TIMEOUT) - 1):
        clock.advance(1)
        due[0].send()
        due[1].start()
        due[1].send()
        assert not isinstance(due[1].start(), TenantProbe)
    clock.advance(LEASE + 1)
    settle(*due)
    due[1].start()
    settle(*due)
    assert isinstance(due[1].start(), TenantProbe)


def test_a_lease_that_nobody_uses_is_given_back_soon(due, clock):
    due[0].start()
    settle(*due)
    assert 0.9 < due[0].table.next_command_in(due[0].now) <= 1.0
    clock.advance(1)
    assert due[0].send() == [RELEASE]
    due[1].listen()
    due[1].start()
    assert due[1].send() == [TAKE]
    assert isinstance(due[1].start(), TenantProbe)


def test_calls_that_are_rare_probe_alone_and_claim_at_the_same_time(due, clock):
    due[0].start()
    settle(*due)
    clock.advance(1)
    settle(*due)
    clock.advance(30)
    probe = due[0].probe()
    assert due[0].send() == [TAKE]
    due[1].listen()
    assert due[1].start() == 1.0
    assert due[0].succeed(probe)
    settle(*due)
    assert due[1].start() is None


def test_a_store_that_does_not_answer_is_not_waited_for(due, clock):
    assert due[0].start() == ANSWER_TIMEOUT
    clock.advance(ANSWER_TIMEOUT / 2)
    assert due[0].start() == ANSWER_TIMEOUT / 2
    clock.advance(ANSWER_TIMEOUT / 2)
    assert isinstance(due[0].start(), TenantProbe)
    assert due[0].start() == 1.0


def test_without_the_store_each_process_learns_and_probes_alone(fleet, clock):
    for process in fleet:
        process.lose_store()
        process.refuse(7)
    assert [process.send() for process in fleet] == [[]] * 3
    clock.advance(7)
    assert all(isinstance(process.start(), TenantProbe) for process in fleet)


def test_a_store_that_is_lost_during_a_probe_keeps_the_others_back_for_its_lease(due, clock):
    due[0].start()
    settle(*due)
    probe = due[0].probe()
    for process in due:
        process.lose_store()
    assert due[1].start() == 1.0
    clock.advance(2)
    assert due[0].succeed(probe)
    assert due[0].start() is None
    clock.advance(LEASE - 2)
    assert isinstance(due[1].start(), TenantProbe)


def test_a_request_to_a_store_that_is_lost_is_made_again_when_it_is_back(due):
    due[0].start()
    due[0].lose_store()
    assert isinstance(due[0].start(), TenantProbe)
    due[1].start()
    due[1].lose_store()
    due[1].find_store()
    assert due[1].start() == ANSWER_TIMEOUT


def test_a_process_that_was_away_finds_what_it_has_missed(fleet, clock):
    one, other, late = fleet
    late.lose_store()
    one.refuse(7)
    one.refuse(3, tenant="b")
    settle(one, other)
    clock.advance(4)
    late.inbox.clear()
    late.find_store()
    assert late.start("a") == 3
    assert late.start("b") == ANSWER_TIMEOUT
    # What it has found out itself is newer, and a second look changes nothing.
    late.refuse(20, tenant="b")
    late.find_store()
    clock.advance(3)
    late.find_store()
    assert late.table.throttles["a"].refusals == 1
    assert wait_of(late, "b") == 17


def test_what_could_not_be_sent_is_sent_later(fleet):
    one, other, _ = fleet
    one.refuse(7)
    command = one.table.next_command(one.now)
    one.table.keep(command)
    settle(*fleet)
    assert wait_of(other) == 7
    one.refuse(7)
    command = one.table.next_command(one.now)
    one.table.apply("a", 0, one.now)
    one.table.keep(command)
    assert one.send() == [], "nobody needs to know any more"


def test_the_end_is_announced_while_anothers_claim_is_on_its_way(due):
    one, other, third = due
    one.start()
    settle(*due)
    probe = one.probe()
    other.table.on_disconnect()  # it has forgotten who probes, and requests it anew
    other.table.on_connect()
    other.table._leases.clear()
    other.start()
    assert one.succeed(probe)
    one.send()
    assert other.send()[0] is TAKE
    settle(*due)
    assert [process.start() for process in due] == [None] * 3
    third.refuse(7)
    settle(*due)
    assert wait_of(one) == 7


def test_a_claim_that_is_granted_when_the_throttle_is_gone_is_given_back(due):
    due[0].start()
    due[0].table.apply("a", 0, due[0].now)
    granted = ThrottleView(lease_left=5.0, lease_is_mine=True)
    due[0].table.on_reply(ThrottleCommand(TAKE, "a"), granted, due[0].now)
    assert due[0].send() == [RELEASE]


def test_taking_over_an_end_from_elsewhere_gives_the_lease_back(due):
    due[0].start()
    settle(*due)
    due[0].table.apply("a", 0, due[0].now)
    assert due[0].send() == [RELEASE]
    due[0].table.apply("a", 5, due[0].now)
    assert due[0].send() == []


def test_a_refusal_during_the_probe_is_newer_than_its_success(due):
    one, other, _ = due
    one.start()
    settle(*due)
    probe = one.probe()
    other.refuse(20)
    settle(*due)
    assert not one.succeed(probe)
    settle(*due)
    assert [wait_of(process) for process in due] == [20] * 3


def test_the_store_refuses_an_end_that_comes_after_a_newer_wait(due):
    one, other, _ = due
    one.start()
    settle(*due)
    probe = one.probe()
    other.refuse(20)
    other.send()
    assert one.succeed(probe), "it has not heard of it yet"
    settle(*due)
    assert [wait_of(process) for process in due] == [20] * 3


def test_an_end_is_not_followed_while_the_own_wait_goes_on(fleet):
    fleet[0].refuse(7)
    fleet[0].send()
    fleet[0].table.follow("a", ThrottleView(has_ended=True), fleet[0].now)
    assert wait_of(fleet[0]) == 7


def test_what_is_not_sent_yet_is_newer_than_what_comes_in(due):
    one = due[0]
    ended, throttled = ThrottleView(has_ended=True), ThrottleView(wait=30.0)
    one.refuse(0.5)
    one.table.follow("a", ended, one.now)
    assert wait_of(one) == 0.5
    one.table.follow("a", throttled, one.now)
    assert wait_of(one) == 30
    one.send()
    one.store.clock.advance(30)
    one.start()
    one.send()
    assert one.succeed(one.probe())
    one.table.follow("a", throttled, one.now)
    assert one.start() is None


def test_an_announcement_of_an_older_wait_shortens_nothing(fleet):
    fleet[0].refuse(30)
    fleet[0].send()
    fleet[0].table.follow("a", ThrottleView(wait=3.0), fleet[0].now)
    assert wait_of(fleet[0]) == 30
    assert fleet[0].table.throttles["a"].refusals == 1


def test_a_wait_from_outside_is_bounded(fleet):
    fleet[0].table.follow("a", ThrottleView(wait=10.0**9), fleet[0].now)
    assert wait_of(fleet[0]) == LONGEST_WAIT


def test_a_lease_of_a_tenant_that_is_not_known_here_is_of_no_interest(fleet):
    fleet[0].table.follow("a", ThrottleView(lease_left=4.0), fleet[0].now)
    assert fleet[0].start() is None
    fleet[0].table.follow("a", ThrottleView(has_ended=True), fleet[0].now)
    assert fleet[0].start() is None


def test_a_wait_that_comes_in_while_the_lease_is_unused_gives_it_back(due):
    due[0].start()
    settle(*due)
    due[0].table.follow("a", ThrottleView(wait=9.0), due[0].now)
    assert due[0].send() == [RELEASE]
    assert wait_of(due[0]) == 9


def test_a_lease_that_another_process_has_got_is_lost(due, clock):
    due[0].start()
    settle(*due)
    due[0].probe()
    clock.advance(LEASE + 1)  # it was suspended
    due[1].start()
    due[1].send()
    due[0].listen()
    assert not due[0].table.holds_lease
    clock.advance(PROBE_TIMEOUT)
    assert due[0].start() == ANSWER_TIMEOUT


def test_a_lease_that_has_run_out_is_not_held(due, clock):
    due[0].start()
    settle(*due)
    clock.advance(LEASE)
    assert due[0].send() == []
    assert not due[0].table.holds_lease


def test_a_hold_is_shared_and_ends_by_itself(fleet, clock):
    fleet[0].table.learn(LimitReading(remaining=0.0, resets_in=5.0), "a", clock())
    settle(*fleet)
    assert [process.start() for process in fleet] == [5] * 3
    clock.advance(5)
    assert [process.start() for process in fleet] == [None] * 3


def test_a_hold_that_was_refused_ends_with_a_probe(fleet, clock):
    fleet[0].table.learn(LimitReading(remaining=0.0, resets_in=5.0), "a", clock())
    settle(*fleet)
    fleet[1].refuse(4)
    settle(*fleet)
    clock.advance(5)
    assert [process.start() for process in fleet] == [ANSWER_TIMEOUT] * 3


def test_a_tenant_with_a_long_name_is_known_by_a_shorter_one(fleet, store, clock):
    name = "tenant " * 100
    fleet[0].refuse(7, tenant=name)
    settle(*fleet)
    assert len(max(store.records, key=len)) < 200
    fleet[1].refuse(7, tenant=name)  # its own first request
    settle(*fleet)
    clock.advance(7)
    assert fleet[0].start(name) == fleet[1].start(name) == ANSWER_TIMEOUT
    settle(*fleet)
    probe = fleet[0].probe(name)
    assert fleet[1].start(name) == 1.0
    fleet[0].succeed(probe)
    settle(*fleet)
    assert fleet[1].start(name) is None


def test_a_message_that_is_attempted_keeps_the_lease(due, clock):
    table = due[0].table
    assert table.expects_call("a", clock()) == ANSWER_TIMEOUT
    settle(*due)
    assert table.expects_call("a", clock()) == 0.0
    table.begin_attempt("a", 60.0, clock())
    clock.advance(4)
    assert due[0].send() == [TAKE]
    table.end_attempt("a")
    assert due[0].send() == [RELEASE]
    table.end_attempt("a")
    table.begin_attempt("b", 60.0, clock())
    table.end_attempt("b")
    assert due[0].send() == []


def test_a_clock_that_steps_back_keeps_nobody_waiting_for_long(due, clock):
    due[0].start()
    settle(*due)
    due[0].probe()
    due[1].start()
    for process in due:
        process.table.expects_call("a", clock() - 500)
    now = clock() - 500 + PROBE_TIMEOUT + 7
    for process in due:
        process.lose_store()
        process.table.expects_call("a", now)
        assert isinstance(process.table.start("a", PROBE_TIMEOUT, now + LEASE), TenantProbe)


def test_the_child_of_a_fork_holds_nothing_and_sends_nothing(due):
    one = due[0]
    one.start()
    settle(*due)
    one.probe()
    one.refuse(9, tenant="b")
    one.table.forked()
    assert not one.table.holds_lease
    assert one.send() == []
    assert wait_of(one, "b") == 9


def test_another_synchronizer_takes_over(due, clock):
    notified = []
    table = due[0].table
    table.share_again(lease=9.0, notify=lambda: notified.append(1))
    assert not table.shared
    table.on_connect()
    assert due[0].start() == ANSWER_TIMEOUT
    assert notified == [1]


def test_a_process_of_a_large_fleet_leaves_the_others_a_head_start(due, clock):
    due[0].table.head_start = 0.75
    assert due[0].start() == 0.75
    clock.advance(0.75)
    assert due[0].start() == ANSWER_TIMEOUT


def test_the_end_of_sharing_gives_back_what_is_held(due):
    due[0].start()
    settle(*due)
    due[0].probe()
    due[0].table.release_all(due[0].now)
    assert due[0].send() == [RELEASE]


# Bounds

MANY = 10_000


def names(count):
    return [str(uuid.UUID(int=number)) for number in range(count)]


def test_a_flood_of_refusals_is_sent_in_a_bounded_number(fleet):
    for number in range(MANY):
        fleet[0].refuse(60, tenant=f"{number} {'x' * 300}")
    assert len(fleet[0].send(MANY)) == 1_000
    assert len(fleet[0].table._other_names) <= 1_000


def test_a_flood_of_leases_is_bounded(clock):
    table = SharedTenantTable(lease=LEASE, notify=bool)
    table.on_connect()
    for number in range(MANY + 5):
        table.refuse(f"{number}", 1.0, 0.0)
        table.start(f"{number}", PROBE_TIMEOUT, 1.0)
    assert len(table._leases) <= MANY


def test_ten_thousand_tenants_take_at_most_300_bytes_each_where_they_are_shared():
    tenants = names(MANY)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        table = SharedTenantTable(lease=LEASE, notify=bool)
        table.on_connect()
        for number, name in enumerate(tenants):
            reading = LimitReading(is_throttled=True, wait=60.5, limit=shared_limit(300, 60))
            table.learn(reading, "".join(name), 1000.0 + number)
            if number % 100 == 99:
                while table.next_command(1000.0 + number):
                    pass
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken / MANY <= 300


# Orders in which things happen


def test_what_a_late_probe_reports_leaves_the_lease_of_the_next_one_alone(due, clock):
    due[0].start()
    settle(*due)
    old = due[0].probe()
    due[0].lose_store()
    clock.advance(PROBE_TIMEOUT)
    new = due[0].probe()
    assert not due[0].succeed(old)
    due[0].table.give_back(old)
    assert due[0].table.is_probing(new)
    assert due[0].succeed(new)


def test_a_probe_without_a_lease_has_nothing_to_give_back(fleet, clock):
    one = fleet[0]
    one.lose_store()
    one.refuse(7)
    clock.advance(7)
    one.table.give_back(one.probe())
    one.find_store()
    assert one.send() == [], "nobody needs to know of a wait that is over"


def test_a_command_is_due_at_once_while_there_is_something_to_send(fleet):
    fleet[0].refuse(7)
    assert fleet[0].table.next_command_in(fleet[0].now) == 0.0
    fleet[0].send()
    assert fleet[0].table.next_command_in(fleet[0].now) == float("inf")


def test_a_request_that_nobody_needs_any_more_is_not_sent(due):
    due[0].start()
    due[0].table.apply("a", 0, due[0].now)
    assert due[0].send() == []


def test_a_wait_that_is_not_announced_yet_is_more_urgent_than_the_lease(due):
    due[0].start()
    settle(*due)
    due[0].table.hold("a", 9.0, due[0].now)
    due[0].table.apply("a", 0, due[0].now)
    assert due[0].send() == []
    due[0].refuse(9)
    assert due[0].send() == [THROTTLE]


def test_the_table_of_a_circuit_forks_and_is_shared_again_with_it():
    requests = []
    circuit = SharedCircuit(BreakerPolicy(), 0, lease=5, notify=bool)
    table = circuit.make_tenant_table()
    assert circuit.make_tenant_table() is table
    table.refuse("a", 7, 0)
    circuit.forked()
    assert table.wait_of("a", 1) == 6
    circuit.share_again(lease=5, notify=lambda: requests.append(1))
    table.refuse("b", 7, 1)
    assert requests

"""What the fault campaign has found in the circuits that are shared, each as small as it gets."""

import pytest

from resilience import BreakerPolicy
from resilience.integrations.redis.head_start import head_start
from tests.support.fleet import FAILURE, World

ROUND = 0.005  # seconds between two rounds of a synchronizer


def due(processes, **options):
    """A fleet whose first process has tripped, when the recovery timeout is just over."""
    world = World(processes, **options)
    world.processes[0].trip()
    world.settle()
    world.pass_(60.0)
    return world


def synchronize(world):
    world.pass_(ROUND)
    for process in world.processes:
        process.send()
    for process in world.processes:
        process.read()


def pass_(world, seconds):
    end = world.now + seconds
    while world.now < end:
        synchronize(world)


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "period", [0.05, 0.2, 0.26, 0.45, 0.5, 0.51, 0.6, 0.75, 0.76, 0.99, 1.0, 1.3, 2.5, 5.0, 10.0]
)
def test_calls_at_any_steady_rate_recover(processes, period):
    world = due(processes)
    began, rounds = world.now, 0
    while world.states() != ["CLOSED"] * processes:
        for process in world.processes:
            process.call()
            pass_(world, period / processes)
        rounds += 1
        assert rounds * period <= max(12 * period, 3.0), world.now - began


@pytest.mark.parametrize("processes", [20, 40])
def test_many_that_call_once_a_second_do_not_take_the_place_from_each_other_unused(processes):
    world = due(processes)
    end = world.now + 6.0
    while world.states() != ["CLOSED"] * processes:
        for process in world.processes:
            process.call()
            world.pass_(1.0 / processes - 2 * ROUND)
            synchronize(world)
            synchronize(world)
        assert world.now < end


# The second hangs for less than an unused lease lasts.
@pytest.mark.parametrize("probe_timeout", [3.0, 0.2])
def test_a_process_that_lets_a_probe_hang_does_not_probe_again_with_that_lease(probe_timeout):
    world = due(2, policy=BreakerPolicy(failure_threshold=2, probe_timeout=probe_timeout))
    sick, other = world.processes
    hung = 0
    closed_at = world.now + probe_timeout + 5.0 + 1.0
    while world.states() != ["CLOSED", "CLOSED"]:
        hung += not isinstance(sick.begin(), float)
        if hung:
            other.call()
        synchronize(world)
        assert world.now <= closed_at, f"{hung} calls hang and nobody else may probe"
    assert hung == 1


def test_if_all_probes_hang_everybody_tries_in_turn():
    world = due(3, policy=BreakerPolicy(failure_threshold=2, probe_timeout=3.0))
    probed = []
    end = world.now + 30.0
    while world.now < end:
        for number, process in enumerate(world.processes):
            if not isinstance(process.begin(), float):
                probed.append(number)
        synchronize(world)
    assert len(set(probed)) > 1
    assert 5 <= len(probed) <= 11


def test_a_holder_that_was_stopped_asks_before_it_probes_again():
    world = due(2)
    old, new = world.processes
    while isinstance(ticket := old.begin(), float):
        synchronize(world)
    world.pass_(20.0)  # the old one is stopped
    while isinstance(new.begin(), float):
        world.pass_(ROUND)
        new.read()
        new.send()
    old.end(ticket)
    assert isinstance(old.begin(), float), "it does not know whether it is alone"
    old.send()
    assert not old.circuit.holds_lease
    assert world.states() == ["HALF_OPEN", "HALF_OPEN"]


def test_a_store_that_is_gone_for_a_moment_lets_nobody_probe_beside_the_holder():
    world = due(3)
    holder, *others = world.processes
    while isinstance(ticket := holder.begin(), float):
        synchronize(world)
    for process in others:
        process.read()
    world.lose_data()
    for process in world.processes:
        process.disconnect()
    assert [process.call() for process in others] == [1.0, 1.0], "the lease is not over"
    world.settle()
    holder.end(ticket)
    world.settle()
    while world.states() != ["CLOSED"] * 3:
        holder.call()
        synchronize(world)
    assert sum(process.circuit.totals().probes for process in world.processes) <= 4


def test_without_the_store_everybody_probes_alone_once_the_lease_is_over():
    world = due(2)
    holder, other = world.processes
    while isinstance(holder.begin(), float):
        synchronize(world)
    other.read()
    for process in world.processes:
        process.disconnect()
    world.pass_(5.0)
    assert other.call() == "called"


def test_a_bystander_that_was_stopped_is_not_taken_for_one_that_calls_rarely():
    world = due(2)
    stopped, holder = world.processes
    while isinstance(holder.begin(), float):
        assert isinstance(stopped.begin(), float)
        synchronize(world)
    for _ in range(400):  # 2 s
        world.pass_(ROUND)
        holder.send()
    stopped.read()
    for _ in range(20):
        assert isinstance(stopped.begin(), float)
        world.pass_(0.05)
        holder.send()
        stopped.read()
    end = world.now + 6.0  # now the holder is stopped
    while world.now < end:
        world.pass_(0.05)
        stopped.read()
        if not isinstance(stopped.begin(), float):
            break
        stopped.send()
    assert stopped.circuit.holds_lease, "it probed though it only had to ask"


def after_a_clock_that_was_ahead(processes=2):
    """A fleet that knows versions of the next hour, a store that forgot them, and a new process."""
    world = World(processes)
    world.clock_ahead = 3_600.0
    world.processes[0].trip()
    world.settle()
    world.processes[0].reset()
    world.settle()
    world.pass_(1.0)
    world.restart(clock_ahead=0.0)
    world.processes[-1].start_again()
    return world


@pytest.mark.parametrize("have_seen_the_loss", [False, True])
@pytest.mark.parametrize(
    ("change", "state"),
    [("trip", "OPEN"), ("force", "OPEN"), ("trip and take", "HALF_OPEN"), ("reset", "CLOSED")],
)
def test_what_a_new_process_says_is_followed_though_versions_were_higher(
    have_seen_the_loss, change, state
):
    world = after_a_clock_that_was_ahead()
    old, new = world.processes
    if have_seen_the_loss:
        old.read()
    assert old.circuit.version > world.store_time() + 3_000_000
    if change == "reset":
        new.force()
        world.settle()
        assert old.state == "OPEN"
        world.pass_(1.0)
        new.reset()
    elif change == "force":
        new.force()
    else:
        new.trip()
    new.send()
    if change == "trip and take":
        world.pass_(60.0)
        assert new.call() == pytest.approx(0.25)
        new.send()
    old.read()
    assert old.state == state
    assert old.circuit.version == new.circuit.version


def test_a_quorum_counts_old_and_new_processes_after_a_clock_that_was_ahead():
    world = World(2, quorum=2)
    world.clock_ahead = 3_600.0
    world.processes[0].force()
    world.settle()
    world.processes[0].reset()
    world.settle()
    world.pass_(1.0)
    world.restart(clock_ahead=0.0)
    world.processes[1].start_again()
    world.processes[1].trip()
    world.settle()
    world.processes[0].trip()
    world.settle()
    assert world.states() == ["OPEN", "OPEN"]
    assert world.record().state == "O"


def test_what_an_old_process_knows_is_written_again_after_a_clock_that_was_ahead():
    world = World(2)
    world.clock_ahead = 3_600.0
    world.processes[0].trip()
    world.settle()
    world.pass_(1.0)
    world.restart(clock_ahead=0.0)
    world.processes[1].start_again()
    world.processes[1].reset()  # nothing to close yet
    world.pass_(0.5)
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"], "the reset has come later than the opening"


def test_a_record_from_before_that_a_replica_still_has_is_not_followed():
    world = World(2)
    world.processes[0].trip()
    world.settle()
    left_over = dict(world.store.hashes)
    world.pass_(1.0)
    world.processes[0].reset()
    world.settle()
    world.pass_(1.0)
    world.store.hashes = left_over
    world.settle()
    assert world.states() == ["CLOSED", "CLOSED"]


def test_a_clock_that_steps_back_leaves_a_later_record_to_be_followed():
    world = after_a_clock_that_was_ahead()
    old, new = world.processes
    world.now -= 500.0
    old.call()  # follows the clock
    new.trip()
    new.send()
    old.read()
    assert old.state == "OPEN"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_version_is_news_if_it_is_higher_or_nothing_was_there(version):
    world = World(1)
    circuit = world.processes[0].circuit
    assert circuit.is_outdated(version)
    world.processes[0].trip()
    world.settle()
    assert not circuit.is_outdated(version)
    assert not circuit.is_outdated(circuit.version)
    assert circuit.is_outdated(circuit.version + version)
    world.lose_data()
    world.processes[0].read()
    assert circuit.is_outdated(version)


def test_in_a_large_fleet_a_process_leaves_the_others_a_head_start():
    world = due(3)
    _, early, late = world.processes
    late.circuit.head_start = 1.5
    assert late.call() == pytest.approx(1.5)
    assert late.send() == []
    world.pass_(1.0)
    assert late.call() == pytest.approx(0.5)
    assert early.call() == pytest.approx(0.25)
    assert early.send() == ["take"]
    late.read()
    assert early.call() == "called"
    early.circuit.record(early.begin(), FAILURE, world.now)  # it holds the lease, and gives it up
    world.settle()
    assert set(world.states()) == {"OPEN"}


def test_the_head_start_counts_anew_when_a_lease_becomes_free():
    world = due(3)
    _, holder, late = world.processes
    late.circuit.head_start = 1.5
    assert holder.call() == pytest.approx(0.25)
    holder.send()
    late.read()
    world.pass_(1.0)
    assert holder.send() == ["release"]
    late.read()
    assert late.call() == pytest.approx(1.5)
    world.pass_(1.5)
    assert late.call() == pytest.approx(0.25)
    assert late.send() == ["take"]


@pytest.mark.parametrize(("size", "longest"), [(0, 0.0), (100, 0.0), (1_100, 0.2), (10**6, 2.0)])
def test_the_head_start_grows_with_the_fleet(size, longest):
    starts = [head_start(size) for _ in range(1_000)]
    assert 0.0 <= min(starts) <= longest / 10
    assert longest * 0.9 <= max(starts) <= longest

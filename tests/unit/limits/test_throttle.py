"""The wait of one tenant, by the rules at the top of its file."""

import pytest

from resilience.limits import LONGEST_WAIT, Throttle

LEASE = 60.0


def test_a_wait_is_never_shortened_and_never_endless():
    throttle = Throttle(0)
    throttle.refuse(20, 0)
    throttle.refuse(5, 1)
    assert throttle.wait(1) == 19
    throttle.refuse(10**9, 2)
    assert throttle.wait(2) == LONGEST_WAIT


def test_a_burst_of_refusals_is_one():
    throttle = Throttle(0)
    for _ in range(50):
        throttle.refuse(None, 0)
    assert throttle.wait(0) == 1
    throttle.refuse(None, 1)
    assert throttle.wait(1) == 2


def test_only_one_call_is_the_probe_and_a_refusal_meanwhile_lets_no_second_one_start():
    throttle = Throttle(0)
    throttle.refuse(5, 0)
    assert throttle.start_probe("a", LEASE, 4.9) is None
    probe = throttle.start_probe("a", LEASE, 5)
    assert throttle.start_probe("a", LEASE, 5) is None
    assert (throttle.wait(5), throttle.retry_after(5)) == (LEASE, 1)
    throttle.refuse(2, 6)  # a call that was under way before
    assert throttle.start_probe("a", LEASE, 9) is None
    assert throttle.end_probe(probe)
    assert not throttle.end_probe(probe)
    assert throttle.start_probe("a", LEASE, 9) is not None


def test_a_lease_that_has_run_out_makes_the_old_probe_late():
    throttle = Throttle(0)
    throttle.refuse(5, 0)
    old = throttle.start_probe("a", LEASE, 5)
    new = throttle.start_probe("a", LEASE, 65)
    assert new is not None
    assert not throttle.end_probe(old)
    assert throttle.end_probe(new)


def test_a_hold_ends_by_itself_and_a_refusal_makes_it_a_wait():
    throttle = Throttle(0)
    throttle.hold(5, 0)
    assert not throttle.is_over(4.9)
    assert throttle.is_over(5)
    throttle.refuse(None, 2)
    assert not throttle.is_over(100)


@pytest.mark.parametrize("back", [1, 1000])
def test_a_clock_that_steps_back_makes_nothing_longer_than_its_full_time(back):
    throttle = Throttle(1000)
    throttle.refuse(5, 1000)
    assert throttle.wait(1000 - back) == 5
    probe = throttle.start_probe("a", LEASE, 1005 - back)
    assert throttle.wait(900 - back) == LEASE
    assert throttle.end_probe(probe)

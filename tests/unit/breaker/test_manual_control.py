"""`force_open` and `reset`."""

from tests.support.driving import CLOSED, HOUR, OPEN, counters, record, rejection, trip


def test_a_forced_circuit_stays_open_until_reset(breaker, clock):
    breaker.force_open("maintenance")
    for _ in range(5):
        clock.advance(10 * HOUR)
        error = rejection(breaker)
        assert (error.state, error.retry_after) == (OPEN, None)
    assert (breaker.state, breaker.retry_after) == (OPEN, None)
    assert breaker.snapshot().reason == "forced open: maintenance"
    assert counters(breaker) == {"rejected": 5}
    breaker.reset()
    assert (breaker.state, breaker.retry_after, breaker.snapshot().reason) == (CLOSED, 0.0, None)
    breaker.acquire()


def test_forcing_an_open_circuit_takes_its_end_away(breaker, clock):
    trip(breaker)
    breaker.force_open("maintenance")
    clock.advance(HOUR)
    assert rejection(breaker).retry_after is None


def test_forcing_again_with_another_reason_changes_the_reason(breaker):
    breaker.force_open("maintenance")
    breaker.force_open("fire")
    assert rejection(breaker).reason == "forced open: fire"


def test_reset_closes_an_open_circuit(breaker):
    trip(breaker)
    breaker.reset()
    assert breaker.state is CLOSED
    assert (breaker.snapshot().streak, breaker.snapshot().reason) == (0, None)


def test_reset_of_a_closed_circuit_drops_the_streak_without_an_event(breaker):
    for _ in range(9):
        breaker.acquire().fail()
    events = record(breaker)
    breaker.reset()
    assert events == []
    assert breaker.snapshot().streak == 0
    breaker.acquire().fail()
    assert breaker.state is CLOSED


def test_reset_keeps_the_counts_since_the_start(breaker):
    trip(breaker)
    breaker.reset()
    assert counters(breaker) == {"failures": 10, "trips": 1}


def test_the_time_of_a_change_by_hand_is_the_clocks(breaker, clock):
    events = []
    breaker.listen(events.append)
    clock.advance(5)
    breaker.force_open("maintenance")
    clock.advance(5)
    breaker.reset()
    assert [event.at for event in events] == [5.0, 10.0]
    assert breaker.snapshot().since == 10.0

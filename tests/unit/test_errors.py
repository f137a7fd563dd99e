"""What the package raises: the hierarchy, the text, and errors that travel between processes."""

import copy
import pickle

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
    ResilienceError,
)


class ServerError(Exception):
    def __init__(self, status):
        super().__init__(f"Bearer hunter2 got {status}")
        self.status = status


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)


def rejection(breaker):
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    return caught.value


@pytest.fixture
def rejected_open(breaker, clock):
    breaker.acquire().fail(ServerError(503))
    clock.advance(17.5)
    return rejection(breaker)


@pytest.fixture
def rejected_half_open(breaker, clock):
    breaker.acquire().fail(ServerError(503))
    clock.advance(60)
    breaker.acquire()
    return rejection(breaker)


@pytest.fixture
def rejected_forced(breaker):
    breaker.force_open("maintenance until noon")
    return rejection(breaker)


def fields(error):
    return (error.region, error.state, error.reason, error.retry_after)


def test_everything_the_package_raises_by_itself_is_a_resilience_error():
    assert issubclass(CircuitBreakerOpenError, ResilienceError)
    assert issubclass(ResilienceError, Exception)
    assert not issubclass(ResilienceError, (ValueError, TypeError, OSError))


def test_a_rejection_carries_region_state_reason_and_retry_after(rejected_open):
    assert fields(rejected_open) == ("eu-west-1", CircuitState.OPEN, "ServerError 503", 42.5)


def test_a_rejection_of_a_forced_circuit_has_no_retry_after(rejected_forced):
    reason = "forced open: maintenance until noon"
    assert fields(rejected_forced) == ("eu-west-1", CircuitState.OPEN, reason, None)


def test_a_rejection_in_half_open_says_so(rejected_half_open):
    assert rejected_half_open.state is CircuitState.HALF_OPEN
    assert rejected_half_open.retry_after == 1.0


@pytest.mark.parametrize("fixture", ["rejected_open", "rejected_half_open", "rejected_forced"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_rejection_survives_pickling(request, fixture, protocol):
    error = request.getfixturevalue(fixture)
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is CircuitBreakerOpenError
    assert fields(back) == fields(error)
    assert str(back) == str(error)


@pytest.mark.parametrize("fixture", ["rejected_open", "rejected_half_open", "rejected_forced"])
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_rejection_survives_copying(request, fixture, duplicate):
    error = request.getfixturevalue(fixture)
    back = duplicate(error)
    assert back is not error
    assert fields(back) == fields(error)
    assert str(back) == str(error)


def test_a_note_on_a_rejection_survives_pickling(rejected_open):
    rejected_open.add_note("message 17")
    assert pickle.loads(pickle.dumps(rejected_open)).__notes__ == ["message 17"]


def test_the_text_names_region_state_reason_and_the_time_left(rejected_open):
    text = str(rejected_open)
    for part in ("eu-west-1", "OPEN", "ServerError 503", "42.5"):
        assert part in text


def test_the_text_in_half_open_names_the_state(rejected_half_open):
    text = str(rejected_half_open)
    for part in ("eu-west-1", "HALF_OPEN", "ServerError 503", "1"):
        assert part in text


def test_the_text_of_a_forced_circuit_promises_no_time(rejected_forced):
    text = str(rejected_forced)
    for part in ("eu-west-1", "OPEN", "forced open: maintenance until noon"):
        assert part in text
    assert "None" not in text


def test_the_text_is_one_line_and_never_the_text_of_the_error(rejected_open):
    assert "hunter2" not in str(rejected_open)
    assert "hunter2" not in repr(rejected_open)
    assert len(str(rejected_open).splitlines()) == 1


def test_the_text_escapes_control_characters_of_the_region():
    breaker = CircuitBreaker("eu\n\x1b[31mwest")
    breaker.force_open("by hand")
    assert str(rejection(breaker)).isprintable()


def test_a_rejection_holds_no_other_error(breaker):
    breaker.acquire().fail(ServerError(503))
    error = rejection(breaker)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not any(isinstance(value, ServerError) for value in vars(error).values())
    assert not any(isinstance(value, ServerError) for value in error.args)


def test_an_hour_is_written_in_seconds():
    error = CircuitBreakerOpenError("eu-west-1", CircuitState.OPEN, "TimeoutError", 3599.9999)
    assert str(error).endswith("retry after 3600 s")

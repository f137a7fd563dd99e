"""Odd arguments: refused where they are given, with their name, what came, and what is expected."""

import functools
import math
import warnings
from decimal import Decimal

import pytest

from resilience import (
    CircuitBreaker,
    CircuitBreakerRegistry,
    Outcome,
    classify_error,
    classify_status,
    failures,
    region_breaker,
)
from resilience.testing import FakeClock

PLACES = {
    "breaker": lambda **given: CircuitBreaker("eu-west-1", **given),
    "registry": CircuitBreakerRegistry,
    "configure": lambda **given: CircuitBreakerRegistry().configure(**given),
    "decorator": lambda **given: region_breaker(region_from="region", **given),
}
CLOCK_PLACES = {name: PLACES[name] for name in ("breaker", "registry", "configure")}
places = pytest.mark.parametrize("give", PLACES.values(), ids=PLACES)
clock_places = pytest.mark.parametrize("give", CLOCK_PLACES.values(), ids=CLOCK_PLACES)
roles = pytest.mark.parametrize("role", ["classifier", "result_classifier"])


# Classifiers


class TooSlow(BaseException):
    pass


@places
@roles
@pytest.mark.parametrize(
    ("types", "line"),
    [
        (LookupError, "failures(LookupError)"),
        (TooSlow, "failures(TooSlow)"),
        ((KeyError, IndexError), "failures(KeyError, IndexError)"),
        ([KeyError], "failures(KeyError)"),
        (failures, "failures(YourError)"),
    ],
    ids=lambda value: getattr(value, "__name__", "text") if callable(value) else str(value),
)
def test_exception_types_in_place_of_a_classifier_are_refused_with_the_right_line(
    give, role, types, line
):
    with pytest.raises(TypeError) as caught:
        give(**{role: types})
    assert str(caught.value).startswith(f"{role} must be a callable that takes ")
    assert str(caught.value).endswith(f"write classifier={line}")


class Judge:
    def __call__(self, _):
        return Outcome.FAILURE


class SlowJudge:
    async def __call__(self, _):
        return Outcome.FAILURE


async def judge_slowly(_):
    return Outcome.FAILURE


def judge_in_steps(_):
    yield Outcome.FAILURE


@places
@roles
@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (Judge, "the class Judge"),
        (Outcome, "the class Outcome"),
        (Outcome.FAILURE, "Outcome"),
        ((), "tuple"),
        ({503}, "set"),
        (judge_slowly, "the async judge_slowly"),
        (functools.partial(judge_slowly), "the async judge_slowly"),
        (SlowJudge(), "the async SlowJudge"),
        (functools.partial(SlowJudge()), "the async SlowJudge"),
        (SlowJudge().__call__, "the async SlowJudge.__call__"),
        (judge_in_steps, "the generator judge_in_steps"),
    ],
)
def test_what_classifies_nothing_is_refused(give, role, wrong, got):
    with pytest.raises(TypeError, match=f"^{role} must be .*, got {got}$"):
        give(**{role: wrong})


@places
@pytest.mark.parametrize("wrong", [classify_error, failures(LookupError)])
def test_a_classifier_of_errors_is_refused_as_one_of_results(give, wrong):
    with pytest.raises(TypeError, match=r"^result_classifier .*: pass it as classifier$"):
        give(result_classifier=wrong)


@places
def test_a_classifier_of_results_is_refused_as_one_of_errors(give):
    # It would make a success of every error that has no status, a time-out among them.
    with pytest.raises(TypeError, match=r"^classifier .*: pass it as result_classifier$"):
        give(classifier=classify_status)


@places
def test_an_object_that_classifies_is_taken(give):
    give(classifier=Judge(), result_classifier=functools.partial(Judge()))


def test_a_coroutine_from_a_classifier_is_logged_and_closed(log):
    def judge(error):
        return judge_slowly(error)

    breaker = CircuitBreaker("eu-west-1", classifier=judge)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LookupError), breaker.acquire():
            raise LookupError
    assert "returned a coroutine, expected an Outcome" in log[0]["message"]


# Clocks


def raising_clock():
    raise OSError("a-tenants-bearer-token")


async def slow_clock():
    return 0.0


@clock_places
@pytest.mark.parametrize(
    ("reading", "got"),
    [
        (None, "NoneType"),
        ("12", "str"),
        (True, "bool"),
        (1j, "complex"),
        (Decimal(1), "Decimal"),
        ([1.0], "list"),
    ],
)
def test_a_clock_that_returns_no_number_is_refused_when_it_is_given(give, reading, got):
    with pytest.raises(TypeError, match=f"^clock must return a finite number .*, got {got}$"):
        give(clock=lambda: reading)


@clock_places
@pytest.mark.parametrize("reading", [math.nan, math.inf, -math.inf])
def test_a_clock_that_returns_no_time_is_refused_when_it_is_given(give, reading):
    with pytest.raises(ValueError, match=f"^clock must return a finite .*, got {reading}$"):
        give(clock=lambda: reading)


@clock_places
def test_a_clock_that_returns_a_number_without_end_is_refused_when_it_is_given(give):
    with pytest.raises(ValueError, match=r"^clock must return a finite .*, got int$"):
        give(clock=lambda: 10**400)


@clock_places
def test_a_clock_that_raises_is_refused_when_it_is_given(give):
    with pytest.raises(ValueError, match=r"^clock raised OSError$"):
        give(clock=raising_clock)


@clock_places
@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (5, "int"),
        (12.5, "float"),
        ("time", "str"),
        (FakeClock, "the class FakeClock"),
        (slow_clock, "the async slow_clock"),
        (functools.partial(slow_clock), "the async slow_clock"),
    ],
)
def test_what_is_no_clock_is_refused(give, wrong, got):
    with pytest.raises(TypeError, match=f"^clock must be a .*, got {got}$"):
        give(clock=wrong)


@clock_places
def test_a_coroutine_from_a_clock_is_closed(give):
    def clock():
        return slow_clock()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="got coroutine"):
            give(clock=clock)


@clock_places
def test_a_clock_may_return_any_finite_number(give):
    give(clock=lambda: -7)


def test_a_clock_that_is_refused_leaves_the_registry_as_it_was():
    registry = CircuitBreakerRegistry(max_regions=3)
    with pytest.raises(TypeError, match="clock"):
        registry.configure(max_regions=7, clock=lambda: None)
    for number in range(5):
        registry.get(f"region-{number}")
    assert len(registry) == 3


# The rest


class Sharing:
    def bind(self, owner):
        """Belong to a registry."""

    def make_circuit(self, region, policy, now):
        """Make a circuit."""

    def join(self, breaker):
        """Share a circuit."""

    def close(self):
        """Stop."""


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"policies": None, "sharing": Sharing},
            "sharing must be a Sharing, got the class Sharing",
        ),
        ({"policies": [("eu", 1)]}, "policies must be a Mapping, got list"),
        ({"policies": dict}, "policies must be a Mapping, got the class dict"),
        ({"normalize": judge_slowly}, "normalize must be a plain function, got the async"),
        ({"normalize": judge_in_steps}, "normalize must be a plain function, got the generator"),
        ({"policy": Judge}, "policy must be a BreakerPolicy, got the class Judge"),
    ],
)
def test_a_setting_of_a_wrong_kind_is_named(given, text):
    with pytest.raises(TypeError, match=f"^{text}"):
        CircuitBreakerRegistry(**given)


@pytest.mark.parametrize("wrong", [None, 5, "log", judge_slowly, judge_in_steps, SlowJudge()])
def test_a_listener_of_a_wrong_kind_is_refused_everywhere(wrong):
    registry = CircuitBreakerRegistry()
    for listen in (registry.listen, registry.on_rejection, registry.get("eu").listen):
        with pytest.raises(TypeError, match=r"^listener must be a "):
            listen(wrong)
        with pytest.raises(TypeError, match=r"^listener must be a "):
            listen(functools.partial(SlowJudge()))

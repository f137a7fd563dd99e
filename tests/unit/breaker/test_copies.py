"""A region has one circuit: a copy of what holds it is that very thing, and it is not pickled."""

import copy
import dataclasses
import pickle
from multiprocessing.reduction import ForkingPickler

import pytest

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerRegistry
from resilience.testing import FakeClock


@dataclasses.dataclass
class Client:
    breaker: CircuitBreaker
    registry: CircuitBreakerRegistry
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


def breaker():
    return CircuitBreaker("eu-west-1")


def registry():
    return CircuitBreakerRegistry()


def permit():
    return breaker().acquire()


def nested_permit():
    clock = FakeClock()
    outer = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    outer.acquire().fail()
    clock.advance(60)
    with outer.acquire():
        return outer.acquire()


KINDS = [breaker, registry, permit, nested_permit]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda one: copy.deepcopy([one])[0]])
def test_a_copy_is_the_same_object(make, twin):
    original = make()
    assert twin(original) is original


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_a_type_error_with_a_sentence(make, protocol):
    kind = type(make()).__name__
    with pytest.raises(TypeError, match=f"^a {kind} cannot be pickled: "):
        pickle.dumps(make(), protocol)
    with pytest.raises(TypeError, match=f"^a {kind} cannot be pickled: "):
        pickle.dumps({"inside": [make()]}, protocol)


@pytest.mark.parametrize("make", KINDS)
def test_it_is_not_sent_to_another_process_either(make):
    with pytest.raises(TypeError, match="cannot be pickled"):
        ForkingPickler.dumps(make())  # what multiprocessing and ProcessPoolExecutor use


def test_the_sentence_shows_what_to_do():
    with pytest.raises(TypeError, match=r"Send the region, and get the breaker from a registry"):
        pickle.dumps(breaker())
    with pytest.raises(TypeError, match=r"Import it from its module in the other process"):
        pickle.dumps(registry())


def test_the_copy_of_an_object_that_holds_a_breaker_has_the_same_circuit():
    client = Client(breaker(), registry(), {"a": "b"})
    for twin in (copy.copy(client), copy.deepcopy(client), dataclasses.replace(client)):
        assert twin.breaker is client.breaker
        assert twin.registry is client.registry
    assert copy.deepcopy(client).headers is not client.headers
    assert dataclasses.asdict(client)["breaker"] is client.breaker


def test_a_decorated_function_is_copied_as_itself_and_stays_protected():
    one = breaker()
    send = one(lambda: "sent")
    copy.deepcopy(send)()
    assert one.snapshot().successes == 1

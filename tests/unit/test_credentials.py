"""An object with secrets, passed in the wrong place: no error shows more than its type."""

import traceback

import pytest
from aio_pika import Message

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerRegistry,
    failures,
    region_breaker,
)
from resilience.genesys import canonical_region
from resilience.history import History
from resilience.integrations.redis import RedisSharing
from resilience.integrations.status_page import status_page
from resilience.retry import RetryBudget, transient_retry, wait_retry_after
from resilience.testing import FakeClock
from resilience.testing.rabbitmq import StubBroker

SECRET = "hunter2"
URL = "redis://127.0.0.1"


class Credentials:
    def __repr__(self):
        return f"Credentials(secret={SECRET})"

    __str__ = __repr__

    def __format__(self, _):
        return repr(self)


class Unhashable(Credentials):
    __hash__ = None


class BitingHash(Credentials):
    def __hash__(self):
        raise RuntimeError(SECRET)


class SecretNumber(int):
    __repr__ = __str__ = Credentials.__repr__
    __format__ = Credentials.__format__


class SecretSeconds(float):
    __repr__ = __str__ = Credentials.__repr__
    __format__ = Credentials.__format__


class SecretText(str):
    __slots__ = ()
    __repr__ = __str__ = Credentials.__repr__
    __format__ = Credentials.__format__


def sent(credentials, path="region"):
    @region_breaker(region_from=path, registry=CircuitBreakerRegistry())
    def send(region):
        return None

    send(credentials)


PLACES = {
    "get": lambda it: CircuitBreakerRegistry().get(it),
    "decorated": sent,
    "decorated, path": lambda it: sent(it, "region.region"),
    "region_from": lambda it: region_breaker(region_from=it),
    "region from a function": lambda it: region_breaker(
        region_from=lambda: it, registry=CircuitBreakerRegistry()
    )(lambda: None)(),
    "registry": lambda it: region_breaker(region_from="a", registry=it),
    "breaker": CircuitBreaker,
    "policy": lambda it: CircuitBreaker("a", it),
    "policies": lambda it: CircuitBreakerRegistry(policies={it: BreakerPolicy()}),
    "policies, value": lambda it: CircuitBreakerRegistry(policies={"a": it}),
    "policies, wrong value": lambda it: CircuitBreakerRegistry(policies={it: 7}),
    "policies, itself": lambda it: CircuitBreakerRegistry(policies=it),
    "max_regions": lambda it: CircuitBreakerRegistry(max_regions=it),
    "normalize": lambda it: CircuitBreakerRegistry(normalize=it),
    "normalized": lambda it: CircuitBreakerRegistry(normalize=lambda _: it).get("a"),
    "allowed_regions": lambda it: CircuitBreakerRegistry(allowed_regions=it),
    "allowed_regions, one": lambda it: CircuitBreakerRegistry(allowed_regions=[it]),
    "sharing": lambda it: CircuitBreakerRegistry(sharing=it),
    "clock": lambda it: CircuitBreakerRegistry(clock=it),
    "clock reads": lambda it: CircuitBreakerRegistry(clock=lambda: it),
    "classifier": lambda it: CircuitBreaker("a", classifier=it),
    "classifier, among": lambda it: CircuitBreaker("a", classifier=(it,)),
    "result_classifier": lambda it: CircuitBreaker("a", result_classifier=it),
    "failures": failures,
    "failures, more": lambda it: failures(ValueError, it),
    "failure_threshold": lambda it: BreakerPolicy(failure_threshold=it),
    "recovery_timeout": lambda it: BreakerPolicy(recovery_timeout=it),
    "probe_timeout": lambda it: BreakerPolicy(probe_timeout=it),
    "configure": lambda it: CircuitBreakerRegistry().configure(max_regions=it),
    "listen": lambda it: CircuitBreaker("a").listen(it),
    "on_rejection": lambda it: CircuitBreakerRegistry().on_rejection(it),
    "force_open": lambda it: CircuitBreaker("a").force_open(it),
    "history": History,
    "canonical_region": canonical_region,
    "attempts": lambda it: transient_retry(attempts=it),
    "count_per": lambda it: transient_retry(count_per=it),
    "budget": lambda it: transient_retry(budget=it),
    "RetryBudget": RetryBudget,
    "fallback": wait_retry_after,
    "maximum": lambda it: wait_retry_after(lambda _: 0, it),
    "status_page": status_page,
    "hosts": lambda it: status_page(CircuitBreakerRegistry(), hosts=[it]),
    "max_listeners": lambda it: status_page(CircuitBreakerRegistry(), max_listeners=it),
    "FakeClock": FakeClock,
    "advance": lambda it: FakeClock().advance(it),
    "call": CircuitBreaker("a"),
    "tenant_from": lambda it: region_breaker(region_from="a", tenant_from=it),
    "on_throttled": lambda it: region_breaker(region_from="a", tenant_from="b", on_throttled=it),
    "observe": lambda it: CircuitBreaker("a").observe(None, tenant=it),
    "client_or_url": RedisSharing,
    "quorum": lambda it: RedisSharing(URL, quorum=it),
    "prefix": lambda it: RedisSharing(URL, prefix=it),
    "probe_lease": lambda it: RedisSharing(URL, probe_lease=it),
    "poll_interval": lambda it: RedisSharing(URL, poll_interval=it),
    "socket_timeout": lambda it: RedisSharing(URL, socket_timeout=it),
    "name": lambda it: RedisSharing(URL, name=it),
    "stub queue": lambda it: StubBroker().publish(it, Message(b"")),
}
# What cannot be hashed is not the key of any mapping.
NOT_A_KEY = ("policies", "policies, wrong value")


@pytest.mark.parametrize("kind", [Credentials, Unhashable, BitingHash])
@pytest.mark.parametrize("place", PLACES)
def test_credentials_in_the_wrong_place_are_shown_by_their_type(place, kind):
    if place in NOT_A_KEY:
        kind = Credentials
    with pytest.raises((TypeError, ValueError)) as caught:
        PLACES[place](kind())
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert (kind.__name__ in str(caught.value)) is (place != "classifier, among")


@pytest.mark.parametrize(
    "value",
    [
        SecretNumber(0),
        SecretNumber(99),
        SecretSeconds(-1.0),
        SecretSeconds(9.0),
        SecretText(" "),
        SecretText("{0}"),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_a_value_with_a_text_of_its_own_does_not_get_to_say_it(place, value):
    shown = ""
    try:
        PLACES[place](value)
    except (TypeError, ValueError) as error:
        shown = "".join(traceback.format_exception(error))
    assert SECRET not in shown


def test_no_error_that_was_handled_holds_the_object():
    credentials = Credentials()
    with pytest.raises(TypeError) as caught:
        CircuitBreakerRegistry().get(credentials)
    assert caught.value.__context__ is None

"""Calls of a throttled tenant are rejected without a request; other tenants go on."""

import asyncio
import copy
import pickle

import pytest

from resilience import (
    CircuitBreakerOpenError,
    CircuitState,
    Outcome,
    ResilienceError,
    TenantThrottledError,
    classify_error,
    classify_status,
    region_breaker,
)
from resilience.retry import transient_retry
from tests.unit.tenants.conftest import REGION, HttpError, settle, throttled


async def refuse(send, region, tenant="acme", seconds=7):
    region.answers[tenant] = throttled(seconds)
    with pytest.raises(HttpError):
        await send(tenant)


async def test_a_429_throttles_its_tenant_and_no_other(protected, region, clock, breaker):
    send = protected().send
    await refuse(send, region)
    with pytest.raises(TenantThrottledError) as caught:
        await send("acme")
    assert (caught.value.region, caught.value.tenant) == (REGION, "acme")
    assert caught.value.retry_after == 7
    assert await send("other") == "sent"
    assert region.requests == {"acme": 1, "other": 1}
    assert breaker.state is CircuitState.CLOSED
    assert breaker.snapshot().streak == 0


async def test_one_call_finds_out_whether_the_tenant_may_go_on(protected, region, clock):
    send = protected().send
    await refuse(send, region)
    clock.advance(7)
    region.answers.clear()
    gate = region.hold("acme")
    probe = asyncio.create_task(send("acme"))
    await settle()
    with pytest.raises(TenantThrottledError) as caught:
        await send("acme")
    assert caught.value.retry_after == 1.0
    gate.set()
    assert await probe == "sent"
    assert await send("acme") == "sent"
    assert region.requests["acme"] == 3


async def test_a_further_429_prolongs_the_wait(protected, region, clock, breaker):
    send = protected().send
    await refuse(send, region, seconds=7)
    clock.advance(7)
    await refuse(send, region, seconds=20)
    clock.advance(19.9)
    with pytest.raises(TenantThrottledError):
        await send("acme")
    assert breaker.tenants.wait_of("acme") == pytest.approx(0.1)


@pytest.mark.parametrize("header", [None, "0"])
async def test_without_a_time_the_wait_doubles(protected, region, clock, breaker, header):
    send = protected().send
    for expected in (1, 2, 4, 8, 16, 32, 60, 60):
        await refuse(send, region, seconds=header)
        assert breaker.tenants.wait_of("acme") == expected
        clock.advance(expected)


@pytest.mark.parametrize(
    "error", [HttpError(503), ValueError("a bug"), asyncio.CancelledError(), TimeoutError()]
)
async def test_a_probe_that_says_nothing_leaves_its_place_to_the_next(
    protected, region, clock, breaker, error
):
    send = protected().send
    await refuse(send, region)
    clock.advance(7)
    region.answers["acme"] = error
    with pytest.raises(type(error)):
        await send("acme")
    assert "acme" in breaker.throttled_tenants
    region.answers.clear()
    assert await send("acme") == "sent"
    assert "acme" not in breaker.throttled_tenants


async def test_a_probe_that_is_refused_for_another_reason_ends_the_throttle(
    protected, region, clock, breaker
):
    send = protected().send
    await refuse(send, region)
    clock.advance(7)
    region.answers["acme"] = HttpError(404)
    with pytest.raises(HttpError):
        await send("acme")
    assert "acme" not in breaker.throttled_tenants


async def test_a_probe_that_hangs_loses_its_place(protected, region, clock):
    send = protected().send
    await refuse(send, region)
    clock.advance(7)
    region.answers.clear()
    gate = region.hold("acme")
    hanging = asyncio.create_task(send("acme"))
    await settle()
    clock.advance(60)
    del region.gates["acme"]
    assert await send("acme") == "sent"
    region.answers["acme"] = throttled(5)
    gate.set()
    with pytest.raises(HttpError):  # a refusal counts, however late
        await hanging
    with pytest.raises(TenantThrottledError):
        await send("acme")


async def test_an_open_circuit_goes_first(protected, region, clock, breaker):
    send = protected().send
    await refuse(send, region)
    breaker.force_open("maintenance")
    with pytest.raises(CircuitBreakerOpenError):
        await send("acme")
    clock.advance(7)
    with pytest.raises(CircuitBreakerOpenError):  # and gives back the place of the probe
        await send("acme")
    breaker.reset()
    region.answers.clear()
    assert await send("acme") == "sent"


def test_a_def_does_the_same(protected, region, clock, breaker):
    send = protected().send_now
    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError):
        send("acme")
    with pytest.raises(TenantThrottledError):
        send("acme")
    clock.advance(7)
    with pytest.raises(HttpError):
        send("acme")
    clock.advance(7)
    region.answers.clear()
    assert send("acme") == "sent"
    assert not breaker.throttled_tenants


async def test_a_def_that_returns_an_awaitable_is_over_when_that_is(protected, region, clock):
    functions = protected()

    @functions.decorate
    def send_later(tenant):
        return region.answer_later(tenant)

    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError):
        await send_later("acme")
    with pytest.raises(TenantThrottledError):
        send_later("acme")
    clock.advance(7)
    probe = send_later("acme")
    with pytest.raises(TenantThrottledError):
        send_later("acme")
    with pytest.raises(HttpError):
        await probe
    clock.advance(7)
    region.answers.clear()
    assert await send_later("acme") == "sent"
    assert await send_later("acme") == "sent"


class Response:
    def __init__(self, status, headers=()):
        self.status = status
        self.headers = dict(headers)


@pytest.mark.parametrize("where", ["function", "registry"])
async def test_a_429_that_is_returned_throttles_too(protected, region, clock, registry, where):
    options = {"result_classifier": classify_status} if where == "function" else {}
    if where == "registry":
        registry.configure(result_classifier=classify_status)
    functions = protected(**options)
    region.answers["acme"] = Response(429, {"Retry-After": "7"})
    assert (await functions.send("acme")).status == 429
    with pytest.raises(TenantThrottledError):
        await functions.send("acme")
    clock.advance(7)
    region.answers["acme"] = Response(200)
    assert functions.send_now("acme").status == 200
    assert (await functions.send("acme")).status == 200


async def test_a_call_inside_the_probe_of_its_tenant_is_part_of_it(protected, region, clock):
    functions = protected()
    await refuse(functions.send, region)
    clock.advance(7)
    region.answers.clear()

    @functions.decorate
    async def send_twice(tenant):
        return await functions.send(tenant), await functions.send(tenant)

    assert await send_twice("acme") == ("sent", "sent")


async def test_a_streak_and_a_half_open_circuit_are_served_as_without_tenants(
    protected, region, clock, breaker
):
    functions = protected()
    for _ in range(2):
        region.answers["acme"] = HttpError(503)
        with pytest.raises(HttpError):
            await functions.send("acme")
        with pytest.raises(HttpError):
            functions.send_now("acme")
        region.answers.clear()
        clock.advance(60)
        for _ in range(3):
            await functions.send("acme")
            functions.send_now("acme")
        assert breaker.snapshot().streak == 0


def test_the_error_travels_and_is_ignored_by_an_outer_breaker(registry, breaker):
    error = TenantThrottledError(REGION, "acme", 7.25)
    assert isinstance(error, ResilienceError)
    assert str(error) == "tenant 'acme' is throttled by region 'eu-west-1'; retry after 7.25 s"
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (again.region, again.tenant, again.retry_after) == (REGION, "acme", 7.25)
    assert classify_error(error) is Outcome.IGNORED
    outer = registry.get("outer")
    with pytest.raises(TenantThrottledError), outer.acquire():
        raise error
    assert outer.snapshot().ignored == 1


# Finding the tenant


class Credentials:
    region, tenant = REGION, "acme"


@pytest.mark.parametrize("path", ["credentials.tenant", "credentials.owner.tenant"])
@pytest.mark.parametrize("holder", ["object", "mapping"])
@pytest.mark.parametrize("how", ["position", "keyword"])
async def test_the_tenant_is_found_like_the_region(registry, path, holder, how):
    credentials = Credentials()
    credentials.owner = Credentials()
    if holder == "mapping":
        credentials = {"tenant": "acme", "owner": {"tenant": "acme"}}

    @region_breaker(region_from="region", tenant_from=path, registry=registry)
    async def send(region, credentials):
        raise throttled(7)

    call = (REGION, credentials) if how == "position" else ()
    keywords = {} if call else {"region": REGION, "credentials": credentials}
    with pytest.raises(HttpError):
        await send(*call, **keywords)
    with pytest.raises(TenantThrottledError):
        await send(*call, **keywords)


async def test_a_default_and_a_function_name_the_tenant_too(registry):
    @region_breaker(region_from="region", tenant_from="tenant", registry=registry)
    def by_default(region=REGION, tenant="acme"):
        raise throttled(7)

    @region_breaker(
        region_from="region", tenant_from=lambda region: region[:4] + "acme", registry=registry
    )
    def by_function(region):
        raise throttled(7)

    for call in (by_default, lambda: by_function(REGION)):
        with pytest.raises(HttpError):
            call()
    assert set(registry.get(REGION).throttled_tenants) == {"acme", "eu-wacme"}


@pytest.mark.parametrize(
    ("tenant", "kind", "text"),
    [
        (None, TypeError, "send(): tenant_from 'tenant': tenant must be a str, got NoneType"),
        (7, TypeError, "send(): tenant_from 'tenant': tenant must be a str, got int"),
        ("", ValueError, "send(): tenant_from 'tenant': tenant must not be empty, got ''"),
        ([], TypeError, "send(): tenant_from 'tenant': tenant must be a str, got list"),
    ],
)
def test_a_call_without_a_proper_tenant_is_refused(registry, tenant, kind, text):
    ran = []

    @region_breaker(region_from="region", tenant_from="tenant", registry=registry)
    def send(region, tenant):
        ran.append(tenant)

    send.__qualname__ = "send"
    with pytest.raises(kind) as caught:
        send(REGION, tenant)
    assert str(caught.value).endswith(text.partition("send")[2])
    assert ran == []


def test_a_wrong_place_is_refused(registry):
    with pytest.raises(TypeError, match="tenant_from must be a parameter's name"):
        region_breaker(region_from="region", tenant_from=7)
    with pytest.raises(TypeError, match="on_throttled must be a str, got int"):
        region_breaker(region_from="region", on_throttled=7)
    with pytest.raises(ValueError, match="on_throttled must be 'reject' or 'wait', got 'sleep'"):
        region_breaker(region_from="region", on_throttled="sleep")
    with pytest.raises(TypeError, match="tenant_from 'client' does not start at a parameter"):
        region_breaker(region_from="region", tenant_from="client")(lambda region: None)

    @region_breaker(region_from="region", tenant_from="credentials.tenant", registry=registry)
    def send(region, credentials):
        pass

    with pytest.raises(TypeError, match="object has no 'tenant'"):
        send(REGION, object())
    with pytest.raises(
        TypeError,
        match="missing a required argument: 'credentials'",
    ):
        send(REGION)

    @region_breaker(region_from="region", tenant_from=lambda region: 1 / 0, registry=registry)
    def fail(region):
        pass

    with pytest.raises(ValueError, match="raised ZeroDivisionError"):
        fail(REGION)
    with pytest.raises(TypeError, match="region must be a str"):
        fail(None)
    with pytest.raises(TypeError, match="missing a required argument: 'region'"):
        fail()


@pytest.mark.parametrize("colour", ["async", "sync"])
async def test_region_and_tenant_may_be_in_the_same_object(registry, colour):
    decorate = region_breaker(
        region_from="credentials.region", tenant_from="credentials.tenant", registry=registry
    )

    @decorate
    async def send(credentials):
        return "sent"

    @decorate
    def send_now(credentials):
        return "sent"

    async def call(credentials):
        return await send(credentials) if colour == "async" else send_now(credentials)

    credentials = Credentials()
    assert await call(credentials) == "sent"
    assert await call(credentials) == "sent"
    registry.get(REGION).tenants.throttle("acme", 7)
    with pytest.raises(TenantThrottledError):
        await call(credentials)
    credentials.tenant = None
    with pytest.raises(TypeError, match="tenant must be a str, got NoneType"):
        await call(credentials)
    with pytest.raises(TypeError, match="missing a required argument: 'credentials'"):
        await send_now() if colour == "sync" else await send()


async def test_a_success_without_a_permit_ends_the_streak(protected, region, breaker):
    functions = protected()
    for send in (functions.send, functions.send_now):
        region.answers["acme"] = HttpError(503)
        with pytest.raises(HttpError):
            result = send("acme")
            await result
        assert breaker.snapshot().streak == 1
        region.answers.clear()
        if send is functions.send:
            await send("acme")
        else:
            send("acme")
        assert breaker.snapshot().streak == 0


async def test_a_hold_that_is_over_meets_an_open_circuit(protected, breaker, clock):
    breaker.observe(HttpError(200, GENESYS), tenant="acme")
    clock.advance(25)
    breaker.force_open("maintenance")
    with pytest.raises(CircuitBreakerOpenError):
        await protected().send("acme")


async def test_a_circuit_that_is_due_at_that_very_moment_admits_no_throttled_tenant(
    protected, region, breaker, clock, monkeypatch
):
    breaker.tenants.throttle("acme", 100)
    for _ in range(3):
        breaker.acquire().fail()
    acquire = type(breaker).acquire

    def acquire_late(self, *classifiers):
        clock.advance(60)
        return acquire(self, *classifiers)

    monkeypatch.setattr(type(breaker), "acquire", acquire_late)
    with pytest.raises(TenantThrottledError):
        await protected().send("acme")
    assert region.requests == {}
    assert breaker.snapshot().ignored_reasons == ("its tenant is throttled",)


async def test_a_retried_def_that_returns_an_awaitable_is_over_when_that_is(protected, region):
    functions = protected()

    @functions.decorate
    @transient_retry()
    def send_later(tenant):
        return region.answer_later(tenant)

    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError):
        await send_later("acme")
    with pytest.raises(TenantThrottledError):
        send_later("acme")


GENESYS = {
    "inin-ratelimit-allowed": "300",
    "inin-ratelimit-count": "300",
    "inin-ratelimit-reset": "25",
}

"""Retry loops inside a call of a tenant make no attempt while the tenant is throttled."""

import asyncio

import pytest
import tenacity

from resilience import TenantThrottledError, classify_status, scope
from resilience.retry import gate, transient_retry
from tests.unit.tenants.conftest import HttpError, throttled


async def no_sleep(_seconds):
    pass


def loops():
    plain = tenacity.retry(
        stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_none(), reraise=True
    )
    wait = tenacity.wait_none()
    return {
        "transient_retry": transient_retry(wait=wait),
        "per attempt": transient_retry(wait=wait, count_per="attempt"),
        "tenacity": plain,
        "gate": lambda fn: gate(plain(fn)),
    }


@pytest.mark.parametrize("name", loops())
@pytest.mark.parametrize("colour", ["async", "sync"])
async def test_a_429_ends_the_loop_with_the_first_attempt(protected, region, name, colour):
    functions = protected()
    if colour == "async":

        @functions.decorate
        @loops()[name]
        async def send(tenant):
            return region.answer(tenant)
    else:

        @loops()[name]
        def retried(tenant):
            return region.answer(tenant)

        plain = functions.decorate(retried)

        async def send(tenant):
            return plain(tenant)

    assert await send("acme") == "sent"
    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError) as caught:
        await send("acme")
    assert caught.value.status == 429
    assert region.requests["acme"] == 2
    with pytest.raises(TenantThrottledError):
        await send("acme")
    assert region.requests["acme"] == 2
    region.answers["other"] = HttpError(503)
    with pytest.raises(HttpError):
        await send("other")
    assert region.requests["other"] >= 3


async def test_a_loop_makes_no_attempt_once_another_call_was_refused(protected, region, breaker):
    functions = protected()

    async def throttled_meanwhile(_seconds):
        breaker.tenants.throttle("acme", 7)

    @functions.decorate
    @transient_retry(wait=tenacity.wait_none(), sleep=throttled_meanwhile)
    async def send(tenant):
        return region.answer(tenant)

    region.answers["acme"] = HttpError(503)
    with pytest.raises(TenantThrottledError) as caught:
        await send("acme")
    assert caught.value.__cause__ is region.answers["acme"]
    assert caught.value.retry_after == 7
    assert region.requests["acme"] == 1


async def test_the_probe_may_retry_what_is_not_a_429(protected, region, breaker, clock):
    functions = protected()

    @functions.decorate
    @transient_retry(wait=tenacity.wait_none(), attempts=3)
    async def send(tenant):
        return region.answer(tenant)

    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError):
        await send("acme")
    clock.advance(7)
    region.answers["acme"] = HttpError(503)
    with pytest.raises(HttpError):
        await send("acme")
    assert region.requests["acme"] == 1 + 3
    assert "acme" in breaker.throttled_tenants


async def test_a_loop_written_by_hand_learns_from_observe(protected, region, breaker):
    functions = protected()

    @functions.decorate
    @gate
    async def send(tenant):
        loop = gate(tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(5), reraise=True))
        async for attempt in loop:
            with attempt:
                try:
                    region.answer(tenant)
                except HttpError as error:
                    breaker.observe(error, tenant=tenant)
                    raise

    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError):
        await send("acme")
    assert region.requests["acme"] == 1
    with pytest.raises(TenantThrottledError):
        await send("acme")


async def test_a_cancelled_loop_says_nothing(protected, region, breaker):
    functions = protected()

    @functions.decorate
    @transient_retry()
    async def send(tenant):
        return region.answer(tenant)

    region.answers["acme"] = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await send("acme")
    assert not breaker.throttled_tenants


async def test_a_function_with_retries_may_be_used_without_tenants_too(
    protected, region, registry, breaker
):
    @transient_retry(wait=tenacity.wait_none(), attempts=2)
    async def send(tenant):
        return region.answer(tenant)

    protected().decorate(send)
    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError):
        await registry.get("plain")(send)("acme")
    with pytest.raises(HttpError):
        await send("acme")
    assert region.requests["acme"] == 4
    assert not breaker.throttled_tenants


async def test_retries_and_a_result_classifier_go_together(protected, region, breaker):
    functions = protected(result_classifier=classify_status)

    @functions.decorate
    @transient_retry(wait=tenacity.wait_none())
    async def send(tenant):
        return region.answer(tenant)

    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError):
        await send("acme")
    assert region.requests["acme"] == 1
    assert "acme" in breaker.throttled_tenants


@pytest.mark.parametrize("colour", ["async", "sync"])
async def test_a_call_that_went_well_at_its_second_attempt_is_over(
    protected, region, breaker, colour
):
    decorate, retry = protected().decorate, transient_retry(wait=tenacity.wait_none())
    answers = []

    @decorate
    @retry
    async def send_async(tenant):
        return answer()

    @decorate
    @retry
    def send_sync(tenant):
        return answer()

    def answer():
        if answers:
            raise answers.pop()
        return "sent"

    async def send(tenant):
        answers.append(HttpError(503))
        return await send_async(tenant) if colour == "async" else send_sync(tenant)

    for _ in range(3):
        assert await send("acme") == "sent"
        assert list(scope.enclosing_calls()) == []
    breaker.tenants.throttle("acme", 7)
    assert await send("other") == "sent"  # in the same task, and none of acme's business

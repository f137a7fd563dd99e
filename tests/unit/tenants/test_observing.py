"""What the hook of a client teaches the limits, and what others learn of them."""

import pytest

from resilience import CircuitBreaker, TenantThrottled, TenantThrottledError
from resilience._lock import lock, settle_postponed
from resilience.limits import LimitReading, RateLimit
from tests.unit.tenants.conftest import REGION, HttpError, throttled

GENESYS = {
    "inin-ratelimit-allowed": "300",
    "inin-ratelimit-count": "120",
    "inin-ratelimit-reset": "25",
}


class Response:
    def __init__(self, headers, status=200):
        self.status_code = status
        self.headers = headers


LIMITS = {
    "Genesys": (GENESYS, RateLimit(300, 60)),
    "a draft": ({"RateLimit-Limit": "100, 100;w=60"}, RateLimit(100, 60)),
    "a policy": (
        {"RateLimit-Policy": '"burst";q=10;w=1, "a,b;w=1";q=300;w=60'},
        RateLimit(300, 60),
    ),
    "an old policy": ({"ratelimit-policy": "100;w=50"}, RateLimit(100, 50)),
    "no window": ({"RateLimit-Limit": "100"}, None),
    "nonsense": ({"RateLimit-Policy": "many;w=x", "inin-ratelimit-allowed": "-1"}, None),
    "nothing allowed": ({"RateLimit-Policy": "0;w=60"}, None),
    "bytes": ([(b"RateLimit-Policy", b"100;w=50")], RateLimit(100, 50)),
    "nothing": ({}, None),
    "a number without end": ({"RateLimit-Policy": f"{'9' * 400};w=60"}, None),
    "a window without end": ({"RateLimit-Policy": f"100;w={'9' * 400}"}, None),
    "no end of both": ({"RateLimit-Policy": f"{'9' * 400};w={'9' * 400}"}, None),
    "next to nothing": ({"RateLimit-Policy": f"0.{'0' * 310}1;w={'9' * 308}"}, None),
}


@pytest.mark.parametrize("form", LIMITS)
def test_the_limit_is_learned_in_each_form(breaker, form):
    headers, limit = LIMITS[form]
    breaker.observe(Response(headers), tenant="acme")
    assert breaker.tenants.limit_of("acme") == limit
    assert breaker.tenants.limit_of("other") is None
    assert breaker.tenants.limit_of() is None
    assert not breaker.throttled_tenants


def test_a_limit_without_a_tenant_is_that_of_each_tenant(breaker):
    breaker.observe(Response(GENESYS))
    breaker.observe(Response({"RateLimit-Policy": "5;w=1"}), tenant="acme")
    assert breaker.tenants.limit_of("other") == breaker.tenants.limit_of() == RateLimit(300, 60)
    assert breaker.tenants.limit_of("acme") == RateLimit(5, 1)
    breaker.observe(Response({"Retry-After": "7"}, 429))
    assert not breaker.throttled_tenants


EXHAUSTED = {
    "Genesys": {**GENESYS, "inin-ratelimit-count": "300"},
    "RateLimit": {"RateLimit": '"default";r=0;t=25'},
    "an old RateLimit": {"RateLimit": "limit=100, remaining=0, reset=25"},
    "RateLimit-Reset": {"RateLimit-Remaining": "0", "RateLimit-Reset": "25"},
}


@pytest.mark.parametrize("form", EXHAUSTED)
async def test_a_tenant_with_nothing_left_is_not_called_until_the_reset(
    protected, region, breaker, clock, form
):
    send = protected().send
    breaker.observe(Response(EXHAUSTED[form]), tenant="acme")
    with pytest.raises(TenantThrottledError) as caught:
        await send("acme")
    assert caught.value.retry_after == 25
    clock.advance(25)
    assert breaker.snapshot().throttled_tenants == 0
    assert await send("acme") == "sent"
    assert "acme" not in breaker.throttled_tenants


@pytest.mark.parametrize("status", ["status", "status_code", "code"])
def test_a_429_throttles_the_tenant_whatever_the_client(breaker, status):
    response = Response({"Retry-After": "7"}, 200)
    del response.status_code
    setattr(response, status, 429)
    breaker.observe(response, tenant="acme")
    assert breaker.tenants.wait_of("acme") == 7
    breaker.observe(throttled(9), tenant="other")
    assert breaker.tenants.wait_of("other") == 9
    assert breaker.snapshot().answered == breaker.snapshot().failures == 0


class Broken:
    status = 429

    @property
    def headers(self):
        raise RuntimeError("Bearer hunter2")


class BrokenItems(dict):
    def items(self):
        raise RuntimeError("Bearer hunter2")


@pytest.mark.parametrize("answer", [None, 7, "text", object(), Response(BrokenItems(), 200)])
def test_a_strange_answer_changes_nothing(breaker, answer):
    breaker.observe(answer, tenant="acme")
    assert not breaker.throttled_tenants


def test_a_429_whose_headers_cannot_be_read_still_counts(breaker):
    breaker.observe(Broken(), tenant="acme")
    assert breaker.tenants.wait_of("acme") == 1


class Shut:
    def __getattribute__(self, name):
        raise RuntimeError("Bearer hunter2")


def test_an_answer_that_cannot_even_be_looked_at_is_logged(breaker, log):
    breaker.observe(Shut(), tenant="acme")
    assert not breaker.throttled_tenants
    assert "hunter2" not in str(log)


async def test_an_error_that_cannot_be_judged_reaches_its_caller(
    protected, region, breaker, monkeypatch, log
):
    def fail(error):
        raise RuntimeError("Bearer hunter2")

    monkeypatch.setattr("resilience.tenant_call.examine", fail)
    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError):
        await protected().send("acme")
    assert not breaker.throttled_tenants
    assert "an error's class HttpError" in log[0]["message"]
    assert "hunter2" not in str(log)


@pytest.mark.parametrize(("tenant", "kind"), [(7, TypeError), ("", ValueError), (" ", ValueError)])
def test_a_wrong_tenant_is_refused(breaker, tenant, kind):
    with pytest.raises(kind, match="tenant must"):
        breaker.observe(Response({}), tenant=tenant)
    with pytest.raises(kind, match="tenant must"):
        breaker.tenants.throttle(tenant, 1)


@pytest.mark.parametrize(("seconds", "kind"), [("7", TypeError), (-1, ValueError)])
def test_a_wrong_wait_is_refused(breaker, seconds, kind):
    with pytest.raises(kind, match="seconds must be"):
        breaker.tenants.throttle("acme", seconds)


# What others learn


async def test_listeners_learn_of_what_answers_say_and_not_of_what_others_say(
    protected, region, registry, breaker, clock
):
    heard, heard_here = [], []
    stop = registry.on_tenant_throttled(heard.append)
    stop_here = breaker.tenants.listen(heard_here.append)
    send = protected().send
    breaker.tenants.throttle("other", 5)
    region.answers["acme"] = throttled(7)
    with pytest.raises(HttpError):
        await send("acme")
    clock.advance(7)
    region.answers.clear()
    await send("acme")
    assert heard == heard_here
    assert [(event.region, event.tenant, event.wait, event.at) for event in heard] == [
        (REGION, "acme", 7, 0),
        (REGION, "acme", 0, 7),
    ]
    assert isinstance(heard[0], TenantThrottled)
    stop()
    stop_here()
    breaker.observe(throttled(7), tenant="acme")
    assert len(heard) == 2


def test_clearing_a_registry_ends_its_listeners(registry):
    heard = []
    registry.on_tenant_throttled(heard.append)
    breaker = registry.get(REGION)
    registry.clear()
    breaker.observe(throttled(7), tenant="acme")
    assert heard == []


def test_a_listener_that_fails_is_logged_and_one_that_exits_does(breaker, log):
    def fail(event):
        raise RuntimeError("Bearer hunter2")

    def leave(event):
        raise SystemExit

    breaker.tenants.listen(fail)
    stop = breaker.tenants.listen(leave)
    with pytest.raises(SystemExit):
        breaker.observe(throttled(7), tenant="acme")
    stop()
    breaker.observe(throttled(8), tenant="acme")
    assert breaker.tenants.wait_of("acme") == 8
    assert "hunter2" not in str(log)
    assert [record["level"].name for record in log] == ["ERROR", "ERROR"]


def test_what_is_taken_over_is_a_throttle_like_any_other(breaker, clock):
    breaker.tenants.throttle("acme", 7)
    breaker.tenants.throttle("acme", 5)  # does not shorten it
    assert breaker.tenants.wait_of("acme") == 7
    assert breaker.tenants.start("acme") == 7
    clock.advance(7)
    probe = breaker.tenants.start("acme")
    assert breaker.tenants.is_probing(probe)
    assert breaker.tenants.start("acme") == 1.0
    breaker.tenants.give_back(probe)
    breaker.tenants.give_back(probe)
    assert breaker.tenants.is_probing(breaker.tenants.start("acme"))
    breaker.tenants.throttle("acme", 0)
    breaker.tenants.succeed(probe)
    breaker.tenants.give_back(probe)
    assert not breaker.tenants.is_probing(probe)
    assert breaker.tenants.start("acme") is None


def test_the_snapshot_counts_and_the_tenants_are_named_on_request(breaker, clock):
    assert breaker.snapshot().throttled_tenants == 0
    assert breaker.read(breaker.tenant_waits) == {}
    breaker.tenants.throttle("acme", 7)
    breaker.tenants.throttle("other", 20)
    clock.advance(2)
    snapshot = breaker.snapshot()
    assert (snapshot.throttled_tenants, snapshot.longest_wait) == (2, 18)
    assert breaker.tenants.throttled().waits == {"acme": 5, "other": 18}
    clock.advance(5)
    assert breaker.snapshot().throttled_tenants == 1


# At a bad moment


def test_reports_at_the_end_of_a_collected_generator_are_made_later(breaker, clock):
    reading = LimitReading(is_throttled=True, wait=7)
    with lock:
        breaker.tenants.learn(reading, "acme")
    settle_postponed()
    assert breaker.tenants.wait_of("acme") == 7
    clock.advance(7)
    probe = breaker.tenants.start("acme")
    with lock:
        breaker.tenants.give_back(probe)
    settle_postponed()
    probe = breaker.tenants.start("acme")
    with lock:
        breaker.tenants.succeed(probe)
    settle_postponed()
    assert not breaker.throttled_tenants


async def test_a_clock_that_fails_does_not_hide_the_error_of_the_call(region, protected, registry):
    def clock():
        if broken:
            raise RuntimeError("no time")
        return 5.0

    broken = False
    breaker = CircuitBreaker(REGION, clock=clock)
    breaker.tenants.throttle("acme", 0)
    broken = True
    breaker.observe(throttled(7), tenant="acme")
    broken = False
    assert breaker.tenants.wait_of("acme") <= 7


def test_a_region_with_throttled_tenants_is_not_evicted_as_blank(registry):
    registry.configure(max_regions=2)
    registry.get("a").tenants.throttle("acme", 7)
    registry.get("b")
    registry.get("c")
    assert "a" in registry
    assert "b" not in registry


def test_an_evicted_region_comes_back_with_what_it_learns(registry):
    registry.configure(max_regions=1)
    held = registry.get("a")
    registry.get("b")
    assert "a" not in registry
    held.observe(throttled(7), tenant="acme")
    assert "a" in registry

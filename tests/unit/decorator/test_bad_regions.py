"""A call whose region cannot be found, or is not a region."""

import asyncio
from types import SimpleNamespace

import pytest

from resilience import region_breaker
from tests.support.decorated import EU, Credentials, count


@pytest.fixture
def ran():
    return []


BAD_REGIONS = [
    (None, TypeError),
    (7, TypeError),
    (b"eu-west-1", TypeError),
    (["eu-west-1"], TypeError),
    (True, TypeError),
    (Credentials(EU), TypeError),
    ("", ValueError),
    (" \t\n", ValueError),
    ("\u3000", ValueError),
]


bad_regions = pytest.mark.parametrize(("region", "error"), BAD_REGIONS, ids=repr)


@bad_regions
@pytest.mark.parametrize("region_from", ["region", "job.region", lambda job, region: region])
async def test_a_bad_region_is_an_error_and_the_function_is_not_run(
    registry, region, error, region_from
):
    ran = []

    @region_breaker(region_from=region_from, registry=registry)
    async def send_message(job, region):
        ran.append(region)

    with pytest.raises(error, match="send_message") as caught:
        await send_message(SimpleNamespace(region=region), region)
    assert type(caught.value) is error
    if isinstance(region_from, str):
        assert region_from in str(caught.value).replace("send_message", "")
    assert "a-tenants-bearer-token" not in str(caught.value)
    assert ran == []
    assert len(registry) == 0


@bad_regions
def test_a_bad_region_is_an_error_for_a_synchronous_function_too(protect, ran, region, error):
    @protect()
    def send_message(region):
        ran.append(region)

    with pytest.raises(error, match="send_message"):
        send_message(region)
    assert ran == []


def test_the_message_says_which_type_came(protect):
    @protect()
    def send(region):
        pass

    with pytest.raises(TypeError, match="int"):
        send(7)
    with pytest.raises(TypeError, match="None"):
        send(None)


class Locked:
    @property
    def region(self):
        raise PermissionError("a-tenants-bearer-token is locked")


@pytest.mark.parametrize(
    "credentials",
    [SimpleNamespace(name="x"), None, {}, {"Region": EU}, "text", Locked()],
    ids=lambda credentials: type(credentials).__name__,
)
async def test_a_path_that_leads_nowhere_is_an_error_that_names_it(registry, ran, credentials):
    @region_breaker(region_from="credentials.region", registry=registry)
    async def send_message(credentials):
        ran.append(credentials)

    with pytest.raises((TypeError, ValueError)) as caught:
        await send_message(credentials)
    assert "send_message" in str(caught.value)
    assert "credentials.region" in str(caught.value)
    assert "a-tenants-bearer-token" not in str(caught.value)
    assert ran == []
    assert len(registry) == 0


async def test_a_method_is_named_with_its_class(registry):
    class Client:
        @region_breaker(region_from="self.region", registry=registry)
        async def send(self):
            pass

    with pytest.raises((TypeError, ValueError), match=r"Client\.send"):
        await Client().send()


async def test_a_callable_that_raises_is_an_error_that_names_the_function(registry, ran):
    def find_region(job):
        return job["region"]

    @region_breaker(region_from=find_region, registry=registry)
    async def send_message(job):
        ran.append(job)

    with pytest.raises((TypeError, ValueError), match="send_message") as caught:
        await send_message({})
    assert isinstance(caught.value.__cause__, KeyError)
    assert ran == []
    assert len(registry) == 0


async def test_a_callable_that_is_cancelled_is_cancelled(registry, ran):
    def find_region(job):
        raise asyncio.CancelledError

    @region_breaker(region_from=find_region, registry=registry)
    async def send_message(job):
        ran.append(job)

    with pytest.raises(asyncio.CancelledError):
        await send_message({})
    assert ran == []


async def test_a_callable_that_is_a_coroutine_function_is_a_type_error(registry, ran):
    async def find_region(job):
        return job

    with pytest.raises(TypeError):

        @region_breaker(region_from=find_region, registry=registry)
        async def send_message(job):
            ran.append(job)

        await send_message(EU)
    assert ran == []


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_call_without_its_region_is_a_type_error(protect, registry, ran, kind):
    if kind == "async":

        @protect()
        async def send_message(text, region):
            ran.append(text)
    else:

        @protect()
        def send_message(text, region):
            ran.append(text)

    with pytest.raises(TypeError, match="send_message"):
        await send_message("hello")
    with pytest.raises(TypeError, match="send_message"):
        await send_message(text="hello")
    assert ran == []
    assert len(registry) == 0


async def test_keyword_arguments_without_the_region_are_an_error(protect, registry, ran):
    @protect()
    async def send_message(**options):
        ran.append(options)

    with pytest.raises((TypeError, ValueError), match="send_message"):
        await send_message(text="hello")
    assert ran == []
    assert len(registry) == 0


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((EU, "a", "b"), {}), ((EU,), {"nothing": 1}), ((EU,), {"region": EU})],
    ids=["too many", "unknown keyword", "twice"],
)
async def test_a_call_with_wrong_arguments_is_the_usual_type_error(protect, ran, args, kwargs):
    @protect()
    async def send_message(region, text="hello"):
        ran.append(text)

    with pytest.raises(TypeError, match="send_message"):
        await send_message(*args, **kwargs)
    assert ran == []


async def test_a_bad_region_counts_for_no_circuit(protect, registry):
    @protect()
    async def send(region):
        return region

    await send(EU)
    for bad in (None, ""):
        with pytest.raises((TypeError, ValueError)):
            await send(bad)
    assert count(registry) == (1, 0, 0, 0)

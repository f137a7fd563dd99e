"""@region_breaker: finding the region in a call, and leaving everything else as it was."""

import asyncio
import copy
import functools
import inspect
import pickle
import subprocess
import sys
import textwrap
from collections import UserDict
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType, SimpleNamespace

import aiohttp
import pytest
import tenacity
from loguru import logger

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    Outcome,
    ResilienceError,
    classify_status,
    failures,
    region_breaker,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
EU = "eu-west-1"


@pytest.fixture
def registry(clock):
    """Breakers that open after two failures and close after one success."""
    return CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=2, success_threshold=1), clock=clock
    )


@pytest.fixture
def protect(registry):
    """The decorator, with the test's registry, for functions whose region is their `region`."""
    return functools.partial(region_breaker, region_from="region", registry=registry)


def regions(registry):
    return [snapshot.region for snapshot in registry.snapshots()]


def count(registry, region=EU):
    """How many calls went well, failed, said nothing, and were rejected."""
    snapshot = registry.get(region).snapshot()
    return (snapshot.successes, snapshot.failures, snapshot.ignored, snapshot.rejected)


async def fail(function, *args, times=2, **kwargs):
    for _ in range(times):
        with pytest.raises(TimeoutError):
            await function(*args, **kwargs)


# Where the region comes from


class TestAPlainName:
    @pytest.fixture
    def send(self, protect):
        @protect()
        async def send(text, region=EU, *, copies=1):
            return (text, region, copies)

        return send

    async def test_is_found_by_position(self, send, registry):
        assert await send("hello", "us-east-1", copies=2) == ("hello", "us-east-1", 2)
        assert regions(registry) == ["us-east-1"]

    async def test_is_found_by_keyword(self, send, registry):
        assert await send(region="us-east-1", text="hello") == ("hello", "us-east-1", 1)
        assert regions(registry) == ["us-east-1"]

    async def test_is_found_in_the_default(self, send, registry):
        assert await send("hello") == ("hello", EU, 1)
        assert regions(registry) == [EU]

    async def test_may_be_positional_only(self, protect, registry):
        @protect()
        async def send(text, region=EU, /):
            return region

        assert await send("hello") == EU
        assert await send("hello", "us-east-1") == "us-east-1"
        assert regions(registry) == [EU, "us-east-1"]

    async def test_may_be_keyword_only(self, protect, registry):
        @protect()
        async def send(*texts, region=EU):
            return region

        assert await send("hello", "world") == EU
        assert await send("hello", region="us-east-1") == "us-east-1"
        assert regions(registry) == [EU, "us-east-1"]

    async def test_may_be_swallowed_by_the_keyword_arguments(self, protect, registry):
        @protect()
        async def send(text, **options):
            return options

        assert await send("hello", region=EU, copies=2) == {"region": EU, "copies": 2}
        assert regions(registry) == [EU]

    async def test_may_be_the_first_of_many(self, protect, registry):
        @protect()
        async def send(region, *texts, **options):
            return (region, texts, options)

        assert await send(EU, "a", "b", c="d") == (EU, ("a", "b"), {"c": "d"})
        assert regions(registry) == [EU]


@dataclass
class Credentials:
    region: str
    token: str = "a-tenants-bearer-token"


class TestADottedPath:
    @pytest.mark.parametrize(
        "credentials",
        [
            Credentials(EU),
            SimpleNamespace(region=EU),
            {"region": EU},
            MappingProxyType({"region": EU}),
            UserDict({"region": EU}),
        ],
        ids=lambda credentials: type(credentials).__name__,
    )
    async def test_goes_through_attributes_and_mappings(self, registry, credentials):
        @region_breaker(region_from="credentials.region", registry=registry)
        async def send(credentials, text):
            return text

        assert await send(credentials, "hello") == "hello"
        assert await send(text="hello", credentials=credentials) == "hello"
        assert regions(registry) == [EU]
        assert count(registry) == (2, 0, 0, 0)

    async def test_may_be_long_and_mixed(self, registry):
        @region_breaker(region_from="job.tenant.credentials.region", registry=registry)
        async def send(job):
            return "sent"

        job = SimpleNamespace(tenant={"credentials": Credentials(EU)})
        assert await send(job) == "sent"
        assert regions(registry) == [EU]

    async def test_means_the_key_where_a_mapping_has_a_method_of_that_name(self, registry):
        @region_breaker(region_from="message.items", registry=registry)
        async def send(message):
            return "sent"

        await send({"items": EU})
        assert regions(registry) == [EU]

    async def test_goes_through_a_default(self, registry):
        ours = Credentials(EU)

        @region_breaker(region_from="credentials.region", registry=registry)
        async def send(text, credentials=ours):
            return text

        await send("hello")
        assert regions(registry) == [EU]

    async def test_goes_through_the_keyword_arguments_by_their_name(self, registry):
        @region_breaker(region_from="options.region", registry=registry)
        async def send(text, **options):
            return text

        await send("hello", region=EU)
        assert regions(registry) == [EU]

    async def test_may_start_at_self(self, registry):
        class Client:
            def __init__(self, region):
                self.region = region

            @region_breaker(region_from="self.region", registry=registry)
            async def send(self, text):
                return (self.region, text)

            @region_breaker(region_from="self.region", registry=registry)
            def count(self, *, step=1):
                return step

        client = Client(EU)
        assert await client.send("hello") == (EU, "hello")
        assert await Client("us-east-1").send(text="hello") == ("us-east-1", "hello")
        assert client.count(step=2) == 2
        assert await Client.send(client, "unbound") == (EU, "unbound")
        assert regions(registry) == [EU, "us-east-1"]
        assert count(registry) == (3, 0, 0, 0)

    async def test_reads_a_property_once_for_every_call(self, registry):
        class Client:
            reads = 0

            @property
            def region(self):
                self.reads += 1
                return EU

            @region_breaker(region_from="self.region", registry=registry)
            async def send(self):
                return "sent"

        client = Client()
        await client.send()
        await client.send()
        assert client.reads == 2

    async def test_works_below_classmethod_and_staticmethod(self, registry):
        class Client:
            region = EU

            @classmethod
            @region_breaker(region_from="cls.region", registry=registry)
            async def send(cls):
                return cls

            @staticmethod
            @region_breaker(region_from="region", registry=registry)
            async def count(region):
                return region

        assert await Client.send() is Client
        assert await Client().count(EU) == EU
        assert count(registry) == (2, 0, 0, 0)


class TestACallable:
    async def test_takes_the_arguments_of_the_call(self, registry):
        asked = []

        def find(credentials, *, text="none"):
            asked.append((credentials, text))
            return credentials.region.lower()

        @region_breaker(region_from=find, registry=registry)
        async def send(credentials, *, text="none"):
            return text

        credentials = Credentials("EU-WEST-1")
        assert await send(credentials, text="hello") == "hello"
        assert asked == [(credentials, "hello")]
        assert regions(registry) == [EU]

    async def test_takes_self_on_a_method(self, registry):
        class Client:
            url = "https://eu-west-1.example"

            @region_breaker(
                region_from=lambda self, *args: self.url[8:].split(".")[0], registry=registry
            )
            async def send(self, text):
                return text

        assert await Client().send("hello") == "hello"
        assert regions(registry) == [EU]

    async def test_may_give_one_region_for_all(self, registry):
        @region_breaker(region_from=lambda *args, **kwargs: EU, registry=registry)
        async def send(*args, **kwargs):
            return (args, kwargs)

        assert await send(1, b=2) == ((1,), {"b": 2})
        assert regions(registry) == [EU]


class StrRegion(StrEnum):
    EU = "eu-west-1"


class MixedRegion(str, Enum):  # noqa: UP042 - the way it was written before StrEnum
    EU = "eu-west-1"


class TextRegion(str):  # noqa: SLOT000 - as careless as users write it
    def __str__(self):
        return "something else"


@pytest.mark.parametrize("region", [StrRegion.EU, MixedRegion.EU, TextRegion(EU)], ids=repr)
async def test_a_string_of_another_type_is_the_region_that_it_spells(protect, registry, region):
    @protect()
    async def send(region):
        raise TimeoutError

    await fail(send, region)
    with pytest.raises(CircuitBreakerOpenError) as rejected:
        await send(EU)
    assert regions(registry) == [EU]
    assert type(rejected.value.region) is str
    assert EU in str(rejected.value)


async def test_the_registry_s_normalize_makes_one_region_of_two_spellings(clock):
    registry = CircuitBreakerRegistry(normalize=str.lower, clock=clock)

    @region_breaker(region_from="region", registry=registry)
    async def send(region):
        return region

    assert await send("EU-WEST-1") == "EU-WEST-1"
    assert await send("eu-west-1") == "eu-west-1"
    assert regions(registry) == [EU]


# A region that is none


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


# Wrong use, noticed when decorating


async def send_message(credentials, *texts, region=EU, **options):
    """Send it."""


@pytest.mark.parametrize(
    "region_from",
    [None, 7, b"region", ["region"], True, object()],
    ids=lambda region_from: type(region_from).__name__,
)
def test_a_region_from_of_the_wrong_type_is_a_type_error(region_from):
    with pytest.raises(TypeError, match="region_from"):
        region_breaker(region_from=region_from)(send_message)


@pytest.mark.parametrize(
    "region_from",
    ["", ".", ".region", "credentials.", "credentials..region"],
    ids=repr,
)
def test_a_region_from_with_an_empty_step_is_a_type_error(region_from):
    with pytest.raises(TypeError, match="region_from"):
        region_breaker(region_from=region_from)(send_message)


@pytest.mark.parametrize("region_from", ["regoin", "regoin.name", "self.region"])
def test_a_region_from_that_names_no_parameter_is_a_type_error(region_from):
    async def send_all(credentials, region):
        pass

    with pytest.raises(TypeError, match="send_all") as caught:
        region_breaker(region_from=region_from)(send_all)
    assert region_from in str(caught.value)


async def send_texts(*texts):
    """Send them."""


@pytest.mark.parametrize("target", [send_texts, send_message])
@pytest.mark.parametrize("region_from", ["texts", "texts.region"])
def test_a_region_from_that_names_the_rest_of_the_arguments_is_a_type_error(target, region_from):
    with pytest.raises(TypeError, match=target.__name__):
        region_breaker(region_from=region_from)(target)


def test_region_from_has_to_be_given_and_by_name():
    with pytest.raises(TypeError, match="region_from"):
        region_breaker()
    with pytest.raises(TypeError):
        region_breaker("region")
    with pytest.raises(TypeError):
        region_breaker(send_message)


async def generate_async(region):
    yield region


def generate(region):
    yield region


class Sender:
    def __init__(self, region):
        self.region = region


def plain(region):
    return region


@pytest.mark.parametrize(
    "target",
    [
        generate_async,
        generate,
        Sender,
        classmethod(plain),
        staticmethod(plain),
        property(plain),
        None,
        "send",
        7,
        functools.partial(generate_async),
        functools.partial(generate),
    ],
    ids=lambda target: getattr(target, "__name__", type(target).__name__),
)
def test_what_cannot_be_protected_is_a_type_error(registry, target):
    with pytest.raises(TypeError):
        region_breaker(region_from="region", registry=registry)(target)
    with pytest.raises(TypeError):
        region_breaker(region_from=lambda region: region, registry=registry)(target)
    with pytest.raises(TypeError):
        CircuitBreaker(EU)(target)


@pytest.mark.parametrize("target", [generate_async, generate], ids=["async", "sync"])
def test_the_error_for_a_generator_shows_the_way_out(protect, target):
    with pytest.raises(TypeError, match=r"acquire\(\)") as caught:
        protect()(target)
    assert target.__name__ in str(caught.value)


async def classify_slowly(error):
    return Outcome.FAILURE


@pytest.mark.parametrize("name", ["classifier", "result_classifier"])
@pytest.mark.parametrize(
    "bad",
    ["classify", 7, Outcome.FAILURE, classify_slowly],
    ids=["text", "int", "outcome", "async"],
)
def test_a_bad_classifier_is_a_type_error_that_names_it(protect, name, bad):
    with pytest.raises(TypeError, match=name):
        protect(**{name: bad})(send_message)


@pytest.mark.parametrize("bad", ["registry", {}, CircuitBreaker(EU), BreakerPolicy()], ids=repr)
def test_a_bad_registry_is_a_type_error_that_names_it(bad):
    with pytest.raises(TypeError, match="registry"):
        region_breaker(region_from="region", registry=bad)(send_message)


# What is kept


def attempts(number):
    return tenacity.retry(
        stop=tenacity.stop_after_attempt(number),
        wait=tenacity.wait_none(),
        retry=tenacity.retry_if_exception_type((TimeoutError, aiohttp.ClientError)),
        reraise=True,
    )


def test_the_function_is_described_as_before(protect):
    async def send(region: str, text: str = "hello", *, copies: int = 1) -> list[str]:
        """Send a text."""

    send.owner = "messaging"
    protected = protect()(send)

    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(protected, name) == getattr(send, name)
    assert protected.__wrapped__ is send
    assert protected.owner == "messaging"
    assert inspect.signature(protected) == inspect.signature(send)


def test_a_coroutine_function_stays_one_and_a_function_too(protect):
    @protect()
    async def send(region):
        pass

    @protect()
    def count(region):
        pass

    assert inspect.iscoroutinefunction(send)
    assert not inspect.iscoroutinefunction(count)


def test_tenacity_s_attributes_are_kept(protect):
    @protect()
    @attempts(3)
    async def send(region):
        pass

    assert isinstance(send.retry, tenacity.AsyncRetrying)
    assert send.retry.stop.max_attempt_number == 3
    assert callable(send.retry_with)


def test_the_original_function_is_left_alone(protect):
    async def send(region):
        pass

    before = dict(vars(send))
    assert protect()(send) is not send
    assert vars(send) == before


def test_decorating_makes_no_breaker(protect, registry):
    protect()(send_message)
    assert len(registry) == 0


async def test_arguments_and_results_are_passed_on_as_they_are(protect):
    received = []
    result = object()

    @protect()
    async def send(region, *args, **kwargs):
        received.append((args, kwargs))
        return result

    argument = object()
    assert await send(EU, argument, self=argument, permit=2, fn=3) is result
    assert received == [((argument,), {"self": argument, "permit": 2, "fn": 3})]
    assert received[0][0][0] is argument


async def test_the_caller_gets_the_very_error_that_was_raised(protect, http_error):
    error = http_error(503)

    @protect()
    async def send(region):
        raise error

    with pytest.raises(aiohttp.ClientResponseError) as caught:
        await send(EU)
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None


# What can be decorated


class CustomAwaitable:
    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()


class CallableObject:
    async def __call__(self, region, error=None):
        return answer(error)


class SyncCallableObject:
    def __call__(self, region, error=None):
        return answer(error)


def answer(error):
    if error is not None:
        raise error
    return "sent"


async def coroutine_function(region, error=None):
    return answer(error)


def function(region, error=None):
    return answer(error)


async def with_prefix(prefix, region, error=None):
    return answer(error)


def returning_a_coroutine(region, error=None):
    return coroutine_function(region, error)


def returning_a_task(region, error=None):
    return asyncio.ensure_future(coroutine_function(region, error))


def returning_an_awaitable(region, error=None):
    return CustomAwaitable(coroutine_function(region, error))


class Client:
    async def send(self, region, error=None):
        return answer(error)


ASYNC_TARGETS = {
    "async def": coroutine_function,
    "partial": functools.partial(coroutine_function),
    "partial with an argument": functools.partial(with_prefix, "prefix"),
    "partial of a partial": functools.partial(functools.partial(with_prefix, "prefix"), error=None),
    "callable object": CallableObject(),
    "bound method": Client().send,
    "lambda": lambda region, error=None: coroutine_function(region, error),
    "def that returns a coroutine": returning_a_coroutine,
    "def that returns a task": returning_a_task,
    "def that returns an awaitable": returning_an_awaitable,
    "partial of such a def": functools.partial(returning_a_coroutine),
}
SYNC_TARGETS = {
    "def": function,
    "partial": functools.partial(function),
    "callable object": SyncCallableObject(),
    "lambda": lambda region, error=None: function(region, error),
}


def keyword(targets):
    return pytest.mark.parametrize("target", targets.values(), ids=targets)


@keyword(ASYNC_TARGETS)
class TestWhateverIsAwaited:
    async def test_returns_its_result_and_counts_it(self, protect, registry, target):
        protected = protect()(target)
        assert await protected(EU) == "sent"
        assert await protected(region=EU) == "sent"
        assert count(registry) == (2, 0, 0, 0)

    async def test_is_a_failure_when_what_it_returned_fails(self, protect, registry, target):
        protected = protect()(target)
        await fail(protected, EU, error=TimeoutError())
        assert count(registry) == (0, 2, 0, 0)
        assert registry.get(EU).state is OPEN
        with pytest.raises(CircuitBreakerOpenError):
            await protected(EU)

    async def test_needs_no_region_as_a_parameter_with_a_callable(self, registry, target):
        protected = region_breaker(region_from=lambda *_, **__: EU, registry=registry)(target)
        assert await protected("anything") == "sent"
        assert count(registry) == (1, 0, 0, 0)

    async def test_works_with_one_breaker(self, target, clock):
        breaker = CircuitBreaker(EU, BreakerPolicy(failure_threshold=2), clock=clock)
        protected = breaker(target)
        assert await protected(EU) == "sent"
        await fail(protected, EU, error=TimeoutError())
        assert breaker.state is OPEN

    async def test_is_not_a_success_before_it_has_ended(self, protect, registry, target):
        protected = protect()(target)
        waiting = protected(EU)
        assert count(registry) == (0, 0, 0, 0)
        await waiting
        assert count(registry) == (1, 0, 0, 0)


@keyword(SYNC_TARGETS)
class TestWhateverIsSynchronous:
    def test_returns_its_result_and_counts_it(self, protect, registry, target):
        protected = protect()(target)
        assert protected(EU) == "sent"
        assert protected(region=EU) == "sent"
        assert count(registry) == (2, 0, 0, 0)

    def test_is_a_failure_when_it_fails(self, protect, registry, target):
        protected = protect()(target)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                protected(EU, error=TimeoutError())
        assert registry.get(EU).state is OPEN
        with pytest.raises(CircuitBreakerOpenError):
            protected(EU)
        assert count(registry) == (0, 2, 0, 1)

    def test_works_with_one_breaker(self, target, clock):
        breaker = CircuitBreaker(EU, BreakerPolicy(failure_threshold=1), clock=clock)
        protected = breaker(target)
        assert protected(EU) == "sent"
        with pytest.raises(TimeoutError):
            protected(EU, error=TimeoutError())
        assert breaker.state is OPEN


async def test_a_partial_and_an_object_without_a_name_are_named_in_errors_all_the_same(protect):
    with pytest.raises(TypeError, match="with_prefix"):
        await protect()(functools.partial(with_prefix, "prefix"))(7)
    with pytest.raises(TypeError, match="SyncCallableObject"):
        protect()(SyncCallableObject())(7)


async def test_a_coroutine_that_was_never_started_takes_no_place(protect, registry, clock):
    @protect()
    async def send(region, error=None):
        return answer(error)

    await fail(send, EU, TimeoutError())
    clock.advance(60)
    send(EU).close()
    assert registry.get(EU).state is HALF_OPEN
    assert await send(EU) == "sent"
    assert registry.get(EU).state is CLOSED


async def test_a_call_that_is_cancelled_is_ignored_and_gives_its_place_back(
    protect, registry, clock
):
    @protect()
    async def send(region, error=None, hang=False):
        if hang:
            await asyncio.Event().wait()
        return answer(error)

    await fail(send, EU, TimeoutError())
    clock.advance(60)
    probe = asyncio.create_task(send(EU, hang=True))
    await asyncio.sleep(0)
    with pytest.raises(CircuitBreakerOpenError):
        await send(EU)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert registry.get(EU).state is HALF_OPEN
    assert await send(EU) == "sent"
    assert registry.get(EU).state is CLOSED


# Classifiers of one function


class Refused(Exception):  # noqa: N818 - a name from someone's domain
    pass


async def test_a_function_may_have_a_classifier_of_its_own(protect, registry):
    @protect(classifier=failures(Refused))
    async def send(region, error):
        raise error

    @protect()
    async def ask(region, error):
        raise error

    for _ in range(3):
        with pytest.raises(Refused):
            await ask(EU, Refused())
    assert count(registry) == (0, 0, 3, 0)
    for _ in range(2):
        with pytest.raises(Refused):
            await send(EU, Refused())
    assert registry.get(EU).state is OPEN


async def test_a_function_without_a_classifier_has_the_registry_s(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1), classifier=failures(Refused), clock=clock
    )

    @region_breaker(region_from="region", registry=registry)
    async def send(region):
        raise Refused

    with pytest.raises(Refused):
        await send(EU)
    assert registry.get(EU).state is OPEN


async def test_the_classifier_is_asked_once_for_an_error_and_for_nothing_else(protect):
    asked = []

    def classify(error):
        asked.append(error)
        return Outcome.FAILURE

    @protect(classifier=classify)
    async def send(region, error=None):
        return answer(error)

    error = TimeoutError()
    await fail(send, EU, error, times=1)
    assert asked == [error]
    await send(EU)
    with pytest.raises(asyncio.CancelledError):
        await send(EU, asyncio.CancelledError())
    with pytest.raises(KeyboardInterrupt):
        await send(EU, KeyboardInterrupt())
    await fail(send, EU, error)
    with pytest.raises(CircuitBreakerOpenError):
        await send(EU)
    assert asked == [error] * 3


@pytest.mark.parametrize("kind", ["raises", "returns nothing", "returns a text"])
async def test_a_broken_classifier_harms_no_caller(protect, registry, log, kind):
    def classify(error):
        if kind == "raises":
            raise ZeroDivisionError("a-tenants-bearer-token")
        return None if kind == "returns nothing" else "FAILURE"

    @protect(classifier=classify)
    async def send(region, error):
        raise error

    written = []
    sink = logger.add(lambda message: written.append(str(message)), diagnose=True, backtrace=True)
    await fail(send, EU, TimeoutError("a-tenants-bearer-token"), times=5)
    logger.remove(sink)
    assert count(registry) == (0, 0, 5, 0)
    assert {record["level"].name for record in log} == {"ERROR"}
    assert "a-tenants-bearer-token" not in "".join(written)


async def test_a_probe_whose_classifier_raises_gives_its_place_back(protect, registry, clock):
    def classify(error):
        raise ZeroDivisionError

    @protect(classifier=classify)
    async def send(region, error=None):
        return answer(error)

    @protect()
    async def fail_really(region):
        raise TimeoutError

    await fail(fail_really, EU)
    clock.advance(60)
    await fail(send, EU, TimeoutError(), times=3)
    assert registry.get(EU).state is HALF_OPEN
    assert await send(EU) == "sent"
    assert registry.get(EU).state is CLOSED


async def test_a_result_classifier_counts_an_answer_that_is_a_failure(protect, registry):
    unavailable, missing = SimpleNamespace(status=503), SimpleNamespace(status=404)

    @protect(result_classifier=classify_status)
    async def send(region, response):
        return response

    @protect(result_classifier=classify_status)
    def send_now(region, response):
        return response

    assert await send(EU, unavailable) is unavailable
    assert await send(EU, missing) is missing
    assert count(registry) == (0, 1, 1, 0)
    assert send_now(EU, unavailable) is unavailable
    assert registry.get(EU).state is OPEN
    with pytest.raises(CircuitBreakerOpenError) as rejected:
        await send(EU, unavailable)
    assert rejected.value.reason == "SimpleNamespace 503"


async def test_an_answer_is_a_success_where_nobody_asks(protect, registry):
    @protect()
    async def send(region):
        return SimpleNamespace(status=503)

    for _ in range(5):
        await send(EU)
    assert count(registry) == (5, 0, 0, 0)


async def test_the_result_classifier_reads_what_an_awaitable_gave(protect, registry):
    unavailable = SimpleNamespace(status=503)

    async def respond():
        return unavailable

    @protect(result_classifier=classify_status)
    def send(region):
        return respond()

    assert await send(EU) is unavailable
    assert count(registry) == (0, 1, 0, 0)


async def test_a_broken_result_classifier_harms_no_caller(protect, registry):
    def classify(result):
        raise ZeroDivisionError

    @protect(result_classifier=classify)
    async def send(region):
        return "sent"

    assert await send(EU) == "sent"
    assert count(registry) == (0, 0, 1, 0)


async def test_a_registry_s_result_classifier_holds_for_its_functions(clock):
    registry = CircuitBreakerRegistry(result_classifier=classify_status, clock=clock)

    @region_breaker(region_from="region", registry=registry)
    async def send(region):
        return SimpleNamespace(status=503)

    await send(EU)
    assert count(registry) == (0, 1, 0, 0)


# Whose circuit it is


async def test_functions_of_a_region_share_its_circuit(protect, registry):
    @protect()
    async def send(region):
        raise TimeoutError

    @protect()
    def count_messages(region):
        return 7

    assert count_messages(EU) == 7
    await fail(send, EU)
    with pytest.raises(CircuitBreakerOpenError):
        count_messages(EU)
    assert count_messages("us-east-1") == 7
    assert registry.get(EU).state is OPEN


async def test_registries_are_kept_apart(registry, clock):
    other = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)

    @region_breaker(region_from="region", registry=registry)
    @region_breaker(region_from="region", registry=other)
    async def send(region, error=None):
        return answer(error)

    await fail(send, EU, TimeoutError(), times=1)
    assert other.get(EU).state is OPEN
    assert registry.get(EU).state is CLOSED
    for _ in range(5):
        with pytest.raises(CircuitBreakerOpenError):
            await send(EU)
    assert count(registry) == (0, 1, 5, 0)


def test_without_a_registry_it_is_the_module_level_one_that_knows_all_spellings():
    script = """
    import asyncio
    from loguru import logger
    from resilience import CircuitBreakerOpenError, default_registry, region_breaker

    logger.remove()

    @region_breaker(region_from="region")
    async def send(region):
        raise TimeoutError

    async def main():
        for spelling in ["mypurecloud.ie", "https://api.mypurecloud.ie/api/v2", "eu_west_1"] * 4:
            try:
                await send(spelling)
            except TimeoutError:
                print("called")
            except CircuitBreakerOpenError as error:
                print(error.region)

    asyncio.run(main())
    print([snapshot.region for snapshot in default_registry.snapshots()])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["called"] * 10 + [EU] * 2 + [f"['{EU}']"]


async def test_one_breaker_decorates_one_function(clock):
    breaker = CircuitBreaker(
        "tokens", BreakerPolicy(failure_threshold=2), classifier=failures(Refused), clock=clock
    )

    @breaker
    async def fetch_token(client, *, error=None):
        """Fetch it."""
        return answer(error)

    assert await fetch_token("client") == "sent"
    assert fetch_token.__name__ == "fetch_token"
    assert fetch_token.__doc__ == "Fetch it."
    assert inspect.iscoroutinefunction(fetch_token)
    for _ in range(2):
        with pytest.raises(Refused):
            await fetch_token("client", error=Refused())
    with pytest.raises(CircuitBreakerOpenError) as rejected:
        await fetch_token("client")
    assert rejected.value.region == "tokens"


async def test_one_breaker_decorates_methods(clock):
    breaker = CircuitBreaker("tokens", clock=clock)

    class Tokens:
        @breaker
        async def fetch(self, client):
            return (self, client)

    tokens = Tokens()
    assert await tokens.fetch("client") == (tokens, "client")


# Together with tenacity


async def test_with_the_retry_inside_a_call_is_one_outcome(protect, registry):
    made = []

    @protect()
    @attempts(5)
    async def send(region):
        made.append(region)
        raise TimeoutError

    await fail(send, EU, times=1)
    assert len(made) == 5
    assert count(registry) == (0, 1, 0, 0)


async def test_with_the_retry_inside_a_late_success_is_a_success(protect, registry):
    made = []

    @protect()
    @attempts(5)
    async def send(region):
        made.append(region)
        if len(made) < 5:
            raise TimeoutError
        return "sent"

    assert await send(EU) == "sent"
    assert count(registry) == (1, 0, 0, 0)


async def test_with_the_retry_inside_a_retry_error_is_read(protect, registry, http_error):
    @protect()
    @tenacity.retry(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none())
    async def send(region, status):
        raise http_error(status)

    with pytest.raises(tenacity.RetryError):
        await send(EU, 404)
    assert count(registry) == (0, 0, 1, 0)
    for _ in range(2):
        with pytest.raises(tenacity.RetryError):
            await send(EU, 503)
    with pytest.raises(CircuitBreakerOpenError) as rejected:
        await send(EU, 503)
    assert "Bearer" not in repr(vars(rejected.value))


def test_with_the_retry_inside_a_synchronous_call_is_one_outcome_too(protect, registry):
    made = []

    @protect()
    @attempts(5)
    def send(region):
        made.append(region)
        raise TimeoutError

    for _ in range(2):
        with pytest.raises(TimeoutError):
            send(EU)
    with pytest.raises(CircuitBreakerOpenError):
        send(EU)
    assert count(registry) == (0, 2, 0, 1)


async def test_with_the_retry_outside_every_attempt_is_an_outcome(protect, registry):
    made = []

    @attempts(5)
    @protect()
    async def send(region):
        made.append(region)
        raise TimeoutError

    with pytest.raises(CircuitBreakerOpenError):
        await send(EU)
    assert len(made) == 2
    assert count(registry) == (0, 2, 0, 1)


async def test_a_retry_is_rejected_before_its_first_attempt(protect, registry):
    made = []

    @protect()
    @attempts(5)
    async def send(region):
        made.append(region)

    registry.get(EU).force_open("by a test")
    with pytest.raises(CircuitBreakerOpenError):
        await send(EU)
    assert made == []


# Calls within calls


async def test_a_call_within_a_call_of_the_same_region_counts_for_itself(protect, registry):
    @protect()
    async def inner(region, error=None):
        return answer(error)

    @protect()
    async def outer(region, error=None):
        return await inner(region, error)

    assert await outer(EU) == "sent"
    assert count(registry) == (2, 0, 0, 0)
    await fail(outer, EU, TimeoutError(), times=1)
    assert registry.get(EU).state is OPEN
    assert registry.get(EU).snapshot().trips == 1


async def test_a_call_within_a_probe_is_part_of_it(protect, registry, clock):
    @protect()
    async def inner(region, error=None):
        return answer(error)

    @protect()
    async def outer(region):
        return await inner(region)

    await fail(inner, EU, TimeoutError())
    clock.advance(60)
    assert await outer(EU) == "sent"
    snapshot = registry.get(EU).snapshot()
    assert (snapshot.state, snapshot.probes, snapshot.rejected) == (CLOSED, 1, 0)


def test_a_function_that_calls_itself_ends(protect, registry):
    @protect()
    def countdown(region, number):
        return 0 if number == 0 else countdown(region, number - 1)

    assert countdown(EU, 50) == 0
    assert count(registry) == (51, 0, 0, 0)


async def test_a_call_within_a_call_of_another_region_is_apart(protect, registry):
    @protect()
    async def inner(region):
        raise TimeoutError

    @protect()
    async def outer(region):
        try:
            await inner("us-east-1")
        except TimeoutError:
            return "saved"

    assert await outer(EU) == "saved"
    assert count(registry) == (1, 0, 0, 0)
    assert count(registry, "us-east-1") == (0, 1, 0, 0)


# The rejection


class TestARejection:
    @pytest.fixture
    async def send(self, protect, http_error, clock):
        @protect()
        async def send(region):
            raise http_error(503, message="a body that nobody should see")

        for _ in range(2):
            with pytest.raises(aiohttp.ClientResponseError):
                await send(EU)
        clock.advance(18)
        return send

    @pytest.fixture
    async def rejected(self, send):
        with pytest.raises(CircuitBreakerOpenError) as caught:
            await send(EU)
        return caught.value

    async def test_says_which_circuit_why_and_how_long(self, rejected):
        assert isinstance(rejected, ResilienceError)
        assert rejected.region == EU
        assert rejected.state is OPEN
        assert rejected.reason == "ClientResponseError 503"
        assert rejected.retry_after == pytest.approx(42)

    async def test_reads_as_one_line_with_all_of_it(self, rejected):
        text = str(rejected)
        assert EU in text
        assert "OPEN" in text
        assert "ClientResponseError 503" in text
        assert "42" in text
        assert "\n" not in text

    async def test_is_a_new_one_each_time(self, send, rejected):
        with pytest.raises(CircuitBreakerOpenError) as again:
            await send(EU)
        assert again.value is not rejected
        assert again.value.__traceback__ is not rejected.__traceback__
        again.value.add_note("mine")
        with pytest.raises(CircuitBreakerOpenError) as third:
            await send(EU)
        assert not hasattr(third.value, "__notes__")

    async def test_carries_nobody_else_s_error(self, rejected):
        assert rejected.__cause__ is None
        assert rejected.__context__ is None
        told = f"{rejected} {rejected!r} {vars(rejected)} {rejected.args}"
        assert "bearer" not in told.lower()
        assert "nobody should see" not in told

    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    async def test_can_be_pickled(self, rejected, protocol):
        copied = pickle.loads(pickle.dumps(rejected, protocol))
        assert type(copied) is CircuitBreakerOpenError
        assert str(copied) == str(rejected)
        for name in ("region", "state", "reason", "retry_after"):
            assert getattr(copied, name) == getattr(rejected, name)

    async def test_can_be_copied(self, rejected):
        for copied in (copy.copy(rejected), copy.deepcopy(rejected)):
            assert (copied.region, copied.retry_after) == (EU, rejected.retry_after)

    async def test_comes_out_of_a_synchronous_function_alike(self, send, rejected, protect):
        @protect()
        def count_messages(region):
            return 7

        with pytest.raises(CircuitBreakerOpenError) as caught:
            count_messages(EU)
        assert str(caught.value) == str(rejected)
        assert caught.value.__context__ is None

    async def test_says_so_when_a_probe_has_the_place(self, send, registry, clock):
        clock.advance(42)
        registry.get(EU).acquire()
        with pytest.raises(CircuitBreakerOpenError) as caught:
            await send(EU)
        assert caught.value.state is HALF_OPEN
        assert caught.value.reason == "ClientResponseError 503"
        assert caught.value.retry_after == pytest.approx(1)

    async def test_knows_no_end_when_it_was_forced(self, send, registry):
        registry.get(EU).force_open("maintenance")
        with pytest.raises(CircuitBreakerOpenError) as caught:
            await send(EU)
        assert caught.value.state is OPEN
        assert caught.value.reason == "forced open: maintenance"
        assert caught.value.retry_after is None
        assert "maintenance" in str(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).retry_after is None

    async def test_is_not_counted_as_a_failure(self, send, rejected, registry):
        for _ in range(5):
            with pytest.raises(CircuitBreakerOpenError):
                await send(EU)
        assert count(registry) == (0, 2, 0, 6)


async def test_the_call_that_trips_raises_its_own_error(protect, registry, http_error):
    @protect()
    async def send(region, status):
        raise http_error(status)

    for status in (503, 504):
        with pytest.raises(aiohttp.ClientResponseError) as caught:
            await send(EU, status)
        assert caught.value.status == status
    assert registry.get(EU).state is OPEN


def test_a_path_into_a_function_without_a_signature_is_a_type_error():
    with pytest.raises(TypeError, match=r"dict.pop.*region_from 'region'.*no signature"):
        region_breaker(region_from="region")({}.pop)


async def test_what_retry_with_makes_does_not_get_around_the_circuit(registry):
    asked = []

    @region_breaker(region_from="region", registry=registry)
    @tenacity.retry(stop=tenacity.stop_after_attempt(2), reraise=True)
    async def send(region):
        asked.append(region)
        raise TimeoutError

    once = send.retry_with(stop=tenacity.stop_after_attempt(1))
    with pytest.raises(TimeoutError):
        await once("eu-west-1")
    assert len(asked) == 1
    registry.get("eu-west-1").force_open("maintenance")
    with pytest.raises(CircuitBreakerOpenError):
        await once("eu-west-1")
    assert len(asked) == 1


def test_no_error_shows_what_a_partial_was_given():
    def send(token, region):
        pass

    with pytest.raises(TypeError) as caught:
        region_breaker(region_from="region")(functools.partial(send, "a-tenants-bearer-token"))(7)
    assert "bearer" not in str(caught.value)
    assert "send" in str(caught.value)


def test_an_object_whose_every_attribute_exists_is_a_plain_result(registry):
    class Anything:
        def __getattr__(self, name):
            return self

    @region_breaker(region_from="region", registry=registry)
    def fetch(region):
        return Anything()

    assert type(fetch("eu-west-1")) is Anything


def everything_fails(_):
    return Outcome.FAILURE


def raise_lookup_error(region, *, hint=None):
    raise LookupError(hint)


async def raise_later(region):
    raise LookupError


def return_awaitable(region):
    return raise_later(region)


@pytest.mark.parametrize("target", [raise_lookup_error, return_awaitable, raise_later])
async def test_a_functions_own_classifier_judges_its_calls_in_every_state(target, clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)
    call = region_breaker(region_from="region", registry=registry, classifier=everything_fails)(
        target
    )
    for state in (CircuitState.OPEN, CircuitState.OPEN):  # from CLOSED, then from HALF_OPEN
        with pytest.raises(LookupError):
            result = call("eu-west-1")
            await result
        assert registry.get("eu-west-1").state is state
        clock.advance(60)


def test_a_probe_of_a_plain_function_gets_its_keywords(clock):
    registry = CircuitBreakerRegistry(clock=clock)
    call = region_breaker(region_from="region", registry=registry)(raise_lookup_error)
    for _ in range(10):
        registry.get("eu-west-1").acquire().fail()
    clock.advance(60)
    with pytest.raises(LookupError, match=r"^the hint$"):
        call("eu-west-1", hint="the hint")


def test_a_success_of_a_plain_function_ends_the_streak(registry):
    echo = region_breaker(region_from="region", registry=registry)(lambda region: region)
    registry.get("eu-west-1").acquire().fail()
    assert echo("eu-west-1") == "eu-west-1"
    assert registry.get("eu-west-1").snapshot().streak == 0
    assert registry.get("eu-west-1").snapshot().successes == 1

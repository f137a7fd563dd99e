"""Where the region comes from: a parameter, a dotted path or a callable."""

from collections import UserDict
from enum import Enum, StrEnum
from types import MappingProxyType, SimpleNamespace

import pytest

from resilience import CircuitBreakerOpenError, CircuitBreakerRegistry, region_breaker
from tests.support.decorated import EU, Credentials, count, fail


def regions(registry):
    return [snapshot.region for snapshot in registry.snapshots()]


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


async def test_the_registrys_normalize_makes_one_region_of_two_spellings(clock):
    registry = CircuitBreakerRegistry(normalize=str.lower, clock=clock)

    @region_breaker(region_from="region", registry=registry)
    async def send(region):
        return region

    assert await send("EU-WEST-1") == "EU-WEST-1"
    assert await send("eu-west-1") == "eu-west-1"
    assert regions(registry) == [EU]

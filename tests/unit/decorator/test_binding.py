"""Which argument is the region: bound as Python binds it."""

import pytest

from resilience import CircuitBreakerRegistry, region_breaker


class Credentials:
    def __init__(self, region):
        self.region = region


@pytest.fixture
def registry():
    return CircuitBreakerRegistry()


@pytest.fixture
def protect(registry):
    def decorate(fn, region_from="region"):
        return region_breaker(region_from=region_from, registry=registry)(fn)

    return decorate


def used(registry):
    return [breaker.region for breaker in registry]


def test_a_keyword_does_not_reach_a_positional_only_parameter(protect, registry):
    @protect
    def call(region="eu-west-1", /, **tags):
        return region, tags

    assert call(region="x") == ("eu-west-1", {"region": "x"})
    assert call("us-east-1", region="y") == ("us-east-1", {"region": "y"})
    assert used(registry) == ["eu-west-1", "us-east-1"]


async def test_the_same_for_a_path(protect, registry):
    async def call(credentials=Credentials("eu-west-1"), /, **tags):  # noqa: B008
        return tags

    call = protect(call, "credentials.region")
    assert await call(credentials=Credentials("x")) != {}
    assert used(registry) == ["eu-west-1"]


def test_a_positional_only_parameter_without_a_default_is_missed(protect):
    @protect
    def call(region, /, **tags):
        return region

    # Which words depends on the version of Python.
    with pytest.raises(TypeError, match=r"call\(\).*'region'"):
        call(region="x")


def test_a_keyword_only_parameter(protect, registry):
    @protect
    def call(*, region="eu-west-1"):
        return region

    assert (call(), call(region="us-east-1")) == ("eu-west-1", "us-east-1")
    assert used(registry) == ["eu-west-1", "us-east-1"]


def test_what_is_left_over_for_kwargs(protect, registry):
    @protect
    def call(*args, **kwargs):
        return args

    call("us-east-1", region="eu-west-1")
    assert used(registry) == ["eu-west-1"]


def test_a_method_and_its_object(protect, registry):
    class Client:
        def __init__(self, region):
            self.region = region

        def by_object(self):
            return self.region

        def by_argument(self, region="ap-south-1"):
            return region

    Client.by_object = protect(Client.by_object, "self.region")
    Client.by_argument = protect(Client.by_argument)
    client = Client("eu-west-1")
    client.by_object()
    client.by_argument()
    client.by_argument(region="ca-central-1")
    assert used(registry) == ["eu-west-1", "ap-south-1", "ca-central-1"]


def test_holders_of_many_kinds_in_turn(protect, registry):
    class Slotted:
        __slots__ = ("region",)

        def __init__(self, region):
            self.region = region

    call = protect(lambda credentials: None, "credentials.region")
    for kind in (Credentials, Slotted, lambda region: {"region": region}):
        for region in ("a", "b"):
            call(kind(region))
    assert used(registry) == ["a", "b"]
    assert sum(snapshot.successes for snapshot in registry.snapshots()) == 6


def test_a_property_is_read_once_for_each_call_and_its_error_is_not_swallowed(protect):
    reads = []

    class Holder:
        @property
        def region(self):
            reads.append(1)
            if len(reads) == 2:
                raise RuntimeError
            return f"region-{len(reads)}"

    call = protect(lambda holder: "called", "holder.region")
    holder = Holder()
    assert call(holder) == "called"
    with pytest.raises(ValueError, match=r"region_from 'holder.region': 'region' raised Runtime"):
        call(holder)
    assert call(holder) == "called"
    assert len(reads) == 3


def test_a_path_into_the_keywords_that_names_a_parameter_is_refused(protect):
    with pytest.raises(TypeError, match="the call's keywords never hold 'region', a parameter"):
        protect(lambda region, **options: region, "options.region")


def test_holders_of_endlessly_many_types_are_no_trouble(protect, registry):
    call = protect(lambda credentials: None, "credentials.region")
    for number in range(600):
        call(type(f"Type{number}", (), {"region": "a"})())
    assert used(registry) == ["a"]

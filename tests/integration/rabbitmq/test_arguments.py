"""Arguments that consumers reject before they start, and the texts of the errors."""

from types import SimpleNamespace

import aio_pika
import pytest

from resilience.integrations.rabbitmq import (
    DeadLetterTo,
    RegionConsumer,
    SharedConsumer,
    hold_when_open,
)
from tests.support.rabbitmq_support import make_registry, refuse_errors


async def handler(message):
    """Do nothing."""


@pytest.fixture
async def queue():
    """A queue object without a broker: nothing is sent before a consumer starts."""
    connection = aio_pika.RobustConnection("amqp://nobody@127.0.0.1:1/")
    channel = aio_pika.RobustChannel(connection)
    yield aio_pika.Queue(
        channel, "work", durable=True, exclusive=False, auto_delete=False, arguments=None
    )
    await connection.close()


def region_consumer(queue, **settings):
    settings = {"handler": handler, "region": "eu", "on_error": refuse_errors, **settings}
    return RegionConsumer(queue, registry=make_registry(), **settings)


def shared_consumer(queue, **settings):
    settings = {"handler": handler, "region_of": str, "regions": ["a", "b"], **settings}
    settings = {"on_error": refuse_errors, "registry": make_registry(), **settings}
    return SharedConsumer(queue, **settings)


@pytest.mark.parametrize("make", [region_consumer, shared_consumer])
@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"handler": print}, TypeError, "handler must be an async def that takes a message, got"),
        (
            {"handler": 7},
            TypeError,
            "handler must be an async def that takes a message, got an? int",
        ),
        ({"on_error": None}, TypeError, "a message and an error or a DeadLetterTo, got a NoneType"),
        ({"on_error": print}, TypeError, "on_error must be an async def"),
        ({"prefetch": 0}, ValueError, "prefetch must be a whole number of at least 1, got 0"),
        ({"prefetch": 70_000}, ValueError, "prefetch must be at most 65535, got 70000"),
        (
            {"max_failed_held": 0},
            ValueError,
            "max_failed_held must be a whole number of at least 1, got 0",
        ),
        (
            {"max_failed_held": "all"},
            TypeError,
            "max_failed_held must be a whole number of at least 1, got str",
        ),
        ({"max_unacked": -1}, ValueError, "max_unacked must be a finite number of seconds > 0"),
        ({"stop_timeout": None}, TypeError, "stop_timeout must be a finite number of seconds"),
        ({"max_attempts": 0}, ValueError, "max_attempts must be a whole number of at least 1"),
        ({"max_attempts": 1.5}, TypeError, "max_attempts must be a whole number of at least 1"),
        ({"max_age": 0}, ValueError, "max_age must be a finite number of seconds > 0"),
        ({"on_error": DeadLetterTo("work")}, ValueError, "must name another queue than 'work'"),
    ],
)
async def test_both_consumers_reject(queue, make, settings, error, text):
    with pytest.raises(error, match=text):
        make(queue, **settings)


@pytest.mark.parametrize("make", [region_consumer, shared_consumer])
async def test_the_old_names_of_parameters_are_deprecated(queue, make):
    with pytest.warns(DeprecationWarning, match="use its new name") as warned:
        consumer = make(queue, keep=7, max_hold=60)
    assert [str(one.message) for one in warned] == [
        "keep is deprecated, use its new name max_failed_held",
        "max_hold is deprecated, use its new name max_unacked",
    ]
    assert consumer._settings == make(queue, max_failed_held=7, max_unacked=60)._settings


@pytest.mark.parametrize("make", [region_consumer, shared_consumer])
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"keep": 7, "max_failed_held": 8}, "give only max_failed_held"),
        ({"max_hold": 60, "max_unacked": 61}, "give only max_unacked"),
    ],
)
async def test_an_old_name_next_to_the_new_one_is_an_error(queue, make, settings, text):
    with pytest.raises(TypeError, match=text):
        make(queue, **settings)


def test_the_deprecation_warning_is_about_the_line_that_uses_the_old_name():
    with pytest.warns(DeprecationWarning, match="use its new name max_unacked") as warned:
        hold_when_open(region_of=str, max_hold=60)
    assert [one.filename for one in warned] == [__file__]


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"region": ""}, ValueError, "must not be empty"),
        ({"region": None}, TypeError, "region must be a str"),
    ],
)
async def test_a_region_consumer_rejects(queue, settings, error, text):
    with pytest.raises(error, match=text):
        region_consumer(queue, **settings)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"region_of": "region"}, TypeError, "region_of must be a callable that takes a message"),
        ({"region_of": handler}, TypeError, "region_of must be a plain function"),
        ({"regions": "eu"}, TypeError, "regions must be several regions, got a str"),
        ({"regions": 7}, TypeError, "regions must be a Iterable, got int"),
        ({"regions": []}, ValueError, "regions must not be empty"),
        ({"regions": ["a", "a"]}, ValueError, "regions names a region twice: a, a"),
        ({"regions": [7]}, TypeError, "a region must be a str, got int"),
        ({"wait_queue": "wait"}, ValueError, "wait_queue must have {region} in it, got 'wait'"),
        ({"wait_queue": "w" * 255 + "{region}"}, ValueError, "at most 255 bytes"),
        ({"wait_queue": "{region}", "regions": ["work"]}, ValueError, "another queue than 'work'"),
        ({"wait_arguments": []}, TypeError, "wait_arguments must be a Mapping, got list"),
        (
            {"wait_arguments": {"x-expires": 1}},
            ValueError,
            "wait_arguments must not have x-expires",
        ),
        ({"registry": "all"}, TypeError, "registry must be a CircuitBreakerRegistry, got str"),
    ],
)
async def test_a_shared_consumer_rejects(queue, settings, error, text):
    with pytest.raises(error, match=text):
        shared_consumer(queue, **settings)


async def test_a_queue_must_be_one_of_aio_pika(queue):
    with pytest.raises(TypeError, match="queue must be a AbstractQueue, got str"):
        region_consumer("work")
    queue.channel = SimpleNamespace()
    with pytest.raises(TypeError, match="queue must come from a channel of aio_pika"):
        region_consumer(queue)


@pytest.mark.parametrize(("name", "error"), [("", ValueError), (None, TypeError)])
def test_a_queue_for_dead_letters_has_a_name(name, error):
    with pytest.raises(error, match="queue must"):
        DeadLetterTo(name)


async def test_regions_that_are_spelled_differently_are_one(queue):
    registry = make_registry()
    registry.configure(normalize=str.lower)
    with pytest.raises(ValueError, match="regions names a region twice: EU, eu"):
        shared_consumer(queue, regions=["EU", "eu"], registry=registry)


async def test_an_object_with_an_async_call_is_a_handler(queue):
    class Handler:
        async def __call__(self, message):
            """Do nothing."""

    region_consumer(queue, handler=Handler())

"""What can be seen of a handler, and of its limits, before a message comes."""

import functools

import aio_pika
import pytest

from resilience import CircuitBreaker, region_breaker
from resilience.integrations.rabbitmq import (
    ConsumerError,
    RegionConsumer,
    SharedConsumer,
    hold_when_open,
)
from tests.support.rabbitmq_support import make_registry, refuse_errors

REGISTRY = make_registry()
OTHER = make_registry()


@region_breaker(region_from="region", registry=REGISTRY)
async def send(region, body):
    """Call the region."""


@region_breaker(region_from="region", registry=OTHER)
async def send_elsewhere(region, body):
    """Call the region, and tell another registry."""


@CircuitBreaker("of nobody")
async def send_alone(body):
    """Call the region through a circuit that no registry knows."""


@REGISTRY.get("login")
async def fetch_token():
    """Call something else through a circuit of the registry."""


async def calls_send(message):
    await send("eu-west-1", message.body)


async def calls_both(message):
    await send_elsewhere("token", b"")
    await send("eu-west-1", message.body)


async def calls_nothing_that_is_seen(message):
    getattr(message, "channel", None)


async def fetches_a_token(message):
    await fetch_token()


async def calls_elsewhere(message):
    await send_elsewhere("eu-west-1", message.body)


async def calls_alone(message):
    await send_alone(message.body)


def made_by(function):
    async def handler(message):
        await function("eu-west-1", message.body)

    return handler


@functools.wraps(calls_elsewhere)
async def wrapper(*args):
    await calls_elsewhere(*args)


class Work:
    """Handlers that are methods."""

    @region_breaker(region_from="region", registry=OTHER)
    async def send(self, region, body):
        """Call the region."""

    async def handle(self, message):
        await self.send("eu-west-1", message.body)

    async def __call__(self, message):
        await send_elsewhere("eu-west-1", message.body)


def unbound():
    async def handler(message):
        await later("eu-west-1", message.body)

    if False:  # It never gets a value.
        later = None
    return handler


@region_breaker(region_from=lambda message: message.headers["region"], registry=OTHER)
async def protected_elsewhere(message):
    """Be protected itself."""


NOT_NOTICED = [calls_send, calls_both, calls_nothing_that_is_seen, fetches_a_token, unbound()]
NOTICED = [
    (calls_elsewhere, "send_elsewhere"),
    (functools.partial(calls_elsewhere), "send_elsewhere"),
    (calls_alone, "send_alone"),
    (made_by(send_elsewhere), "function"),
    (wrapper, "send_elsewhere"),
    (Work().handle, "send"),
    (Work(), "send_elsewhere"),
    (protected_elsewhere, "protected_elsewhere"),
]


def a_queue(**arguments):
    connection = aio_pika.RobustConnection("amqp://nobody@127.0.0.1:1/")
    channel = aio_pika.RobustChannel(connection)
    return aio_pika.Queue(
        channel,
        "work",
        durable=True,
        exclusive=False,
        auto_delete=False,
        arguments=arguments or None,
    )


@pytest.fixture
async def queue(bench):
    return await bench.queue()


def consume(queue, handler=calls_send, **settings):
    settings = {"on_error": refuse_errors, "registry": REGISTRY, **settings}
    return RegionConsumer(queue, handler, region="eu-west-1", **settings)


def share(queue, handler=calls_send, **settings):
    settings = {"on_error": refuse_errors, "registry": REGISTRY, **settings}
    return SharedConsumer(queue, handler, region_of=str, regions=["a"], **settings)


# The registry


@pytest.mark.parametrize(("handler", "name"), NOTICED)
async def test_a_handler_of_another_registry_is_logged_when_the_consumer_starts(
    queue, log, handler, name
):
    async with consume(queue, handler):
        pass
    [line] = log
    assert line["level"].name == "WARNING"
    expected = f"Consumer of queue {queue} follows circuits of another registry"
    assert expected in line["message"]
    assert name in line["message"].partition("calls of ")[2].partition(" go through")[0]


@pytest.mark.parametrize("handler", NOT_NOTICED)
async def test_a_handler_of_the_same_registry_is_not_logged(queue, log, handler):
    async with consume(queue, handler):
        pass
    assert log == []


def test_a_function_that_is_held_is_looked_at_as_well(log):
    hold_when_open(region_of=str, registry=REGISTRY)(calls_elsewhere)
    assert "hold_when_open of calls_elsewhere follows circuits of another" in log[0]["message"]
    hold_when_open(region_of=str, registry=REGISTRY)(calls_send)
    assert len(log) == 1


class Proxy:
    """A proxy as web frameworks have it: it stands for nothing where no request is handled."""

    def __getattr__(self, name):
        raise RuntimeError("outside of a request")


current_app = Proxy()


class Application:
    """An object whose method is the handler."""

    app = Proxy()

    async def on_message(self, message):
        """Use the proxies, and call the region elsewhere."""
        await send_elsewhere(current_app, self.app)


async def uses_a_proxy(message):
    """Use the proxy, and call the region elsewhere."""
    await send_elsewhere(current_app, message)


@pytest.mark.parametrize("handler", [uses_a_proxy, Application().on_message])
def test_no_code_of_what_a_handler_names_is_run(log, handler):
    hold_when_open(region_of=str, registry=REGISTRY)(handler)
    [line] = log
    assert "calls of send_elsewhere go through" in line["message"]


def test_layers_without_end_are_no_trouble(log):
    async def handler(message):
        """Do nothing."""

    handler.__wrapped__ = handler
    hold_when_open(region_of=str, registry=REGISTRY)(handler)
    assert log == []


# The parameters


async def nothing():
    """Take nothing."""


async def two(message, session):
    """Take too much."""


async def two_or_one(message, session=None):
    """Take what comes."""


async def any_number(*args):
    """Take what comes."""


async def keyword(message, *, session):
    """Need a keyword."""


@region_breaker(region_from=lambda *_: "eu-west-1", registry=REGISTRY)
async def protected_two(message, session):
    """Take too much, under protection."""


@functools.wraps(two)
async def adds_a_session(message):
    await two(message, None)


class Methods:
    """Handlers that are methods."""

    async def one(self, message):
        """Take a message."""

    async def two(self, message, error):
        """Take a message and an error."""


WRONG_HANDLERS = [
    (nothing, "nothing()"),
    (two, "two(message, session)"),
    (keyword, "keyword(message, session)"),
    (protected_two, "protected_two(message, session)"),
    (functools.partial(two, None, None), "two()"),
    (Methods().two, "Methods.two(message, error)"),
    (Methods.one, "Methods.one(self, message)"),
]
RIGHT_HANDLERS = [
    two_or_one,
    any_number,
    adds_a_session,
    functools.partial(two, session=None),
    Methods().one,
]


@pytest.mark.parametrize("make", [consume, share])
@pytest.mark.parametrize(("handler", "text"), WRONG_HANDLERS)
async def test_a_handler_that_takes_something_else_is_refused(make, handler, text):
    with pytest.raises(TypeError) as refused:
        make(a_queue(), handler)
    expected = "handler must be an async def that takes a message and needs nothing else, got "
    assert str(refused.value) == expected + text


@pytest.mark.parametrize("make", [consume, share])
@pytest.mark.parametrize("handler", RIGHT_HANDLERS)
async def test_a_handler_that_can_take_a_message_is_accepted(make, handler):
    make(a_queue(), handler)


@pytest.mark.parametrize("on_error", [nothing, calls_send, keyword, Methods().one])
async def test_an_on_error_that_takes_something_else_is_refused(on_error):
    text = "on_error must be an async def that takes a message and an error"
    with pytest.raises(TypeError, match=text):
        consume(a_queue(), on_error=on_error)
    with pytest.raises(TypeError, match=text):
        hold_when_open(region_of=str, on_error=on_error)


@pytest.mark.parametrize("on_error", [two, two_or_one, any_number, Methods().two])
async def test_an_on_error_that_can_take_both_is_accepted(on_error):
    consume(a_queue(), on_error=on_error)


def test_a_function_without_parameters_cannot_be_held():
    async def keywords(*, message):
        """Take no positional argument."""

    decorate = hold_when_open(region_of=str, registry=REGISTRY)
    for function, text in [(nothing, r"nothing\(\)"), (keywords, r"keywords\(message\)")]:
        with pytest.raises(TypeError, match=f"takes a message, got .*{text}"):
            decorate(function)
    for function in (two, any_number, Methods.one):
        decorate(function)


class Unknown:
    """A handler whose parameters cannot be seen."""

    __signature__ = "no signature"

    async def __call__(self, message):
        """Do nothing."""


async def test_parameters_that_cannot_be_seen_are_believed():
    consume(a_queue(), Unknown())
    hold_when_open(region_of=str, registry=REGISTRY)(Unknown())


# max_unacked


@pytest.mark.parametrize("max_unacked", [1800, 7200])
async def test_a_max_unacked_above_the_default_consumer_timeout_is_logged(queue, log, max_unacked):
    async with consume(queue, max_unacked=max_unacked):
        pass
    expected = f"Consumer of queue {queue} has a max_unacked of {max_unacked} s: the broker closes"
    assert expected in log[0]["message"]
    hold_when_open(region_of=str, max_unacked=max_unacked)
    assert f"hold_when_open has a max_unacked of {max_unacked} s" in log[1]["message"]


async def test_a_max_unacked_above_the_consumer_timeout_of_the_queue_is_refused(log):
    queue = a_queue(**{"x-consumer-timeout": 60_000})
    text = "max_unacked of 60 s is not below the x-consumer-timeout of queue 'work', 60 s"
    with pytest.raises(ConsumerError, match=text):
        async with consume(queue, max_unacked=60):
            pass


async def test_a_longer_consumer_timeout_of_the_queue_is_enough(bench, log):
    queue = await bench.queue(x_consumer_timeout=10_000_000)
    async with consume(queue, max_unacked=7200):
        pass
    assert log == []

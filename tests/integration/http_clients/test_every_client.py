"""What holds for every client that has an integration, with the real library and a real server."""

import asyncio
import copy
import pickle

import httpx2
import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    Outcome,
    classify_error,
)
from resilience.integrations.http_client import HttpClient, RequestOptions, RequestProtection
from tests.support.http_clients import (
    ASYNC_CLIENTS,
    CLIENTS,
    OfAiohttp,
    OfHttpx2,
    OfHttpx2Async,
    OfHttpxAsync,
    OfRequests,
    closes_before_it_raises,
    drop,
)
from tests.support.odd_server import odd_server

FOR_EVER = 60  # seconds; a watchdog
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


@pytest.fixture(params=CLIENTS, ids=lambda client: client.__name__.removeprefix("Of"))
def kind(request):
    return request.param


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(BreakerPolicy(failure_threshold=3), clock=clock)


@pytest.fixture
async def server():
    async with odd_server() as server:
        yield server


@pytest.fixture
async def client(kind, registry):
    async with kind.open(registry) as client:
        yield client


@pytest.fixture
def counts(registry, server):
    """Return what the circuit of the server has counted, apart from what is zero."""

    def read():
        snapshot = registry.get(server.region).snapshot()
        names = ("successes", "failures", "answered", "ignored", "rejected")
        return {name: getattr(snapshot, name) for name in names if getattr(snapshot, name)}

    return read


async def fail(client, url, times=1, error=Exception):
    for _ in range(times):
        with pytest.raises(error):
            await client.get(url)


async def open_circuit(client, server):
    for _ in range(3):
        await client.get(server.url("/status/503"))


async def test_a_good_answer_is_a_success(client, server, counts):
    assert await client.get(server.url("/ok")) == 200
    assert counts() == {"successes": 1}


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_an_error_of_the_server_is_a_failure_though_nothing_is_raised(
    client, server, counts, status
):
    assert await client.get(server.url(f"/status/{status}")) == status
    assert counts() == {"failures": 1}


@pytest.mark.parametrize("status", [400, 401, 404, 408, 429])
async def test_an_answer_that_refuses_the_request_is_no_failure(client, server, counts, status):
    assert await client.get(server.url(f"/status/{status}")) == status
    assert counts() == {"answered": 1}


async def test_the_reason_names_the_status(client, server, registry):
    await open_circuit(client, server)
    assert "503" in registry.get(server.region).snapshot().reason


async def test_a_refused_connection_is_a_failure(client, server, counts):
    server.port.refuse()
    await fail(client, server.url("/ok"), error=client.family)
    assert counts() == {"failures": 1}


async def test_a_server_that_hangs_is_a_failure(client, server, counts):
    await fail(client, server.url("/hang"), error=client.timeout)
    assert counts() == {"failures": 1}


async def test_a_dropped_connection_is_a_failure(client, server, counts):
    with pytest.raises(client.family):
        await client.post(server.url("/drop"))
    assert counts() == {"failures": 1}


@pytest.mark.parametrize("path", ["/cut", "/cut-chunked"])
async def test_a_body_that_is_cut_is_a_failure(client, server, counts, path):
    await fail(client, server.url(path), error=client.cut)
    assert counts() == {"failures": 1}


async def test_a_body_that_stops_is_a_failure(client, server, counts):
    await fail(client, server.url("/slow-body"))
    assert counts() == {"failures": 1}


async def test_an_open_circuit_rejects_with_an_error_of_the_client(client, server, counts):
    await open_circuit(client, server)
    sent = server.requests.total()
    for family in (client.family, client.rejection, CircuitBreakerOpenError):
        with pytest.raises(family) as caught:
            await client.get(server.url("/ok"))
    error = caught.value
    assert (error.region, error.state, error.retry_after) == (server.region, OPEN, 60)
    assert error.__cause__ is None
    assert server.requests.total() == sent
    assert counts() == {"failures": 3, "rejected": 3}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
async def test_a_rejection_travels_and_takes_no_request_along(client, server, protocol):
    await open_circuit(client, server)
    with pytest.raises(client.rejection) as caught:
        await client.get(server.url("/ok"))
    error = caught.value
    error.add_note("message 17")
    pickled = pickle.dumps(error, protocol)
    assert b"/ok" not in pickled
    for back in (pickle.loads(pickled), copy.copy(error)):
        assert type(back) is client.rejection
        assert (back.region, back.state, back.reason) == (error.region, OPEN, error.reason)
        assert back.retry_after == error.retry_after
        assert str(back) == str(error)
        assert back.__notes__ == ["message 17"]
        assert back.request is None if client.family.__module__.startswith("requests") else True


async def test_a_probe_closes_the_circuit_or_opens_it_again(client, server, clock, registry):
    await open_circuit(client, server)
    breaker = registry.get(server.region)
    clock.advance(60)
    await client.get(server.url("/status/500"))
    assert breaker.state is OPEN
    clock.advance(60)
    for _ in range(3):
        await client.get(server.url("/ok"))
    assert breaker.state is CLOSED


async def test_a_redirect_to_another_region_is_a_call_there(client, server, counts, registry):
    async with odd_server() as other:
        target = other.url("/status/503")
        assert await client.get(server.url(f"/to?url={target}")) == 503
        assert counts() == {"successes": 1}
        assert registry.get(other.region).snapshot().failures == 1


async def test_a_redirect_to_a_region_that_is_down_is_rejected(client, server, registry):
    async with odd_server() as other:
        registry.get(other.region).force_open("maintenance")
        with pytest.raises(client.rejection) as caught:
            await client.get(server.url(f"/to?url={other.url('/ok')}"))
        assert caught.value.region == other.region
        assert not other.requests


async def test_a_redirect_that_is_not_followed_is_a_good_answer(client, server, counts):
    assert await client.get_without_redirects(server.url("/to?url=/ok")) == 302
    assert server.requests.total() == 1
    assert counts() == {"successes": 1}


async def test_what_a_proxy_answers_says_nothing_about_the_region(client, server, counts):
    assert await client.get(server.url("/status/407")) == 407
    assert counts() == {"ignored": 1}


async def test_a_body_that_cannot_be_decoded_is_a_failure(client, kind, server, counts):
    await fail(client, server.url("/broken-gzip"), error=client.undecodable)
    is_closed_first = kind in (OfHttpx2, OfHttpx2Async) and closes_before_it_raises(httpx2)
    assert counts() == {"answered" if is_closed_first else "failures": 1}


# Answers without a body


@pytest.mark.parametrize(
    ("method", "path"), [("HEAD", "/ok"), ("HEAD", "/status/204"), ("GET", "/status/204")]
)
async def test_an_answer_without_a_body_is_a_success_unread(client, server, counts, method, path):
    await client.start(server.url(path), method)
    assert counts() == {"successes": 1}
    await client.close()
    assert counts() == {"successes": 1}


# httpx says nothing about a body before it is read.
@pytest.mark.parametrize("kind", [OfAiohttp, OfRequests])
async def test_an_empty_body_is_a_success_unread(client, server, counts):
    await client.start(server.url("/empty"))
    assert counts() == {"successes": 1}
    await client.close()


async def test_a_request_for_the_headers_is_a_call(client, server, counts):
    assert await client.head(server.url("/ok")) == 200
    assert await client.head(server.url("/status/503")) == 503
    assert counts() == {"successes": 1, "failures": 1}


# Bodies that are read piece by piece


async def test_a_stream_is_a_success_when_it_has_ended(client, server, counts):
    assert await client.start(server.url("/stream")) == 200
    assert await client.read_first() == b"first"
    assert counts() == {}
    server.go_on.set()
    assert await client.read_rest() == b"-last"
    await client.close()
    assert counts() == {"successes": 1}


async def test_a_stream_that_is_cut_is_a_failure(client, server, counts):
    await client.start(server.url("/cut"))
    with pytest.raises(client.cut):
        await client.read_rest()
    await client.close()
    assert counts() == {"failures": 1}


async def test_a_stream_that_stops_is_a_failure(client, server, counts):
    await client.start(server.url("/slow-body"))
    assert await client.read_first() == b"first"
    with pytest.raises(client.stopped):
        await client.read_rest()
    await client.close()
    assert counts() == {"failures": 1}


async def test_a_stream_that_its_reader_closes_was_answered(client, server, counts):
    await client.start(server.url("/stream"))
    await client.read_first()
    await client.close()
    assert counts() == {"answered": 1}


async def test_a_stream_that_is_never_read_was_answered(client, server, counts):
    await client.start(server.url("/stream"))
    await client.close()
    assert counts() == {"answered": 1}


# aiohttp holds on to a response while its connection is open.
@pytest.mark.parametrize("kind", [kind for kind in CLIENTS if kind is not OfAiohttp])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_stream_that_is_dropped_gives_its_place_back(client, server, clock, registry):
    await open_circuit(client, server)
    clock.advance(60)
    await client.start(server.url("/stream"))
    assert registry.get(server.region).retry_after > 0  # it is the only probe
    await drop(client)
    assert registry.get(server.region).retry_after == 0
    assert await client.get(server.url("/ok")) == 200


async def test_an_error_is_counted_before_its_body_was_read(client, server, counts):
    assert await client.start(server.url("/status/503")) == 503
    assert counts() == {"failures": 1}
    await client.close()
    assert counts() == {"failures": 1}


async def test_a_stream_that_outlives_its_circuit_changes_nothing(client, server, registry):
    await client.start(server.url("/stream"))
    breaker = registry.get(server.region)
    breaker.force_open("maintenance")
    server.go_on.set()
    await client.read_rest()
    await client.close()
    assert breaker.state is OPEN
    assert breaker.snapshot().successes == 0


# The call_timeout of the policy


@pytest.fixture
async def hasty(kind, clock):
    """A client whose own timeouts are never up, and its registry."""
    policy = BreakerPolicy(failure_threshold=3, call_timeout=0.2)
    registry = CircuitBreakerRegistry(policy, clock=clock)
    async with kind.open(registry, read_timeout=FOR_EVER) as client:
        yield client, registry


async def test_a_request_that_takes_too_long_is_an_error_of_the_client(hasty, kind, server):
    client, registry = hasty
    with pytest.raises(client.timeouts) as caught:
        await client.get(server.url("/hang"))
    assert isinstance(caught.value, client.family)
    assert classify_error(caught.value) is Outcome.FAILURE  # for a circuit breaker around it
    snapshot = registry.get(server.region).snapshot()
    assert (snapshot.failures, snapshot.ignored) == (1, 0)
    if kind in ASYNC_CLIENTS:
        assert type(caught.value) is client.call_timeout
        assert isinstance(caught.value, TimeoutError)
        assert str(caught.value) == "no answer within the call_timeout of 0.2 s"


async def test_a_body_that_takes_too_long_is_a_failure(hasty, kind, server):
    client, registry = hasty
    await client.start(server.url("/slow-body"))
    assert await client.read_first() == b"first"
    with pytest.raises(client.family) as caught:
        await client.read_rest()
    await client.close()
    snapshot = registry.get(server.region).snapshot()
    assert (snapshot.failures, snapshot.answered, snapshot.ignored) == (1, 0, 0)
    if kind in ASYNC_CLIENTS:
        assert type(caught.value) is client.call_timeout
        assert str(caught.value) == "no end of the answer within the call_timeout of 0.2 s"


async def test_a_body_that_comes_in_time_is_a_success(kind, server, clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(call_timeout=FOR_EVER), clock=clock)
    server.go_on.set()
    async with kind.open(registry) as client:
        await client.start(server.url("/stream"))
        assert await client.read_rest() == b"first-last"
        await client.close()
        await client.get(server.url("/ok"))
    assert registry.get(server.region).snapshot().successes == 2


@pytest.mark.parametrize("kind", ASYNC_CLIENTS)
async def test_a_request_that_took_too_long_travels_without_itself(hasty, server):
    client, _ = hasty
    with pytest.raises(client.call_timeout) as caught:
        await client.get(server.url("/hang?token=hunter2"))
    pickled = pickle.dumps(caught.value)
    assert b"hunter2" not in pickled
    back = pickle.loads(pickled)
    assert (type(back), str(back)) == (client.call_timeout, str(caught.value))


@pytest.mark.parametrize("kind", ASYNC_CLIENTS)
async def test_an_own_timeout_around_a_body_keeps_its_meaning(kind, server, clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(call_timeout=FOR_EVER), clock=clock)
    async with kind.open(registry, read_timeout=FOR_EVER) as client:
        await client.start(server.url("/slow-body"))
        await client.read_first()
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.01):
                await client.read_rest()
        await client.close()
    assert type(caught.value) is TimeoutError
    assert registry.get(server.region).snapshot().ignored == 1


@pytest.mark.parametrize("kind", ASYNC_CLIENTS)
async def test_a_timeout_of_the_client_in_a_body_keeps_its_meaning(kind, server, clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(call_timeout=FOR_EVER), clock=clock)
    async with kind.open(registry) as client:
        await client.start(server.url("/slow-body"))
        with pytest.raises(client.stopped) as caught:
            await client.read_rest()
        await client.close()
    assert type(caught.value) is not client.call_timeout
    assert registry.get(server.region).snapshot().failures == 1


# Connections that this side closes


@pytest.mark.parametrize("kind", ASYNC_CLIENTS)
async def test_a_request_whose_client_is_closed_says_nothing(kind, server, registry, counts):
    async with kind.open(registry, read_timeout=FOR_EVER) as client:
        request = asyncio.create_task(client.post(server.url("/hang")))
        await server.arrived.wait()
        await client.shut()
        with pytest.raises(client.family):
            await request
    assert counts() == {"ignored": 1}


# A body of aiohttp is never ended by this.
@pytest.mark.parametrize("kind", [OfHttpxAsync, OfHttpx2Async])
async def test_a_body_whose_client_is_closed_says_nothing(kind, server, registry, counts):
    async with kind.open(registry, read_timeout=FOR_EVER) as client:
        await client.start(server.url("/slow-body"))
        await client.read_first()
        reading = asyncio.create_task(client.read_rest())
        await asyncio.sleep(0)
        await client.shut()
        with pytest.raises(client.family):
            await reading
        await client.close()
    assert counts() == {"ignored": 1}


# Settings


async def test_the_rate_limit_is_read_where_it_is_asked_for(kind, server, registry):
    async with kind.open(registry) as client:
        await client.get(server.url("/limits"))
    tenants = registry.get(server.region).tenants
    assert tenants.limit_of("anybody") is None
    async with kind.open(registry, observe_limits=True) as client:
        await client.get(server.url("/limits"))
    assert tenants.limit_of("anybody").allowed == 300


async def test_a_function_names_the_region(kind, server, registry):
    async with kind.open(registry, region_of=lambda request: f"at {request.url}"[:9]) as client:
        await client.get(server.url("/ok"))
    assert [breaker.region for breaker in registry] == ["at http:/"]


def raise_key_error(_):
    raise KeyError("region")


@pytest.mark.parametrize(
    ("region_of", "error", "text"),
    [
        (lambda _: "", ValueError, "region must not be empty"),
        (lambda _: None, TypeError, "region must be a str, got NoneType"),
        (raise_key_error, ValueError, "region_of 'raise_key_error' raised KeyError"),
    ],
)
async def test_a_function_that_names_no_region_is_an_error(
    kind, server, registry, region_of, *, error, text
):
    async with kind.open(registry, region_of=region_of) as client:
        with pytest.raises(error, match=text):
            await client.get(server.url("/ok"))
    assert not server.requests


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"region_of": "url"}, "region_of must be a callable that takes a request"),
        ({"observe_limits": 1}, "observe_limits must be a bool, got int"),
        ({"classifier": ValueError}, "classifier must be a callable"),
        ({"result_classifier": 7}, "result_classifier must be a callable"),
    ],
)
async def test_a_wrong_option_is_an_error_that_names_it(kind, registry, options, text):
    with pytest.raises(TypeError, match=text):
        async with kind.open(registry, **options):
            pass


async def test_a_registry_is_a_registry(kind):
    with pytest.raises(TypeError, match="registry must be a CircuitBreakerRegistry, got dict"):
        async with kind.open({}):
            pass


async def test_own_classifiers_decide(kind, server, registry, counts):
    options = {
        "classifier": lambda _: Outcome.ANSWERED,
        "result_classifier": lambda _: Outcome.FAILURE,
    }
    async with kind.open(registry, **options) as client:
        await client.get(server.url("/ok"))
        await fail(client, server.url("/hang"))
    assert counts() == {"failures": 1, "answered": 1}


async def test_a_body_decides_where_an_own_classifier_is_content(kind, server, registry, counts):
    async with kind.open(registry, result_classifier=lambda _: Outcome.SUCCESS) as client:
        await client.start(server.url("/stream"))
        await client.read_first()
        assert counts() == {}
        server.go_on.set()
        await client.read_rest()
        await client.close()
        assert counts() == {"successes": 1}
        await fail(client, server.url("/cut"), error=client.cut)
        assert counts() == {"successes": 1, "failures": 1}


async def test_a_rejection_that_is_one_of_the_client_already_stays_as_it_is(kind, registry):
    async with kind.open(registry) as client:
        inner = client.rejection("elsewhere", OPEN, "ServerError 503", 2.0)
    options = RequestOptions(registry, None, None, None, observe_limits=False)
    protection = RequestProtection(options, HttpClient(str, client.rejection))
    assert protection.rejection_for(inner) is inner


async def test_without_a_result_classifier_the_one_of_the_registry_decides(kind, server, clock):
    registry = CircuitBreakerRegistry(result_classifier=lambda _: Outcome.FAILURE, clock=clock)
    async with kind.open(registry, result_classifier=None) as client:
        await client.get(server.url("/ok"))
    assert registry.get(server.region).snapshot().failures == 1


@pytest.mark.parametrize("kind", ASYNC_CLIENTS)
async def test_a_call_that_is_cancelled_is_ignored(kind, server, registry, counts):
    async with kind.open(registry) as client:
        task = asyncio.create_task(client.get(server.url("/hang")))
        await server.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert counts() == {"ignored": 1}


@pytest.mark.parametrize("kind", ASYNC_CLIENTS)
async def test_a_stream_whose_reader_is_cancelled_is_ignored(kind, server, registry, counts):
    async with kind.open(registry) as client:
        await client.start(server.url("/stream"))
        await client.read_first()
        task = asyncio.create_task(client.read_rest())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.close()
        assert counts() == {"ignored": 1}

"""Loops that nobody has gated: they are found on the function, and stop with its circuit."""

import asyncio
import functools
import gc
import subprocess
import sys
import weakref

import pytest
import tenacity
from loguru import logger
from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_none,
)

from resilience import (
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    decorator,
    region_breaker,
)
from resilience.loops import stop_loops_with
from resilience.retry import gate, transient_retry
from resilience.retry.found import stop_found_loops
from tests.support.driving import ServerError
from tests.support.retrying import (
    AN_HOUR,
    Backend,
    asleep,
    cancel,
    check_ended_by,
    ended,
    result_of,
    settings,
    settle,
    trip,
)

OPEN, CLOSED = CircuitState.OPEN, CircuitState.CLOSED


# The ways in which a loop is found. Each takes a loop and a function, `async def` or `def`.


def directly(loop, send):
    return loop.wraps(send)


def behind_a_wrapper(loop, send):
    retried = loop.wraps(send)

    @functools.wraps(retried)
    def logged(*args):
        return retried(*args)

    @functools.wraps(retried)
    async def logged_async(*args):
        return await retried(*args)

    return logged_async if isinstance(loop, AsyncRetrying) else logged


def behind_a_wrapper_that_copies_nothing(loop, send):
    retried = loop.wraps(send)

    @functools.wraps(retried, updated=())
    def logged(*args):
        return retried(*args)

    @functools.wraps(retried, updated=())
    async def logged_async(*args):
        return await retried(*args)

    return logged_async if isinstance(loop, AsyncRetrying) else logged


def under_another_name(loop, send):
    """A decorator of somebody's own, that uses the loop in its own way and shows it."""

    @functools.wraps(send)
    def retried(*args):
        for attempt in loop:
            with attempt:
                return send(*args)
        return None

    @functools.wraps(send)
    async def retried_async(*args):
        async for attempt in loop:
            with attempt:
                return await send(*args)
        return None

    made = retried_async if isinstance(loop, AsyncRetrying) else retried
    made.retrying = loop
    return made


def under_the_name_of_tenacity(loop, send):
    """A decorator of somebody's own that does more than tenacity's, and looks like it."""

    @functools.wraps(send)
    def retried(*args):
        return loop(send, *args)

    @functools.wraps(send)
    async def retried_async(*args):
        return await loop(send, *args)

    made = retried_async if isinstance(loop, AsyncRetrying) else retried
    made.retry = loop
    return made


def in_a_partial(loop, send):
    async def send_async(_text):
        return await send()

    def send_plain(_text):
        return send()

    chosen = send_async if isinstance(loop, AsyncRetrying) else send_plain
    return functools.partial(loop.wraps(chosen), "hello")


def as_a_method(loop, send):
    class Client:
        async def send_async(self):
            return await send()

        def send_plain(self):
            return send()

    is_async = isinstance(loop, AsyncRetrying)
    Client.send = loop.wraps(Client.send_async if is_async else Client.send_plain)
    return Client().send


def as_an_object(loop, send):
    class Client:
        async def send_async(self):
            return await send()

        def send_plain(self):
            return send()

    is_async = isinstance(loop, AsyncRetrying)
    Client.__call__ = loop.wraps(Client.send_async if is_async else Client.send_plain)
    return Client()


class Decorator:
    """A decorator that is a class."""

    def __init__(self, fn):
        functools.update_wrapper(self, fn)

    def __call__(self, *args):
        return self.__wrapped__(*args)


class AsyncDecorator(Decorator):
    async def __call__(self, *args):
        return await self.__wrapped__(*args)


def behind_an_object(loop, send):
    made = AsyncDecorator if isinstance(loop, AsyncRetrying) else Decorator
    return made(loop.wraps(send))


def behind_an_object_that_copies_nothing(loop, send):
    made = behind_an_object(loop, send)
    wrapped = made.__wrapped__
    vars(made).clear()
    made.__wrapped__ = wrapped
    return made


class Proxy:
    """Pretends to be what it stands for, as the decorators of some libraries do."""

    def __init__(self, wrapped):
        object.__setattr__(self, "__wrapped__", wrapped)
        object.__setattr__(self, "calls", 0)

    __class__ = property(lambda self: type(self.__wrapped__))
    __dict__ = property(lambda self: vars(self.__wrapped__))

    def __getattr__(self, name):
        return getattr(self.__wrapped__, name)

    def __setattr__(self, name, value):
        setattr(self.__wrapped__, name, value)

    def __hash__(self):
        return hash(self.__wrapped__)

    def __eq__(self, other):
        return self.__wrapped__ == other

    def __call__(self, *args):
        object.__setattr__(self, "calls", self.calls + 1)
        return self.__wrapped__(*args)


def behind_a_proxy(loop, send):
    return Proxy(loop.wraps(send))


def as_the_function_itself(loop, send):
    return functools.partial(loop, send)


def kept_by_an_object(loop, send):
    class Client:
        def __init__(self):
            self.retrying = loop

        def __call__(self):
            return self.retrying(send)

    class AsyncClient(Client):
        async def __call__(self):
            return await self.retrying(send)

    return AsyncClient() if isinstance(loop, AsyncRetrying) else Client()


def in_a_partial_of_another_class(loop, send):
    class Partial(functools.partial):
        pass

    return Partial(loop.wraps(send))


def by_retry_with(loop, send):
    return loop.copy(stop=stop_after_attempt(1)).wraps(send).retry_with(stop=loop.stop)


def around_another_loop(loop, send):
    """The loop that is looked at stands inside; the one outside would go on without end."""
    return type(loop)(wait=AN_HOUR, reraise=True).wraps(loop.wraps(send))


def around_a_wrapper(loop, send):
    return type(loop)(wait=AN_HOUR, reraise=True).wraps(behind_a_wrapper(loop, send))


PLACES = [
    directly,
    behind_a_wrapper,
    behind_a_wrapper_that_copies_nothing,
    under_another_name,
    under_the_name_of_tenacity,
    in_a_partial,
    as_a_method,
    as_an_object,
    behind_an_object,
    behind_an_object_that_copies_nothing,
    behind_a_proxy,
    as_the_function_itself,
    kept_by_an_object,
    in_a_partial_of_another_class,
    by_retry_with,
]
INSIDE = [around_another_loop, around_a_wrapper]
every_place = pytest.mark.parametrize("place", [*PLACES, *INSIDE])
every_single_loop = pytest.mark.parametrize("place", PLACES)


def by_breaker(breaker, fn):
    return breaker(fn)


def by_call(breaker, fn):
    return lambda: breaker.call(fn)


every_entry = pytest.mark.parametrize("enter", [by_breaker, by_call])


# They stop


@every_entry
@every_place
async def test_a_loop_that_sleeps_is_woken_when_its_circuit_opens(breaker, place, enter):
    backend = Backend()
    send = enter(breaker, place(AsyncRetrying(**settings()), backend.send))
    tasks = [await asleep(backend, send)]
    trip(breaker)
    for task in tasks:
        check_ended_by(breaker, await ended(task))
    assert backend.attempts == 1


@every_entry
@every_place
async def test_a_probe_makes_one_attempt(due, place, enter):
    backend = Backend()
    send = enter(due, place(AsyncRetrying(**settings()), backend.send))
    assert await result_of(send()) is backend.raised[0]
    assert (backend.attempts, due.state) == (1, OPEN)


@every_place
def test_a_plain_probe_makes_one_attempt(due, place):
    backend = Backend()
    send = due(place(Retrying(**settings()), backend.send_plain))
    with pytest.raises(ServerError) as caught:
        send()
    assert caught.value is backend.raised[0]
    assert (backend.attempts, due.state) == (1, OPEN)


@every_place
def test_a_plain_loop_makes_no_attempt_after_its_circuit_has_opened(breaker, place):
    backend = Backend()

    def send_and_trip():
        trip(breaker)
        return backend.answer()

    with pytest.raises(ServerError):
        breaker(place(Retrying(**settings()), send_and_trip))()
    assert backend.attempts == 1


@every_entry
@every_single_loop
async def test_in_a_closed_circuit_all_attempts_are_made(breaker, place, enter):
    backend = Backend()
    send = enter(breaker, place(AsyncRetrying(**settings(wait=wait_none())), backend.send))
    assert await result_of(send()) is backend.raised[-1]
    assert (backend.attempts, breaker.snapshot().failures) == (5, 1)
    backend.default = None
    assert await send() == "sent"


async def test_a_loop_called_with_a_function_is_found(breaker):
    """`breaker.call` takes the loop as its function."""
    backend = Backend()
    loop = AsyncRetrying(**settings())
    task = await asleep(backend, lambda: breaker.call(loop, backend.send))
    trip(breaker)
    check_ended_by(breaker, await ended(task))


def test_a_loop_below_a_cache_is_found(breaker):
    backend = Backend()

    @breaker
    @functools.cache
    @tenacity.retry(**settings())
    def send():
        trip(breaker)
        return backend.answer()

    with pytest.raises(ServerError):
        send()
    assert backend.attempts == 1


def test_a_loop_is_found_on_an_object_that_accepts_no_attributes(breaker):
    backend = Backend()

    class Frozen(Decorator):
        def __init__(self, fn):
            vars(self)["__wrapped__"] = fn

        def __setattr__(self, *_):
            raise ValueError("frozen")

    def send():
        trip(breaker)
        return backend.answer()

    send = breaker(Frozen(tenacity.retry(**settings())(send)))
    with pytest.raises(ServerError):
        send()
    assert backend.attempts == 1


@pytest.mark.parametrize("bind", [lambda fn: fn, lambda fn: fn.__get__(object())])
def test_a_proxy_is_called_and_not_passed_over(breaker, bind):
    send = Proxy(bind(tenacity.retry(lambda *_: "sent")))
    assert breaker(send)() == "sent"
    assert send.calls == 1


async def test_a_method_is_found_in_its_class(breaker):
    class Client:
        attempts = 0

        @breaker
        @tenacity.retry(**settings())
        async def send(self):
            self.attempts += 1
            raise ServerError

    client = Client()
    task = asyncio.create_task(client.send())
    await settle()
    trip(breaker)
    check_ended_by(breaker, await ended(task))
    assert client.attempts == 1


@pytest.mark.parametrize("stop_retries", [True, False])
async def test_stop_retries_decides_for_region_breaker(clock, stop_retries):
    registry = CircuitBreakerRegistry(clock=clock)
    breaker, backend, go_on = registry.get("eu"), Backend(), asyncio.Event()

    async def sleep(_):
        await go_on.wait()

    @region_breaker(region_from="region", registry=registry, stop_retries=stop_retries)
    @tenacity.retry(**settings(sleep=sleep, attempts=3))
    async def send(region):
        return await backend.send()

    for call in (send, send.retry_with(wait=wait_none())):
        backend.attempts = 0
        go_on.clear()
        breaker.reset()
        task = asyncio.create_task(call("eu"))
        await settle()
        trip(breaker)
        go_on.set()
        error = await ended(task)
        assert backend.attempts == (1 if stop_retries else 3)
        assert isinstance(error, CircuitBreakerOpenError if stop_retries else ServerError)


@pytest.mark.parametrize("value", [0, 1, None, "no"])
def test_stop_retries_is_true_or_false(value):
    kind = type(value).__name__
    with pytest.raises(TypeError, match=f"stop_retries must be a bool, got {kind}"):
        region_breaker(region_from="region", stop_retries=value)


async def test_a_loop_that_was_left_as_it_is_is_left_by_breakers_above_too(breaker, clock):
    registry, backend = CircuitBreakerRegistry(clock=clock), Backend()
    loop = AsyncRetrying(**settings())
    stop = loop.stop

    @breaker
    @region_breaker(region_from=lambda: "eu", registry=registry, stop_retries=False)
    @loop.wraps
    async def send():
        return await backend.send()

    task = await asleep(backend, send)
    assert loop.stop is stop
    trip(registry.get("eu"))
    await settle()
    assert not task.done()
    task.cancel()


SHARED = [behind_a_wrapper, under_another_name, under_the_name_of_tenacity, behind_an_object]


@pytest.mark.parametrize("is_nested", [True, False])
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("place", SHARED)
async def test_a_loop_that_two_functions_share_is_left_alone_where_that_is_asked_for(
    clock, other, place, is_first, is_nested
):
    registry, backend = CircuitBreakerRegistry(clock=clock), Backend()
    loop = AsyncRetrying(**settings())
    stopped, left = place(loop, backend.send), place(loop, backend.send)
    if place is behind_a_wrapper:
        left = loop.wraps(backend.send)

    def protect(fn, stop_retries):
        decorate = region_breaker(
            region_from=lambda: "eu", registry=registry, stop_retries=stop_retries
        )
        return decorate(fn)

    if is_first:
        left = protect(left, stop_retries=False)
    stopped = protect(stopped, stop_retries=True)
    if not is_first:
        left = protect(left, stop_retries=False)
    if is_nested:
        left = around_in(other, left)
    breaker = registry.get("eu")
    task = await asleep(backend, stopped)
    trip(breaker)
    check_ended_by(breaker, await ended(task))
    breaker.reset()
    backend.attempts = 0
    task = await asleep(backend, left)
    trip(breaker)
    await settle()
    assert not task.done()
    await cancel(task)

    breaker.reset()
    loop.wait = wait_none()
    backend.attempts, backend.default = 0, lambda: trip_once(breaker) or ServerError()
    assert type(await result_of(left())) is ServerError
    assert backend.attempts == 5


def around_in(breaker, fn):
    @breaker
    async def around():
        return await fn()

    return around


def trip_once(breaker):
    if breaker.state is CLOSED:
        trip(breaker)


def test_a_plain_loop_that_two_functions_share_is_left_alone_where_that_is_asked_for(clock):
    registry, backend = CircuitBreakerRegistry(clock=clock), Backend()
    loop = Retrying(**settings(wait=wait_none()))
    backend.default = lambda: trip_once(registry.get("eu")) or ServerError()
    attempts = []
    for stop_retries in (True, False, True):
        registry.get("eu").reset()
        backend.attempts = 0
        send = region_breaker(
            region_from=lambda: "eu", registry=registry, stop_retries=stop_retries
        )(behind_a_wrapper(loop, backend.send_plain))
        with pytest.raises(ServerError):
            send()
        attempts.append(backend.attempts)
    assert attempts == [1, 5, 1]


# What is the user's stays as it is


@every_single_loop
async def test_outside_any_circuit_it_is_what_tenacity_makes_of_it(breaker, place):
    """The same loop and the same function, protected and not."""
    slept, backend = [], Backend()

    async def sleep(seconds):
        slept.append(seconds)

    loop = AsyncRetrying(**settings(sleep=sleep))
    plain = place(loop, backend.send)
    breaker(plain)
    breaker.force_open("maintenance")
    assert await result_of(plain()) is backend.raised[-1]
    assert (backend.attempts, len(slept)) == (5, 4)


def test_a_loop_directly_below_is_not_changed(breaker):
    loop = Retrying(**settings())
    before = dict(vars(loop))
    retried = loop.wraps(Backend(default=None).send_plain)
    attributes = dict(vars(retried))
    send = breaker(retried)
    assert send() == "sent"
    assert vars(loop) == before
    assert vars(retried) == attributes
    assert send.retry is loop


async def test_a_changed_loop_retries_a_cancellation_outside_of_circuits_as_before(breaker):
    backend = Backend(default=None)
    retry = retry_if_exception_type(BaseException)
    plain = behind_a_wrapper(AsyncRetrying(**settings(retry=retry, wait=wait_none())), backend.send)
    protected = breaker(plain)
    backend.errors.append(asyncio.CancelledError())
    assert await plain() == "sent"
    backend.errors.append(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await protected()


def test_two_breakers_may_protect_the_same_function(breaker, other):
    retried = tenacity.retry(**settings(wait=wait_none()))(Backend(default=None).send_plain)
    one, another = breaker(retried), other(retried)
    assert (one(), another(), retried()) == ("sent",) * 3
    assert one.statistics is another.statistics is retried.statistics
    other.force_open("maintenance")
    with pytest.raises(CircuitBreakerOpenError):
        another()
    assert one() == "sent"


def test_what_was_set_on_the_function_is_kept(breaker):
    retried = tenacity.retry(**settings())(Backend(default=None).send_plain)
    retried.note = "mine"
    send = breaker(retried)
    assert send.note == "mine"
    assert (send.__name__, send.__wrapped__) == ("send_plain", retried)


def test_conditions_on_results_are_asked(breaker):
    backend = Backend(default=None)
    retry = retry_if_result(lambda result: result == "sent")
    send = breaker(tenacity.retry(**settings(retry=retry, wait=wait_none()))(backend.send_plain))
    with pytest.raises(tenacity.RetryError):
        send()
    assert backend.attempts == 5


def test_a_function_that_is_gone_is_not_remembered(breaker):
    def make():
        retried = tenacity.retry(**settings())(lambda: None)
        breaker(retried)()
        return weakref.ref(retried)

    found = make()
    gc.collect()
    assert found() is None


# Circuits within circuits


async def test_a_function_that_is_protected_already_is_left_alone(breaker, other):
    loop, backend = AsyncRetrying(**settings()), Backend()
    send = breaker(other(loop.wraps(backend.send)))
    stop = loop.stop
    task = await asleep(backend, send)
    assert loop.stop is stop
    trip(breaker)
    check_ended_by(breaker, await ended(task))


async def test_a_loop_around_a_protected_function_is_stopped_by_the_circuit_around_it(
    breaker, other
):
    backend = Backend()
    inner = other(tenacity.retry(**settings(attempts=1))(backend.send))
    send = breaker(tenacity.retry(**settings())(inner))
    task = await asleep(backend, send)
    trip(breaker)
    check_ended_by(breaker, await ended(task))


async def test_gate_takes_a_loop_around_a_protected_function_with_a_loop(breaker, other):
    backend = Backend()
    inner = other(transient_retry(attempts=1)(backend.send))
    send = breaker(gate(tenacity.retry(**settings())(inner)))
    task = await asleep(backend, send)
    trip(breaker)
    check_ended_by(breaker, await ended(task))


def test_the_function_of_a_gated_loop_stops_too(breaker):
    backend = Backend()
    loop = gate(Retrying(**settings(wait=wait_none())))
    send = breaker(loop.wraps(backend.send_plain))
    assert send.retry is loop
    backend.errors = [ServerError()]
    backend.default = None
    assert send() == "sent"
    backend.default = lambda: trip(breaker) or ServerError()
    with pytest.raises(ServerError):
        send()
    assert backend.attempts == 3


# A gate where it does nothing


@pytest.mark.parametrize("decorate", [lambda fn: fn, transient_retry(), tenacity.retry])
def test_gate_over_a_protected_function_is_refused(breaker, decorate):
    with pytest.raises(
        TypeError, match=r"gate goes under the circuit breaker of .*send_plain, not over it"
    ):
        gate(breaker(decorate(Backend().send_plain)))


@pytest.fixture
def warnings():
    lines = []
    number = logger.add(lambda line: lines.append(line.rstrip("\n")), format="{level} {message}")
    yield lines
    logger.remove(number)


def test_gate_further_over_a_protected_function_warns(breaker, warnings):
    protected = breaker(Backend(default=None).send_plain)

    @functools.wraps(protected)
    def logged():
        return protected()

    assert gate(logged)() == "sent"
    (line,) = warnings
    assert line.startswith("WARNING")
    assert "send_plain" in line
    assert "put gate below the circuit breaker" in line


async def test_gate_under_the_retries_is_not_needed_and_does_no_harm(breaker, warnings):
    backend = Backend()

    @breaker
    @tenacity.retry(**settings())
    @gate
    async def send():
        return await backend.send()

    task = await asleep(backend, send)
    trip(breaker)
    check_ended_by(breaker, await ended(task))
    assert not [line for line in warnings if "gate" in line]


def test_gate_takes_what_only_looks_like_tenacity(breaker):
    backend, calls = Backend(), []

    def send():
        calls.append(True)
        trip(breaker)
        return backend.answer()

    with pytest.raises(ServerError):
        breaker(gate(under_the_name_of_tenacity(Retrying(**settings()), send)))()
    assert backend.attempts == len(calls) == 1


# Loops of other kinds


class Other(tenacity.BaseRetrying):
    def __call__(self, fn, *args, **kwargs):
        return fn(*args, **kwargs)


def test_a_loop_of_another_kind_is_reported(breaker, warnings):
    send = breaker(Other().wraps(Backend(default=None).send_plain))
    assert send() == "sent"
    assert [line.split(" ")[0] for line in warnings] == ["WARNING"]
    assert "cannot stop the retries of" in warnings[0]
    assert "Other" in warnings[0]


async def test_it_is_reported_once_however_often_it_is_called(breaker, warnings):
    backend = Backend(default=None)

    @functools.wraps(backend.send)
    async def send():
        return await backend.send()

    send.retry = Other()
    for _ in range(3):
        assert await breaker.call(send) == "sent"
    assert len(warnings) == 1


def test_what_is_no_loop_is_left_alone(breaker):
    def send():
        return "sent"

    send.retry = "never"
    assert breaker(send)() == "sent"
    assert breaker(functools.partial(send))() == "sent"
    assert breaker(len)([]) == 0


def test_no_function_without_a_loop_imports_tenacity():
    program = """
import asyncio, sys
from resilience import CircuitBreaker, region_breaker

def send(region): return region
send.retry = 3

async def call(): return "called"

assert region_breaker(region_from="region")(send)("eu") == "eu"
assert asyncio.run(CircuitBreaker("eu").call(call)) == "called"
assert "tenacity" not in sys.modules
import tenacity
assert region_breaker(region_from="region")(tenacity.retry(send))("eu") == "eu"
"""
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_loops_are_found_where_nothing_of_the_package_has_looked_for_one_before(breaker):
    """As in a program that imports tenacity, and nothing of `resilience.retry`."""
    attempts = []

    async def open_circuit(_):
        breaker.force_open("maintenance")

    async def send():
        attempts.append(1)
        raise ServerError

    stop_loops_with(decorator._stop_loops)
    try:
        protected = breaker(tenacity.retry(sleep=open_circuit)(send))
    finally:
        stop_loops_with(stop_found_loops)
    with pytest.raises(CircuitBreakerOpenError):
        await protected()
    assert len(attempts) == 1

"""Input that a stranger may send, as strategies, and what must hold for each of it.

`test_hostile_input` runs a bounded number of examples, and `fuzz` as many as fit into its time.
"""

import asyncio
import math
from collections import Counter
from types import SimpleNamespace

from aiohttp import web
from hypothesis import assume
from hypothesis import strategies as st
from loguru import logger

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerRegistry, CircuitState
from resilience._text import display_name
from resilience.answers import requested_delay
from resilience.integrations.redis.protocol import InvalidReplyError, parse_replies
from resilience.integrations.status_page import status_page
from resilience.retry import is_transient
from resilience.shared_circuit import SharedCircuit
from resilience.testing import FakeClock
from tests.support.odd_errors import ODD_VALUES, RAISED, made, metaclass, raising

#: How many inputs of each kind were tried.
tried = Counter()

# Texts


TEXTS = st.one_of(
    st.text(st.characters(), min_size=1, max_size=400),
    st.text("ab\n\\~#0", min_size=1, max_size=40),
    st.builds(lambda text, times: text * times, st.text(min_size=1), st.integers(1, 2_000)),
    st.builds(lambda text: display_name(text + "\n"), st.text()),
).filter(str.strip)


def check_names(one, other):
    """Two names are one circuit, or are shown as two."""
    tried["names"] += 2
    registry = CircuitBreakerRegistry()
    first, second = registry.get(one), registry.get(other)
    assert registry.get(first.region) is first
    assert len(first.region) <= 200
    shown = {display_name(breaker.region) for breaker in (first, second)}
    assert (len(shown) == 1) is (first is second)
    assert all(len(text) <= 200 and text.isprintable() for text in shown)


def check_reasons(reason):
    """A reason is one line of a bounded length, in the log and in a rejection."""
    tried["reasons"] += 1
    lines = []
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="TRACE")
    try:
        breaker = CircuitBreaker("eu-west-1")
        breaker.force_open(reason)
        error = breaker.rejection()
    finally:
        logger.remove(sink)
    assert len(lines) == 1
    for text in (lines[0], str(error), error.reason):
        assert text.isprintable()
        assert len(text) < 400


# Errors


BASES = [Exception, TimeoutError, ConnectionError, OSError, EOFError, ValueError, BaseException]
NAMES = ["status", "status_code", "code", "response", "reason", "args", "errno", "last_attempt"]
NAMES += ["headers", "__class__", "__cause__", "__context__", "__traceback__", "__dict__"]
NAMES += ["__eq__", "__hash__", "__bool__", "__len__", "__str__", "__repr__", "__getattr__"]
NAMES += ["__getattribute__", "__module__", "__suppress_context__", "exceptions", "details", "meta"]
META_NAMES = ["__hash__", "__eq__", "__getattribute__", "__instancecheck__", "__getattr__"]
META_NAMES += ["__name__", "__mro__", "__dict__", "__class__", "__bool__", "__len__"]
SPECIAL = ["__eq__", "__hash__", "__bool__", "__len__", "__str__", "__repr__", "__getattr__"]
SPECIAL += ["__getattribute__", "__instancecheck__"]

values = st.one_of(
    st.sampled_from([("odd", name) for name in ODD_VALUES]),
    st.tuples(st.just("plain"), st.integers() | st.text() | st.binary() | st.floats() | st.none()),
    st.tuples(st.just("plain"), st.lists(st.integers(), max_size=3)),
    st.tuples(st.just("plain"), st.dictionaries(st.text(), st.integers(), max_size=3)),
)


def recipes(inner):
    """What an error is made of; plain data, so that a failure can be printed."""
    return st.fixed_dictionaries(
        {
            "base": st.sampled_from(BASES),
            "meta": st.dictionaries(st.sampled_from(META_NAMES), st.sampled_from(RAISED)),
            "class": st.dictionaries(
                st.sampled_from(NAMES), st.sampled_from(RAISED) | values, max_size=3
            ),
            "attributes": st.dictionaries(st.sampled_from(NAMES[:9]), values, max_size=3),
            "args": st.lists(values, max_size=3),
            "cause": st.none() | inner,
            "context": st.none() | inner,
            "members": st.lists(inner, max_size=3),
        }
    )


ERRORS = st.recursive(recipes(st.none()), recipes, max_leaves=6)


def value_of(recipe):
    kind, value = recipe
    return ODD_VALUES[value]() if kind == "odd" else value


def class_attribute(name, recipe):
    if isinstance(recipe, tuple):
        return value_of(recipe)
    return raising(recipe) if name in SPECIAL else property(raising(recipe))


def make_error(recipe):
    """Make an error; None if Python does not let it be made."""
    try:
        return _make_error(recipe)
    except BaseException:
        return None


def _make_error(recipe):
    if recipe["members"]:
        members = [make_error(one) for one in recipe["members"] if one is not None]
        members = [one for one in members if one is not None]
        error = BaseExceptionGroup("", members * 2)
    else:
        meta = {
            name: raising(kind) if name in SPECIAL else property(raising(kind))
            for name, kind in recipe["meta"].items()
        }
        names = {name: class_attribute(name, one) for name, one in recipe["class"].items()}
        args = map(value_of, recipe["args"])
        error = made(recipe["base"], metaclass(**meta) if meta else type, *args, **names)
    attributes = BaseException.__dict__["__dict__"].__get__(error)
    attributes.update({name: value_of(one) for name, one in recipe["attributes"].items()})
    for name in ("cause", "context"):
        inner = recipe[name] and make_error(recipe[name])
        if inner is not None:
            BaseException.__dict__[f"__{name}__"].__set__(error, inner)
    return error


def check_errors(recipe):
    """The error itself comes out, it is counted once, and a probe gives its place back."""
    error = make_error(recipe)
    assume(error is not None)
    tried["errors"] += 1
    for is_probe in (False, True):
        clock, lines = FakeClock(), []
        breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
        if is_probe:
            breaker.acquire().fail()
            clock.advance(60)
        before = breaker.snapshot()
        sink = logger.add(lambda message, to=lines: to.append(message), level="ERROR")
        try:
            assert raised_by(breaker, error) is error
        finally:
            logger.remove(sink)
        after = breaker.snapshot()
        counted = [getattr(after, name) - getattr(before, name) for name in COUNTED]
        assert sum(counted) == 1, counted
        assert len(lines) <= 1
        if after.state is not CircuitState.OPEN:
            breaker.acquire().ignore()
    is_transient(error)
    requested_delay(error)


COUNTED = ("successes", "failures", "answered", "ignored")


def raised_by(breaker, error):
    @breaker
    def send():
        raise error

    try:
        send()
    except BaseException as raised:
        return raised
    return None


# Headers


HEADER_NAMES = st.sampled_from(
    ["Retry-After", "retry-after", "RateLimit", "ratelimit-reset", "x-ratelimit-remaining", "date"]
)
HEADER_VALUES = st.one_of(
    st.text(max_size=60),
    st.text('0123456789.e-+ ,;="rt', max_size=30),
    st.sampled_from(["inf", "nan", "Wed, 21 Oct 2099 07:28:00 GMT", '"a";r=0;t=5', "9" * 500]),
    st.integers(),
    st.floats(),
    st.binary(max_size=30),
)
HEADERS = st.one_of(
    st.dictionaries(HEADER_NAMES, HEADER_VALUES),
    st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES)),
    st.dictionaries(HEADER_NAMES, st.sampled_from(sorted(ODD_VALUES)).map(lambda n: ("odd", n))),
    st.sampled_from(sorted(ODD_VALUES)).map(lambda name: ("odd", name)),
)


def check_headers(recipe):
    """A delay is asked for, or nothing is; never a negative one, and nothing is raised."""
    tried["headers"] += 1
    headers = recipe
    if isinstance(recipe, tuple):
        headers = value_of(recipe)
    elif isinstance(recipe, dict):
        headers = {
            name: value_of(one) if isinstance(one, tuple) else one for name, one in recipe.items()
        }
    for answer in (
        SimpleNamespace(headers=headers, status=429),
        SimpleNamespace(response=SimpleNamespace(headers=headers)),
        SimpleNamespace(details=headers),
    ):
        delay = requested_delay(answer)
        assert delay is None or (delay >= 0 and not math.isnan(delay))


# Records of the store


FIELDS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(0, 3),
    st.binary(max_size=300),
    st.sampled_from([b"", b"C", b"O", b"H", b"F", b"X", None, "C", 1.5, True, [], b"\xff" * 9]),
)
REPLIES = st.one_of(
    st.lists(FIELDS, min_size=13, max_size=13),
    st.lists(FIELDS, max_size=20),
    st.tuples(*[st.integers(0, 2**40)] * 2, st.sampled_from([b"", b"C", b"O", b"H", b"F"])).map(
        lambda drawn: [1, drawn[0], drawn[2], drawn[1], 0, 0, 0, 0, b"host", b"why", 0, 0, 5]
    ),
    FIELDS,
)


def check_records(answers):
    """A record is a record or is refused; and a circuit that follows one lets a call through."""
    tried["records"] += 1
    try:
        replies = parse_replies(answers, len(answers), 0.0)
    except InvalidReplyError:
        return
    circuit = SharedCircuit(BreakerPolicy(), 0.0, lease=10.0, notify=lambda: None)
    now = 0.0
    for reply in replies:
        now += 1.0
        circuit.on_record(reply.view, now)
        assert circuit.phase(now) in CircuitState
        events = [event.reason for event in circuit.events if hasattr(event, "reason")]
        assert all(reason.isprintable() and len(reason) <= 200 for reason in events)
        circuit.events.clear()


# Requests of the page


TOKENS = st.one_of(
    st.sampled_from([b"GET", b"POST", b"HEAD", b"/", b"/stream", b"/api/circuits", b" HTTP/1.1"]),
    st.sampled_from(
        [b"\r\n", b"Host: localhost", b"Host: a.example", b"\r\n\r\n", b" ", b"%2e%2e"]
    ),
    st.sampled_from([b"Sec-Fetch-Site: cross-site", b"Transfer-Encoding: chunked", b"\x00"]),
    st.binary(max_size=40),
)
REQUESTS = st.lists(TOKENS, max_size=12).map(b"".join)


class Page:
    """A real page that answers raw requests, one after the other."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        registry = CircuitBreakerRegistry()
        registry.get("eu-west-1").force_open("by a test")
        self._runner = web.AppRunner(status_page(registry), access_log=None)
        self._port = self._loop.run_until_complete(self._start())

    async def _start(self):
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self._runner.addresses[0][1]

    def ask(self, data, most=4_000):
        return self._loop.run_until_complete(self._ask(data, most))

    def serves(self):
        request = b"GET /page.css HTTP/1.1\r\nHost: localhost\r\n\r\n"
        return self._loop.run_until_complete(self._ask(request, 12, 60)) == b"HTTP/1.1 200"

    async def _ask(self, data, most, patience=0.05):
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(data)
            # Of a request that is not complete there is no answer: the server waits for the rest.
            async with asyncio.timeout(patience):
                return await reader.read(most)
        except (ConnectionError, TimeoutError):
            return b""
        finally:
            writer.transport.abort()

    def close(self):
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()


def check_requests(page, request):
    """A request is answered as HTTP has it, never with an error of ours; the next one is served."""
    tried["requests"] += 1
    answer = page.ask(request + b"\r\n\r\n")
    assert answer == b"" or answer.startswith(b"HTTP/1.")
    assert b" 500 " not in answer.split(b"\r\n")[0]
    assert page.serves()

"""Where the client libraries keep the headers of an answer, and what may be wrong with those."""

import email.message
import itertools
import urllib.error
from datetime import timedelta
from types import SimpleNamespace

import httpx
import pytest
import tenacity
from multidict import CIMultiDict
from tenacity import wait_fixed

from resilience.answers import requested_delay
from resilience.retry import wait_retry_after
from tests.support.client_errors import ClientError, caused_by
from tests.support.driving import ServerError
from tests.support.retrying import state_after

HEADERS = {"Content-Type": "text/plain", "Retry-After": "7"}


def message(headers):
    made = email.message.Message()
    for name, value in headers.items():
        made[name] = value
    return made


# Where they are


@pytest.mark.parametrize(
    "headers",
    [
        HEADERS,
        {b"content-type": b"text/plain", b"retry-after": b"7"},
        {"retry-after": ["7"]},
        {"RETRY-AFTER": 7},
        list(HEADERS.items()),
        tuple(HEADERS.items()),
        iter(HEADERS.items()),
        [(b"Retry-After", b"7")],
        CIMultiDict(HEADERS),
        CIMultiDict([("Retry-After", "2"), ("Retry-After", "7"), ("retry-after", "soon")]),
        httpx.Headers(HEADERS),
        httpx.Headers([("Retry-After", "2"), ("Retry-After", "7")]),
        message(HEADERS),
        HEADERS.items(),
    ],
    ids=lambda headers: type(headers).__name__,
)
def test_headers_of_every_kind_are_read(headers):
    assert requested_delay(ClientError(headers=headers)) == 7


BOTOCORE = {
    "Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"},
    "ResponseMetadata": {"HTTPStatusCode": 429, "HTTPHeaders": {"retry-after": "7"}},
}


class HttpLib2Response(dict):
    """As httplib2's: a mapping of headers, with the status as an attribute."""

    status = 429


PLACES = {
    "headers": {"headers": HEADERS},
    "response.headers": {"response": SimpleNamespace(headers=HEADERS)},  # httpx, openai, azure
    "botocore": {"response": BOTOCORE},
    "elasticsearch": {"meta": SimpleNamespace(status=429, headers=HEADERS)},
    "googleapiclient": {"resp": HttpLib2Response({"retry-after": "7"})},
    "both": {"headers": {}, "response": SimpleNamespace(headers=HEADERS)},
    "both, differently": {
        "headers": {"retry-after": "2"},
        "response": SimpleNamespace(headers=HEADERS),
    },
}


@pytest.mark.parametrize("place", PLACES)
def test_headers_are_found_where_a_client_keeps_them(place):
    error = ClientError(**PLACES[place])
    assert requested_delay(error) == 7
    error.status = 429  # an error that says nothing does not speak for one that wraps it
    assert requested_delay(caused_by(error)) == 7


def test_headers_of_urllib_are_found():
    error = urllib.error.HTTPError("http://127.0.0.1/", 503, "", message(HEADERS), None)
    assert requested_delay(error) == 7


def test_headers_of_a_response_without_an_error_are_found():
    assert requested_delay(httpx.Response(503, headers=HEADERS)) == 7


def test_headers_of_the_last_attempt_of_a_retry_loop_are_found():
    attempt = tenacity.Future.construct(1, ServerError(429, HEADERS), has_exception=True)
    assert requested_delay(tenacity.RetryError(attempt)) == 7


def test_headers_of_an_error_that_has_a_cause_are_found():
    error = ClientError(headers=HEADERS)
    error.__cause__ = ConnectionResetError()
    assert requested_delay(error) == 7


def test_of_several_errors_the_longest_request_counts():
    answers = [ServerError(429, {"Retry-After": seconds}) for seconds in ("2", "7", "5")]
    group = ExceptionGroup("", [TimeoutError(), ExceptionGroup("", answers)])
    assert requested_delay(group) == 7


# gRPC and Google


def grpc_error(*metadata):
    return ClientError(trailing_metadata=lambda: metadata, details=lambda: "try later")


@pytest.mark.parametrize(
    ("value", "seconds"), [("1500", 1.5), (b"0", 0), ("-1", None), ("", None), ("soon", None)]
)
def test_the_pushback_of_grpc_is_read(value, seconds):
    error = grpc_error(("x-request-id", "1"), ("grpc-retry-pushback-ms", value))
    assert requested_delay(error) == seconds
    assert requested_delay(ClientError(response=error)) == seconds  # google.api_core


def test_metadata_of_grpc_that_cannot_be_had_is_none():
    def fail():
        raise RuntimeError

    assert requested_delay(ClientError(trailing_metadata=fail)) is None
    assert requested_delay(ClientError(trailing_metadata=lambda: None)) is None
    assert requested_delay(ClientError(trailing_metadata=7)) is None


def test_a_call_that_may_not_be_over_is_not_asked_for_its_metadata():
    def wait_for_the_end():
        pytest.fail("this would wait")

    call = SimpleNamespace(trailing_metadata=wait_for_the_end)
    assert requested_delay(call) is None
    assert requested_delay(ClientError(response=call)) is None


class BitingDuration(timedelta):
    def total_seconds(self):
        raise RuntimeError("bitten")


class BitingNumber(int):
    def __ge__(self, _other):
        raise RuntimeError("bitten")

    __lt__ = __format__ = __ge__


@pytest.mark.parametrize(
    ("detail", "seconds"),
    [
        (SimpleNamespace(retry_delay=BitingDuration(seconds=7)), 7),
        (SimpleNamespace(retry_delay=SimpleNamespace(seconds=BitingNumber(7), nanos=0)), 7),
        (SimpleNamespace(retry_delay=SimpleNamespace(seconds=7, nanos=250_000_000)), 7.25),
        (SimpleNamespace(retry_delay=SimpleNamespace(seconds=0, nanos=1_000_000)), 0.001),
        (SimpleNamespace(retry_delay=timedelta(minutes=1, seconds=7.5)), 67.5),
        ({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"}, 7.5),
        (SimpleNamespace(retry_delay=SimpleNamespace(seconds=-1, nanos=0)), None),
        (SimpleNamespace(retry_delay=SimpleNamespace(seconds=10**5000, nanos=0)), None),
        (SimpleNamespace(retry_delay=SimpleNamespace(seconds=1, nanos=-1)), None),
        (SimpleNamespace(retry_delay=SimpleNamespace(seconds=1, nanos="1")), None),
        (SimpleNamespace(retry_delay=timedelta(seconds=-1)), None),
        ({"retryDelay": "soon"}, None),
        ({"reason": "RATE_LIMIT_EXCEEDED"}, None),
        ("try later", None),
        (None, None),
    ],
)
def test_the_retry_info_of_google_is_read(detail, seconds):
    assert requested_delay(ClientError(details=[{"reason": "QUOTA"}, detail])) == seconds


# What may be wrong with them


class Raises:
    """Raises whatever is read from it."""

    def __getattribute__(self, name):
        if name == "__class__":
            return object
        raise RuntimeError(name)


class BrokenItems(dict):
    def items(self):
        yield "Retry-After", "7"
        raise RuntimeError


class BrokenText:
    def __str__(self):
        raise RuntimeError


BROKEN = {
    "none": None,
    "a number": 7,
    "a text": "Retry-After: 7",
    "a list of texts": ["Retry-After: 7"],
    "a list of numbers": [1, 2],
    "pairs of three": [("Retry-After", "7", "")],
    "items is no method": SimpleNamespace(items=7),
    "raises": Raises(),
    "a value that raises": {"Retry-After": BrokenText()},
    "a name that raises": {BrokenText(): "7"},
    "a list of values that raise": {"Retry-After": [BrokenText(), None]},
    "a class": dict,
}


@pytest.mark.parametrize("name", BROKEN)
def test_headers_that_do_not_work_are_passed_over(name):
    broken = BROKEN[name]
    for error in (
        ClientError(headers=broken),
        ClientError(response=broken),
        ClientError(response=SimpleNamespace(headers=broken)),
        ClientError(response={"ResponseMetadata": broken}),
        ClientError(response={"ResponseMetadata": {"HTTPHeaders": broken}}),
        ClientError(resp=broken, meta=broken, details=broken, trailing_metadata=broken),
        ClientError(details=[broken]),
        grpc_error(broken),
    ):
        assert wait_retry_after(wait_fixed(3.25))(state_after(error)) == 3.25


def test_headers_that_break_off_count_as_far_as_they_go():
    assert requested_delay(ClientError(headers=BrokenItems())) == 7


def test_endless_headers_are_read_to_an_end():
    endless = ((f"x-{number}", "7") for number in itertools.count())
    assert requested_delay(ClientError(headers=endless)) is None
    many = ["soon"] * 10**6 + ["7"]
    assert requested_delay(ClientError(headers={"Retry-After": many})) is None


# Objects that do not work


class EndlessValues(list):
    def __iter__(self):
        while True:
            yield "2"

    def __getitem__(self, _):
        raise KeyboardInterrupt


class TextError(BaseException):
    """Neither an Exception nor an exit."""


class Text(str):
    __slots__ = ()

    def __str__(self):
        raise TextError

    strip = lower = removesuffix = __str__


class Odd:
    def __init__(self, kind):
        self._kind = kind

    def __getattribute__(self, name):
        raise object.__getattribute__(self, "_kind")

    __iter__ = __getitem__ = __str__ = __len__ = __bool__ = lambda self: self.nothing


ODD_HEADERS = {
    **{
        f"an object that raises {kind.__name__}": lambda kind=kind: Odd(kind)
        for kind in (ValueError, TextError, KeyboardInterrupt, GeneratorExit)
    },
    "a value that raises": lambda: {"Retry-After": Odd(TextError)},
    "a text that raises": lambda: {"Retry-After": Text("2")},
    "a name that raises": lambda: {Text("Retry-After"): "2"},
    "values without end": lambda: {"Retry-After": EndlessValues(["nothing"])},
    "pairs": lambda: [("Retry-After", Odd(SystemExit))],
    "bytes": lambda: {"Retry-After": b"\xff\xfe"},
    "a number without end": lambda: {"Retry-After": 10**5000},
    **{
        repr(value): lambda value=value: {"Retry-After": value}
        for value in ("inf", "-inf", "nan", "1e999", float("inf"), "\ud800", "infinity, 1")
    },
}


@pytest.mark.parametrize("headers", ODD_HEADERS)
@pytest.mark.parametrize("place", ["headers", "response", "details", "meta"])
def test_headers_that_make_no_sense_or_do_not_work_ask_for_nothing(headers, place):
    held, error = ODD_HEADERS[headers](), Exception()
    if place in ("response", "meta"):
        held = SimpleNamespace(headers=held)
    setattr(error, place, held)
    asked = requested_delay(error)
    assert asked is None or asked == 2.0


def test_the_details_of_an_error_may_be_a_tuple():
    error = Exception()
    error.details = ({"retryDelay": "7s"},)
    assert requested_delay(error) == 7

"""Which errors say that a region is ill, and which say nothing about it."""

import asyncio
import errno
import http.client
import pickle
import socket
import socketserver
import ssl
import subprocess
import sys
import textwrap
import threading
import urllib.error
import urllib.request
from http import HTTPStatus
from types import SimpleNamespace

import aiohttp
import httpcore
import httpx
import pytest
import requests
import tenacity
import trio
import urllib3
from aiohttp import http_exceptions
from aiohttp.client_reqrep import ConnectionKey
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    EmptyPoolError,
    IncompleteRead,
    LocationParseError,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    ResponseError,
)
from urllib3.exceptions import ProxyError as UrllibProxyError
from urllib3.exceptions import SSLError as UrllibSslError

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    Outcome,
    classify_error,
    classify_status,
    failures,
)

FAILURE, IGNORED, SUCCESS = Outcome.FAILURE, Outcome.IGNORED, Outcome.SUCCESS
OUT_OF_FILES = [errno.EMFILE, errno.ENFILE]


def caused(error, cause):
    """What `raise error from cause` makes."""
    error.__cause__ = cause
    return error


def named(error):
    """Give a test's parameter a name that can be read."""
    return f"{type(error).__module__.split('.')[0]}.{type(error).__name__}"


def each(*errors):
    return pytest.mark.parametrize("error", errors, ids=named)


# The status


class StatusError(Exception):
    """The shape of any client's error: attributes, and no base class that is known."""

    def __init__(self, **attributes):
        super().__init__("sent nothing that anybody reads")
        vars(self).update(attributes)


CARRIERS = {
    "status": lambda status: StatusError(status=status),
    "status_code": lambda status: StatusError(status_code=status),
    "response.status_code": lambda status: StatusError(
        response=SimpleNamespace(status_code=status)
    ),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 529, 599, 600, 999])
def test_a_status_of_500_and_up_is_a_failure(carrier, status):
    assert classify_error(CARRIERS[carrier](status)) is FAILURE


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 429, 499])
def test_a_status_of_4xx_is_ignored(carrier, status):
    assert classify_error(CARRIERS[carrier](status)) is IGNORED


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("status", [100, 200, 204, 302])
def test_any_other_status_of_an_error_is_ignored(carrier, status):
    assert classify_error(CARRIERS[carrier](status)) is IGNORED


def test_a_status_may_be_an_http_status():
    assert classify_error(StatusError(status=HTTPStatus.BAD_GATEWAY)) is FAILURE
    assert classify_error(StatusError(status=HTTPStatus.NOT_FOUND)) is IGNORED


@pytest.mark.parametrize("nothing", [None, "UNAVAILABLE", "503 Service Unavailable", object(), []])
def test_a_status_that_is_no_number_says_nothing(nothing):
    assert classify_error(StatusError(status=nothing)) is IGNORED
    assert classify_error(StatusError(status=nothing, status_code=503)) is FAILURE
    assert classify_error(caused(StatusError(status=nothing), TimeoutError())) is FAILURE


@pytest.mark.parametrize(("status", "outcome"), [(503, FAILURE), (404, IGNORED)])
def test_a_requests_response_counts_although_it_is_falsy(status, outcome):
    response = requests.Response()
    response.status_code = status
    assert not response
    assert classify_error(requests.HTTPError(response=response)) is outcome


class ApiException(Exception):  # noqa: N818 - as the Genesys SDK calls it
    """The error of the Genesys SDK, which knows no other."""

    def __init__(self, status=None, reason=None, http_resp=None):
        super().__init__(reason)
        self.status = http_resp.status if http_resp else status
        self.reason = http_resp.reason if http_resp else reason
        self.body = http_resp.data if http_resp else None
        self.headers = http_resp.getheaders() if http_resp else None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ApiException(status=503, reason="Service Unavailable"), FAILURE),
        (ApiException(status=504, reason="request.timeout"), FAILURE),
        (ApiException(status=429, reason="Too Many Requests"), IGNORED),
        (ApiException(status=0, reason="SSLError\nEOF occurred"), FAILURE),
        (ApiException(), IGNORED),
        (caused(ApiException(), ConnectionResetError()), FAILURE),
    ],
    ids=["503", "504", "429", "no answer", "no status", "no status but a cause"],
)
def test_the_genesys_sdk_is_judged_by_its_status(error, outcome):
    assert classify_error(error) is outcome


def test_a_status_weighs_more_than_the_cause():
    assert classify_error(caused(StatusError(status=404), TimeoutError())) is IGNORED
    assert classify_error(caused(StatusError(status=503), ValueError())) is FAILURE


# The errors of each client

KEY = ConnectionKey("api.mypurecloud.ie", 443, True, True, None, None, None)
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
GAIERROR = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
POOL = urllib3.HTTPConnectionPool("127.0.0.1")
REQUEST = httpx.Request("POST", "https://api.mypurecloud.ie")


@each(
    TimeoutError(),
    ConnectionError(),
    REFUSED,
    ConnectionResetError(),
    ConnectionAbortedError(),
    BrokenPipeError(),
    GAIERROR,
    socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    socket.herror(1, "Unknown host"),
    ssl.SSLError(1, "WRONG_VERSION_NUMBER"),
    ssl.SSLCertVerificationError(1, "CERTIFICATE_VERIFY_FAILED"),
    ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
    ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed (EOF)"),
    http.client.RemoteDisconnected("Remote end closed connection without response"),
    http.client.IncompleteRead(b"half"),
    http.client.BadStatusLine("nonsense"),
)
def test_the_standard_library_s_timeouts_and_connection_errors_are_failures(error):
    assert classify_error(error) is FAILURE


@pytest.mark.parametrize(
    "name", ["EHOSTUNREACH", "ENETUNREACH", "ENETDOWN", "EHOSTDOWN", "ETIMEDOUT", "ECONNRESET"]
)
def test_an_operating_system_that_cannot_reach_the_host_is_a_failure(name):
    number = getattr(errno, name)
    assert classify_error(OSError(number, name)) is FAILURE
    assert classify_error(aiohttp.ClientConnectorError(KEY, OSError(number, name))) is FAILURE


@each(
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    PermissionError(errno.EACCES, "Permission denied"),
    IsADirectoryError(errno.EISDIR, "Is a directory"),
    FileExistsError(errno.EEXIST, "File exists"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENFILE, "Too many open files in system"),
    OSError("without a number"),
    OSError(),
    subprocess.TimeoutExpired("ls", 1),
    http.client.InvalidURL("nonnumeric port"),
    http.client.CannotSendRequest(),
)
def test_the_machine_s_own_errors_are_ignored(error):
    assert classify_error(error) is IGNORED


@each(
    ValueError("bad"),
    KeyError("region"),
    RuntimeError("Session is closed"),
    AssertionError(),
    MemoryError(),
    RecursionError(),
    StopAsyncIteration(),
    ZeroDivisionError(),
    Exception(),
)
def test_a_bug_in_the_caller_s_code_is_ignored(error):
    assert classify_error(error) is IGNORED


AIOHTTP_REQUEST = SimpleNamespace(real_url="https://api.mypurecloud.ie")


@each(
    aiohttp.ClientConnectionError("Connector is closed."),
    aiohttp.ClientConnectionResetError("Cannot write to closing transport"),
    aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by peer"),
    aiohttp.ClientConnectorError(KEY, REFUSED),
    aiohttp.ClientConnectorDNSError(KEY, GAIERROR),
    aiohttp.ClientProxyConnectionError(KEY, REFUSED),
    aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "WRONG_VERSION_NUMBER")),
    aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError(1, "expired")),
    aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError("hostname mismatch")),
    aiohttp.ServerConnectionError(),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ServerTimeoutError(),
    aiohttp.ConnectionTimeoutError("Connection timeout to host"),
    aiohttp.SocketTimeoutError("Timeout on reading data from socket"),
    aiohttp.ServerFingerprintMismatch(b"expected", b"got", "api.mypurecloud.ie", 443),
    aiohttp.ClientPayloadError("Response payload is not completed"),
    aiohttp.ClientHttpProxyError(AIOHTTP_REQUEST, (), status=502),
    aiohttp.WSServerHandshakeError(AIOHTTP_REQUEST, (), status=503),
    aiohttp.ContentTypeError(AIOHTTP_REQUEST, (), status=502, message="unexpected mimetype"),
)
def test_aiohttp_failures(error):
    assert classify_error(error) is FAILURE


@each(
    aiohttp.InvalidURL("http:///"),
    aiohttp.InvalidUrlClientError("http:///"),
    aiohttp.NonHttpUrlClientError("ftp://"),
    aiohttp.WSMessageTypeError("text expected"),
    aiohttp.ClientHttpProxyError(AIOHTTP_REQUEST, (), status=407),
    aiohttp.WSServerHandshakeError(AIOHTTP_REQUEST, (), status=401),
    aiohttp.ContentTypeError(AIOHTTP_REQUEST, (), status=200, message="unexpected mimetype"),
)
def test_aiohttp_errors_that_are_ignored(error):
    assert classify_error(error) is IGNORED


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_aiohttp_5xx_is_a_failure(http_error, status):
    assert classify_error(http_error(status)) is FAILURE


@pytest.mark.parametrize("status", [400, 401, 404, 408, 429])
def test_an_aiohttp_4xx_is_ignored(http_error, status):
    assert classify_error(http_error(status)) is IGNORED


def aiohttp_400(headers, cause):
    error = aiohttp.ClientResponseError(AIOHTTP_REQUEST, (), status=400, headers=headers)
    return caused(error, cause)


@pytest.mark.parametrize(
    "parser_error",
    [
        http_exceptions.BadStatusLine("nonsense"),
        http_exceptions.InvalidHeader(b"nonsense"),
        http_exceptions.BadHttpMessage("nonsense"),
        http_exceptions.TransferEncodingError("nonsense"),
    ],
    ids=named,
)
def test_aiohttp_s_400_for_a_malformed_reply_is_a_failure(parser_error):
    assert classify_error(aiohttp_400(None, parser_error)) is FAILURE


@pytest.mark.parametrize(
    ("headers", "cause"),
    [
        ({"Content-Type": "application/json"}, None),
        ({"Content-Type": "application/json"}, http_exceptions.BadStatusLine("nonsense")),
        ({}, None),
        (None, None),
        (None, ValueError()),
    ],
    ids=["answered", "answered, with a cause", "no header in it", "hand made", "other cause"],
)
def test_aiohttp_s_400_for_a_real_answer_is_ignored(headers, cause):
    assert classify_error(aiohttp_400(headers, cause)) is IGNORED


def httpx_status_error(status):
    response = httpx.Response(status, request=REQUEST)
    return httpx.HTTPStatusError("no", request=REQUEST, response=response)


@each(
    httpx.ConnectError("refused"),
    httpx.ReadError("reset"),
    httpx.WriteError("reset"),
    httpx.CloseError("reset"),
    httpx.ConnectTimeout("slow"),
    httpx.ReadTimeout("slow"),
    httpx.WriteTimeout("slow"),
    httpx.PoolTimeout("slow"),
    httpx.ProxyError("503 Service Unavailable"),
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    httpx_status_error(500),
    httpx_status_error(503),
)
def test_httpx_failures(error):
    assert classify_error(error) is FAILURE


@each(
    httpx.LocalProtocolError("Illegal header value"),
    httpx.UnsupportedProtocol("no scheme"),
    httpx.TooManyRedirects("20"),
    httpx.InvalidURL("no host"),
    httpx.CookieConflict("two of them"),
    httpx.StreamConsumed(),
    httpx_status_error(404),
    httpx_status_error(429),
)
def test_httpx_errors_that_are_ignored(error):
    assert classify_error(error) is IGNORED


@each(
    requests.ConnectionError("refused"),
    requests.ConnectTimeout("slow"),
    requests.ReadTimeout("slow"),
    requests.Timeout("slow"),
    requests.exceptions.SSLError("certificate"),
    requests.exceptions.ProxyError("refused"),
    requests.exceptions.ChunkedEncodingError("truncated"),
)
def test_requests_failures(error):
    assert classify_error(error) is FAILURE


@each(
    requests.exceptions.MissingSchema("no https://"),
    requests.exceptions.InvalidSchema("ftp://"),
    requests.exceptions.InvalidURL("no host"),
    requests.exceptions.InvalidHeader("new line"),
    requests.exceptions.JSONDecodeError("no JSON", "<html>", 0),
    requests.TooManyRedirects("30"),
    requests.RequestException("anything else"),
)
def test_requests_errors_that_are_ignored(error):
    assert classify_error(error) is IGNORED


@each(
    NewConnectionError(POOL, "refused"),
    NameResolutionError("api.mypurecloud.ie", POOL, GAIERROR),
    ConnectTimeoutError(POOL, "slow"),
    ReadTimeoutError(POOL, "/", "slow"),
    ProtocolError("Connection aborted.", ConnectionResetError()),
    IncompleteRead(5, 95),
    UrllibSslError("certificate"),
    UrllibProxyError("refused", REFUSED),
)
def test_urllib3_failures_alone_and_as_the_reason_of_a_max_retry_error(error):
    assert classify_error(error) is FAILURE
    assert classify_error(MaxRetryError(POOL, "/", error)) is FAILURE
    assert classify_error(MaxRetryError(POOL, "/", MaxRetryError(POOL, "/", error))) is FAILURE


@each(
    LocationValueError("No host specified."),
    LocationParseError("http://[::1"),
    ClosedPoolError(POOL, "Pool is closed."),
    EmptyPoolError(POOL, "Pool is empty."),
)
def test_urllib3_errors_that_are_ignored_alone_and_as_a_reason(error):
    assert classify_error(error) is IGNORED
    assert classify_error(MaxRetryError(POOL, "/", error)) is IGNORED


def test_a_max_retry_error_that_names_no_connection_is_ignored():
    assert classify_error(MaxRetryError(POOL, "/", ResponseError("too many redirects"))) is IGNORED
    assert classify_error(MaxRetryError(POOL, "/")) is IGNORED


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (REFUSED, FAILURE),
        (TimeoutError("timed out"), FAILURE),
        (GAIERROR, FAILURE),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), FAILURE),
        (OSError(errno.EHOSTUNREACH, "No route to host"), FAILURE),
        (OSError(errno.EMFILE, "Too many open files"), IGNORED),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), IGNORED),
        ("unknown url type: gopher", IGNORED),
    ],
    ids=str,
)
def test_urllib_s_url_error_is_judged_by_its_reason(reason, outcome):
    assert classify_error(urllib.error.URLError(reason)) is outcome


def test_urllib_s_truncated_download_is_a_failure():
    error = urllib.error.ContentTooShortError("got only 5 out of 100 bytes", None)
    assert classify_error(error) is FAILURE


@pytest.mark.parametrize(("status", "outcome"), [(500, FAILURE), (503, FAILURE), (404, IGNORED)])
def test_urllib_s_http_error_is_judged_by_its_status(status, outcome):
    with urllib.error.HTTPError("https://api", status, "no", {}, None) as error:
        assert classify_error(error) is outcome


def test_subclasses_of_a_client_s_errors_count_like_them():
    class MyConnectError(httpx.ConnectError):
        pass

    class MyPayloadError(aiohttp.ClientPayloadError):
        pass

    assert classify_error(MyConnectError("refused")) is FAILURE
    assert classify_error(MyPayloadError()) is FAILURE


@pytest.mark.parametrize(
    "name", ["ConnectError", "ServerDisconnectedError", "MaxRetryError", "RetryError", "SSLError"]
)
def test_a_class_that_only_has_the_name_of_a_client_s_error_is_ignored(name):
    lookalike = type(name, (Exception,), {})
    assert classify_error(lookalike()) is IGNORED


# Out of files: the machine's trouble, whoever reports it


@pytest.mark.parametrize("number", OUT_OF_FILES, ids=errno.errorcode.get)
class TestOutOfFiles:
    def test_inside_aiohttp_s_wrappers(self, number):
        own = OSError(number, "Too many open files")
        assert classify_error(aiohttp.ClientConnectorError(KEY, own)) is IGNORED
        assert classify_error(caused(aiohttp.ClientConnectorError(KEY, own), own)) is IGNORED
        assert classify_error(aiohttp.ClientOSError(number, "Too many open files")) is IGNORED

    def test_inside_httpx_s_wrappers(self, number):
        own = OSError(number, "Too many open files")
        core = caused(httpcore.ConnectError(str(own)), own)
        assert classify_error(caused(httpx.ConnectError(str(core)), core)) is IGNORED

    def test_inside_urllib3_s_wrappers(self, number):
        own = OSError(number, "Too many open files")
        new_connection = caused(NewConnectionError(POOL, str(own)), own)
        retries = caused(MaxRetryError(POOL, "/", new_connection), new_connection)
        assert classify_error(new_connection) is IGNORED
        assert classify_error(retries) is IGNORED

    def test_inside_an_urllib3_error_that_has_it_as_an_argument_only(self, number):
        # what urllib3 makes of it when the file that is missing is the one of the certificates
        own = OSError(number, "Too many open files")
        assert classify_error(ProtocolError("Connection aborted.", own)) is IGNORED

    def test_inside_an_error_of_one_s_own(self, number):
        own = OSError(number, "Too many open files")
        assert classify_error(caused(RuntimeError("not sent"), own)) is IGNORED


OUT_OF_FILES_FOR_REAL = """
import asyncio, os, resource, socket
from resilience import classify_error

def attempt():
    {call}

def outcome():
    try:
        attempt()
    except Exception as error:
        return classify_error(error).name, repr(error)

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    url = "http://127.0.0.1:%d/" % free.getsockname()[1]
{setup}
print(outcome()[0])  # refused; and it loads what the client loads late
highest = os.dup(0)
os.close(highest)
resource.setrlimit(resource.RLIMIT_NOFILE, (highest, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(*outcome())
"""

CLIENT_WITHOUT_FILES = {
    "aiohttp": (
        """
import aiohttp
runner = asyncio.Runner()
runner.get_loop()

async def get():
    async with aiohttp.ClientSession() as session:
        await session.get(url)
""",
        "runner.run(get())",
    ),
    "httpx": ("import httpx\nclient = httpx.Client(trust_env=False)", "client.get(url)"),
    "requests": ("import requests\nsession = requests.Session()", "session.get(url)"),
    "urllib3": ("import urllib3\npool = urllib3.PoolManager()", "pool.request('GET', url)"),
    "urllib": ("import urllib.request", "urllib.request.urlopen(url)"),
}


@pytest.mark.parametrize("client", CLIENT_WITHOUT_FILES)
def test_a_client_that_really_ran_out_of_files_is_ignored(client):
    setup, call = CLIENT_WITHOUT_FILES[client]
    refused, exhausted = run_python(OUT_OF_FILES_FOR_REAL.format(setup=setup, call=call))
    assert refused == "FAILURE"
    assert exhausted.startswith("IGNORED")
    assert "Too many open files" in exhausted


def run_python(source):
    """Run source in an interpreter of its own and return the lines that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# Wrapped errors


def retried(*errors):
    """The RetryError of a tenacity that saw these errors, the last one last."""
    remaining = iter(errors)

    @tenacity.retry(stop=tenacity.stop_after_attempt(len(errors)), wait=tenacity.wait_none())
    def attempt():
        raise next(remaining)

    with pytest.raises(tenacity.RetryError) as caught:
        attempt()
    return caught.value


def test_a_retry_error_is_judged_by_its_last_attempt(http_error):
    assert classify_error(retried(http_error(503))) is FAILURE
    assert classify_error(retried(http_error(404), TimeoutError())) is FAILURE
    assert classify_error(retried(http_error(503), http_error(404))) is IGNORED
    assert classify_error(retried(TimeoutError(), ValueError())) is IGNORED


def test_a_retry_error_around_a_retry_error_is_judged_by_the_innermost(http_error):
    assert classify_error(retried(retried(http_error(503)))) is FAILURE
    assert classify_error(retried(retried(http_error(404)))) is IGNORED


async def test_an_asynchronous_tenacity_is_read_the_same(http_error):
    @tenacity.retry(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none())
    async def attempt():
        raise http_error(503)

    with pytest.raises(tenacity.RetryError) as caught:
        await attempt()
    assert classify_error(caught.value) is FAILURE


def test_a_retry_error_whose_last_attempt_returned_is_ignored():
    @tenacity.retry(
        stop=tenacity.stop_after_attempt(2),
        wait=tenacity.wait_none(),
        retry=tenacity.retry_if_result(lambda result: result is None),
    )
    def attempt():
        return None

    with pytest.raises(tenacity.RetryError) as caught:
        attempt()
    assert classify_error(caught.value) is IGNORED


@pytest.mark.timeout(10)
def test_a_retry_error_whose_last_attempt_is_not_over_blocks_nobody():
    unfinished = tenacity.RetryError(tenacity.Future(attempt_number=1))
    assert classify_error(unfinished) is IGNORED


def test_a_retry_error_whose_last_attempt_was_cancelled_is_ignored():
    attempt = tenacity.Future(attempt_number=1)
    attempt.cancel()
    assert classify_error(tenacity.RetryError(attempt)) is IGNORED


def test_an_error_that_says_nothing_is_judged_by_its_cause(http_error):
    assert classify_error(caused(ValueError(), http_error(503))) is FAILURE
    assert classify_error(caused(ValueError(), caused(KeyError(), TimeoutError()))) is FAILURE
    assert classify_error(caused(ValueError(), retried(http_error(503)))) is FAILURE
    assert classify_error(caused(ValueError(), http_error(404))) is IGNORED
    assert classify_error(caused(ValueError(), KeyError())) is IGNORED


def test_a_timeout_with_a_cause_stays_a_timeout():
    assert classify_error(caused(TimeoutError(), asyncio.CancelledError())) is FAILURE
    assert classify_error(caused(TimeoutError(), ValueError())) is FAILURE


def test_an_error_raised_while_another_was_handled_is_judged_alone():
    with pytest.raises(ValueError) as caught:
        try:
            raise TimeoutError
        except TimeoutError:
            raise ValueError  # noqa: B904 - the implicit context is what this test is about
    assert isinstance(caught.value.__context__, TimeoutError)
    assert classify_error(caught.value) is IGNORED


def test_causes_that_run_in_a_circle_end():
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert classify_error(first) is IGNORED

    itself = ValueError()
    itself.__cause__ = itself
    assert classify_error(itself) is IGNORED

    group = ExceptionGroup("", [first])
    second.__cause__ = group
    assert classify_error(group) is IGNORED
    assert classify_error(first) is IGNORED


def test_a_circle_with_a_failure_in_it_is_a_failure(http_error):
    first, second = ValueError(), http_error(503)
    first.__cause__, second.__cause__ = second, first
    assert classify_error(first) is FAILURE


def test_a_retry_error_that_holds_itself_ends():
    attempt = tenacity.Future(attempt_number=1)
    error = tenacity.RetryError(attempt)
    attempt.set_exception(error)
    assert classify_error(error) is IGNORED


def test_a_very_long_chain_of_causes_is_survived():
    error = ValueError()
    for _ in range(20_000):
        error = caused(ValueError(), error)
    try:
        assert classify_error(error) is IGNORED
    finally:
        while error is not None:  # the interpreter itself may not survive freeing the chain at once
            error.__cause__, error = None, error.__cause__


def test_a_group_is_a_failure_if_any_leaf_is(http_error):
    inner = ExceptionGroup("inner", [KeyError(), http_error(503)])
    assert classify_error(ExceptionGroup("", [ValueError(), TimeoutError()])) is FAILURE
    assert classify_error(ExceptionGroup("", [ValueError(), inner])) is FAILURE
    assert classify_error(ExceptionGroup("", [caused(ValueError(), http_error(500))])) is FAILURE
    assert classify_error(ExceptionGroup("", [retried(http_error(500))])) is FAILURE
    assert classify_error(caused(ValueError(), inner)) is FAILURE


def test_a_group_without_a_failing_leaf_is_ignored(http_error):
    inner = ExceptionGroup("inner", [KeyError(), http_error(404)])
    own = OSError(errno.EMFILE, "Too many open files")
    assert classify_error(ExceptionGroup("", [ValueError(), inner])) is IGNORED
    assert classify_error(ExceptionGroup("", [own])) is IGNORED
    assert classify_error(BaseExceptionGroup("", [asyncio.CancelledError()])) is IGNORED


async def test_the_group_of_a_real_task_group_is_read(http_error):
    async def fail():
        raise http_error(503)

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
    assert classify_error(caught.value) is FAILURE


# Not the region's word


@pytest.mark.parametrize(
    "kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit]
)
def test_what_ends_a_task_or_the_program_is_ignored(kind, http_error):
    assert classify_error(kind()) is IGNORED
    assert classify_error(caused(kind(), http_error(503))) is IGNORED


def test_trio_s_cancellation_is_ignored():
    seen = []

    async def main():
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except BaseException as error:
                seen.append(error)
                raise

    trio.run(main)
    assert classify_error(seen[0]) is IGNORED


def rejection():
    breaker = CircuitBreaker("mypurecloud.ie")
    breaker.force_open("by a test")
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    return caught.value


def test_another_breaker_s_rejection_is_ignored(http_error):
    assert classify_error(rejection()) is IGNORED
    assert classify_error(caused(rejection(), http_error(503))) is IGNORED
    assert classify_error(caused(ValueError(), rejection())) is IGNORED
    assert classify_error(retried(http_error(503), rejection())) is IGNORED


# Objects that bite


class BitingError(Exception):
    def __getattr__(self, name):
        raise RuntimeError(name)


class BitingStatusError(Exception):
    status_code = 503

    @property
    def status(self):
        raise RuntimeError("not ready")


class BitingTimeoutError(TimeoutError):
    @property
    def status(self):
        raise RuntimeError("not ready")

    @property
    def response(self):
        raise KeyError("file")


class BitingResponseError(Exception):
    class Response:
        def __bool__(self):
            raise RuntimeError("no truth here")

        @property
        def status_code(self):
            raise RuntimeError("not read yet")

    response = Response()


class BitingComparisonError(Exception):
    class Status(int):
        def __ge__(self, other):
            raise RuntimeError("no order here")

        __eq__ = __le__ = __lt__ = __gt__ = __ge__
        __hash__ = None

    status = Status(503)


def test_an_error_whose_properties_raise_is_judged_by_the_rest_of_it():
    assert classify_error(BitingError()) is IGNORED
    assert classify_error(caused(BitingError(), TimeoutError())) is FAILURE
    assert classify_error(BitingStatusError()) is FAILURE
    assert classify_error(BitingTimeoutError()) is FAILURE
    assert classify_error(BitingResponseError()) is IGNORED


def test_the_classifier_raises_for_no_error():
    assert classify_error(BitingComparisonError()) in Outcome
    assert classify_error(StatusError(response=BitingResponseError.Response())) is IGNORED
    assert classify_error(StatusError(last_attempt="none", reason=7, os_error=7)) is IGNORED


def test_asking_changes_nothing_in_the_error(http_error):
    error = caused(ValueError("bad"), http_error(503))
    traceback, state = error.__traceback__, dict(vars(error))
    classify_error(error)
    assert error.__traceback__ is traceback
    assert vars(error) == state


# failures(*types)


def test_types_of_one_s_own_are_failures_and_the_rest_as_before(http_error):
    classify = failures(LookupError, ZeroDivisionError)
    assert classify(KeyError()) is FAILURE
    assert classify(ZeroDivisionError()) is FAILURE
    assert classify(ValueError()) is IGNORED
    assert classify(http_error(503)) is FAILURE
    assert classify(http_error(404)) is IGNORED
    assert classify(TimeoutError()) is FAILURE


def test_a_type_of_one_s_own_weighs_more_than_its_status(http_error):
    assert failures(aiohttp.ClientResponseError)(http_error(404)) is FAILURE


def test_types_of_one_s_own_are_found_inside_wrappers():
    classify = failures(KeyError)
    assert classify(retried(ValueError(), KeyError())) is FAILURE
    assert classify(retried(KeyError(), ValueError())) is IGNORED
    assert classify(caused(ValueError(), KeyError())) is FAILURE
    assert classify(ExceptionGroup("", [ValueError(), KeyError()])) is FAILURE
    assert classify(caused(ValueError(), TimeoutError())) is FAILURE


@pytest.mark.parametrize(
    "bad", ["KeyError", KeyError(), int, None, (KeyError, ValueError), 503], ids=repr
)
def test_failures_takes_only_exception_types_and_says_what_came(bad):
    with pytest.raises(TypeError, match="failures"):
        failures(KeyError, bad)


def test_the_default_classifier_can_be_pickled():
    assert pickle.loads(pickle.dumps(classify_error)) is classify_error


# classify_status


class Response:
    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __bool__(self):
        return False


@pytest.mark.parametrize("name", ["status", "status_code"])
@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0, FAILURE),
        (500, FAILURE),
        (503, FAILURE),
        (600, FAILURE),
        (400, IGNORED),
        (404, IGNORED),
        (429, IGNORED),
        (499, IGNORED),
        (200, SUCCESS),
        (204, SUCCESS),
        (302, SUCCESS),
        (399, SUCCESS),
        (None, SUCCESS),
        ("200 OK", SUCCESS),
    ],
)
def test_a_response_is_judged_by_its_status(name, status, outcome):
    assert classify_status(Response(**{name: status})) is outcome


@pytest.mark.parametrize("value", [None, "503", 503, {"status": 503}, [], object(), Response()])
def test_what_has_no_status_is_a_success(value):
    assert classify_status(value) is SUCCESS


def test_a_response_whose_status_raises_is_a_success():
    assert classify_status(BitingResponseError.Response()) is SUCCESS


@pytest.mark.parametrize(("status", "outcome"), [(503, FAILURE), (404, IGNORED), (200, SUCCESS)])
def test_real_responses_are_judged_by_their_status(status, outcome):
    ours = requests.Response()
    ours.status_code = status
    assert classify_status(ours) is outcome
    assert classify_status(httpx.Response(status)) is outcome
    assert classify_status(urllib3.HTTPResponse(status=status)) is outcome


# Nothing is imported for it


def test_importing_the_package_loads_no_client_and_no_tenacity():
    loaded = run_python(
        """
        import sys, resilience
        for name in ("aiohttp", "tenacity", "httpx", "requests", "urllib3", "trio", "redis"):
            if name in sys.modules:
                print(name)
        """
    )
    assert loaded == []


def test_classifying_imports_no_client():
    outcomes = run_python(
        """
        import socket, sys
        from resilience import classify_error
        before = set(sys.modules)

        class ApiError(Exception):
            status = 503

        wrapped = ValueError()
        wrapped.__cause__ = TimeoutError()
        errors = [
            TimeoutError(), ConnectionResetError(), socket.gaierror(), ApiError(), ValueError(),
            FileNotFoundError(2, "no"), wrapped, ExceptionGroup("", [ApiError()]),
        ]
        print(*[classify_error(error).name for error in errors])
        print(sorted(
            name for name in set(sys.modules) - before
            if name.split(".")[0] in {"aiohttp", "tenacity", "httpx", "requests", "urllib3", "ssl"}
        ))
        """
    )
    assert outcomes == [" ".join(["FAILURE"] * 4 + ["IGNORED"] * 2 + ["FAILURE"] * 2), "[]"]


def test_classifying_works_where_the_clients_cannot_be_imported():
    outcomes = run_python(
        """
        import sys
        for name in ("aiohttp", "tenacity", "httpx", "requests", "urllib3"):
            sys.modules[name] = None
        from resilience import classify_error
        print(classify_error(TimeoutError()).name, classify_error(ValueError()).name)
        """
    )
    assert outcomes == ["FAILURE IGNORED"]


@pytest.mark.parametrize("name", ["aiohttp", "httpx", "urllib3", "requests"])
def test_a_client_imported_after_the_first_error_is_known_all_the_same(name):
    error = {
        "aiohttp": "aiohttp.ServerDisconnectedError()",
        "httpx": "httpx.ReadTimeout('slow')",
        "urllib3": "urllib3.exceptions.ProtocolError('Connection aborted.')",
        "requests": "requests.exceptions.ChunkedEncodingError('truncated')",
    }[name]
    outcomes = run_python(
        f"""
        from resilience import classify_error
        print(classify_error(ValueError()).name)
        import {name}
        print(classify_error({error}).name, classify_error(ValueError()).name)
        """
    )
    assert outcomes == ["IGNORED", "FAILURE IGNORED"]


# Real errors from real clients: what each of them raises when a server misbehaves


def get_aiohttp(url, timeout=30):
    async def get():
        limit = aiohttp.ClientTimeout(total=timeout)
        async with (
            aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session,
            session.get(url) as response,
        ):
            await response.read()

    asyncio.run(get())


def get_aiohttp_with_a_socket_timeout(url, timeout=30):
    async def get():
        limit = aiohttp.ClientTimeout(sock_read=timeout)
        async with (
            aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session,
            session.get(url) as response,
        ):
            await response.read()

    asyncio.run(get())


def get_httpx(url, timeout=30):
    with httpx.Client(timeout=timeout, trust_env=False) as client:
        client.get(url).raise_for_status()


def get_httpx_async(url, timeout=30):
    async def get():
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
            (await client.get(url)).raise_for_status()

    asyncio.run(get())


def get_requests(url, timeout=30):
    with requests.Session() as session:
        session.trust_env = False
        session.get(url, timeout=timeout).raise_for_status()


def get_urllib3(url, timeout=30):
    with urllib3.PoolManager(retries=1, timeout=timeout) as pool:
        pool.request("GET", url)


def get_urllib(url, timeout=30):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            response.read()
    except urllib.error.HTTPError as error:
        error.close()
        raise


CLIENTS = [
    get_aiohttp,
    get_aiohttp_with_a_socket_timeout,
    get_httpx,
    get_httpx_async,
    get_requests,
    get_urllib3,
    get_urllib,
]
RAISE_FOR_STATUS = [client for client in CLIENTS if client is not get_urllib3]


def of_each(clients):
    return pytest.mark.parametrize("get", clients, ids=lambda get: get.__name__)


@pytest.fixture
def answer_with():
    """Start a server on a loopback port that sends these bytes to whoever asks, and hangs up."""
    servers = []
    over = threading.Event()

    def start(answer):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                if answer is None:
                    over.wait()
                elif self.request.recv(65_536):
                    self.request.sendall(answer)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    over.set()
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def outcome_of(get, url, **options):
    with pytest.raises(Exception) as caught:
        get(url, **options)
    return classify_error(caught.value)


@of_each(CLIENTS)
def test_a_refused_connection_is_a_failure(get):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        assert outcome_of(get, f"http://127.0.0.1:{taken.getsockname()[1]}/") is FAILURE


@of_each(CLIENTS)
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhello",
        b"this is no HTTP at all\r\n\r\n",
    ],
    ids=["no answer", "truncated", "truncated chunk", "malformed"],
)
def test_a_server_that_breaks_off_or_answers_garbage_is_a_failure(get, answer, answer_with):
    assert outcome_of(get, answer_with(answer)) is FAILURE


@of_each(CLIENTS)
def test_a_server_that_never_answers_is_a_failure(get, answer_with):
    assert outcome_of(get, answer_with(None), timeout=0.02) is FAILURE


@of_each(CLIENTS)
def test_a_server_that_speaks_no_tls_is_a_failure(get, answer_with):
    url = answer_with(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    assert outcome_of(get, url.replace("http:", "https:")) is FAILURE


@of_each(CLIENTS)
def test_a_host_that_nobody_knows_is_a_failure(get, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert outcome_of(get, "http://api.mypurecloud.test/") is FAILURE


@of_each(RAISE_FOR_STATUS)
@pytest.mark.parametrize(
    ("status", "outcome"), [(500, FAILURE), (503, FAILURE), (400, IGNORED), (429, IGNORED)]
)
def test_a_real_answer_is_judged_by_its_status(get, status, outcome, answer_with):
    head = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert outcome_of(get, answer_with(head.encode())) is outcome


@of_each(CLIENTS)
def test_a_bad_address_is_ignored(get):
    assert outcome_of(get, "gopher://127.0.0.1/") is IGNORED


# A breaker that never counts is noticed


class TestABreakerThatNeverCounts:
    @pytest.fixture
    def call(self, clock):
        breaker = CircuitBreaker("mypurecloud.ie", BreakerPolicy(), clock=clock)

        @breaker
        def protected(error=None):
            if error is not None:
                raise error

        def call(error, times):
            for _ in range(times):
                with pytest.raises(type(error)):
                    protected(error)

        call.success = protected
        return call

    def test_is_told_once_after_100_errors_that_say_nothing(self, call, log):
        call(LookupError("a secret"), 99)
        assert log == []
        call(LookupError("a secret"), 201)
        assert [record["level"].name for record in log] == ["WARNING"]
        assert "LookupError" in log[0]["message"]
        assert "failures(" in log[0]["message"]
        assert "a secret" not in log[0]["message"]

    def test_is_not_told_when_a_success_came_between(self, call, log):
        call(LookupError(), 99)
        call.success()
        call(LookupError(), 99)
        assert log == []


def test_failures_says_what_is_no_exception_type_and_that_none_came():
    with pytest.raises(TypeError, match=r"^failures\(\) takes subclasses of Exception, got \[7\]$"):
        failures(TimeoutError, 7)
    with pytest.raises(TypeError, match=r"^failures\(\) takes subclasses of Exception, got 'none'"):
        failures()


@pytest.mark.parametrize(("levels", "outcome"), [(16, FAILURE), (17, IGNORED)])
def test_a_group_is_looked_into_sixteen_levels_deep(levels, outcome):
    error = TimeoutError()
    for _ in range(levels):
        error = ExceptionGroup("nested", [error])
    assert classify_error(error) is outcome


def test_a_retry_error_that_nobody_raised_is_judged_by_its_last_attempt_too(http_error):
    attempt = tenacity.Future(1)
    attempt.set_exception(http_error(503))
    assert classify_error(tenacity.RetryError(attempt)) is FAILURE


def test_out_of_files_is_found_among_several_errors_of_one_connection():
    error = aiohttp.ClientConnectionError()
    error.__cause__ = ExceptionGroup("all addresses", [OSError(errno.EMFILE, "too many")])
    assert classify_error(error) is IGNORED


@pytest.mark.parametrize(("levels", "outcome"), [(16, FAILURE), (17, IGNORED)])
def test_causes_are_followed_sixteen_levels_deep(levels, outcome):
    error = TimeoutError()
    for _ in range(levels):
        wrapper = RuntimeError()
        wrapper.__cause__ = error
        error = wrapper
    assert classify_error(error) is outcome


@pytest.mark.parametrize(("status", "outcome"), [(503, FAILURE), (404, IGNORED), (200, IGNORED)])
def test_a_retry_error_over_a_result_is_judged_by_the_status_of_the_result(status, outcome):
    attempt = tenacity.Future(1)
    attempt.set_result(SimpleNamespace(status=status))
    assert classify_error(tenacity.RetryError(attempt)) is outcome


def test_a_status_speaks_for_itself_whatever_the_error_was_raised_from():
    error = RuntimeError()
    error.status = 302
    error.__cause__ = TimeoutError()
    assert classify_error(error) is IGNORED

"""The errors of each client library."""

import asyncio
import errno
import http.client
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from types import SimpleNamespace

import aiohttp
import httpx
import pytest
import requests
import urllib3
from aiohttp import http_exceptions
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

from resilience import classify_error
from resilience.retry import is_transient
from tests.support.classifying import ANSWERED, FAILURE, IGNORED, KEY, POOL, caused


def named(error):
    """Give a test's parameter a name that can be read."""
    return f"{type(error).__module__.split('.')[0]}.{type(error).__name__}"


def each(*errors):
    return pytest.mark.parametrize("error", errors, ids=named)


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")


GAIERROR = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


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
def test_the_standard_librarys_timeouts_and_connection_errors_are_failures(error):
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
def test_the_machines_own_errors_are_ignored(error):
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
def test_a_bug_in_the_callers_code_is_ignored(error):
    assert classify_error(error) is IGNORED


AIOHTTP_REQUEST = SimpleNamespace(real_url="https://api.mypurecloud.ie")

# The lowest supported aiohttp raises the more general error instead.
ClientConnectorDNSError = getattr(aiohttp, "ClientConnectorDNSError", aiohttp.ClientConnectorError)
WSMessageTypeError = getattr(aiohttp, "WSMessageTypeError", TypeError)


@each(
    aiohttp.ClientConnectionError("Cannot connect"),
    aiohttp.ClientConnectionResetError("Cannot write to closing transport"),
    aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by peer"),
    aiohttp.ClientConnectorError(KEY, REFUSED),
    ClientConnectorDNSError(KEY, GAIERROR),
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
    WSMessageTypeError("text expected"),
    aiohttp.ClientConnectionError("Connector is closed."),
    aiohttp.ClientHttpProxyError(AIOHTTP_REQUEST, (), status=407),
    aiohttp.TooManyRedirects(AIOHTTP_REQUEST, ()),
    aiohttp.ContentTypeError(AIOHTTP_REQUEST, (), status=200, message="unexpected mimetype"),
)
def test_aiohttp_errors_that_are_ignored(error):
    assert classify_error(error) is IGNORED


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_aiohttp_5xx_is_a_failure(http_error, status):
    assert classify_error(http_error(status)) is FAILURE


@pytest.mark.parametrize("status", [400, 401, 404, 408, 429])
def test_an_aiohttp_4xx_is_answered(http_error, status):
    assert classify_error(http_error(status)) is ANSWERED


def test_an_aiohttp_websocket_that_is_refused_is_answered():
    error = aiohttp.WSServerHandshakeError(AIOHTTP_REQUEST, (), status=401)
    assert classify_error(error) is ANSWERED


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
def test_aiohttp_s_400_for_a_real_answer_is_answered(headers, cause):
    assert classify_error(aiohttp_400(headers, cause)) is ANSWERED


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
    httpx.PoolTimeout("slow"),
    httpx.ProxyError("407 Proxy Authentication Required"),
    httpx_status_error(407),
)
def test_httpx_errors_that_are_ignored(error):
    assert classify_error(error) is IGNORED


@each(httpx_status_error(404), httpx_status_error(429))
def test_an_httpx_4xx_is_answered(error):
    assert classify_error(error) is ANSWERED


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


@pytest.mark.parametrize(("status", "outcome"), [(500, FAILURE), (503, FAILURE), (404, ANSWERED)])
def test_urllib_s_http_error_is_judged_by_its_status(status, outcome):
    with urllib.error.HTTPError("https://api", status, "no", {}, None) as error:
        assert classify_error(error) is outcome


def test_subclasses_of_a_clients_errors_count_like_them():
    class MyConnectError(httpx.ConnectError):
        pass

    class MyPayloadError(aiohttp.ClientPayloadError):
        pass

    assert classify_error(MyConnectError("refused")) is FAILURE
    assert classify_error(MyPayloadError()) is FAILURE


@pytest.mark.parametrize(
    "name", ["ConnectError", "ServerDisconnectedError", "MaxRetryError", "RetryError", "SSLError"]
)
def test_a_class_that_only_has_the_name_of_a_clients_error_is_ignored(name):
    lookalike = type(name, (Exception,), {})
    assert classify_error(lookalike()) is IGNORED


REGION = "https://region.test/"


def urllib_through(proxy):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"https": proxy}))
    opener.open(REGION, timeout=60)


def aiohttp_through(proxy):
    async def get():
        async with aiohttp.ClientSession() as session:
            await session.get(REGION, proxy=proxy)

    asyncio.run(get())


THROUGH_A_PROXY = {
    "aiohttp": aiohttp_through,
    "httpx": lambda proxy: httpx.get(REGION, proxy=proxy, timeout=60),
    "requests": lambda proxy: requests.get(REGION, proxies={"https": proxy}, timeout=60),
    "urllib": urllib_through,
    "urllib3": lambda proxy: urllib3.ProxyManager(proxy).request("GET", REGION, retries=False),
}


@pytest.mark.parametrize("get", THROUGH_A_PROXY.values(), ids=THROUGH_A_PROXY)
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("502 Bad Gateway", FAILURE),
        ("503 Service Unavailable", FAILURE),
        ("407 Proxy Authentication Required", IGNORED),
        ("403 Forbidden", IGNORED),
        ("429 Too Many Requests", IGNORED),
    ],
)
def test_a_proxy_that_does_not_connect(get, answer, outcome):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        serving = threading.Thread(target=_answer_once, args=(proxy, answer))
        serving.start()
        errors = (OSError, aiohttp.ClientError, httpx.HTTPError, urllib3.exceptions.HTTPError)
        with pytest.raises(errors) as caught:
            get(f"http://127.0.0.1:{proxy.getsockname()[1]}")
        serving.join()
    assert classify_error(caught.value) is outcome


def _answer_once(server, answer):
    connection, _ = server.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())


def test_no_attribute_is_read_that_aiohttp_has_deprecated(recwarn):
    for status in (404, 429, 503):
        error = aiohttp.ClientResponseError(None, (), status=status)
        classify_error(error)
        is_transient(error)
    assert [str(warning.message) for warning in recwarn] == []

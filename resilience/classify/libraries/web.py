"""HTTP and WebSocket clients, and what they stand on."""

from socket import EAI_BADFLAGS, EAI_FAMILY, EAI_MEMORY, EAI_SERVICE, EAI_SOCKTYPE

from resilience.classify.library import ClientLibrary, Codes, Meaning

_LOCAL, _MISUSE = Meaning.LOCAL, Meaning.MISUSE

# Of libcurl, for pycurl and curl_cffi: DNS, connection, TLS, time-out, an answer that breaks off.
_CURL = Codes(
    "args[0]",
    outages=(5, 6, 7, 8, 16, 18, 28, 35, 52, 55, 56, 60, 83, 84, 91, 92, 95, 96, 97),
    refusals=(9, 67, 78),
    local=(2, 27, 41, 45, 77),
    misuse=(1, 3, 4, 43),
)

# Requests that requests, and what is made after it, do not send.
_BAD_REQUESTS = (
    "InvalidHeader",
    "InvalidProxyURL",
    "InvalidSchema",
    "InvalidURL",
    "MissingSchema",
    "StreamConsumedError",
    "URLRequired",
    "UnrewindableBodyError",
)

WEB = (
    ClientLibrary(
        name="Python: built-in exceptions",
        packages=("builtins",),
        outages=("ConnectionError", "TimeoutError"),
    ),
    ClientLibrary(
        name="Python: asyncio, socket, ssl, http.client, urllib",
        packages=("asyncio", "http", "socket", "ssl", "urllib"),
        outages=(
            "BadStatusLine",
            "ContentTooShortError",
            "IncompleteRead",
            "IncompleteReadError",
            "LineTooLong",
            "SSLError",
            "UnknownProtocol",
            "gaierror",
            "herror",
        ),
        # A name that is not found is an outage; a port or a family that no machine has is not.
        codes=(
            Codes(
                "errno",
                local=(EAI_MEMORY,),
                misuse=(EAI_BADFLAGS, EAI_FAMILY, EAI_SERVICE, EAI_SOCKTYPE),
                types=("gaierror",),
            ),
        ),
        advice="Pass `timeout=`: there is none by default.",
    ),
    ClientLibrary(
        name="aiohttp",
        packages=("aiohttp",),
        outages=("ClientConnectionError", "ClientPayloadError"),
        misuse=("TooManyRedirects",),
        # A WebSocket that ended, to one who expects a message of a certain type: 257 is CLOSED,
        # 258 is ERROR, 8 is CLOSE with the code of the server.
        codes=(
            Codes(
                "args[0]",
                outages=(
                    *("Received message 256:", "Received message 257:", "Received message 258:"),
                    *(f"Received message 8:{code}" for code in (1001, 1006, 1011, 1012, 1013)),
                ),
                refusals=("Received message 8:",),
                types=("WSMessageTypeError",),
            ),
            # The answer of a proxy that refuses to connect: the region was not asked.
            Codes("status", misuse=(range(400, 500),), types=("ClientHttpProxyError",)),
        ),
        texts=(("Connector is closed", _LOCAL), ("Session is closed", _LOCAL)),
        has_error_code=False,
        unparsable=("HttpProcessingError",),
        wrapped=("os_error",),
        pool_waits=("aiohttp.connector._wait_for_available_connection",),
        advice="`raise_for_status=True`, and a shorter `ClientTimeout` than its five minutes.",
    ),
    ClientLibrary(
        name="httpx, httpx2, httpcore, httpcore2",
        packages=("httpx", "httpx2", "httpcore", "httpcore2"),
        outages=(
            "DecodingError",
            "NetworkError",
            "ProxyError",
            "RemoteProtocolError",
            "SSEError",
            "TimeoutException",
        ),
        misuse=("LocalProtocolError", "UnsupportedProtocol"),
        local=("PoolTimeout",),
        # What a proxy answers that refuses to connect.
        codes=(Codes("args[0]", misuse=("4",), types=("ProxyError",)),),
        texts=(("407 ", _MISUSE),),
        pool_waits=tuple(
            f"{package}.{colour}.connection_pool.wait_for_connection"
            for package in ("httpcore", "httpcore2")
            for colour in ("_async", "_sync")
        ),
        advice="`response.raise_for_status()`.",
    ),
    ClientLibrary(
        name="requests, niquests",
        packages=("requests", "niquests"),
        outages=(
            "ChunkedEncodingError",
            "ConnectionError",
            "ContentDecodingError",
            "MultiplexingError",
            "Timeout",
        ),
        misuse=_BAD_REQUESTS,
        hides_cause=True,
        advice="`timeout=(5, 10)`, since requests has none, and `response.raise_for_status()`.",
    ),
    ClientLibrary(
        name="urllib3, urllib3-future",
        packages=("urllib3", "urllib3_future"),
        outages=(
            "DecodeError",
            "IncompleteRead",
            "InvalidChunkLength",
            "NewConnectionError",
            "ProtocolError",
            "ProxyError",
            "SSLError",
            "TimeoutError",
        ),
        local=("ClosedPoolError", "EmptyPoolError", "FullPoolError"),
        # With Retry(status_forcelist=...), the status is nowhere else.
        status_text=r"too many (\d{3}) error responses",
        wrapped=("original_error",),
        advice="`timeout=`, and a result classifier: it never raises for a status.",
    ),
    ClientLibrary(
        name="curl_cffi",
        packages=("curl_cffi",),
        outages=(
            "ChunkedEncodingError",
            "ConnectionError",
            "IncompleteRead",
            "ProxyError",
            "SSLError",
            "Timeout",
            "WebSocketTimeout",
        ),
        misuse=(*_BAD_REQUESTS, "SessionClosed"),
        codes=(
            Codes(
                "code",
                misuse=(1, 3),
                outages=_CURL.outages,
                refusals=_CURL.refusals,
                local=_CURL.local,
            ),
        ),
        advice="`response.raise_for_status()`.",
    ),
    ClientLibrary(
        name="primp",
        packages=("primp",),
        outages=("BodyError", "ConnectError", "DecodeError", "RequestError", "TimeoutError"),
        advice="`response.raise_for_status()`.",
    ),
    ClientLibrary(
        name="pycurl",
        packages=("pycurl",),
        codes=(_CURL,),
        status_text=r"returned error: (\d{3})",
        has_http_status=False,
        advice="`FAILONERROR`, `CONNECTTIMEOUT` and `TIMEOUT`: there is no timeout by default.",
    ),
    ClientLibrary(
        name="httplib2",
        packages=("httplib2",),
        outages=("ProxiesUnavailableError", "ServerNotFoundError"),
        advice="`timeout=`, and `result_classifier=classify_status`: it never raises for a status.",
    ),
    ClientLibrary(
        name="tornado",
        packages=("tornado",),
        outages=("StreamClosedError", "WebSocketClosedError"),
        codes=(
            Codes("errno", misuse=(1, 3), types=("CurlError",)),
            Codes("message", local=("Timeout in request queue",), types=("HTTPClientError",)),
        ),
        wrapped=("real_error",),
    ),
    ClientLibrary(
        name="Twisted, treq",
        packages=("twisted", "treq"),
        outages=(
            "ConnectError",
            "ConnectingCancelledError",
            "ConnectionClosed",
            "DNSLookupError",
            "PartialDownloadError",
            "PotentialDataLoss",
            "TimeoutError",
            "VerifyError",
            "_DataLoss",
        ),
        # Its time-outs cancel.
        wrappers=("CancelledError", "RequestTransmissionFailed", "ResponseFailed"),
        local=("ConnectBindError",),
        wrapped=("reasons", "osError"),
        advice="`timeout=`, and look at `response.code`: treq never raises for a status.",
    ),
    ClientLibrary(
        name="geventhttpclient",
        packages=("geventhttpclient",),
        outages=("HTTPConnectionClosed",),
    ),
    ClientLibrary(
        name="gql",
        packages=("gql",),
        outages=("TransportConnectionFailed",),
        refusals=("TransportQueryError",),
        misuse=("TransportAlreadyConnected", "TransportClosed"),
    ),
    ClientLibrary(
        name="zeep, suds",
        packages=("zeep", "suds"),
        refusals=("Fault", "WebFault"),
        status=("httpcode",),
    ),
    ClientLibrary(
        name="websockets",
        packages=("websockets",),
        outages=("ConnectionClosedError", "InvalidMessage", "ProxyError"),
        misuse=("ConnectionClosedOK", "InvalidURI", "PayloadTooBig"),
        # Close codes, not HTTP's; where the connection was cut there is none.
        codes=(
            Codes(
                "rcvd.code",
                outages=(1001, range(1011, 1016)),
                refusals=(range(1000, 5000),),
                types=("ConnectionClosedError",),
            ),
            Codes("sent.code", misuse=(1009,), types=("ConnectionClosedError",)),
            Codes("response.status_code", types=("InvalidProxyStatus",), misuse=(407,)),
        ),
    ),
    ClientLibrary(
        name="httpx-ws",
        packages=("httpx_ws",),
        outages=("WebSocketNetworkError",),
        codes=(
            Codes(
                "code",
                outages=(1001, 1006, range(1011, 1016)),
                refusals=(range(1002, 5000),),
                types=("WebSocketDisconnect",),
            ),
        ),
    ),
    ClientLibrary(
        name="websocket-client",
        packages=("websocket",),
        outages=(
            "WebSocketAddressException",
            "WebSocketConnectionClosedException",
            "WebSocketProxyException",
            "WebSocketTimeoutException",
        ),
        texts=(("socket is already closed", _MISUSE),),
        advice="`timeout=`: there is none by default.",
    ),
    ClientLibrary(
        name="python-socketio, python-engineio",
        packages=("socketio", "engineio"),
        outages=("ConnectionError", "TimeoutError"),
    ),
    ClientLibrary(
        name="h11, h2, wsproto",
        packages=("h11", "h2", "hpack", "wsproto"),
        outages=("RemoteProtocolError",),
        misuse=("LocalProtocolError",),
        has_http_status=False,
    ),
    ClientLibrary(
        name="oauthlib, requests-oauthlib",
        packages=("oauthlib", "requests_oauthlib"),
        outages=("ServerError", "TemporarilyUnavailableError"),
        misuse=("InsecureTransportError", "MismatchingStateError", "TokenExpiredError"),
        refusals=("OAuth2Error",),
    ),
    ClientLibrary(
        name="Authlib",
        packages=("authlib",),
        misuse=("MismatchingStateError", "MissingTokenError", "TokenExpiredError"),
        codes=(
            Codes(
                "error",
                outages=("server_error", "temporarily_unavailable"),
                misuse=("mismatching_state", "missing_token", "token_expired", "token_invalid"),
                others=Meaning.REFUSAL,
                types=("OAuthError",),
            ),
        ),
    ),
    ClientLibrary(
        name="trio, anyio",
        packages=("trio", "anyio"),
        outages=(
            "BrokenResourceError",
            "ConnectionFailed",
            "EndOfStream",
            "IncompleteRead",
            "TooSlowError",
        ),
        misuse=("ClosedResourceError",),
    ),
)

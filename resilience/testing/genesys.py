"""A local Genesys region for tests: a real HTTP server that goes down when the test says so."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

try:
    from aiohttp import web
except ModuleNotFoundError as error:
    raise ImportError('FakeGenesys needs aiohttp: pip install "region-breaker[aiohttp]"') from error

from resilience.testing.api import MESSAGE_PATH, TOKEN_PATH, Api, error_response
from resilience.testing.port import Handler, LoopbackPort, drop, hang, transport_of

_EVERYWHERE = ""
_RATE_LIMIT = 300  # requests a minute: what Genesys grants one token
_ERRORS = range(400, 600)


class FakeGenesys:
    """A Genesys Cloud region on a loopback port: the token and the Open Messaging endpoint.

    Use it as `async with FakeGenesys() as genesys`, and send requests to `genesys.url`, which
    stands for both `https://api.<domain>` and `https://login.<domain>`. It starts in the mode `up`;
    `up`, `fail`, `rate_limit`, `slow`, `hang`, `drop`, `garbage`, `flaky` and `refuse` switch it
    at once, for the requests that arrive from then on, until the next switch. All but `refuse` take
    `paths`: then they hold for requests whose path starts with it (the longest one counts), and
    leave the other requests as they are.

    Start, switch and close it in one event loop, of any kind but Windows' proactor. Clients may be
    anywhere.

    Args:
        client_id: The client that the token endpoint knows.
        client_secret: Its secret.
        require_token: Whether a message needs a bearer token.
        token_lifetime: Seconds until a token expires.
        latency: Seconds that a good answer takes, real time.
        port: The port on 127.0.0.1; 0 takes any that is free.
        clock: A callable that returns seconds, for expiring tokens and `requests_by_second`;
            `time.monotonic` if None.
    """

    requests: int
    """How many requests were received, whatever the answer."""
    requests_by_path: Counter[str]
    """The same for each path."""
    requests_by_second: Counter[int]
    """The same for each whole second of the clock since the start."""

    def __init__(
        self,
        *,
        client_id: str = "client-id",
        client_secret: str = "client-secret",  # noqa: S107 - opens nothing but this fake
        require_token: bool = True,
        token_lifetime: float = 86_400.0,
        latency: float = 0.0,
        port: int = 0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self.latency = latency
        self._clock = _monotonic if clock is None else clock
        self._api = Api(client_id, client_secret, require_token, token_lifetime, self._clock)
        self._wanted_port = port
        self._port = LoopbackPort(self._handle)
        self._modes: dict[str, Handler] = {_EVERYWHERE: self._answer}
        self._started_at = 0.0
        self.reset_counts()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start to serve; `async with` does it.

        Raises:
            RuntimeError: It runs already.
            OSError: The port is taken.
        """
        self._started_at = self._clock()
        self._port.start(self._wanted_port)

    async def close(self) -> None:
        """End every request and give the port back, at once; `async with` does it.

        Does nothing the second time.
        """
        await self._port.close()

    @property
    def port(self) -> int:
        """The port's number, which stays the same until it is closed.

        Raises:
            RuntimeError: It has not been started.
        """
        if not self._port.number:
            raise RuntimeError("FakeGenesys has not been started: use `async with`")
        return self._port.number

    @property
    def url(self) -> str:
        """The base URL for API calls and for tokens, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_url(self) -> str:
        """Where to POST for a token."""
        return self.url + TOKEN_PATH

    def message_url(self, integration_id: str = "integration") -> str:
        """Where to POST an inbound message for an integration."""
        return self.url + MESSAGE_PATH.format(integration_id)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The bodies of the messages that were accepted, in order."""
        return self._api.messages

    def issue_token(self) -> str:
        """Give a valid access token without a request."""
        return self._api.issue_token()

    def revoke_tokens(self) -> None:
        """Answer 401 to every token that was issued so far."""
        self._api.revoke_tokens()

    def reset_counts(self) -> None:
        """Count requests and collect messages afresh, as at the start."""
        self.requests = 0
        self.requests_by_path = Counter()
        self.requests_by_second = Counter()
        self._api.messages = []

    def up(self, *, paths: str = _EVERYWHERE) -> None:
        """Answer normally."""
        self._switch(paths, self._answer)

    def fail(self, status: int = 503, *, code: str | None = None, paths: str = _EVERYWHERE) -> None:
        """Answer with an error.

        Args:
            status: The HTTP status, 400 to 599.
            code: Genesys' code for the error; the usual one for the status if None.
            paths: Where; see the class.

        Raises:
            ValueError: `status` is no error.
        """
        _check_error(status)

        async def answer(_: web.BaseRequest) -> web.StreamResponse:
            return error_response(status, code=code)

        self._switch(paths, answer)

    def rate_limit(self, retry_after: int = 2, *, paths: str = _EVERYWHERE) -> None:
        """Answer 429 with `Retry-After`, in whole seconds, and Genesys' rate limit headers."""
        headers = {
            "Retry-After": str(retry_after),
            "inin-ratelimit-count": str(_RATE_LIMIT + 1),
            "inin-ratelimit-allowed": str(_RATE_LIMIT),
            "inin-ratelimit-reset": str(retry_after),
        }

        async def answer(_: web.BaseRequest) -> web.StreamResponse:
            return error_response(429, headers=headers)

        self._switch(paths, answer)

    def slow(self, seconds: float, *, paths: str = _EVERYWHERE) -> None:
        """Accept the request at once, and answer after so many seconds of real time.

        A client that gives up before has delivered its message all the same, as with Genesys.
        """

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            response = await self._api.answer(request)
            await asyncio.sleep(seconds)
            return response

        self._switch(paths, answer)

    def hang(self, *, paths: str = _EVERYWHERE) -> None:
        """Take the request, keep the connection, and never answer; no message is delivered."""
        self._switch(paths, hang)

    def drop(self, *, paths: str = _EVERYWHERE) -> None:
        """Drop the connection without an answer; no message is delivered."""
        self._switch(paths, drop)

    def garbage(self, *, paths: str = _EVERYWHERE) -> None:
        """Answer with something that is not HTTP; no message is delivered."""
        self._switch(paths, _answer_garbage)

    def flaky(
        self, share: float, seed: int = 0, *, status: int = 503, paths: str = _EVERYWHERE
    ) -> None:
        """Fail a share of the requests, and answer the others normally.

        Args:
            share: The share that fails, from 0 to 1.
            seed: Decides which ones: the same seed fails the same ones, in order of arrival.
            status: The HTTP status, 400 to 599.
            paths: Where; see the class.

        Raises:
            ValueError: `share` is not from 0 to 1, or `status` is no error.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {share!r}")
        _check_error(status)
        chance = random.Random(seed)  # noqa: S311 - repeatable is what it has to be

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if chance.random() < share:
                return error_response(status)
            return await self._answer(request)

        self._switch(paths, answer)

    def refuse(self) -> None:
        """Close the port and all its connections, until the next switch.

        Raises:
            RuntimeError: It is not running.
        """
        self._port.refuse()

    def _switch(self, paths: str, mode: Handler) -> None:
        if paths == _EVERYWHERE:
            self._modes.clear()
        self._modes[paths] = mode
        if self._port.running:
            self._port.open()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        self.requests_by_path[request.path] += 1
        self.requests_by_second[int((self._clock() - self._started_at) // 1)] += 1
        mode = self._modes[max(filter(request.path.startswith, self._modes), key=len)]
        # A connection that ends with bytes unread is reset, which is another error than dropped.
        await request.read()
        return await mode(request)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._api.answer(request)
        await asyncio.sleep(self.latency)
        return response


async def _answer_garbage(request: web.BaseRequest) -> web.StreamResponse:
    transport = transport_of(request)
    transport.write(b"HTTP/1.1 garbage\r\n\r\n")
    transport.close()
    return await hang(request)


def _check_error(status: int) -> None:
    if status not in _ERRORS:
        raise ValueError(f"status must be an HTTP error, 400 to 599, got {status!r}")


def _monotonic() -> float:
    return time.monotonic()  # looked up at every use, so that freezegun moves it

"""FakeGenesys: a local Genesys region for tests, which fails the way a test asks it to."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from resilience._extras import needs_extra

with needs_extra("FakeGenesys", "aiohttp"):
    from aiohttp import web

from resilience._validate import shown
from resilience.testing.api import MESSAGE_PATH, TOKEN_PATH, Api, JsonObject, error_response
from resilience.testing.loop_thread import LoopThread
from resilience.testing.port import Handler, LoopbackPort, drop, hang, transport_of

_EVERYWHERE = ""
_RATE_LIMIT = 300  # requests per minute that Genesys allows one token
_ERROR_STATUSES = range(400, 600)


class FakeGenesys:
    """A Genesys Cloud region on a loopback port: the token and the Open Messaging endpoint.

    Use it as `async with FakeGenesys() as genesys`, and send requests to `genesys.url`, which
    stands for both `https://api.<domain>` and `https://login.<domain>`.

    It starts in the mode `up`. The methods `up`, `fail`, `rate_limit`, `slow`, `hang`, `drop`,
    `garbage`, `flaky` and `refuse` switch the mode immediately. A mode applies to the requests that
    arrive after the switch, until the next switch. All of these methods except `refuse` take
    `paths`: the mode then applies to the requests whose path starts with that text, and all other
    requests are answered as before. Where several modes match a path, the longest text wins.

    Start it and close it in the same event loop, which may be of any kind except the proactor loop
    of Windows. Without asyncio, use it as `with FakeGenesys() as genesys`: it then runs in a thread
    of its own. It may be switched from any thread, and clients may run anywhere.

    Args:
        client_id: The client that the token endpoint knows.
        client_secret: Its secret.
        require_token: Whether a message needs a bearer token.
        token_lifetime: Seconds until a token expires.
        latency: Seconds of real time that a normal answer takes.
        port: The port on 127.0.0.1; 0 takes any free port.
        clock: Returns seconds; used for expiring tokens and for `requests_by_second`. None means
            `time.monotonic`.
    """

    requests: int
    """The number of requests that were received, whatever the answer was."""
    requests_by_path: Counter[str]
    """The number of requests for each path."""
    requests_by_second: Counter[int]
    """The number of requests in each whole second of the clock since the start."""

    def __init__(
        self,
        *,
        client_id: str = "client-id",
        client_secret: str = "client-secret",  # noqa: S107 - a secret of this fake only
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
        self._requested_port = port
        self._port = LoopbackPort(self._handle)
        self._modes: dict[str, Handler] = {_EVERYWHERE: self._answer}
        self._started_at = 0.0
        self.reset_counts()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __enter__(self) -> Self:
        self._thread = LoopThread("FakeGenesys")
        try:
            self._thread.run(self.start())
        except BaseException:
            self._thread.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._thread.run(self.close())
        self._thread.close()

    async def start(self) -> None:
        """Start serving; `async with` does this.

        Raises:
            RuntimeError: It is already running.
            OSError: The port is taken.
        """
        self._started_at = self._clock()
        self._port.start(self._requested_port)

    async def close(self) -> None:
        """End every request and release the port immediately; `async with` does this.

        The second time it does nothing.
        """
        await self._port.close()

    @property
    def port(self) -> int:
        """The number of the port, which stays the same until `close`.

        Raises:
            RuntimeError: It has not been started.
        """
        if not self._port.number:
            raise RuntimeError("FakeGenesys has not been started: use `async with`, or `with`")
        return self._port.number

    @property
    def url(self) -> str:
        """The base URL of the API and of the token endpoint, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_url(self) -> str:
        """The URL of the token endpoint, for POST requests."""
        return self.url + TOKEN_PATH

    def message_url(self, integration_id: str = "integration") -> str:
        """Return the URL for inbound messages of an integration, for POST requests."""
        return self.url + MESSAGE_PATH.format(integration_id)

    @property
    def messages(self) -> list[JsonObject]:
        """The bodies of the messages that were accepted, in order."""
        return self._api.messages

    def add_route(
        self, method: str, path: str, answer: object, *, require_token: bool = True
    ) -> None:
        """Answer another kind of request as well; it is subject to the modes like all others.

        Args:
            method: The HTTP method.
            path: The path, where each `{name}` stands for one segment of any name:
                ``"/api/v2/users/{id}"``. It takes the place of an earlier route with the same path.
            answer: What is answered as JSON, or a function, also an `async def`, that takes the
                request of aiohttp.web and returns JSON or a response.
            require_token: Whether a request needs a bearer token, as messages do.

        Raises:
            TypeError: An argument has the wrong type, or the answer cannot become JSON.
            ValueError: The path does not start with a slash, or the method is empty.
        """
        self._api.routes.add(method, path, answer, require_token=require_token)

    def issue_token(self) -> str:
        """Return a valid access token without a request."""
        return self._api.issue_token()

    def revoke_tokens(self) -> None:
        """Invalidate every token that was issued so far: a message with one is answered 401."""
        self._api.revoke_tokens()

    def reset_counts(self) -> None:
        """Set all counts to zero and forget the messages, as at the start."""
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
            code: The code in the body of the error; None means the usual code of this status.
            paths: The beginning of the paths that this applies to; see the class.

        Raises:
            ValueError: `status` is not an error status.
        """
        _check_error_status(status)

        async def answer(_: web.BaseRequest) -> web.StreamResponse:
            return error_response(status, code=code)

        self._switch(paths, answer)

    def rate_limit(self, retry_after: int = 2, *, paths: str = _EVERYWHERE) -> None:
        """Answer 429 with `Retry-After`, in whole seconds, and with Genesys' rate limit headers."""
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
        """Accept a request immediately, and answer it after this many seconds of real time.

        If the client gives up earlier, its message is delivered nevertheless, as with Genesys.
        """

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            response = await self._api.answer(request)
            await asyncio.sleep(seconds)
            return response

        self._switch(paths, answer)

    def hang(self, *, paths: str = _EVERYWHERE) -> None:
        """Keep the connection open and never answer; no message is delivered."""
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
        """Answer a share of the requests with an error, and all others normally.

        Args:
            share: The share of requests that fail, from 0 to 1.
            seed: Chooses the requests that fail: with the same seed the same ones fail, in the
                order in which they arrive.
            status: The HTTP status, 400 to 599.
            paths: The beginning of the paths that this applies to; see the class.

        Raises:
            ValueError: `share` is not from 0 to 1, or `status` is not an error status.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {shown(share)}")
        _check_error_status(status)
        chance = random.Random(seed)  # noqa: S311 - it has to be repeatable, not secret

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if chance.random() < share:
                return error_response(status)
            return await self._answer(request)

        self._switch(paths, answer)

    def refuse(self) -> None:
        """Close the port and all connections to it, until the next switch.

        Raises:
            RuntimeError: It is not running.
        """
        self._port.refuse()

    def _switch(self, paths: str, mode: Handler) -> None:
        # A new one each time: a request may be looking into the old one, in another thread.
        kept = {} if paths == _EVERYWHERE else self._modes
        self._modes = {**kept, paths: mode}
        if self._port.running:
            self._port.open()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        self.requests_by_path[request.path] += 1
        self.requests_by_second[int((self._clock() - self._started_at) // 1)] += 1
        matching = [start for start in self._modes if request.path.startswith(start)]
        mode = self._modes[max(matching, key=len)]
        # A connection that is closed with unread bytes is reset, which clients report differently.
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


def _check_error_status(status: int) -> None:
    if status not in _ERROR_STATUSES:
        raise ValueError(f"status must be an HTTP error, 400 to 599, got {shown(status)}")


def _monotonic() -> float:
    return time.monotonic()  # looked up at each use, so that freezegun can replace it

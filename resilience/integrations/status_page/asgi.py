"""The application for ASGI: FastAPI, Starlette, Django, and every ASGI server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from resilience._validate import check_count, check_type
from resilience.integrations.asgi import Receive, Scope, Send, encode_headers, respond
from resilience.integrations.metrics import Registries, check_registries
from resilience.integrations.status_page.access import Refusal, find_refusal, host_names
from resilience.integrations.status_page.actions import (
    PATH,
    ActionRefusedError,
    Actions,
    Permission,
)
from resilience.integrations.status_page.asgi_request import ActionRequest, Headers, read_body
from resilience.integrations.status_page.clients import (
    NO_ROOM_HEADERS,
    NO_ROOM_STATUS,
    NO_ROOM_TEXT,
    Connection,
    NoRoomError,
)
from resilience.integrations.status_page.download import Download
from resilience.integrations.status_page.files import HEADERS, read_files
from resilience.integrations.status_page.state import PageState
from resilience.integrations.status_page.stream import Stream

_OK = 200
_NOT_FOUND = Refusal(404, "Not found.\n")
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json; charset=utf-8"


class StatusPage:
    """The status page as an ASGI application, for asyncio.

    It shows what the page for aiohttp shows, with the same access control. With FastAPI and
    Starlette: ``app.mount("/circuits", StatusPage(registry))``.

    Args:
        registry: The registry whose circuits are shown, or several of them.
        hosts: Further host names to answer to, without a port.
        max_listeners: The number of browsers that may be connected at the same time, and of clients
            that may be reading the data as JSON.
        show_tenants: Whether throttled tenants are shown by name; otherwise only their number is.
        actions: A function, also an `async def`, that decides who may reset a circuit or force it
            open. It takes an `ActionRequest`, and returns True, the name of the caller, or
            False; see `bearer_token`. None: nobody may, and the page has no buttons for it.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, or two registries have the same name.
    """

    def __init__(
        self,
        registry: Registries,
        *,
        hosts: Iterable[str] = (),
        max_listeners: int = 100,
        show_tenants: bool = False,
        actions: Callable[[ActionRequest], Permission] | None = None,
    ) -> None:
        registries = check_registries(registry)
        check_count("max_listeners", max_listeners)
        check_type("show_tenants", show_tenants, bool)
        has_actions = actions is not None
        state = PageState(registries, show_tenants=show_tenants, has_actions=has_actions)
        self._stream = Stream(state, max_listeners=max_listeners)
        self._download = Download(state, max_clients=max_listeners)
        self._actions = None if actions is None else Actions(registries, actions, _is_answer)
        self._names = host_names(hosts)
        self._files = read_files()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"StatusPage answers HTTP requests only, got {scope['type']}")
        path = _path_below_mount(scope)
        actions = self._actions if path == PATH else None
        refusal = self._find_refusal(scope, "GET" if actions is None else "POST")
        if refusal is not None:
            await _respond_text(send, refusal)
        elif actions is not None:
            await _act(actions, scope, receive, send)
        elif path == "":  # the links of the page need the slash
            location = str(scope["path"]).rpartition("/")[2] + "/"
            await respond(send, 308, {**HEADERS, "Location": location}, b"")
        elif path == "/api/circuits":
            await self._serve(self._download.serve, scope, receive, send)
        elif path == "/stream":
            await self._serve(self._stream.serve, scope, receive, send)
        elif path in self._files:
            file = self._files[path]
            headers = {**HEADERS, "Content-Type": f"{file.content_type}; charset=utf-8"}
            await respond(send, _OK, headers, file.content)
        else:
            await _respond_text(send, _NOT_FOUND)

    def close(self) -> None:
        """End every connection now, and accept no more."""
        self._stream.close()
        self._download.close()

    def _find_refusal(self, scope: Scope, method: str) -> Refusal | None:
        headers = Headers(scope["headers"])
        site, mode = headers.get("Sec-Fetch-Site", ""), headers.get("Sec-Fetch-Mode", "")
        refusal = find_refusal(self._names, [headers.get("Host", "")], site, mode)
        if refusal is None and scope["method"] != method:
            return Refusal(405, f"Only {method} is allowed.\n")
        return refusal

    async def _serve(
        self,
        serve: Callable[[Connection], Awaitable[None]],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        connection = _AsgiConnection(scope, send)
        serving = asyncio.ensure_future(_finish(serve, connection))
        leaving = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            await asyncio.wait((serving, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not serving.done():
                serving.cancel()
                await asyncio.wait((serving,))
        if not serving.cancelled():
            try:
                serving.result()
            except NoRoomError:
                refusal = Refusal(NO_ROOM_STATUS, NO_ROOM_TEXT)
                await _respond_text(send, refusal, NO_ROOM_HEADERS)


class _AsgiConnection:
    """The connection on which a request has arrived.

    Args:
        scope: The request.
        send: Sends the answer to it.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        client = scope.get("client")
        self.address: str | None = client[0] if client else None
        self._send = send
        #: Whether the client has accepted all that was sent.
        self._is_up_to_date = True

    async def start(self, content_type: str, length: int | None) -> None:
        """Begin the answer."""
        headers = {**HEADERS, "Content-Type": content_type}
        if length is None:
            headers["X-Accel-Buffering"] = "no"  # a proxy must pass everything on immediately
        else:
            headers["Content-Length"] = str(length)
        encoded = encode_headers(headers)
        await self._send({"type": "http.response.start", "status": _OK, "headers": encoded})

    async def write(self, data: bytes) -> None:
        """Send a part of the answer."""
        self._is_up_to_date = False
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._is_up_to_date = True

    async def finish(self) -> None:
        """End the answer; if the client accepts nothing, the server has to close the connection."""
        if self._is_up_to_date:
            await self._send({"type": "http.response.body", "body": b""})

    def abort(self) -> None:
        """Do nothing: only the server can close a connection."""


async def _act(actions: Actions, scope: Scope, receive: Receive, send: Send) -> None:
    request = ActionRequest(scope)
    try:
        answer = await actions.carry_out(request, request.headers, partial(read_body, receive))
    except ActionRefusedError as refused:
        await _respond_text(send, refused.refusal, refused.headers)
        return
    await respond(send, _OK, {**HEADERS, "Content-Type": _JSON}, answer.encode())


def _is_answer(error: Exception) -> bool:
    """Return whether the framework makes an answer of an error, such as an `HTTPException`."""
    return isinstance(getattr(error, "status_code", None), int)


async def _finish(
    serve: Callable[[Connection], Awaitable[None]], connection: _AsgiConnection
) -> None:
    await serve(connection)
    await connection.finish()


async def _wait_for_disconnect(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return


async def _respond_text(
    send: Send, refusal: Refusal, headers: Mapping[str, str] | None = None
) -> None:
    every = {**HEADERS, "Content-Type": _TEXT, **(headers or {})}
    await respond(send, refusal.status, every, refusal.text.encode())


def _path_below_mount(scope: Scope) -> str:
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    below = path.removeprefix(root)
    return below if not below or below.startswith("/") else path

"""The application for aiohttp: the files of the page, its stream, its data as JSON."""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Protocol, TypeAlias

from aiohttp import web

from resilience._validate import check_count, check_type
from resilience.integrations.metrics import Registries, check_registries
from resilience.integrations.status_page.access import find_refusal, host_names
from resilience.integrations.status_page.actions import (
    PATH,
    ActionRefusedError,
    Actions,
    Permission,
)
from resilience.integrations.status_page.aiohttp_connection import AiohttpConnection
from resilience.integrations.status_page.clients import (
    NO_ROOM_HEADERS,
    NO_ROOM_TEXT,
    Connection,
    NoRoomError,
)
from resilience.integrations.status_page.download import Download
from resilience.integrations.status_page.files import HEADERS, File, read_files
from resilience.integrations.status_page.state import PageState
from resilience.integrations.status_page.stream import Stream

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status_page(
    registry: Registries,
    *,
    hosts: Iterable[str] = (),
    max_listeners: int = 100,
    show_tenants: bool = False,
    actions: Callable[[web.Request], Permission] | None = None,
) -> web.Application:
    """Return an aiohttp application that shows the circuits of a registry, or of several.

    Without `actions`, it changes nothing.

    Add it to your application, ``app.add_subapp("/circuits", status_page(registry))``, or serve it
    by itself. It answers requests to IP addresses, to `localhost` and to this machine's host name.
    All other host names are refused, which protects it from DNS rebinding: a page that somebody
    else serves under a name of theirs, which they then point at this machine, gets nothing.

    Args:
        registry: The registry whose circuits are shown, or several of them with different names.
        hosts: Further host names to answer to, without a port.
        max_listeners: The number of browsers that may be connected at the same time, and of clients
            that may be reading the data as JSON. Any further one is answered 503, or gets the place
            of one whose address has more places than others.
        show_tenants: Whether throttled tenants are shown by name, the hundred of each region that
            wait longest; they may be customers. Otherwise only their number is.
        actions: A function, also an `async def`, that decides who may reset a circuit or force it
            open. It takes the request, and returns True, the name of the caller, or False; see
            `bearer_token`. None: nobody may, and the page has no buttons for it.

    Returns:
        The application.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value, or two registries have the same name.
    """
    registries = check_registries(registry)
    check_count("max_listeners", max_listeners)
    check_type("show_tenants", show_tenants, bool)
    has_actions = actions is not None
    state = PageState(registries, show_tenants=show_tenants, has_actions=has_actions)
    stream = Stream(state, max_listeners=max_listeners)
    download = Download(state, max_clients=max_listeners)
    app = web.Application(middlewares=[_access_control(host_names(hosts))])
    _add_routes(app, stream, download)
    if actions is not None:
        app.router.add_post(PATH, _act(Actions(registries, actions, _is_answer)))

    async def on_shutdown(_: web.Application) -> None:
        stream.close()
        download.close()

    app.on_response_prepare.append(_add_headers)  # to every answer, also to errors and the stream
    app.on_shutdown.append(on_shutdown)
    return app


def _add_routes(app: web.Application, stream: Stream, download: Download) -> None:
    for path, file in read_files().items():
        app.router.add_get(path, _send(file), allow_head=False)
    app.router.add_get("", _redirect_to_page, allow_head=False)
    app.router.add_get("/api/circuits", _serve(download.serve), allow_head=False)
    app.router.add_get("/stream", _serve(stream.serve), allow_head=False)


def _send(file: File) -> _Handler:
    async def send(_: web.Request) -> web.Response:
        return web.Response(body=file.content, content_type=file.content_type, charset="utf-8")

    return send


def _serve(serve: Callable[[Connection], Awaitable[None]]) -> _Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        connection = AiohttpConnection(request)
        try:
            await serve(connection)
        except NoRoomError:
            raise web.HTTPServiceUnavailable(text=NO_ROOM_TEXT, headers=NO_ROOM_HEADERS) from None
        return connection.response

    return answer


def _act(actions: Actions) -> _Handler:
    async def act(request: web.Request) -> web.Response:
        try:
            read_body = partial(_read_body, request)
            answer = await actions.carry_out(request, request.headers, read_body)
        except ActionRefusedError as refused:
            status, text = refused.refusal
            return web.Response(status=status, text=text, headers=refused.headers)
        return web.Response(text=answer, content_type="application/json")

    return act


def _is_answer(error: Exception) -> bool:
    return isinstance(error, web.HTTPException)


async def _read_body(request: web.Request, most: int) -> bytes:
    body = b""
    while len(body) <= most:
        more = await request.content.read(most + 1 - len(body))
        if not more:
            break
        body += more
    return body


async def _redirect_to_page(request: web.Request) -> web.StreamResponse:
    # The links of the page need the slash. A relative location is right behind any proxy.
    raise web.HTTPPermanentRedirect(location=request.path.rpartition("/")[2] + "/")


class _Middleware(Protocol):
    def __call__(
        self, request: web.Request, handler: _Handler
    ) -> Awaitable[web.StreamResponse]: ...


def _access_control(names: frozenset[str]) -> _Middleware:
    @web.middleware
    async def check_access(request: web.Request, handler: _Handler) -> web.StreamResponse:
        headers = request.headers
        refusal = find_refusal(
            names,
            headers.getall("Host", ()),
            headers.get("Sec-Fetch-Site", ""),
            headers.get("Sec-Fetch-Mode", ""),
        )
        if refusal is not None:
            return web.Response(text=refusal.text, status=refusal.status)
        return await handler(request)

    return check_access


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)

"""The application: the files of the page, its stream, its data as JSON, and access control."""

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeAlias

from aiohttp import web

from resilience._validate import check_count, check_text, check_type, kind_of
from resilience.integrations.metrics import Registries, check_registries
from resilience.integrations.status_page.actions import Actions, MayAct
from resilience.integrations.status_page.download import Download
from resilience.integrations.status_page.state import PageState
from resilience.integrations.status_page.stream import Stream

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/icon-alert.svg": ("icon-alert.svg", "image/svg+xml"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HOST = re.compile(r"(?P<name>[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?", re.IGNORECASE)


def status_page(
    registry: Registries,
    *,
    hosts: Iterable[str] = (),
    max_listeners: int = 100,
    show_tenants: bool = False,
    actions: MayAct | None = None,
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
            open. It takes the request, and returns True, the name of who asks for it, or False; see
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
    if actions is not None and not callable(actions):
        got = kind_of(actions)
        raise TypeError(f"actions must be a function that takes a request, got {got}")
    has_actions = actions is not None
    state = PageState(registries, show_tenants=show_tenants, has_actions=has_actions)
    stream = Stream(state, max_listeners=max_listeners)
    download = Download(state, max_clients=max_listeners)
    app = web.Application(middlewares=[_access_control(_host_names(hosts))])
    _add_routes(app, stream, download)
    if actions is not None:
        app.router.add_post("/api/actions", Actions(registries, actions).serve)

    async def on_shutdown(_: web.Application) -> None:
        stream.close()
        download.close()

    app.on_response_prepare.append(_add_headers)  # to every answer, also to errors and the stream
    app.on_shutdown.append(on_shutdown)
    return app


def _host_names(hosts: Iterable[str]) -> frozenset[str]:
    if isinstance(hosts, str):
        raise TypeError("hosts must be a collection of host names, got a str")
    names = {check_text("a host", host).lower() for host in hosts}
    return frozenset(names | {"localhost", socket.gethostname().lower()})


def _add_routes(app: web.Application, stream: Stream, download: Download) -> None:
    for path, (name, content_type) in _FILES.items():
        app.router.add_get(path, _file(name, content_type), allow_head=False)
    app.router.add_get("", _redirect_to_page, allow_head=False)
    app.router.add_get("/api/circuits", download.serve, allow_head=False)
    app.router.add_get("/stream", stream.serve, allow_head=False)


def _file(name: str, content_type: str) -> _Handler:
    content = (Path(__file__).parent / name).read_bytes()

    async def send(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type=content_type, charset="utf-8")

    return send


async def _redirect_to_page(request: web.Request) -> web.StreamResponse:
    # The links of the page need the slash. A relative location is right behind any proxy.
    raise web.HTTPPermanentRedirect(location=request.path.rpartition("/")[2] + "/")


class _Middleware(Protocol):
    def __call__(
        self, request: web.Request, handler: _Handler
    ) -> Awaitable[web.StreamResponse]: ...


def _access_control(host_names: frozenset[str]) -> _Middleware:
    @web.middleware
    async def check_access(request: web.Request, handler: _Handler) -> web.StreamResponse:
        _check_host(request, host_names)
        _check_origin(request)
        return await handler(request)

    return check_access


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _check_host(request: web.Request, host_names: frozenset[str]) -> None:
    """Reject a request for a host name that is not ours: DNS rebinding needs one."""
    host = _HOST.fullmatch(",".join(request.headers.getall("Host", ())))
    if host is None:
        raise web.HTTPBadRequest(text="The Host header is missing or invalid.\n")
    name = host["name"].lower().rstrip(".")
    if name not in host_names and not _is_address(name.strip("[]")):
        raise web.HTTPMisdirectedRequest(
            text="The page does not answer to this host name: see hosts= of status_page.\n"
        )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_origin(request: web.Request) -> None:
    """Reject what the page of another site requests; following a link from there is allowed."""
    site = request.headers.get("Sec-Fetch-Site", "")
    mode = request.headers.get("Sec-Fetch-Mode", "")
    if site in ("cross-site", "same-site") and mode != "navigate":
        raise web.HTTPForbidden(text="Other sites may not request this.\n")

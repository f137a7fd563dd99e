"""The page's application: five files, one stream, one JSON, and who may ask for them."""

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from aiohttp import web

from resilience._validate import check_count, check_text, check_type
from resilience.integrations.status_page.state import State
from resilience.integrations.status_page.stream import Stream
from resilience.registry import CircuitBreakerRegistry

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
    registry: CircuitBreakerRegistry, *, hosts: Iterable[str] = (), max_listeners: int = 100
) -> web.Application:
    """Make an application for aiohttp that shows the circuits of a registry and changes nothing.

    Put it into yours, ``app.add_subapp("/circuits", status_page(registry))``, or run it by itself.
    It answers to IP addresses, `localhost` and this machine's own name. A page that a stranger
    put under a name of his own, which he then points here, gets nothing.

    Args:
        registry: Whose circuits are shown.
        hosts: Names under which it may be asked for besides, without a port.
        max_listeners: How many may watch at a time; the next one gets a 503.

    Returns:
        The application.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value.
    """
    check_type("registry", registry, CircuitBreakerRegistry)
    check_count("max_listeners", max_listeners)
    if isinstance(hosts, str):
        raise TypeError("hosts must be several names, got a str")
    names = {check_text("a host", host).lower() for host in hosts}
    names |= {"localhost", socket.gethostname().lower()}
    app = web.Application(middlewares=[_guard(frozenset(names))])
    state = State(registry)
    stream = Stream(registry, state, max_listeners=max_listeners)

    async def circuits(_: web.Request) -> web.Response:
        return web.json_response(state.whole())

    for path, (name, kind) in _FILES.items():
        app.router.add_get(path, _file(name, kind), allow_head=False)
    app.router.add_get("", _to_the_page, allow_head=False)
    app.router.add_get("/api/circuits", circuits, allow_head=False)
    app.router.add_get("/stream", stream.serve, allow_head=False)

    async def on_shutdown(_: web.Application) -> None:
        stream.close()

    app.on_response_prepare.append(_add_headers)  # on every answer, refusals and streams included
    app.on_shutdown.append(on_shutdown)
    return app


def _file(name: str, kind: str) -> _Handler:
    content = (Path(__file__).parent / name).read_bytes()

    async def send(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type=kind, charset="utf-8")

    return send


async def _to_the_page(request: web.Request) -> web.StreamResponse:
    # Relative, whatever a proxy makes of the path; the page's own links need the slash.
    raise web.HTTPPermanentRedirect(location=request.path.rpartition("/")[2] + "/")


def _guard(names: frozenset[str]) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def guard(request: web.Request, handler: _Handler) -> web.StreamResponse:
        _check_host(request, names)
        _check_origin(request)
        return await handler(request)

    return guard


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _check_host(request: web.Request, names: frozenset[str]) -> None:
    """Refuse a name that a stranger may have pointed here (DNS rebinding needs one)."""
    asked = _HOST.fullmatch(",".join(request.headers.getall("Host", ())))
    if asked is None:
        raise web.HTTPBadRequest(text="which host?\n")
    name = asked["name"].lower().rstrip(".")
    if name not in names and not _is_address(name.strip("[]")):
        raise web.HTTPMisdirectedRequest(text="not under this name: see hosts= of status_page\n")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_origin(request: web.Request) -> None:
    """Refuse what another site's page asks for; following a link from there is fine."""
    site, mode = (request.headers.get(f"Sec-Fetch-{what}", "") for what in ("Site", "Mode"))
    if site in ("cross-site", "same-site") and mode != "navigate":
        raise web.HTTPForbidden(text="not for other sites\n")

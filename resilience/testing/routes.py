"""Routes: the requests that a test adds to those that a FakeGenesys answers by itself."""

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web

from resilience._validate import check_text, check_type, kind_of, shown

#: Answers a request with a response of aiohttp.web, or with what becomes one as JSON. It may be an
#: `async def`.
RouteHandler: TypeAlias = Callable[[web.BaseRequest], object]

_PLACEHOLDER = re.compile(r"\{\w*\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Args:
        method: The HTTP method.
        path: Matches the whole path.
        handler: Answers a request.
        require_token: Whether a request needs a bearer token.
    """

    method: str
    path: re.Pattern[str]
    handler: RouteHandler
    require_token: bool

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that the route matches."""
        answer = self.handler(request)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.json_response(answer)


class Routes:
    """The routes of one region; of several that match, the last one that was added answers."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def add(self, method: str, path: str, answer: object, *, require_token: bool) -> None:
        """Add a route; see `FakeGenesys.add_route`."""
        check_text("method", method)
        if not check_text("path", path).startswith("/"):
            raise ValueError(f'path must be a text that starts with "/", got {shown(path)}')
        check_type("require_token", require_token, bool)
        handler = _handler(answer)
        self._routes.append(Route(method.upper(), _pattern(path), handler, require_token))

    def find(self, method: str, path: str) -> Route | None:
        """Return the route of a request; None: there is none."""
        matching = [route for route in self._matching(path) if route.method == method]
        return matching[-1] if matching else None

    def methods(self, path: str) -> list[str]:
        """Return the methods with which a path can be requested."""
        return sorted({route.method for route in self._matching(path)})

    def _matching(self, path: str) -> list[Route]:
        return [route for route in self._routes if route.path.fullmatch(path)]


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(re.escape(part) for part in _PLACEHOLDER.split(path)))


def _handler(answer: object) -> RouteHandler:
    if isinstance(answer, web.StreamResponse):
        raise TypeError("answer must not be a response, which can be sent only once: use a lambda")
    if callable(answer):
        return answer
    try:
        json.dumps(answer)
    except (TypeError, ValueError) as error:
        expected = "JSON, or a function that takes a request"
        raise TypeError(f"answer must be {expected}, got {kind_of(answer)}") from error
    return lambda _request: answer

"""Actions: circuits that are reset or forced open over the status page, by those who may."""

import hmac
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, TypedDict, cast

from aiohttp import web

from resilience._text import display_name, one_line
from resilience._validate import check_text
from resilience.breaker import CircuitBreaker
from resilience.log import describe_exception, log, log_fault
from resilience.registry import CircuitBreakerRegistry

#: Takes a request, and returns whether it may change circuits, or the name of who asks for it.
MayAct: TypeAlias = Callable[[web.Request], bool | str | Awaitable[bool | str]]

_MAX_BODY = 4096  # bytes
_SHORTEST_TOKEN = 16  # characters
_HEADER = "X-Resilience-Action"
_BEARER = re.compile(r"Bearer +(\S+)", re.IGNORECASE)


class _Order(TypedDict):
    """What a client asks for."""

    action: str
    registry: str
    region: str
    reason: str


def bearer_token(token: str) -> MayAct:
    """Return a check for `actions=` of `status_page`: it lets in whoever sends this token.

    Args:
        token: The secret, at least 16 characters; clients send ``Authorization: Bearer <token>``.

    Raises:
        TypeError: The token is not a string.
        ValueError: The token is too short to be a secret, or has characters that no header takes.
    """
    check_text("token", token)
    if len(token) < _SHORTEST_TOKEN or not re.fullmatch(r"[!-~]+", token):
        expected = f"at least {_SHORTEST_TOKEN} printable ASCII characters without spaces"
        raise ValueError(f"token must have {expected}")  # and the text does not show it

    def check(request: web.Request) -> bool:
        sent = _BEARER.fullmatch(request.headers.get("Authorization", ""))
        return sent is not None and hmac.compare_digest(sent[1].encode(), token.encode())

    return check


class Actions:
    """Carries out what the buttons of the page, and the command line, ask for.

    Args:
        registries: The registries that are shown.
        may_act: Checks each request.
    """

    def __init__(self, registries: Sequence[CircuitBreakerRegistry], may_act: MayAct) -> None:
        self._registries = registries
        self._may_act = may_act

    async def serve(self, request: web.Request) -> web.Response:
        """Carry out one action, or refuse it."""
        _check_is_not_forged(request)
        who = await self._who(request)
        order = await _read_order(request)
        breaker = self._find(order)
        by = f" by {who}" if who else ""
        text = f"is asked over the status page{by} to {order['action']} region {{}}"
        log("INFO", breaker.name, text)
        if order["action"] == "reset":
            breaker.reset()
        else:
            breaker.force_open(f"{order['reason']}{by}")
        return web.json_response({"state": breaker.state.value})

    async def _who(self, request: web.Request) -> str:
        """Return the name of who asks, which may be empty; a stranger is refused."""
        try:
            answer = self._may_act(request)
            if inspect.isawaitable(answer):
                answer = await answer
        except web.HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - a check that fails lets nobody in
            log_fault("actions", self._may_act, describe_exception(error), "")
            raise web.HTTPInternalServerError(
                text="The check of who may act has failed.\n"
            ) from None
        if answer is True or (isinstance(answer, str) and answer):
            return "" if answer is True else one_line(answer)
        raise web.HTTPUnauthorized(
            text="You may not do this.\n", headers={"WWW-Authenticate": "Bearer"}
        )

    def _find(self, order: _Order) -> CircuitBreaker:
        """Return the breaker of a region that is in use: no name from outside makes one."""
        for registry in self._registries:
            if order["registry"] not in ("", display_name(registry.name)):
                continue
            if order["region"] in registry:
                return registry.get(order["region"])
            for breaker in registry:
                if display_name(breaker.region) == order["region"]:
                    return breaker
        raise web.HTTPNotFound(text="This process has no circuit of this name.\n")


def _check_is_not_forged(request: web.Request) -> None:
    """Refuse what another site may have made a browser send.

    A form can send neither this header nor JSON, and a script of another site may not.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        is_own = site == "same-origin"
    else:  # an old browser, or none
        is_own = origin is None or origin.partition("://")[2].lower() == request.host.lower()
    if not is_own:
        raise web.HTTPForbidden(text="Other sites may not request this.\n")
    if request.content_type != "application/json" or _HEADER not in request.headers:
        expected = f"an action is JSON, with the header {_HEADER}"
        raise web.HTTPUnsupportedMediaType(text=f"This is not an action: {expected}.\n")


async def _read_order(request: web.Request) -> _Order:
    body = b""
    while len(body) <= _MAX_BODY:
        more = await request.content.read(_MAX_BODY + 1 - len(body))
        if not more:
            break
        body += more
    else:
        raise web.HTTPRequestEntityTooLarge(max_size=_MAX_BODY, actual_size=len(body))
    try:
        order: object = json.loads(body)
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, dict) or not _is_order(cast("dict[str, object]", order)):
        names = '"action" ("reset" or "force-open"), "region", "registry" and "reason"'
        raise web.HTTPBadRequest(text=f"An action has the texts {names}.\n")
    return cast("_Order", order)


def _is_order(order: dict[str, object]) -> bool:
    if set(order) != {"action", "region", "registry", "reason"}:
        return False
    if not all(isinstance(text, str) for text in order.values()):
        return False
    reason = str(order["reason"])
    return order["action"] == "reset" or (order["action"] == "force-open" and bool(reason.strip()))

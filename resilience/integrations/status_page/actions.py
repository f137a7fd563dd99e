"""Actions: circuits that are reset or forced open over the status page, by those who may."""

import hmac
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict, cast

from resilience._text import display_name, one_line
from resilience._validate import check_text, kind_of
from resilience.breaker import CircuitBreaker
from resilience.integrations.status_page.access import Refusal
from resilience.log import describe_exception, log, log_fault
from resilience.registry import CircuitBreakerRegistry

#: What a check returns: whether a request may change circuits, or the name of the caller.
Permission: TypeAlias = bool | str | Awaitable[bool | str]

#: The path of the actions below that of the page.
PATH = "/api/actions"

_MAX_BODY = 4096  # bytes
_SHORTEST_TOKEN = 16  # characters
_HEADER = "X-Resilience-Action"
_BEARER = re.compile(r"Bearer +([!-~]+)", re.IGNORECASE)


class _Order(TypedDict):
    """What a client asks for."""

    action: str
    registry: str
    region: str
    reason: str


class ActionRefusedError(Exception):
    """An action was not carried out.

    Args:
        status: The status of the answer.
        text: Its text, without the end of the line.
        headers: Its headers.
    """

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.refusal = Refusal(status, f"{text}\n")
        self.headers: Mapping[str, str] = headers or {}


def bearer_token(token: str) -> Callable[[Any], bool]:
    """Return a check for `actions=` of both status pages: it lets in whoever sends this token.

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

    def check(request: Any) -> bool:
        sent = _BEARER.fullmatch(request.headers.get("Authorization", ""))
        return sent is not None and hmac.compare_digest(sent[1].encode(), token.encode())

    return check


class Actions:
    """Carries out what the buttons of the page, and the command line, ask for.

    Args:
        registries: The registries that are shown.
        may_act: Checks each request.
        is_answer: Whether what `may_act` raises is an answer, in the way of the web server.

    Raises:
        TypeError: `may_act` is not a function.
    """

    def __init__(
        self,
        registries: Sequence[CircuitBreakerRegistry],
        may_act: Callable[[Any], Permission],
        is_answer: Callable[[Exception], bool],
    ) -> None:
        if not callable(may_act):
            got = kind_of(may_act)
            raise TypeError(f"actions must be a function that takes a request, got {got}")
        self._registries = registries
        self._may_act = may_act
        self._is_answer = is_answer

    async def carry_out(
        self,
        request: object,
        headers: Mapping[str, str],
        read_body: Callable[[int], Awaitable[bytes]],
    ) -> str:
        """Carry out one action.

        Args:
            request: The request for it, as the check takes it.
            headers: Its headers, by their names in upper or lower case.
            read_body: Returns its body; of one that is longer than this many bytes, the beginning
                with at least one more.

        Returns:
            The answer, in JSON.

        Raises:
            ActionRefusedError: It was not carried out.
        """
        _check_is_not_forged(headers)
        who = await self._who(request)
        order = _parse_order(await read_body(_MAX_BODY))
        breaker = self._find(order)
        by = f" by {who}" if who else ""
        text = f"is asked over the status page{by} to {order['action']} region {{}}"
        log("INFO", breaker.name, text)
        if order["action"] == "reset":
            breaker.reset()
        else:
            breaker.force_open(f"{order['reason']}{by}")
        return json.dumps({"state": breaker.state.value})

    async def _who(self, request: object) -> str:
        """Return the name of the caller, which may be empty; a stranger is refused."""
        try:
            answer = self._may_act(request)
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception as error:
            if self._is_answer(error):
                raise
            log_fault("actions", self._may_act, describe_exception(error), "")
            raise ActionRefusedError(500, "The check of who may act has failed.") from None
        if answer is True or (isinstance(answer, str) and answer):
            return "" if answer is True else one_line(answer)
        raise ActionRefusedError(401, "You may not do this.", {"WWW-Authenticate": "Bearer"})

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
        raise ActionRefusedError(404, "This process has no circuit of this name.")


def _check_is_not_forged(headers: Mapping[str, str]) -> None:
    """Refuse what another site may have made a browser send.

    A form can send neither this header nor JSON, and a script of another site may not.
    """
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None:
        is_own = site == "same-origin"
    else:  # an old browser, or none
        host = headers.get("Host", "").lower()
        is_own = origin is None or origin.partition("://")[2].lower() == host
    if not is_own:
        raise ActionRefusedError(403, "Other sites may not request this.")
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type != "application/json" or _HEADER not in headers:
        expected = f"an action is JSON, with the header {_HEADER}"
        raise ActionRefusedError(415, f"This is not an action: {expected}.")


def _parse_order(body: bytes) -> _Order:
    if len(body) > _MAX_BODY:
        raise ActionRefusedError(413, f"An action has at most {_MAX_BODY} bytes.")
    try:
        order: object = json.loads(body)
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, dict) or not _is_order(cast("dict[str, object]", order)):
        names = '"action" ("reset" or "force-open"), "region", "registry" and "reason"'
        raise ActionRefusedError(400, f"An action has the texts {names}.")
    return cast("_Order", order)


def _is_order(order: dict[str, object]) -> bool:
    if set(order) != {"action", "region", "registry", "reason"}:
        return False
    if not all(isinstance(text, str) for text in order.values()):
        return False
    reason = str(order["reason"])
    return order["action"] == "reset" or (order["action"] == "force-open" and bool(reason.strip()))

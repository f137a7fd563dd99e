"""The endpoints of a Genesys region in good health, and the bodies of its errors."""

import base64
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeAlias, cast

from aiohttp import web

from resilience.testing.routes import Routes

#: A JSON object that a client sent. Its keys are not known to a type checker, only to the test.
JsonObject: TypeAlias = dict[str, Any]

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path, not a secret
MESSAGE_PATH = "/api/v2/conversations/messages/{}/inbound/open/message"

_MESSAGE_PATH = re.compile(MESSAGE_PATH.format("([^/]+)"))
_REQUIRED_STRINGS = ("channel.from.id", "channel.from.idType", "channel.messageId", "text")
# The codes of all other errors are derived from the status phrase.
_CODES = {401: "bad.credentials", 504: "request.timeout"}


@dataclass
class Api:
    """The endpoints of one region.

    Args:
        client_id: The client that the token endpoint knows.
        client_secret: Its secret.
        require_token: Whether a message needs a bearer token.
        token_lifetime: Seconds of the clock until a token expires.
        clock: Returns seconds.
        messages: The bodies of the messages that were accepted, in order.
        routes: What else it answers.
    """

    client_id: str
    client_secret: str
    require_token: bool
    token_lifetime: float
    clock: Callable[[], float]
    messages: list[JsonObject] = field(default_factory=list[JsonObject])
    routes: Routes = field(default_factory=Routes)
    _expires_at: dict[str, float] = field(default_factory=dict[str, float])  # token -> seconds

    def issue_token(self) -> str:
        """Return a new access token."""
        token = uuid.uuid4().hex
        self._expires_at[token] = self.clock() + self.token_lifetime
        return token

    def revoke_tokens(self) -> None:
        """Invalidate every token that was issued so far."""
        self._expires_at.clear()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request as Genesys does when it is healthy."""
        route = self.routes.find(request.method, request.path)
        if route is not None:
            unauthorized = self._check_token(request) if route.require_token else None
            return await route.answer(request) if unauthorized is None else unauthorized
        message_path = _MESSAGE_PATH.fullmatch(request.path)
        is_known = request.path == TOKEN_PATH or message_path is not None
        if is_known and request.method == "POST":
            if message_path is None:
                return await self._answer_token(request)
            return await self._answer_message(request, message_path[1])
        methods = self.routes.methods(request.path) + ["POST"] * is_known
        if not methods:
            return error_response(404)
        return error_response(405, headers={"Allow": ", ".join(methods)})

    async def _answer_token(self, request: web.BaseRequest) -> web.Response:
        client = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {client}":
            headers = {"WWW-Authenticate": "Basic"}
            return _oauth_error(401, "invalid_client", "client credentials are invalid", headers)
        form = await request.post()
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "expected client_credentials")
        token, lifetime = self.issue_token(), int(self.token_lifetime)
        return web.json_response(
            {"access_token": token, "token_type": "bearer", "expires_in": lifetime}
        )

    async def _answer_message(self, request: web.BaseRequest, integration_id: str) -> web.Response:
        unauthorized = self._check_token(request)
        if unauthorized is not None:
            return unauthorized
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError):
            return error_response(400, message="The request body is not valid JSON.")
        invalid = _invalid_fields(body)
        if invalid:
            return _invalid_response(invalid)
        self.messages.append(body)
        return web.json_response(_delivery(body, integration_id))

    def _check_token(self, request: web.BaseRequest) -> web.Response | None:
        if not self.require_token:
            return None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return error_response(
                401,
                code="authentication.required",
                message="No authentication bearer token specified in authorization header.",
            )
        if self.clock() >= self._expires_at.get(token, float("-inf")):
            return error_response(401, message="Invalid login credentials.")
        return None


def error_response(
    status: int,
    *,
    code: str | None = None,
    message: str | None = None,
    headers: Mapping[str, str] | None = None,
    details: Sequence[Mapping[str, str]] = (),
) -> web.Response:
    """Return a response with the body of a Genesys error."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    body = {
        "message": message or f"HTTP {status} {phrase}",
        "code": code or _CODES.get(status) or phrase.lower().replace(" ", "."),
        "status": status,
        "contextId": str(uuid.uuid4()),
        "details": list(details),
        "errors": [],
    }
    return web.json_response(body, status=status, headers=headers)


def _oauth_error(
    status: int, error: str, description: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    body = {"error": error, "description": description, "error_description": description}
    return web.json_response(body, status=status, headers=headers)


def _invalid_fields(body: object) -> list[str]:
    invalid = [path for path in _REQUIRED_STRINGS if not _is_filled(_value_at(body, path))]
    return invalid if _is_time(_value_at(body, "channel.time")) else [*invalid, "channel.time"]


def _value_at(body: object, path: str) -> object:
    for key in path.split("."):
        if not isinstance(body, dict):
            return None
        body = cast("dict[str, object]", body).get(key)
    return body


def _is_filled(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_time(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _invalid_response(fields: Sequence[str]) -> web.Response:
    return error_response(
        400,
        message=f"Missing or invalid: {', '.join(fields)}.",
        details=[{"errorCode": "invalid.value", "fieldName": name} for name in fields],
    )


def _delivery(body: JsonObject, integration_id: str) -> JsonObject:
    sender = f"{integration_id}/{body['channel']['from']['id']}"
    return {
        "id": str(uuid.uuid4()),
        # All messages that one sender sends to one integration belong to one conversation.
        "conversationId": str(uuid.uuid5(uuid.NAMESPACE_URL, sender)),
        "channel": body["channel"],
        "type": "Text",
        "text": body["text"],
    }

"""What the two endpoints of a Genesys region answer while all is well, and its error bodies."""

import base64
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path, no secret
MESSAGE_PATH = "/api/v2/conversations/messages/{}/inbound/open/message"

_MESSAGE_PATH = re.compile(MESSAGE_PATH.format("([^/]+)"))
_REQUIRED_TEXTS = ("channel.from.id", "channel.from.idType", "channel.messageId", "text")
_CODES = {401: "bad.credentials", 504: "request.timeout"}  # the others follow from the phrase


@dataclass
class Api:
    """The endpoints of one region: its tokens, and the messages that were delivered to it."""

    client_id: str
    client_secret: str
    require_token: bool
    token_lifetime: float  # seconds of the clock
    clock: Callable[[], float]
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _expiry: dict[str, float] = field(default_factory=dict[str, float])

    def issue_token(self) -> str:
        """Make an access token."""
        token = uuid.uuid4().hex
        self._expiry[token] = self.clock() + self.token_lifetime
        return token

    def revoke_tokens(self) -> None:
        """Make every token so far invalid."""
        self._expiry.clear()

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer as Genesys does while all is well."""
        message_path = _MESSAGE_PATH.fullmatch(request.path)
        if request.path != TOKEN_PATH and message_path is None:
            return error_response(404)
        if request.method != "POST":
            return error_response(405, headers={"Allow": "POST"})
        if message_path is None:
            return await self._answer_token(request)
        return await self._answer_message(request, message_path[1])

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
        unauthorized = self._check_token(request.headers.get("Authorization", ""))
        if unauthorized is not None:
            return unauthorized
        try:
            body = json.loads(await request.read())
        except (ValueError, RecursionError):
            return error_response(400, message="The request body is not valid JSON.")
        wrong = _wrong_fields(body)
        if wrong:
            return _invalid(wrong)
        self.messages.append(body)
        return web.json_response(_delivered(body, integration_id))

    def _check_token(self, authorization: str) -> web.Response | None:
        if not self.require_token:
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return error_response(
                401,
                code="authentication.required",
                message="No authentication bearer token specified in authorization header.",
            )
        if self.clock() >= self._expiry.get(token, float("-inf")):
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
    """Make an answer with the body of a Genesys error."""
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


def _wrong_fields(body: object) -> list[str]:
    wrong = [path for path in _REQUIRED_TEXTS if not _is_text(_at(body, path))]
    return wrong if _is_time(_at(body, "channel.time")) else [*wrong, "channel.time"]


def _at(body: object, path: str) -> object:
    for step in path.split("."):
        if not isinstance(body, dict):
            return None
        body = cast("dict[str, object]", body).get(step)
    return body


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_time(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _invalid(fields: Sequence[str]) -> web.Response:
    return error_response(
        400,
        message=f"Missing or invalid: {', '.join(fields)}.",
        details=[{"errorCode": "invalid.value", "fieldName": name} for name in fields],
    )


def _delivered(body: dict[str, Any], integration_id: str) -> dict[str, Any]:
    sender = f"{integration_id}/{body['channel']['from']['id']}"
    return {
        "id": str(uuid.uuid4()),
        # What one person writes to one integration belongs to one conversation.
        "conversationId": str(uuid.uuid5(uuid.NAMESPACE_URL, sender)),
        "channel": body["channel"],
        "type": "Text",
        "text": body["text"],
    }

"""What every ASGI server and framework can run; needs no library."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias

from resilience.integrations.readiness import Readiness
from resilience.integrations.unavailable import STATUS
from resilience.registry import CircuitBreakerRegistry

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_OK = 200


class ReadinessApp:
    """Answers 200 while this process should take traffic, and else 503; an ASGI application.

    For servers and frameworks without an integration of their own.

    Args:
        registry: As for `resilience.integrations.readiness.is_ready`.
        required: The same.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A region is empty.
    """

    def __init__(
        self, registry: CircuitBreakerRegistry | None = None, *, required: Iterable[str] = ()
    ) -> None:
        self._readiness = Readiness(registry, required)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"ReadinessApp answers HTTP requests only, got {scope['type']}")
        is_ready = self._readiness.is_ready()
        body = json.dumps({"ready": is_ready}).encode()
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        await respond(send, _OK if is_ready else STATUS, headers, body)


async def respond(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Send a whole response.

    Args:
        send: That of the request.
        status: The status.
        headers: The headers, without the length.
        body: The body.
    """
    encoded = encode_headers({**headers, "Content-Length": str(len(body))})
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI asks for them."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
    ]

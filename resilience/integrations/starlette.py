"""For FastAPI and Starlette: a call that was rejected makes a 503; readiness.

Needs Starlette, which FastAPI brings along: ``pip install "region-breaker[starlette]"``.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from resilience._extras import needs_extra

with needs_extra(__name__, "starlette"):
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import JSONResponse, Response
    from starlette.websockets import WebSocket

from resilience._validate import kind_of
from resilience.errors import CallRejectedError
from resilience.integrations.readiness import Readiness
from resilience.integrations.unavailable import BODY, STATUS, headers_for
from resilience.registry import CircuitBreakerRegistry

_OK = 200
_TRY_AGAIN_LATER = 1013  # how a WebSocket is closed


def handle_rejections(app: Starlette) -> None:
    """Let an application answer 503 where a circuit or the throttle of a tenant rejects a call.

    The answer has a `Retry-After` in whole seconds, unless the circuit is forced open, and names
    neither the region nor the reason. A WebSocket is closed with the code 1013, "try again later".

    Args:
        app: A FastAPI or a Starlette application.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(app, Starlette):
        expected = "a FastAPI or a Starlette application"
        raise TypeError(f"app must be {expected}, got {kind_of(app)}")
    app.add_exception_handler(CallRejectedError, cast("Any", respond_unavailable))


async def respond_unavailable(connection: HTTPConnection, error: Exception) -> Response | None:
    """Answer a request whose call was rejected; the exception handler that is set.

    Args:
        connection: The request, or the WebSocket.
        error: The rejection.

    Returns:
        The answer to a request; None for a WebSocket, which is closed.
    """
    if isinstance(connection, WebSocket):
        await connection.close(_TRY_AGAIN_LATER)
        return None
    headers = headers_for(cast("CallRejectedError", error))
    return JSONResponse(BODY, status_code=STATUS, headers=headers)


def readiness_endpoint(
    registry: CircuitBreakerRegistry | None = None, *, required: Iterable[str] = ()
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that answers 200 while this process should take traffic, and else 503.

    Args:
        registry: As for `resilience.integrations.readiness.is_ready`.
        required: The same.

    Returns:
        An endpoint for ``app.add_route("/ready", readiness_endpoint())``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A region is empty.
    """
    readiness = Readiness(registry, required)

    async def answer(_: Request) -> Response:
        is_ready = readiness.is_ready()
        return JSONResponse({"ready": is_ready}, status_code=_OK if is_ready else STATUS)

    return answer

"""For servers of aiohttp: a call that was rejected makes a 503 with `Retry-After`; readiness.

Needs aiohttp: ``pip install "region-breaker[aiohttp]"``.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from resilience._extras import needs_extra

with needs_extra(__name__, "aiohttp"):
    from aiohttp import web

from resilience.errors import CallRejectedError
from resilience.integrations.readiness import Readiness
from resilience.integrations.unavailable import BODY, STATUS, headers_for
from resilience.registry import CircuitBreakerRegistry

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OK = 200


@web.middleware
async def rejection_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 503 where a circuit or the throttle of a tenant rejects a call; a middleware.

    The answer has a `Retry-After` in whole seconds, unless the circuit is forced open, and names
    neither the region nor the reason.

    Args:
        request: The request.
        handler: What answers it otherwise.
    """
    try:
        return await handler(request)
    except CallRejectedError as error:
        if request.writer.output_size > 0:  # the answer has begun, and cannot be another one
            raise
        return web.json_response(BODY, status=STATUS, headers=headers_for(error))


def readiness_handler(
    registry: CircuitBreakerRegistry | None = None, *, required: Iterable[str] = ()
) -> Handler:
    """Return a handler that answers 200 while this process should take traffic, and else 503.

    Args:
        registry: As for `resilience.integrations.readiness.is_ready`.
        required: The same.

    Returns:
        A handler for ``app.router.add_get("/ready", readiness_handler())``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A region is empty.
    """
    readiness = Readiness(registry, required)

    async def answer(_: web.Request) -> web.StreamResponse:
        is_ready = readiness.is_ready()
        return web.json_response({"ready": is_ready}, status=_OK if is_ready else STATUS)

    return answer

"""Uvicorn on loopback, in the event loop of the test."""

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager

import uvicorn


class QuietServer(uvicorn.Server):
    """Leaves the signals to the test run."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


@asynccontextmanager
async def serve_asgi(app):
    """Serve an ASGI application on a free port, and yield its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = QuietServer(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.001)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving

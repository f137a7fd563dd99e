"""Uvicorn on loopback, in the event loop of the test."""

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager

import django
import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application


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


def django_passing_on(page):
    """Return a Django application that passes on what belongs to a page at /circuits."""
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=(), SECRET_KEY="of a test")
        django.setup()
    application = get_asgi_application()

    async def app(scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith("/circuits"):
            await page({**scope, "root_path": "/circuits"}, receive, send)
        elif scope["type"] == "http":
            await application(scope, receive, send)
        else:
            raise NotImplementedError

    return app

"""A Django application with the status page inside."""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application


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

"""A status page: which regions are not called, since when, why, and what comes next.

`status_page` is for aiohttp and needs it: ``pip install "region-breaker[aiohttp]"``. `StatusPage`
is for every ASGI server and framework and needs no library. The page reads the circuits only while
a browser shows it, and changes nothing unless it is told who may.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from resilience._extras import needs_extra
from resilience.integrations.status_page.asgi import StatusPage

if TYPE_CHECKING:
    from resilience.integrations.status_page.actions import bearer_token
    from resilience.integrations.status_page.page import status_page

__all__ = ["StatusPage", "bearer_token", "status_page"]

# These need aiohttp, which the page for ASGI does without.
_MODULES = {
    "bearer_token": "resilience.integrations.status_page.actions",
    "status_page": "resilience.integrations.status_page.page",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs_extra(name, "aiohttp"):
        return getattr(import_module(_MODULES[name]), name)

"""A status page: which regions are not called, since when, why, and what comes next.

`status_page` is for aiohttp and needs it: ``pip install "region-breaker[aiohttp]"``. `StatusPage`
is for every ASGI server and framework and needs no library. The page reads the circuits only while
a browser shows it, and changes nothing unless it is told who may.
"""

from typing import TYPE_CHECKING

from resilience._extras import needs_extra
from resilience.integrations.status_page.actions import bearer_token
from resilience.integrations.status_page.asgi import StatusPage
from resilience.integrations.status_page.asgi_request import ActionRequest

if TYPE_CHECKING:
    from resilience.integrations.status_page.page import status_page

__all__ = ["ActionRequest", "StatusPage", "bearer_token", "status_page"]


def __getattr__(name: str) -> object:
    # It needs aiohttp, which the page for ASGI does without.
    if name != "status_page":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs_extra(name, "aiohttp"):
        from resilience.integrations.status_page.page import status_page  # noqa: PLC0415

        return status_page

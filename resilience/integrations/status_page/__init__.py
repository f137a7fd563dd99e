"""A status page: which regions are not called, since when, why, and what comes next.

`status_page` is for aiohttp and needs it: ``pip install "region-breaker[aiohttp]"``. `StatusPage`
is for every ASGI server and framework and needs no library. The page reads the circuits only while
a browser shows it, and it changes nothing.
"""

from typing import TYPE_CHECKING

from resilience.integrations.status_page.asgi import StatusPage

if TYPE_CHECKING:
    from resilience.integrations.status_page.page import status_page

__all__ = ["StatusPage", "status_page"]


def __getattr__(name: str) -> object:
    if name != "status_page":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from resilience.integrations.status_page.page import status_page  # noqa: PLC0415 - aiohttp

    return status_page

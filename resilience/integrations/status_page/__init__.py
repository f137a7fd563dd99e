"""A status page for aiohttp: which regions are not called, since when, why, and what comes next.

Needs aiohttp: ``pip install "region-breaker[aiohttp]"``. The page reads the circuits only while a
browser shows it, and it changes nothing.
"""

from resilience.integrations.status_page.page import status_page

__all__ = ["status_page"]

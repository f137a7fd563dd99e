"""A status page for aiohttp: which regions are not called, since when, why, and what comes next.

Needs aiohttp: ``pip install "region-breaker[aiohttp]"``. The page reads the circuits only while a
browser shows it, and changes nothing unless it is told who may.
"""

from resilience.integrations.status_page.actions import bearer_token
from resilience.integrations.status_page.page import status_page

__all__ = ["bearer_token", "status_page"]

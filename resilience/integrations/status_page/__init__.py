"""A status page for aiohttp: which regions are closed off, since when, why, and what comes next.

Needs aiohttp: ``pip install "region-breaker[aiohttp]"``. Reads the circuits only while somebody
looks, and changes nothing.
"""

from resilience.integrations.status_page.page import status_page

__all__ = ["status_page"]

"""All client set-ups, in the order of the documentation's table."""

from tests.integration.clients import setups_httpx, setups_requests

SETUPS = [*setups_httpx.SETUPS, *setups_requests.SETUPS]

"""What the set-ups of all clients that speak HTTP have in common."""

from tests.integration.clients.client_setup import ClientSetup
from tests.integration.clients.servers import answer, end_after_request, redirect, refusals, reset

# A client that follows redirects gives up after some.
PROXY_AND_REDIRECTS = {"407": answer(407), "redirects": redirect}

OUTAGES = {
    "500": answer(500),
    "502": answer(502),
    "reset": reset,
    "end after the request": end_after_request,
}


def http_setup(name, distributions, call, **fields):
    """Return a set-up for a client that knows about statuses, with the usual answers."""
    fields.setdefault("outages", OUTAGES)
    fields.setdefault("refusals", refusals())
    fields.setdefault("ignored", {"407": answer(407)})
    return ClientSetup(name, distributions, call, **fields)


def raw_setup(name, distributions, call, **fields):
    """Return a set-up for a client that returns what it was answered, whatever the status."""
    return http_setup(name, distributions, call, returns_status=True, **fields)

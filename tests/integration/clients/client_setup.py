"""What the tests know of one way to use a client library: how to call, and what may happen to it.

A set-up names one client and one way to use it ("httpx, async"). The harness starts a server that
behaves badly in each of five situations, lets the set-up make one call, and judges what came out:

- a situation, and an entry of `outages`, is a FAILURE: raised and judged by `classify_error`, or
  returned and judged by `classify_status`;
- an entry of `refusals` is ANSWERED: the server works and refuses this request;
- an entry of `misuse` is IGNORED: the mistake, or the shortage, is on this side; so is an entry of
  `ignored`, the refusal of a proxy for example.

A call gets the address of the server, makes one request without retries and with time-outs of
`timeout()` seconds, and closes what it opened. It may be a coroutine function. It does not catch
what the client raises, and does not wrap it.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tests.integration.clients.servers import Behaviour

# Seconds. Every call sets `timeout()` as its client's time-outs, the one for connecting included;
# where a call shall wait in vain, for a place in a full pool, it is TIMEOUT.
TIMEOUT = 0.25
_patient = False


def timeout() -> float:
    """Return the client's time-out in seconds: short where a server may hang, else long.

    A call that is expected to fail may be cut short on a slow machine, and has failed then too. One
    that is expected to be answered may not.
    """
    return 20.0 if _patient else TIMEOUT


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Make `timeout()` long for the time of a with block."""
    global _patient  # noqa: PLW0603 (one test at a time runs in a process)
    before, _patient = _patient, True
    try:
        yield
    finally:
        _patient = before


class Situation(StrEnum):
    """What can be wrong with a server."""

    DEAD = "dead"  # nobody listens on the port
    UNAVAILABLE = "unavailable"  # an answer that says so: HTTP 503 or the protocol's like
    DROPPING = "dropping"  # accepts and closes without a word
    HANGING = "hanging"  # accepts, reads and never answers
    CUTTING = "cutting"  # half an answer, then the end


@dataclass(frozen=True)
class ClientSetup:
    """One way to use a client library.

    Args:
        name: The name in the test's id and in the table of the documentation, "httpx, async".
        distributions: The packages, as PyPI calls them, whose versions the documentation shows.
            Empty for the standard library.
        call: Makes one call to the server at this host and port. A coroutine function runs in an
            event loop of its own.
        behaviours: What the server does in a situation. A situation without an entry has HTTP's
            behaviour (`servers.HTTP`); DEAD has none.
        left_out: The situations that this client cannot meet, each with the reason.
        outages: More that is a FAILURE: a name and what the server does.
        refusals: What is ANSWERED: a name and what the server does.
        ignored: What is IGNORED although it comes from the server: a name and what the server does.
        misuse: What is IGNORED: a name and a call like `call` that raises. Most mistakes do not
            reach the server. It sends half an answer and then hangs (`servers.stall`), so that a
            response that is not read keeps its connection and fills a pool of one.
        returns_status: Whether the client returns an answer with a bad status instead of raising.
    """

    name: str
    distributions: tuple[str, ...]
    call: Callable[[str, int], object]
    behaviours: Mapping[Situation, Behaviour] = field(default_factory=dict)
    left_out: Mapping[Situation, str] = field(default_factory=dict)
    outages: Mapping[str, Behaviour] = field(default_factory=dict)
    refusals: Mapping[str, Behaviour] = field(default_factory=dict)
    ignored: Mapping[str, Behaviour] = field(default_factory=dict)
    misuse: Mapping[str, Callable[[str, int], object]] = field(default_factory=dict)
    returns_status: bool = False

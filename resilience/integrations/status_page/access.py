"""Who may see the page: checks of a request, for every kind of web server."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from resilience._validate import check_text

_HOST = re.compile(r"(?P<name>[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?", re.IGNORECASE)


class Refusal(NamedTuple):
    """The answer to a request that is refused."""

    status: int
    text: str


def host_names(hosts: Iterable[str]) -> frozenset[str]:
    """Return the host names that the page answers to, those of this machine included."""
    if isinstance(hosts, str):
        raise TypeError("hosts must be a collection of host names, got a str")
    names = {check_text("a host", host).lower() for host in hosts}
    return frozenset(names | {"localhost", socket.gethostname().lower()})


def find_refusal(
    names: frozenset[str], hosts: Sequence[str], site: str, mode: str
) -> Refusal | None:
    """Return why a request is refused; None: it is not.

    Args:
        names: The host names that the page answers to.
        hosts: The `Host` headers of the request.
        site: Its `Sec-Fetch-Site` header.
        mode: Its `Sec-Fetch-Mode` header.
    """
    host = _HOST.fullmatch(",".join(hosts))
    if host is None:
        return Refusal(400, "The Host header is missing or invalid.\n")
    name = host["name"].lower().rstrip(".")
    if name not in names and not is_address(name.strip("[]")):  # DNS rebinding needs a name
        text = "The page does not answer to this host name: add it to hosts=.\n"
        return Refusal(421, text)
    # Following a link from another site is allowed.
    if site in ("cross-site", "same-site") and mode != "navigate":
        return Refusal(403, "Other sites may not request this.\n")
    return None


def is_address(text: str) -> bool:
    """Return whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

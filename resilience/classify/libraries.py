"""What is known about the client libraries: which of their types mean an outage.

A type is looked up by name among the modules that are loaded already. Nothing is imported for it.
"""

import sys
from functools import lru_cache

# Timeouts and connection errors that are neither a TimeoutError nor a ConnectionError.
OUTAGES = (
    "aiohttp.ClientConnectionError",
    "aiohttp.ClientPayloadError",
    "asyncio.IncompleteReadError",
    "http.client.BadStatusLine",
    "http.client.IncompleteRead",
    "http.client.LineTooLong",
    "httpx.NetworkError",
    "httpx.ProxyError",
    "httpx.RemoteProtocolError",
    "httpx.TimeoutException",
    "requests.exceptions.ChunkedEncodingError",
    "requests.exceptions.ConnectionError",
    "requests.exceptions.Timeout",
    "socket.gaierror",
    "socket.herror",
    "ssl.SSLError",
    "trio.BrokenResourceError",
    "trio.TooSlowError",
    "urllib.error.ContentTooShortError",
    "urllib3.exceptions.NewConnectionError",
    "urllib3.exceptions.ProtocolError",
    "urllib3.exceptions.ProxyError",
    "urllib3.exceptions.SSLError",
    "urllib3.exceptions.TimeoutError",
)
# aiohttp turns an answer that it cannot parse into a status 400 that the server never sent.
UNPARSABLE_ANSWERS = ("aiohttp.http_exceptions.HttpProcessingError",)


# Cached by type: where a type of error exists, the library that it comes from is loaded.
@lru_cache(maxsize=512)
def is_one_of(kind: type, names: tuple[str, ...]) -> bool:
    """Return whether a type is, or is derived from, one of those that are named."""
    known: list[object] = []
    for name in names:
        module, _, type_name = name.rpartition(".")
        known.append(safe_getattr(sys.modules.get(module), type_name))
    return issubclass(kind, tuple(one for one in known if isinstance(one, type)))


def safe_getattr(thing: object, name: str) -> object:
    """Return an attribute of an error or an answer of any class, or None where that fails."""
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - a property of a stranger's class may raise anything
        return None

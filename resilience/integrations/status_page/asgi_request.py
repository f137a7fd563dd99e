"""A request to the ASGI application, as its checks need it; needs no library."""

from collections.abc import Iterable, Iterator, Mapping

from resilience.integrations.asgi import Receive, Scope


class Headers(Mapping[str, str]):
    """The headers of a request, by their names in upper or lower case.

    Args:
        pairs: The headers, as ASGI has them. The values of a name that occurs more than once are
            joined with commas.
    """

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, str] = {}
        for encoded_name, encoded_value in pairs:
            name, value = encoded_name.decode("latin-1").lower(), encoded_value.decode("latin-1")
            known = self._values.get(name)
            self._values[name] = value if known is None else f"{known}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class ActionRequest:
    """A request for an action, which the function in `actions=` of `StatusPage` checks.

    Args:
        scope: What ASGI says about it, with what the middlewares of the framework have added, such
            as ``scope["user"]`` and ``scope["session"]`` of Starlette.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        #: The headers, by their names in upper or lower case.
        self.headers: Mapping[str, str] = Headers(scope["headers"])


async def read_body(receive: Receive, most: int) -> bytes:
    """Return the body of a request; of one with more than this many bytes, the beginning."""
    body = b""
    while len(body) <= most:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):  # also if the client has disconnected
            break
    return body

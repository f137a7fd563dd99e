"""The status page of one process, over HTTP: on a port, or on a local socket."""

import http.client
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from resilience._text import one_line
from resilience.cli.target import ChangeLine, CircuitLine, TargetError

_TIMEOUT = 10.0  # seconds
_MAX_ANSWER = 64 * 2**20  # bytes
_REJECTS_NOBODY = "its mode is not enforce, and it rejects nobody"


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a local socket.

    Args:
        path: The path of the socket.
    """

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


class PageTarget:
    """The circuits that a status page shows.

    Args:
        connect: Returns a new connection to its server.
        path: The path of the page, without a slash at the end.
        token: The token that its `actions=` asks for; empty: none.
        where: What error texts call it.
    """

    missing_history = ""

    def __init__(
        self,
        connect: Callable[[], http.client.HTTPConnection],
        path: str,
        token: str,
        where: str,
    ) -> None:
        self._connect = connect
        self._path = path
        self._token = token
        self._where = where

    def circuits(self) -> list[CircuitLine]:
        """Return all circuits that the page shows."""
        return [
            CircuitLine(
                registry=_text(circuit, "registry"),
                region=_text(circuit, "region"),
                state=_text(circuit, "state"),
                seconds_in_state=float(circuit["seconds_in_state"]),
                note=_note(circuit) + _note_on_mode(circuit),
            )
            for circuit in self._data()["regions"]
        ]

    def history(self) -> list[ChangeLine]:
        """Return the changes that the process remembers."""
        return [
            ChangeLine(
                time=_text(change, "time"),
                registry=_text(change, "registry"),
                region=_text(change, "region"),
                old=_text(change, "old"),
                new=_text(change, "new"),
                reason=_text(change, "reason") + (f", by {by}" if (by := change["by"]) else ""),
            )
            for change in self._data()["history"]
        ]

    def force_open(self, region: str, registry: str, reason: str) -> str:
        """Hold a circuit of the process open."""
        answer = self._act("force-open", region, registry, reason)
        text = f"{region} is held open until a reset"
        # The state that a call would meet now.
        return f"{text}; but {_REJECTS_NOBODY}" if b'"CLOSED"' in answer else text

    def reset(self, region: str, registry: str) -> str:
        """Close a circuit of the process."""
        self._act("reset", region, registry, "")
        return f"{region} is CLOSED"

    def _data(self) -> Mapping[str, Any]:
        answer = self._request("GET", "/api/circuits", None, {})
        try:
            data = cast("Mapping[str, Any]", json.loads(answer))
            if data["regions"] is not None and data["history"] is not None:
                return data
        except (ValueError, LookupError, TypeError):
            pass
        raise TargetError(f"{self._where} is not a status page")

    def _act(self, action: str, region: str, registry: str, reason: str) -> bytes:
        order = {"action": action, "region": region, "registry": registry, "reason": reason}
        headers = {"Content-Type": "application/json", "X-Resilience-Action": action}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return self._request("POST", "/api/actions", json.dumps(order), headers)

    def _request(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str]
    ) -> bytes:
        connection = self._connect()
        try:
            connection.request(method, self._path + path, body, dict(headers))
            answer = connection.getresponse()
            content = answer.read(_MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            why = type(error).__name__
            raise TargetError(f"cannot reach {self._where}: {why}") from None
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise TargetError(_why_refused(self._where, path, answer.status, content))
        return content


def page_at_url(url: str, token: str) -> PageTarget:
    """Return the status page at a URL.

    Raises:
        TargetError: It is not the URL of a page.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TargetError(f"not a URL: {one_line(url)}") from None
    host = parts.hostname
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    kind = kinds.get(parts.scheme)
    if host is None or kind is None:
        raise TargetError(f"not the URL of a status page: {one_line(url)}")
    where = one_line(f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}")
    path = parts.path.rstrip("/")
    return PageTarget(lambda: kind(host, port, timeout=_TIMEOUT), path, token, where)


def page_at_socket(path: str, token: str) -> PageTarget:
    """Return the status page that is served on a local socket."""
    return PageTarget(lambda: SocketConnection(path), "", token, one_line(path))


def _text(data: Mapping[str, Any], name: str) -> str:
    return one_line(str(data[name]))


def _note(circuit: Mapping[str, Any]) -> str:
    if circuit["state"] == "CLOSED":
        return ""
    reason, left = _text(circuit, "reason"), circuit["retry_after"]
    if circuit["forced"]:
        return reason
    if circuit["state"] == "HALF_OPEN":
        return f"{reason}; {'a probe is under way' if left else 'waiting for a call'}"
    return f"{reason}; next probe in {float(left):.0f} s"


def _note_on_mode(circuit: Mapping[str, Any]) -> str:
    # A process with an older version of the package has no modes.
    if circuit["state"] == "CLOSED" or circuit.get("mode", "enforce") == "enforce":
        return ""
    return f"; {_REJECTS_NOBODY}"


def _why_refused(where: str, path: str, status: int, content: bytes) -> str:
    has_no_actions = status in (http.HTTPStatus.METHOD_NOT_ALLOWED, http.HTTPStatus.NOT_FOUND)
    if path == "/api/actions" and has_no_actions and b"no circuit of this name" not in content:
        return f"{where} takes no actions: see actions= of status_page"
    text = one_line(content[:200].decode("utf-8", "replace").strip())
    return f"{where} refuses ({status}): {text}"

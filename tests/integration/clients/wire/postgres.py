"""The frontend/backend protocol of PostgreSQL, version 3."""

import socket
import struct

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, linger, read_exactly

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104
_TEXT = 25  # the OID of the type "text"
# What SQLAlchemy asks a new connection, by a word of the query.
_ANSWERS = {
    b"pg_catalog.version()": b"PostgreSQL 15.0",
    b"current_schema": b"public",
    b"show transaction": b"read committed",
    b"show standard": b"on",
}
_MARK = b"provoked"  # a query with this word is the one that a test is about

# What a real server says: of an error that comes before the login, libpq passes on nothing else.
_TEXTS = {
    "28000": 'no pg_hba.conf entry for host "127.0.0.1", user "u", database "d", no encryption',
    "28P01": 'password authentication failed for user "u"',
    "3D000": 'database "d" does not exist',
    "53300": "sorry, too many clients already",
    "57014": "canceling statement due to statement timeout",
    "57P01": "terminating connection due to administrator command",
    "57P03": "the database system is starting up",
}


def refusing_logins(sqlstate: str, severity: str = "FATAL") -> Behaviour:
    """Return a behaviour that answers a connection's first message with this error."""

    def serve(connection: socket.socket) -> None:
        _read_startup(connection)
        connection.sendall(_error(sqlstate, severity))
        linger(connection)

    return serve


def refusing_queries(sqlstate: str, severity: str = "ERROR") -> Behaviour:
    """Return a behaviour that lets everybody in, and answers the query with this error.

    Args:
        sqlstate: The error's code of five characters.
        severity: FATAL closes the connection.
    """

    def serve(connection: socket.socket) -> None:
        _log_in(connection)
        while True:
            kind = _serve_to_mark(connection)
            connection.sendall(_error(sqlstate, severity))
            if severity == "FATAL":
                linger(connection)
                return
            if kind == b"P":
                _skip_to_sync(connection)
            connection.sendall(_message(b"Z", b"I"))

    return serve


def cutting(connection: socket.socket) -> None:
    """Let the client in, send half of the answer to its query, and reset the connection."""
    _log_in(connection)
    _serve_to_mark(connection)
    cut_off(connection, _description()[:12])


def hanging_queries(connection: socket.socket) -> None:
    """Let the client in, and never answer its query."""
    _log_in(connection)
    _serve_to_mark(connection)
    while connection.recv(65536):
        pass


def idle(connection: socket.socket) -> None:
    """Let the client in, and answer what it asks a new connection."""
    _log_in(connection)
    _serve_to_mark(connection)


def _serve_to_mark(connection: socket.socket) -> bytes:
    """Answer until the query comes that a test is about, and return the kind of its message."""
    query = b""
    while True:
        kind, body = _read_message(connection)
        if kind in b"QP":
            query = body if kind == b"Q" else body.split(b"\0")[1]
            if _MARK in query:
                return kind
        connection.sendall(_reply(kind, body, query))


def _read_startup(connection: socket.socket) -> None:
    while True:
        (size,) = struct.unpack("!I", read_exactly(connection, 4))
        body = read_exactly(connection, size - 4)
        (code,) = struct.unpack("!I", body[:4])
        if code not in {_SSL_REQUEST, _GSS_REQUEST}:
            return
        connection.sendall(b"N")


def _log_in(connection: socket.socket) -> None:
    _read_startup(connection)
    settings = {
        "server_version": "15.0",
        "client_encoding": "UTF8",
        "standard_conforming_strings": "on",
        "integer_datetimes": "on",
        "TimeZone": "UTC",
        "DateStyle": "ISO, MDY",
    }
    greeting = _message(b"R", struct.pack("!I", 0))
    for name, value in settings.items():
        greeting += _message(b"S", f"{name}\0{value}\0".encode())
    greeting += _message(b"K", struct.pack("!II", 1, 1)) + _message(b"Z", b"I")
    connection.sendall(greeting)


def _read_message(connection: socket.socket) -> tuple[bytes, bytes]:
    kind = read_exactly(connection, 1)
    (size,) = struct.unpack("!I", read_exactly(connection, 4))
    body = read_exactly(connection, size - 4)
    if kind == b"X":
        raise EOFError("the client says goodbye")
    return kind, body


def _skip_to_sync(connection: socket.socket) -> None:
    """After an error a server reads, and ignores, everything up to the next Sync (or Flush)."""
    while _read_message(connection)[0] != b"S":
        pass


def _reply(kind: bytes, body: bytes, query: bytes) -> bytes:
    asks = query.lower().lstrip().startswith((b"select", b"show", b"with"))
    rows = _row(query) if asks else _message(b"C", b"BEGIN\0")
    description = _description() if asks else _message(b"n")
    parameters = _message(b"t", struct.pack("!H", 0)) if body.startswith(b"S") else b""
    replies = {
        b"Q": (_description() if asks else b"") + rows + _message(b"Z", b"I"),
        b"P": _message(b"1"),
        b"B": _message(b"2"),
        b"C": _message(b"3"),
        b"D": parameters + description,
        b"E": rows,
        b"S": _message(b"Z", b"I"),
    }
    return replies.get(kind, b"")


def _description() -> bytes:
    return _message(
        b"T", struct.pack("!H", 1) + b"x\0" + struct.pack("!IHIhih", 0, 0, _TEXT, -1, -1, 0)
    )


def _row(query: bytes) -> bytes:
    """Return the one row that answers a known query, or none: nothing is in this database."""
    for word, value in _ANSWERS.items():
        if word in query.lower():
            row = struct.pack("!HI", 1, len(value)) + value
            return _message(b"D", row) + _message(b"C", b"SELECT 1\0")
    return _message(b"C", b"SELECT 0\0")


def _error(sqlstate: str, severity: str) -> bytes:
    text = _TEXTS.get(sqlstate, "for the sake of a test")
    fields = f"S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0"
    return _message(b"E", fields.encode())


def _message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body

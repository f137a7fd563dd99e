"""SSH: a real server, that of asyncssh, on a connection that is accepted already."""

import asyncio
import socket
from functools import lru_cache

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import linger


def admitting(password: str) -> Behaviour:
    """Return a behaviour that admits a client with this password."""
    return lambda connection: asyncio.run(_serve(connection, password=password))


def disconnecting(code: int) -> Behaviour:
    """Return a behaviour that says goodbye, with this reason, to a client that logs in."""
    return lambda connection: asyncio.run(_serve(connection, code=code))


async def _serve(connection: socket.socket, *, password: str = "p", code: int = 0) -> None:
    import asyncssh

    # The server closes its own copy: the one that was given stays the caller's.
    try:
        served = await asyncssh.run_server(
            connection.dup(),
            server_host_keys=[_host_key()],
            server_factory=lambda: _server(password, code),
            config=None,
        )
        await served.wait_closed()
    except asyncssh.Error:
        pass  # the client has gone


@lru_cache(maxsize=1)
def _host_key():
    import asyncssh

    return asyncssh.generate_private_key("ssh-ed25519")


def _server(password: str, code: int):
    import asyncssh

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn):
            self._connection = conn

        def begin_auth(self, username):
            if code:
                self._connection.disconnect(code, "for the sake of a test")
            return True

        def password_auth_supported(self):
            return True

        def validate_password(self, username, offered):
            return offered == password

    return Server()


def too_many(connection: socket.socket) -> None:
    """Send what OpenSSH sends beyond its MaxStartups, and close."""
    connection.sendall(b"Exceeded MaxStartups\r\n")
    linger(connection)


def half_a_banner(connection: socket.socket) -> None:
    """Send half of the line with which a server begins, and close."""
    connection.sendall(b"SSH-2.0-Ope")
    linger(connection)

"""A stream that ends too early: a failure where the code of a client says so."""

import asyncio
import errno
import ftplib
import io
import os
import pickle
import smtplib
import socketserver
import threading

import anyio
import pytest

from resilience import classify_error
from tests.support.classifying import FAILURE, IGNORED, caused, raised, type_of


@pytest.fixture
def server():
    """Start a server that greets as it is told, and hangs up."""
    servers = []

    def start(greeting):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.sendall(greeting)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server.server_address

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_end_that_ftplib_meets(server):
    host, port = server(b"")
    client = ftplib.FTP()
    error = raised(lambda: client.connect(host, port, timeout=30))
    client.close()
    assert type(error) is EOFError
    assert classify_error(error) is FAILURE


def test_the_end_that_smtplib_meets(server):
    host, port = server(b"220 ready\r\n")

    def greet():
        with smtplib.SMTP(host, port, timeout=30) as client:
            client.ehlo()

    error = raised(greet)
    assert isinstance(error, smtplib.SMTPServerDisconnected)
    assert classify_error(error) is FAILURE


def test_a_client_that_never_connected_is_ignored():
    error = raised(lambda: smtplib.SMTP().ehlo())
    assert classify_error(error) is IGNORED


def test_the_end_that_asyncio_meets(server):
    async def read():
        reader, writer = await asyncio.open_connection(*server(b"too short"))
        try:
            await reader.readexactly(100)
        finally:
            writer.close()

    assert classify_error(raised(lambda: asyncio.run(read()))) is FAILURE


def test_the_end_that_anyio_meets(server):
    async def read():
        async with await anyio.connect_tcp(*server(b"")) as stream:
            await stream.receive()

    assert classify_error(raised(lambda: asyncio.run(read()))) is FAILURE


def test_the_end_of_a_file_of_the_caller_is_ignored():
    error = raised(lambda: pickle.load(io.BytesIO(b"")))
    assert type(error) is EOFError
    assert classify_error(error) is IGNORED
    assert classify_error(EOFError()) is IGNORED
    assert classify_error(caused(EOFError(), TimeoutError())) is FAILURE


def test_a_socket_that_a_client_has_closed_since_its_server_hung_up_is_a_failure(server):
    def ask():
        client = ftplib.FTP()
        client.connect(*server(b"220 ready\r\n"), timeout=30)
        client.file.close()
        client.sock.close()
        try:
            client.sendcmd("NOOP")
        finally:
            client.close()

    error = raised(ask)
    assert error.errno == errno.EBADF
    assert classify_error(error) is FAILURE
    assert classify_error(OSError(errno.EBADF, "Bad file descriptor")) is IGNORED
    assert classify_error(raised(lambda: os.fstat(1_000_000))) is IGNORED


def test_a_websocket_that_was_cut_is_a_failure():
    kind = type_of("websockets.exceptions.ConnectionClosedError")
    assert classify_error(kind(None, None)) is FAILURE

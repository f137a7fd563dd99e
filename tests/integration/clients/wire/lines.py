"""Protocols of text lines: SMTP, IMAP, POP3, FTP."""

import socket
from collections.abc import Mapping

from tests.integration.clients.servers import Behaviour
from tests.integration.clients.wire.stream import cut_off, linger, read_line


def dialogue(greeting: str, answers: Mapping[str, str], *, end_on: str = "") -> Behaviour:
    """Return a behaviour that greets, and answers commands.

    Args:
        greeting: What the server says first.
        answers: The answer to each command; "" stands for every other command. A command's tag, as
            IMAP has it, stands in an answer as "{tag}".
        end_on: What an answer begins with after which the server closes the connection.
    """

    def serve(connection: socket.socket) -> None:
        connection.sendall(f"{greeting}\r\n".encode())
        while True:
            words = read_line(connection).decode().split() or [""]
            tag, verb = words[0], words[1] if answers.get("tagged") else words[0]
            answer = answers.get(verb.upper(), answers.get("", ""))
            connection.sendall(answer.replace("{tag}", tag).encode() + b"\r\n")
            if end_on and answer.startswith(end_on):
                linger(connection)
                return
            if answer.startswith("354"):  # SMTP: now the message comes
                while read_line(connection) != b".":
                    pass
                connection.sendall(f"{answers.get('MESSAGE', '250 OK')}\r\n".encode())

    return serve


def cutting(greeting: str, half: str) -> Behaviour:
    """Return a behaviour that answers the first command with half an answer, and resets."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(f"{greeting}\r\n".encode())
        read_line(connection)
        cut_off(connection, half.encode())

    return serve

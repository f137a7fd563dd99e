"""A server that says what no store, and no Sentinel, would say."""

import socket
import threading
from contextlib import suppress


class Liar:
    """A server that says the same to every command, and after a while nothing."""

    def __init__(self, answer, times=10**9):
        self.answer, self.times = answer, times
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, suppress(OSError):
            while connection.recv(65536):
                if self.times > 0:
                    self.times -= 1
                    connection.sendall(self.answer)

    def close(self):
        self.socket.close()


class Impatient(Liar):
    """A server that ends each connection as soon as it has answered this many times."""

    def _serve(self, connection):
        with connection, suppress(OSError):
            for _ in range(self.times):
                if not connection.recv(65536):
                    return
                connection.sendall(self.answer)

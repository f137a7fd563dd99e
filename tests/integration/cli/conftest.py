"""A process with a status page, and the command line as a process of its own."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest

from resilience.__main__ import main

WATCHDOG = 60  # seconds

# A worker whose circuits are watched; it ends with its standard input.
WORKER = """
import asyncio, sys
from aiohttp import web
from loguru import logger
from resilience import BreakerPolicy, CircuitBreakerRegistry
from resilience.integrations.status_page import bearer_token, status_page

logger.remove()
messages = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2), name="messages")
tokens = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2), name="tokens")
messages.get("eu-west-1").acquire().succeed()
tokens.get("eu-west-1").acquire().succeed()
if sys.argv[2] == "observe":
    tokens.configure(policy=BreakerPolicy(failure_threshold=2, mode="observe"))
down = messages.get("us-east-1")
for _ in range(2):
    down.acquire().fail(TimeoutError())


async def main():
    actions = bearer_token("a-token-for-tests") if sys.argv[2] != "none" else None
    app = web.Application()
    app.add_subapp("/circuits", status_page([messages, tokens], actions=actions))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    alone = web.AppRunner(status_page([messages, tokens], actions=actions), access_log=None)
    await alone.setup()
    await web.UnixSite(alone, sys.argv[1]).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()
    await alone.cleanup()


asyncio.run(main())
"""


class Worker:
    """The process: its addresses."""

    def __init__(self, port, socket):
        self.url = f"http://127.0.0.1:{port}/circuits"
        self.socket = str(socket)


@contextlib.contextmanager
def working(folder, kind):
    socket = folder / "page.sock"
    command = [sys.executable, "-c", WORKER, str(socket), kind]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        watchdog = threading.Timer(WATCHDOG, process.kill)
        watchdog.start()
        try:
            yield Worker(int(process.stdout.readline()), socket)
        finally:
            process.stdin.close()
            process.wait(WATCHDOG)
            watchdog.cancel()


@pytest.fixture
def worker(tmp_path):
    with working(tmp_path, "actions") as worker:
        yield worker


@pytest.fixture
def observing_worker(tmp_path):
    with working(tmp_path, "observe") as worker:
        yield worker


@pytest.fixture
def read_only_worker(tmp_path):
    with working(tmp_path, "none") as worker:
        yield worker


def environment(**variables):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RESILIENCE_")}
    return {**kept, **variables}


def command(*arguments):
    return [sys.executable, "-W", "error", "-m", "resilience", *arguments]


@pytest.fixture(params=["process", "inside"])
def cli(request, monkeypatch, capsys):
    """Run one command, as a process or here; return its exit code, its output and its errors."""

    def run_inside(*arguments, **variables):
        with monkeypatch.context() as patch:
            for name in ("REDIS", "URL", "SOCKET", "TOKEN"):
                patch.delenv(f"RESILIENCE_{name}", raising=False)
            for name, value in variables.items():
                patch.setenv(name, value)
            capsys.readouterr()
            try:
                code = main(arguments)
            except SystemExit as exit_:
                code = exit_.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    def run(*arguments, **variables):
        done = subprocess.run(
            command(*arguments),
            env=environment(**variables),
            capture_output=True,
            text=True,
            timeout=WATCHDOG,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run if request.param == "process" else run_inside

"""A machine that has no files or no ports left: every region looks down, and no circuit opens."""

import subprocess
import sys
from contextlib import suppress

import pytest

from tests.support.ip import NoNamespacesError, ip, name_of
from tests.support.needs import needs

# Each gives `get`, whose event loop, if it has one, is there before the limit is reached.
CLIENTS = {
    "aiohttp": """
import aiohttp
runner = asyncio.Runner()

async def request(url):
    async with aiohttp.ClientSession() as session, session.get(url):
        pass

def get(url):
    runner.run(request(url))
""",
    "httpx": """
import httpx
get = httpx.Client(trust_env=False).get
""",
    "httpx.AsyncClient": """
import httpx
runner = asyncio.Runner()
client = httpx.AsyncClient(trust_env=False)

def get(url):
    runner.run(client.get(url))
""",
    "requests": """
import requests
session = requests.Session()
session.trust_env = False
get = session.get
""",
    "urllib3": """
import urllib3
pool = urllib3.PoolManager()

def get(url):
    pool.request("GET", url)
""",
}

NO_FILES = """
import os, resource
highest = os.dup(0)
os.close(highest)
resource.setrlimit(resource.RLIMIT_NOFILE, (highest, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
"""

# Two ports, and connections to the server use them both.
NO_PORTS = """
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("40000 40001")
held = [socket.create_connection(server.getsockname()) for _ in range(2)]
"""

PROGRAM = """
import asyncio, socket
from resilience import CircuitBreaker
{client}
server, nobody = socket.socket(), socket.socket()
server.bind(("127.0.0.1", 5001 if {fixed} else 0))
server.listen()
nobody.bind(("127.0.0.1", 5002 if {fixed} else 0))
breaker = CircuitBreaker("eu-west-1")

def call(listener):
    try:
        with breaker.acquire():
            get("http://%s:%d/" % listener.getsockname())
    except Exception:
        pass

call(nobody)  # refused; and it loads what the client loads late
{limit}
for _ in range(20):
    call(server)
snapshot = breaker.snapshot()
print(snapshot.state, snapshot.failures, snapshot.ignored)
"""


def run(client, limit, *prefix):
    """Make one call that is refused, and twenty when the limit is reached; return the outcomes."""
    program = PROGRAM.format(client=CLIENTS[client], limit=limit, fixed=bool(prefix))
    command = [*prefix, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def namespace():
    """A network of its own, whose ports nobody else uses."""
    needs("network namespaces")
    name = name_of("ports")
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        with suppress(NoNamespacesError):
            ip("netns", "del", name)


@pytest.mark.parametrize("client", CLIENTS)
def test_calls_without_a_free_file_are_ignored(client):
    assert run(client, NO_FILES) == "CLOSED 1 20"


@pytest.mark.parametrize("client", CLIENTS)
def test_calls_without_a_free_port_are_ignored(client, namespace):
    assert run(client, NO_PORTS, "ip", "netns", "exec", namespace) == "CLOSED 1 20"

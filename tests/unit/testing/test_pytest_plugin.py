"""The plugin of pytest, in runs of its own."""

import os
import subprocess
import sys

import pytest

SYNC = """
import requests
from resilience import CircuitBreakerOpenError, CircuitState, default_registry, region_breaker


@region_breaker(region_from="region")
def send(region, genesys):
    url = genesys.message_url()
    requests.post(url, json={}, timeout=30).raise_for_status()


def test_a_rejection(circuits, circuit_clock, open_circuit):
    breaker = open_circuit("eu-west-1")
    assert circuits is default_registry and breaker.state is CircuitState.OPEN
    try:
        send("eu-west-1", None)
    except CircuitBreakerOpenError as error:
        assert error.retry_after == 60
    circuit_clock.advance(60)
    assert breaker.state is CircuitState.HALF_OPEN


def test_the_next_test_begins_anew(circuits, fake_genesys):
    assert len(circuits) == 0
    fake_genesys.fail(503)
    for _ in range(20):
        try:
            send("eu-west-1", fake_genesys)
        except (requests.HTTPError, CircuitBreakerOpenError):
            pass
    assert fake_genesys.requests == 10
"""

ASYNC = """
import aiohttp
import pytest
from resilience import CircuitBreakerOpenError, CircuitState, region_breaker

{mark}


@region_breaker(region_from="region")
async def send(region, genesys):
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        await session.post(genesys.message_url(), json={{}})


async def test_it_opens(circuits, fake_genesys):
    fake_genesys.fail(503)
    for _ in range(20):
        with pytest.raises((aiohttp.ClientResponseError, CircuitBreakerOpenError)):
            await send("eu-west-1", fake_genesys)
    assert fake_genesys.requests == 10


async def test_it_recovers(circuits, circuit_clock, open_circuit):
    breaker = open_circuit("eu-west-1")
    circuit_clock.advance(60)
    assert await breaker.wait_until_ready(timeout=30)
    assert breaker.state is CircuitState.HALF_OPEN
"""

ANYIO = """
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def run(folder, text, *options):
    (folder / "test_it.py").write_text(text)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV_"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    # pytest-asyncio would warn.
    command += ["-o", "asyncio_default_fixture_loop_scope=function"]
    done = subprocess.run(
        [*command, "-W", "error", "test_it.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout + done.stderr


def test_fixtures_for_plain_tests(tmp_path):
    assert "2 passed" in run(tmp_path, SYNC)


@pytest.mark.parametrize(
    ("mark", "mode"),
    [
        ("pytestmark = pytest.mark.asyncio", "strict"),
        ("", "auto"),
        (ANYIO, "strict"),
    ],
    ids=["pytest-asyncio", "pytest-asyncio-auto", "anyio"],
)
def test_fixtures_for_asyncio(tmp_path, mark, mode):
    text = ASYNC.format(mark=mark)
    assert "2 passed" in run(tmp_path, text, "-o", f"asyncio_mode={mode}")


def test_what_was_in_the_default_registry_is_there_again(tmp_path):
    text = SYNC + (
        "\n\nbefore = default_registry.get('before')\n\n"
        "def test_before():\n    assert list(default_registry) == [before]\n"
    )
    assert "3 passed" in run(tmp_path, text)


def test_nothing_is_imported_before_a_test_asks_for_it(tmp_path):
    text = (
        "import sys\n\n"
        "def test_it(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.has_plugin('region_breaker')\n"
        "    assert 'pytest_region_breaker' in sys.modules\n"
        "    heavy = {'resilience', 'loguru', 'tenacity', 'aiohttp'}\n"
        "    assert heavy & set(sys.modules) == set()\n"
    )
    assert "1 passed" in run(tmp_path, text)

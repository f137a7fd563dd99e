"""Whether a process should take traffic, by its circuits."""

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from fastapi import FastAPI

from resilience import CircuitBreakerRegistry
from resilience.integrations.aiohttp_web import readiness_handler
from resilience.integrations.asgi import ReadinessApp
from resilience.integrations.readiness import is_ready
from resilience.integrations.starlette import readiness_endpoint
from tests.support.asgi_server import serve_asgi


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(clock=clock)


def open_circuit(registry, region):
    for _ in range(10):
        registry.get(region).acquire().fail()


def test_a_process_that_has_called_nobody_is_ready():
    assert is_ready()


def test_a_process_is_ready_while_one_of_its_regions_is_called(registry):
    open_circuit(registry, "eu-west-1")
    assert not is_ready(registry)
    registry.get("eu-central-1")
    assert is_ready(registry)
    registry.get("eu-central-1").force_open("maintenance")
    assert not is_ready(registry)


def test_a_process_that_cannot_do_without_a_region_is_not_ready_without_it(registry):
    registry.get("eu-central-1")
    open_circuit(registry, "eu-west-1")
    assert not is_ready(registry, required=["eu-west-1"])
    assert is_ready(registry, required=["eu-central-1", "us-east-1"])


def test_a_region_that_waits_for_a_probe_needs_traffic(registry, clock):
    open_circuit(registry, "eu-west-1")
    clock.advance(60)
    assert is_ready(registry, required=["eu-west-1"])


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"registry": {}}, TypeError, "registry must be a CircuitBreakerRegistry, got dict"),
        ({"required": "eu-west-1"}, TypeError, "required must be a collection of regions, got a"),
        ({"required": [7]}, TypeError, "a required region must be a str, got int"),
        ({"required": [""]}, ValueError, "a required region must not be empty"),
    ],
)
def test_wrong_arguments_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        is_ready(**options)


async def test_the_endpoint_of_aiohttp(registry):
    app = web.Application()
    app.router.add_get("/ready", readiness_handler(registry))
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/ready")
        assert (response.status, await response.json()) == (200, {"ready": True})
        open_circuit(registry, "eu-west-1")
        response = await client.get("/ready")
        assert (response.status, await response.json()) == (503, {"ready": False})


async def test_the_endpoints_of_asgi_and_starlette(registry):
    app = FastAPI()
    app.add_route("/ready", readiness_endpoint(registry, required=["eu-west-1"]))
    app.mount("/asgi/", ReadinessApp(registry, required=["eu-west-1"]))
    async with serve_asgi(app) as url, aiohttp.ClientSession(url) as session:
        for path in ("/ready", "/asgi/"):
            async with session.get(path) as response:
                assert (response.status, await response.json()) == (200, {"ready": True})
        open_circuit(registry, "eu-west-1")
        for path in ("/ready", "/asgi/"):
            async with session.get(path) as response:
                assert (response.status, await response.json()) == (503, {"ready": False})


async def test_the_endpoint_of_asgi_answers_nothing_else(registry):
    with pytest.raises(ValueError, match="HTTP requests only, got websocket"):
        await ReadinessApp(registry)({"type": "websocket"}, None, None)

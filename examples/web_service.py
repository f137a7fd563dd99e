"""A web service: while a region is down, FastAPI answers 503 with Retry-After.

The service fetches users from two regions. Three things are one line each:

- `handle_rejections` makes a 503 with `Retry-After` of each rejection. The region's own errors,
  before the circuit opens, are a 502: what they become is for the service to say.
- `StatusPage` is mounted next to the service.
- `readiness_endpoint` is what an orchestrator asks. It stays at 200 while another region works.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.testclient import TestClient
from loguru import logger

from resilience import BreakerPolicy, CircuitBreakerRegistry, region_breaker
from resilience.integrations.starlette import handle_rejections, readiness_endpoint
from resilience.integrations.status_page import StatusPage
from resilience.testing import FakeClock, FakeGenesys

# --- the service: this is your code ---------------------------------------------------------------


def client_of(request: Request) -> httpx.AsyncClient:
    """Return the client of the application, which all of its requests share."""
    client: httpx.AsyncClient = request.app.state.client
    return client


def make_app(urls: Mapping[str, str], circuits: CircuitBreakerRegistry) -> FastAPI:
    """Return the application.

    Args:
        urls: Region -> its URL.
        circuits: The circuits of the regions; a program of its own would take `default_registry`.
    """

    @region_breaker(region_from="region", registry=circuits)
    async def fetch_user(client: httpx.AsyncClient, region: str, user: str) -> Any:
        response = await client.get(f"{urls[region]}/api/v2/users/{user}")
        response.raise_for_status()
        return response.json()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with httpx.AsyncClient(timeout=5) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)
    handle_rejections(app)
    app.mount("/circuits", StatusPage(circuits))
    app.add_route("/ready", readiness_endpoint(circuits))

    @app.get("/{region}/users/{user}")
    async def get_user(
        region: str, user: str, client: Annotated[httpx.AsyncClient, Depends(client_of)]
    ) -> Any:
        if region not in urls:
            raise HTTPException(404, "there is no such region")
        try:
            return await fetch_user(client, region, user)
        except httpx.HTTPError as error:
            raise HTTPException(502, "the region has failed") from error

    return app


# --- what happens to it ---------------------------------------------------------------------------


def show(client: TestClient, path: str) -> int:
    """Request a path, print the answer, and return its status."""
    answer = client.get(path)
    pause = answer.headers.get("Retry-After")
    asked = "" if pause is None else f", Retry-After: {pause}"
    print(f"    {path:<24} {answer.status_code} {answer.json()}{asked}")
    return answer.status_code


def states(client: TestClient) -> dict[str, str]:
    """Return the state of each circuit, as the data of the status page has it."""
    data = client.get("/circuits/api/circuits").json()
    return {circuit["region"]: circuit["state"] for circuit in data["regions"]}


def main() -> None:
    logger.disable("resilience")
    clock = FakeClock()
    circuits = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2), clock=clock)
    with FakeGenesys() as dublin, FakeGenesys() as frankfurt:
        for region in (dublin, frankfurt):
            region.add_route("GET", "/api/v2/users/{id}", {"name": "Ann"}, require_token=False)
        app = make_app({"eu-west-1": dublin.url, "eu-central-1": frankfurt.url}, circuits)
        # The status page answers to localhost, and not to the name that TestClient has by default.
        with TestClient(app, base_url="http://localhost") as client:
            play(client, dublin, clock)


def play(client: TestClient, dublin: FakeGenesys, clock: FakeClock) -> None:
    """Take one region down and up again."""
    print("both regions are up")
    assert show(client, "/eu-west-1/users/7") == 200
    assert show(client, "/eu-central-1/users/7") == 200

    print("eu-west-1 goes down: two calls fail, and the circuit opens")
    dublin.fail(503)
    assert [show(client, "/eu-west-1/users/7") for _ in range(3)] == [502, 502, 503]
    assert dublin.requests == 3, "the third call of the outage made no request"
    assert show(client, "/eu-central-1/users/7") == 200
    assert show(client, "/ready") == 200
    print(f"    the status page says     {states(client)}")
    assert states(client) == {"eu-west-1": "OPEN", "eu-central-1": "CLOSED"}

    print("60 seconds later eu-west-1 is back up: three probes close the circuit")
    dublin.up()
    clock.advance(60)
    assert [show(client, "/eu-west-1/users/7") for _ in range(3)] == [200, 200, 200]
    print(f"    the status page says     {states(client)}")
    assert set(states(client).values()) == {"CLOSED"}


if __name__ == "__main__":
    main()

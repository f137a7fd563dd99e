"""An hour with an outage, in a real Prometheus, and the answers to the dashboard's own queries.

Needs Debian's prometheus, which brings promtool. The hour is played on a FakeClock and has a fixed
date, so that the answers change only when the queries or the breakers do.
"""

import contextlib
import http.client
import json
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

from resilience import (
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    Permit,
)
from resilience.integrations.prometheus import CircuitCollector
from resilience.testing import FakeClock

BEGIN = datetime(2026, 1, 5, 9, 0, tzinfo=UTC).timestamp()
SECONDS = 3600
EVERY = 10  # seconds between two scrapes, and between two points of a graph
RATE_INTERVAL = "40s"  # what Grafana takes for $__rate_interval: four scrapes
PROBE_TAKES = 8  # seconds; else HALF_OPEN would fall between two scrapes
PATIENCE = 30.0  # seconds for Prometheus to start
REGIONS = ("us-east-1", "eu-west-1", "ap-southeast-2")

Labels = dict[str, str]
Points = list[tuple[float, float]]


class ServerError(Exception):
    """What the API answers while it is down."""

    status = 503


@dataclass
class Traffic:
    """The calls to one region."""

    breaker: CircuitBreaker
    chance: random.Random
    probe: Permit | None = None
    probe_ends: int = 0

    def second(self, now: int, calls: int, failing: float) -> None:
        """Let a second pass with so many calls, of which that share fails."""
        if self.probe is not None:
            if now >= self.probe_ends:
                self._end(self.probe, failing)
                self.probe = None
        elif self.breaker.state is not CircuitState.CLOSED:
            with contextlib.suppress(CircuitBreakerOpenError):
                self.probe = self.breaker.acquire()
                self.probe_ends = now + PROBE_TAKES
        for _ in range(calls):
            with contextlib.suppress(CircuitBreakerOpenError):
                # What is admitted here is a call to a CLOSED circuit, or the next probe, at once.
                self._end(self.breaker.acquire(), failing)

    def _end(self, permit: Permit, failing: float) -> None:
        if self.chance.random() < failing:
            permit.fail(ServerError())
        else:
            permit.succeed()


@dataclass
class Answer:
    """What Prometheus says to one panel: for each series its labels and its points."""

    panel: dict[str, Any]
    series: list[tuple[Labels, Points]] = field(default_factory=list)


def failing(region: str, minute: float) -> float:
    """Give the share of calls that fail: one region wobbles, one goes down twice."""
    if region == REGIONS[0] and 31 <= minute < 37:  # noqa: PLR2004 - the story
        return 0.35
    if region == REGIONS[1] and (14 <= minute < 26 or minute >= 57):  # noqa: PLR2004 - the same
        return 1.0
    return 0.01


def scrapes() -> Iterator[tuple[float, CircuitCollector]]:
    """Play the hour; at each scrape, give the time and the collector to read."""
    clock = FakeClock(BEGIN)
    registry = CircuitBreakerRegistry(clock=clock)
    collector = CircuitCollector(registry)
    chance = random.Random(11)  # noqa: S311 - a picture, no secret
    traffic = {region: Traffic(registry.get(region), chance) for region in REGIONS}
    for now in range(SECONDS + 1):
        if now == 44 * 60:
            registry.get(REGIONS[2]).force_open("maintenance until 11:00")
        for number, (region, calls) in enumerate(traffic.items()):
            calls.second(now, chance.randrange(2, 6) + number, failing(region, now / 60))
        if now % EVERY == 0:
            yield BEGIN + now, collector
        clock.advance(1)


def open_metrics() -> str:
    """Write down the samples of the whole hour, as a Prometheus that scrapes would have them."""
    families: dict[str, list[str]] = {}
    for at, collector in scrapes():
        for family in collector.collect():
            lines = families.setdefault(family.name, [f"# TYPE {family.name} {family.type}"])
            for sample in family.samples:
                # The labels that Prometheus itself adds to what it scrapes.
                labels = {"instance": "worker-7:8000", "job": "worker", **sample.labels}
                inside = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
                lines.append(f"{sample.name}{{{inside}}} {float(sample.value)} {at:.0f}")
    text = "\n".join(line for lines in families.values() for line in lines)
    return text.replace("} inf ", "} +Inf ") + "\n# EOF\n"


@contextlib.contextmanager
def prometheus(samples: str) -> Iterator[int]:
    """Run a Prometheus that has these samples; gives its port on the loopback address."""
    with TemporaryDirectory() as name, socket.socket() as free:
        folder = Path(name)
        (folder / "samples").write_text(samples, encoding="utf-8")
        (folder / "prometheus.yml").write_text("scrape_configs: []\n", encoding="utf-8")
        load = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "-q"]
        subprocess.run([*load, folder / "samples", folder / "data"], check=True)
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        free.close()
        command = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=100y",  # the hour has a fixed date, and is never new
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
        with subprocess.Popen(command) as server:
            try:
                wait_for(server, port)
                yield port
            finally:
                server.terminate()


def wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until Prometheus answers queries."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError):
            status, _ = get(port, "/-/ready")
            if status == http.client.OK:
                return
        time.sleep(0.1)
    raise SystemExit("screenshots: Prometheus did not start")


def get(port: int, path: str) -> tuple[int, bytes]:
    """Ask the server on this port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def ask(port: int, panel: dict[str, Any]) -> Answer:
    """Ask a panel's own queries; it is an error if nothing but zeros comes back."""
    answer = Answer(panel)
    instant = panel["type"] in {"stat", "table"}
    end = BEGIN + SECONDS
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", RATE_INTERVAL).replace("$region", ".*")
        asked = {"query": query, "time": end}
        if not instant:
            asked = {"query": query, "start": BEGIN, "end": end, "step": EVERY}
        path = "/api/v1/query" if instant else "/api/v1/query_range"
        status, body = get(port, f"{path}?{urlencode(asked)}")
        if status != http.client.OK:
            raise SystemExit(f"screenshots: {panel['title']}: {body.decode()}")
        for found in json.loads(body)["data"]["result"]:
            points = [found["value"]] if instant else found["values"]
            answer.series.append((found["metric"], [(at, float(value)) for at, value in points]))
    # `or vector(0)` answers even when its metric is unknown; the hour has an outage to be seen.
    if not any(value for _, points in answer.series for _, value in points):
        raise SystemExit(f"screenshots: no data for the panel {panel['title']!r}")
    answer.series.sort(key=lambda found: sorted(found[0].items()))
    return answer


def answers(dashboard: dict[str, Any]) -> list[Answer]:
    """Ask every query of the dashboard."""
    with prometheus(open_metrics()) as port:
        return [ask(port, panel) for panel in dashboard["panels"]]

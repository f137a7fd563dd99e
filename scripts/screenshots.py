"""Take the pictures in the docs in a real Chromium: the status page, and the drawn dashboard.

Run it with `make screenshots`. It needs Debian's chromium and prometheus. The regions are made up
and live on a FakeClock, so that a picture changes only when what it shows does.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web
from dashboard_data import answers
from dashboard_picture import dashboard_page
from loguru import logger
from playwright.async_api import Browser, async_playwright

from resilience import (
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
)
from resilience.genesys import GenesysRegion
from resilience.integrations.status_page import status_page
from resilience.testing import FakeClock

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "_static"
DASHBOARD = PICTURES.parent / "monitoring" / "dashboard.json"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Name -> colour scheme, width, height.
SHOTS = {
    "status-page-light": ("light", 1320, 860),
    "status-page-dark": ("dark", 1320, 860),
    "status-page-telephone": ("dark", 390, 844),
}


class ServerError(Exception):
    """What the API answers while it is down."""

    status = 503


@contextlib.asynccontextmanager
async def serve(regions: int) -> AsyncIterator[str]:
    """Serve a page with so many regions and an hour behind them; gives its address."""
    clock = FakeClock(10_000.0)
    registry = CircuitBreakerRegistry(max_regions=2000, clock=clock)
    runner = web.AppRunner(status_page(registry), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    names = [region.value for region in GenesysRegion]
    names += [f"tenant-{number:03}" for number in range(len(names), regions)]
    play([registry.get(name) for name in names[:regions]], clock)
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def play(breakers: list[CircuitBreaker], clock: FakeClock) -> None:
    """Let an hour pass in which a few regions were down, and end in the middle of an outage."""
    chance = random.Random(7)  # noqa: S311 - a picture, no secret
    for minute in range(62):
        clock.advance(60)
        for number, breaker in enumerate(breakers):
            if (minute * 7 + number * 3) % 151 == 1 and breaker.state is CircuitState.CLOSED:
                fail(breaker, breaker.policy.failure_threshold)
            elif breaker.state is not CircuitState.CLOSED and chance.random() < 0.6:  # noqa: PLR2004
                fail(breaker, 1)
            else:
                succeed(breaker, chance.randrange(3, 60))
    for breaker in breakers:
        succeed(breaker, 3)
    outage(breakers, clock)


def outage(breakers: list[CircuitBreaker], clock: FakeClock) -> None:
    """Leave one region probing, one open, and one forced open, if there are so many."""
    down = dict(zip(("probing", "open", "forced"), breakers[2:], strict=False))
    if "probing" in down:
        fail(down["probing"], 10)
        reject(down["probing"], 412)
    clock.advance(38)
    if "forced" in down:
        down["forced"].force_open("maintenance until 04:00")
    if "open" in down:
        fail(down["open"], 10)
        reject(down["open"], 128)
    clock.advance(23)
    if "probing" in down:
        down["probing"].acquire()


def succeed(breaker: CircuitBreaker, times: int) -> None:
    """Make so many calls succeed, as far as they are let through."""
    with contextlib.suppress(CircuitBreakerOpenError):
        for _ in range(times):
            breaker.acquire().succeed()


def fail(breaker: CircuitBreaker, times: int) -> None:
    """Make so many calls fail, as far as they are let through."""
    with contextlib.suppress(CircuitBreakerOpenError):
        for _ in range(times):
            breaker.acquire().fail(ServerError())


def reject(breaker: CircuitBreaker, times: int) -> None:
    """Ask for so many calls that are rejected."""
    for _ in range(times):
        with contextlib.suppress(CircuitBreakerOpenError):
            breaker.acquire()


async def draw_dashboard(browser: Browser, folder: Path) -> None:
    """Draw the dashboard: a Grafana is not to be had from Debian, PyPI or npm, a Prometheus is."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    html, width, height = dashboard_page(dashboard, await asyncio.to_thread(answers, dashboard))
    page = await browser.new_page(viewport={"width": width, "height": height})
    await page.set_content(html)
    await page.screenshot(path=folder / "dashboard.png")
    print("screenshots: dashboard.png")
    await page.close()


async def main(folder: Path, regions: int) -> None:
    """Take every picture.

    Args:
        folder: Where they go.
        regions: How many regions they show.
    """
    logger.disable("resilience")
    socket.gethostname, os.getpid = lambda: "worker-7", lambda: 4711  # whose machine it was
    async with serve(regions) as url, async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, (scheme, width, height) in SHOTS.items():
            page = await browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            await page.goto(url)
            await page.locator("#live.on").wait_for()
            await page.screenshot(path=folder / f"{name}.png")
            print(f"screenshots: {name}.png")
            await page.close()
        await draw_dashboard(browser, folder)
        await browser.close()


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
    asyncio.run(main(folder, int(sys.argv[2]) if len(sys.argv) > 2 else 18))  # noqa: PLR2004

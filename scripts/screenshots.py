"""Take the pictures of the status page in the docs, in a real Chromium.

Run it with `make screenshots`. It needs Debian's chromium. The regions are made up and live on a
FakeClock: a picture changes only when what it shows does.
"""

import asyncio
import contextlib
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from aiohttp import web
from loguru import logger
from playwright.async_api import async_playwright

from resilience import CircuitBreaker, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.genesys import GenesysRegion
from resilience.integrations.status_page import status_page
from resilience.testing import FakeClock

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "_static"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Name -> colour scheme, width, height.
SHOTS = {
    "status-page-light": ("light", 1320, 860),
    "status-page-dark": ("dark", 1320, 860),
    "status-page-telephone": ("dark", 390, 844),
}


class ServerError(Exception):
    """What the API raises while it is down."""

    status = 503


@contextlib.asynccontextmanager
async def serve() -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """Serve a page with an hour behind it; yield its address, and what lets ten seconds pass."""
    clock = FakeClock(10_000.0)
    registry = CircuitBreakerRegistry(clock=clock)
    runner = web.AppRunner(status_page(registry), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    breakers = [registry.get(region.value) for region in GenesysRegion]
    play_an_hour(breakers, clock)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield url, partial(play_ten_seconds, breakers, clock)
    finally:
        await runner.cleanup()


def play_an_hour(breakers: list[CircuitBreaker], clock: FakeClock) -> None:
    """Let an hour pass in which regions go down, and end in the middle of an outage."""
    chance = random.Random(7)  # noqa: S311 - a picture, no secret
    for minute in range(62):
        clock.advance(60)
        for number, breaker in enumerate(breakers):
            goes_down = (minute * 7 + number * 3) % 151 == 1
            call(breaker, fail, times=10 if goes_down else 0)
            call(breaker, succeed, times=chance.randrange(3, 60))
    _, _, probing, opened, forced, *_ = breakers
    call(probing, fail, times=10 + 412)  # the rest is rejected
    clock.advance(38)
    forced.force_open("maintenance until 04:00")
    call(opened, fail, times=10 + 128)
    clock.advance(23)
    probing.acquire()


def play_ten_seconds(breakers: list[CircuitBreaker], clock: FakeClock) -> None:
    """Let ten seconds pass in which some calls are made."""
    clock.advance(10)
    for number, breaker in enumerate(breakers):
        call(breaker, succeed, times=number * 7 % 41)
        call(breaker, fail, times=0 if number % 7 else 1)


def succeed(breaker: CircuitBreaker) -> None:
    """Make a call that succeeds."""
    breaker.acquire().succeed()


def fail(breaker: CircuitBreaker) -> None:
    """Make a call that fails."""
    breaker.acquire().fail(ServerError())


def call(breaker: CircuitBreaker, make: Callable[[CircuitBreaker], None], *, times: int) -> None:
    """Make calls, some of which may be rejected."""
    for _ in range(times):
        with contextlib.suppress(CircuitBreakerOpenError):
            make(breaker)


async def main(folder: Path) -> None:
    """Take every picture.

    Args:
        folder: Where the pictures go.
    """
    logger.disable("resilience")
    socket.gethostname, os.getpid = lambda: "worker-7", lambda: 4711  # no name of this machine
    async with serve() as (url, play), async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, (scheme, width, height) in SHOTS.items():
            page = await browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            await page.goto(url)
            await page.locator("#live.on").wait_for()
            play()
            await page.locator("td.minute", has_text="/s").first.wait_for()
            await page.screenshot(path=folder / f"{name}.png")
            print(f"screenshots: {name}.png")
            await page.close()
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES))

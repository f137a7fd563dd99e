"""The status page as a person sees it, in a real Chromium."""

import asyncio
import contextlib
import functools
import itertools
import os
import re
import shutil
import socket
import time

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import async_playwright, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from resilience import BreakerPolicy, CircuitBreakerRegistry
from resilience.integrations.status_page import StatusPage, bearer_token, status_page
from resilience.integrations.status_page import page as page_module
from tests.support.asgi_server import serve_asgi
from tests.support.needs import needs
from tests.support.sharing import registries, shared, trip
from tests.support.sharing_worker import REGION
from tests.support.stores import serving, until

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
LIMIT = 20_000  # milliseconds until an expectation gives up; a watchdog, not a measure


class ServerError(Exception):
    status = 503


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=3, success_threshold=2), max_regions=2000, clock=clock
    )


@pytest.fixture
async def browser():
    needs("chromium")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def url(registry):
    app = web.Application()
    app.add_subapp("/circuits", status_page(registry))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/circuits"
    await runner.cleanup()


@pytest.fixture
def half_open(registry, clock):
    """A region with long numbers and texts in its row."""
    breaker = registry.get("ap-southeast-2")
    for _ in range(1_000):
        breaker.acquire().succeed()
    for _ in range(3):
        breaker.acquire().fail(ServerError())
    clock.advance(60)
    breaker.acquire().ignore()
    return breaker


@contextlib.asynccontextmanager
async def opened(browser, url, **settings):
    """Open the page; at the end nothing may have gone wrong in it, or left its origin."""
    context = await browser.new_context(**settings)
    page = await context.new_page()
    page.set_default_timeout(LIMIT)
    faults, asked = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(url)
    await page.locator("#live.on").wait_for()
    yield page
    assert faults == []
    assert {one for one in asked if not one.startswith(url)} == set()
    assert len(asked) >= 4
    await context.close()


def row(page, region):
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=region))


async def shows(place, text):
    await expect(place).to_contain_text(text, timeout=LIMIT)


async def test_a_circuit_that_rejects_nobody_says_so(browser, url, registry):
    registry.configure(policy=BreakerPolicy(failure_threshold=1, mode="observe"))
    async with opened(browser, url) as page:
        registry.get("eu-west-1").acquire().fail(ServerError())
        await shows(row(page, "eu-west-1"), "only observed: no call is rejected")
        change = page.locator("#events li").first
        await shows(change, "ServerError 503, only observed: no call is rejected")
        registry.configure(policy=BreakerPolicy())
        await expect(row(page, "eu-west-1")).not_to_contain_text("observed", timeout=LIMIT)


async def test_an_outage_is_seen_from_its_beginning_to_its_end(browser, url, registry, clock):
    breaker = registry.get("eu-west-1")
    registry.get("us-east-1").acquire().succeed()
    async with opened(browser, url) as page:
        seen = row(page, "eu-west-1")
        await shows(seen, "CLOSED")
        for _ in range(3):
            breaker.acquire().fail(ServerError("Bearer hunter2"))
        await shows(seen, "OPEN")
        await shows(seen, "ServerError 503")
        await shows(seen, "in 1 min 0 s")
        await expect(page).to_have_title("1 of 2 not closed | Circuits", timeout=LIMIT)
        first = page.locator("#events li").first
        await shows(first, "eu-west-1")
        await shows(first, "ServerError 503")
        await expect(page.locator("tbody tr").first).to_contain_text("eu-west-1")

        clock.advance(45)
        await shows(seen.locator(".next"), re.compile(r"in 1[0-5] s"))
        clock.advance(15)
        await shows(seen, "HALF_OPEN")
        await shows(seen, "Waiting for a call")
        probe = breaker.acquire()
        await shows(seen, "in progress")
        probe.succeed()
        breaker.acquire().succeed()
        await shows(seen, "CLOSED")
        await shows(page.locator("#events li").first, "2 consecutive successes")
        await expect(page).to_have_title("Circuits", timeout=LIMIT)
        assert await page.locator("#events li").count() == 3
        assert "hunter2" not in await page.content()


async def test_probes_that_say_nothing_are_seen_with_what_they_raised(
    browser, url, registry, clock
):
    breaker = registry.get("eu-west-1")
    for _ in range(3):
        breaker.acquire().fail(ServerError())
    clock.advance(60)
    async with opened(browser, url) as page:
        seen = row(page, "eu-west-1")
        ignored = seen.locator(".ignored")
        await shows(seen, "HALF_OPEN")
        await expect(ignored).to_have_text("")
        with pytest.raises(KeyError), breaker.acquire():
            raise KeyError("Bearer hunter2")
        await shows(ignored, "1 probe was ignored: KeyError")
        for _ in range(999):
            breaker.acquire().ignore()
        await shows(ignored, "1,000 probes in a row were ignored: KeyError, reported by the caller")
        breaker.acquire().answered()
        breaker.acquire().answered()
        await shows(seen, "CLOSED")
        await expect(ignored).to_have_text("")
        await expect(seen.locator('[data-label="Answered"]')).to_have_text("2", timeout=LIMIT)
        assert "hunter2" not in await page.content()


async def test_it_counts_down_between_messages(browser, registry, monkeypatch):
    seldom = functools.partial(page_module.Stream, poll_interval=3600)
    monkeypatch.setattr(page_module, "Stream", seldom)
    runner = web.AppRunner(status_page(registry), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for _ in range(3):
        registry.get("a").acquire().fail()
    context = await browser.new_context()
    page = await context.new_page()
    await page.clock.install()
    await page.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    seen = row(page, "a").locator(".next")
    await shows(seen, re.compile(r"in (1 min 0|5\d) s"))
    await page.clock.run_for(30_000)  # of the page's time
    await shows(seen, re.compile(r"in (30|2\d) s"))
    await page.clock.run_for(40_000)
    await shows(seen, "Waiting for a call")
    await context.close()
    await runner.cleanup()


async def test_a_hostile_region_is_shown_as_text(browser, url, registry):
    registry.get(HOSTILE).force_open(HOSTILE)
    async with opened(browser, url) as page:
        await expect(page.get_by_role("rowheader")).to_contain_text(HOSTILE)
        await shows(page.locator("#events li").first, HOSTILE)
        assert await page.locator("img").count() == 0
        await expect(page).to_have_title("1 of 1 not closed | Circuits")


async def test_the_accessibility_tree_names_each_region_with_its_state(browser, url, registry):
    registry.get("eu-west-1").force_open("maintenance")
    registry.get("us-east-1").acquire().succeed()
    async with opened(browser, url) as page:
        tree = await page.locator("table").aria_snapshot()
        assert re.search(r'row "OPEN eu-west-1 forced open: maintenance', tree), tree
        assert re.search(r'row "CLOSED us-east-1', tree), tree
        assert re.search(r'img "last hour: ', tree), tree
        await expect(page.get_by_role("heading", level=1)).to_have_text("Circuits")
        for name in ("main", "banner", "contentinfo"):
            await expect(page.get_by_role(name)).to_have_count(1)
        await expect(page.get_by_role("searchbox", name="Find")).to_be_visible()
        registry.get("us-east-1").force_open("said aloud")
        await shows(page.locator("#announcement"), "us-east-1 is OPEN: forced open: said aloud")


async def test_the_keyboard_reaches_everything(browser, url, registry):
    registry.get("eu-west-1").force_open("maintenance")
    registry.get("us-east-1")
    async with opened(browser, url) as page:
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the regions")).to_be_focused()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="OPEN 1", exact=True)).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("tbody tr")).to_have_count(1)
        await shows(page.locator("tbody tr"), "eu-west-1")
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Space")
        await expect(page.locator("tbody tr")).to_have_count(2)
        await page.keyboard.press("/")
        await page.keyboard.type("US-EAST")
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.keyboard.type("zzz")
        await shows(page.locator("#no-regions"), "No region matches.")
        await page.keyboard.press("Tab")
        await expect(page.locator("#events")).to_be_focused()


async def test_without_regions_it_says_so_and_the_first_appears(browser, url, registry):
    async with opened(browser, url) as page:
        await shows(page.locator("#no-regions"), "No region has been called yet")
        await expect(page.locator("#no-events")).to_be_visible()
        registry.get("a").acquire().succeed()
        await shows(row(page, "a"), "CLOSED")
        await expect(page.locator("#no-regions")).to_be_hidden()


async def test_a_region_that_is_evicted_disappears(browser, url, registry):
    for name in ("region-a", "region-b"):
        registry.get(name)
    async with opened(browser, url) as page:
        await expect(page.locator("tbody tr")).to_have_count(2)
        registry.configure(max_regions=1)
        await expect(page.locator("tbody tr")).to_have_count(1, timeout=LIMIT)


WIDTHS = (320, 390, 768, 1024, 1281, 1440)


LOOKS = list(itertools.product(("light", "dark"), WIDTHS))


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
@pytest.mark.usefixtures("half_open")
async def test_nothing_sticks_out(browser, url, registry, scheme, width):
    registry.get("x" * 190).force_open("y" * 190)
    size = {"width": width, "height": 800}
    async with opened(browser, url, color_scheme=scheme, viewport=size) as page:
        await expect(page.locator("tbody tr")).to_have_count(2)
        box = await page.locator("html").bounding_box()
        for part in ("header", ".tools", "table", "#events", "tbody tr:first-child th"):
            inner = await page.locator(part).bounding_box()
            assert inner["x"] >= 0, part
            assert inner["x"] + inner["width"] <= box["width"] + 0.5, part


async def test_500_regions_stay_usable(browser, url, registry):
    """Prints when they are there and how long a change takes; asserts only that they come."""
    breakers = [registry.get(f"region-{number:03}") for number in range(500)]
    async with opened(browser, url) as page:
        await expect(page.locator("tbody tr")).to_have_count(500, timeout=LIMIT)
        begun = time.perf_counter()
        await page.reload()
        await expect(page.locator("tbody tr")).to_have_count(500, timeout=LIMIT)
        all_there = time.perf_counter() - begun
        times = []
        for number in range(10):
            begun = time.perf_counter()
            breakers[number].force_open("a test")
            await page.locator("#events li").nth(number).wait_for()
            times.append(time.perf_counter() - begun)
        await shows(row(page, "region-009"), "OPEN")
        for breaker in breakers:
            breaker.force_open("all of them")
        await shows(page.get_by_role("button", name="OPEN 500", exact=True), "500")
        print(
            f"500 regions: all there after {all_there:.2f} s, "
            f"a change after {sorted(times)[5]:.3f} s (median), {max(times):.3f} s at most"
        )


async def test_it_says_when_it_is_not_live_and_comes_back(browser, registry):
    async def start(port):
        runner = web.AppRunner(status_page(registry), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        return runner

    registry.get("a")
    runner = await start(0)
    port = runner.addresses[0][1]
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"http://127.0.0.1:{port}/")
    await page.locator("#live.on").wait_for()
    await runner.cleanup()
    await shows(page.locator("#live.off"), re.compile(r"not live: no contact since \d\d:\d\d:\d\d"))
    assert await page.evaluate("getComputedStyle(document.querySelector('main')).filter") == (
        "grayscale(1)"
    )
    registry.get("a").force_open("meanwhile")
    runner = await start(port)
    await expect(page.locator("#live.on")).to_be_visible(timeout=LIMIT)
    await shows(row(page, "a"), "meanwhile")
    await expect(page.locator("body.stale")).to_have_count(0)
    await context.close()
    await runner.cleanup()


async def test_one_viewer_too_many_still_sees_the_present_state(browser, registry):
    runner = web.AppRunner(status_page(registry, max_listeners=1), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    registry.get("a").force_open("a test")
    async with aiohttp.ClientSession() as session, session.get(f"{url}stream"):
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(url)
        await shows(row(page, "a"), "OPEN")
        await shows(page.locator("#live.off"), "not live")
        await context.close()
    await runner.cleanup()


# What a glance has to show


async def test_the_streak_is_shown_with_its_threshold(browser, url, registry):
    breaker = registry.get("eu-west-1")
    breaker.acquire().fail()
    async with opened(browser, url) as page:
        await expect(row(page, "eu-west-1").locator(".streak")).to_have_text("1 / 3")
        registry.configure(policy=BreakerPolicy(failure_threshold=1_000))
        await expect(row(page, "eu-west-1").locator(".streak")).to_have_text(
            "1 / 1,000", timeout=LIMIT
        )


async def test_it_speaks_plainly(browser, url, registry):
    registry.get("eu-west-1").force_open("maintenance")
    async with opened(browser, url) as page:
        await shows(row(page, "eu-west-1").locator(".next"), "Held open manually")
        await expect(page.get_by_role("heading", level=2, name="Recent changes")).to_be_visible()
        await expect(page.get_by_role("columnheader", name="Times opened")).to_have_count(1)
        text = await page.locator("body").inner_text()
        assert "Trips" not in text
        assert f"python -m resilience watch --url {url}" in text


async def test_a_short_outage_is_wide_enough_to_be_seen(browser, url, registry, clock):
    breaker = registry.get("eu-west-1")
    clock.advance(1800)
    breaker.force_open("for an instant")
    clock.advance(0.5)
    breaker.reset()
    clock.advance(1800)
    breaker.force_open("just now")
    async with opened(browser, url) as page:
        bars = page.locator("svg.timeline rect.OPEN")
        await expect(bars).to_have_count(2)
        line = await page.locator("svg.timeline").bounding_box()
        for box in [await bars.nth(number).bounding_box() for number in range(2)]:
            assert box["width"] >= 3.9
            assert line["x"] <= box["x"]
            assert box["x"] + box["width"] <= line["x"] + line["width"] + 0.5
        await expect(page.locator("svg.timeline .tick")).to_have_count(3)


async def test_the_rates_are_those_of_the_last_minute(browser, url, registry, clock):
    breaker = registry.get("eu-west-1")
    for _ in range(1000):
        breaker.acquire().succeed()
    async with opened(browser, url) as page:
        minute = row(page, "eu-west-1").locator(".minute")
        await expect(minute).to_have_text("\u2013")
        clock.advance(10)
        for _ in range(18):
            breaker.acquire().succeed()
        for _ in range(2):
            breaker.acquire().fail()
        await expect(minute).to_have_text("2/s 10 % failed", timeout=LIMIT)
        clock.advance(100)
        breaker.acquire().succeed()
        await expect(minute).to_have_text("0.01/s", timeout=LIMIT)


async def test_closed_regions_are_folded_on_a_telephone(browser, url, registry):
    registry.get("us-east-1").acquire().succeed()
    registry.get("us-west-2").acquire().succeed()
    registry.get("eu-west-1").force_open("maintenance")
    async with opened(browser, url, viewport={"width": 390, "height": 844}) as page:
        await expect(row(page, "eu-west-1")).to_be_visible()
        await expect(row(page, "us-east-1")).to_be_hidden()
        await page.get_by_role("button", name="Show 2 regions that are CLOSED").click()
        await expect(row(page, "us-east-1")).to_be_visible()
        await page.get_by_role("button", name="Hide 2 regions that are CLOSED").click()
        await expect(row(page, "us-east-1")).to_be_hidden()
        await page.get_by_role("searchbox").fill("us-east")
        await expect(row(page, "us-east-1")).to_be_visible()
        await page.get_by_role("searchbox").fill("")
        await page.get_by_role("button", name="CLOSED 2", exact=True).click()
        await expect(row(page, "us-west-2")).to_be_visible()
        await page.set_viewport_size({"width": 1280, "height": 800})
        await expect(page.get_by_role("button", name="Show 2 regions")).to_be_hidden()


@contextlib.asynccontextmanager
async def served(registries, **settings):
    runner = web.AppRunner(status_page(registries, **settings), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_circuits_of_several_registries_are_told_apart(browser, clock):
    registries = [CircuitBreakerRegistry(name=name, clock=clock) for name in ("tokens", "messages")]
    for registry in registries:
        registry.get("eu-west-1").acquire().succeed()
    async with served(registries) as url, opened(browser, url) as page:
        await expect(page.locator("tbody tr")).to_have_count(2)
        registries[1].get("eu-west-1").force_open("maintenance")
        await shows(row(page, "messages / eu-west-1"), "OPEN")
        await shows(row(page, "tokens / eu-west-1"), "CLOSED")
        await shows(page.locator("#events li").first, "messages / eu-west-1")


async def test_without_actions_there_is_no_button_for_them(browser, url, registry):
    registry.get("eu-west-1").force_open("maintenance")
    async with opened(browser, url) as page:
        await shows(row(page, "eu-west-1"), "OPEN")
        await expect(page.get_by_role("button", name="Reset")).to_have_count(0)
        await shows(page.locator("footer"), "This page is read-only.")


@contextlib.asynccontextmanager
async def served_by_asgi(registries, **settings):
    page = StatusPage(registries, **settings)
    async with serve_asgi(Starlette(routes=[Mount("/circuits", app=page)])) as url:
        yield f"{url}/circuits/"
        page.close()


@pytest.mark.parametrize("serve", [served, served_by_asgi])
async def test_an_operator_holds_a_circuit_open_and_resets_it(browser, registry, serve):
    breaker = registry.get("eu-west-1")
    breaker.acquire().succeed()
    actions = bearer_token("a-token-for-tests")
    async with serve(registry, actions=actions) as url:
        context = await browser.new_context()
        page = await context.new_page()
        page.set_default_timeout(LIMIT)
        await page.goto(url)
        await page.get_by_role("button", name="Hold open eu-west-1").click()
        dialog = page.get_by_role("dialog", name="Hold eu-west-1 open?")
        await dialog.get_by_label("Why?").fill(HOSTILE)
        await dialog.get_by_role("button", name="Hold open").click()
        await shows(dialog, "You may not do this.")
        assert breaker.snapshot().reason is None
        await dialog.get_by_label("Token").fill("a-token-for-tests")
        await dialog.get_by_role("button", name="Hold open").click()
        await shows(row(page, "eu-west-1").locator(".next"), "Held open manually")
        assert breaker.snapshot().reason == f"forced open: {HOSTILE}"
        await page.get_by_role("button", name="Reset eu-west-1").click()
        await page.get_by_role("dialog").get_by_role("button", name="Reset").click()
        await shows(row(page, "eu-west-1"), "CLOSED")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        assert await page.locator("img").count() == 0
        await context.close()


# A fleet: circuits that are shared through a store


PROBES = {"failure_threshold": 2, "recovery_timeout": 0.5, "probe_timeout": 600.0}


@pytest.fixture
def store(tmp_path):
    with serving("valkey", tmp_path) as store:
        yield store


@pytest.fixture
def fleet(store):
    """Two registries that share: the one that trips, and another one."""
    with registries() as make:
        yield tuple(make(store.url, name=name) for name in ("busy", "quiet"))


def probe(breaker):
    """Begin a probe that never ends."""
    until(lambda: breaker.block_until_ready(1), "it may be probed")
    return breaker.acquire()


async def test_who_opened_a_shared_circuit_who_probes_and_who_is_alone(browser, fleet, store):
    busy, quiet = [await asyncio.to_thread(shared, registry) for registry in fleet]
    async with (
        served(fleet[0]) as url,
        served(fleet[1]) as other_url,
        opened(browser, url) as page,
        opened(browser, other_url) as other,
    ):
        seen, seen_there = (row(one, REGION).locator(".fleet") for one in (page, other))
        await expect(seen).to_have_text("")
        await shows(page.locator("#fleet"), "circuits are shared with other processes")
        trip(busy)
        await expect(seen).to_have_text("opened by this process", timeout=LIMIT)
        name = f"{socket.gethostname()}/{os.getpid()}/busy"
        await expect(seen_there).to_have_text(f"opened by {name}", timeout=LIMIT)
        await shows(other.locator("#events li").first, f"by {name}")

        for registry in fleet:
            registry.configure(policy=BreakerPolicy(**PROBES))
        permit = await asyncio.to_thread(probe, quiet)
        probed = f"opened by {name}, this process probes"
        await expect(seen_there).to_have_text(probed, timeout=LIMIT)
        probed = "opened by this process, another process probes"
        await expect(seen).to_have_text(probed, timeout=LIMIT)

        store.kill()
        for place, text in ((seen, "this process"), (seen_there, name)):
            alone = f"opened by {text}, on its own: the store cannot be reached"
            await expect(place).to_have_text(alone, timeout=LIMIT)
        await shows(page.locator("#fleet"), "1 of 1 circuits are on their own")
        permit.ignore()

"""The pages as a reader sees them, in a real Chromium: nothing is wider than the screen."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from tests.support.needs import needs

ROOT = Path(__file__).parents[2]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
# A telephone, a window with little room next to the navigation, and a desk.
WIDTHS = (390, 1024, 1280)
# What sticks out of the page, and cannot be scrolled into view by itself.
STICKING_OUT = """() => {
    const room = document.documentElement.clientWidth;
    const scrolls = (one) => ["auto", "scroll"].includes(getComputedStyle(one).overflowX);
    const found = [];
    for (const one of document.querySelectorAll("article *")) {
        let outer = one;
        while (outer && !scrolls(outer)) outer = outer.parentElement;
        const box = (outer || one).getBoundingClientRect();
        if (box.width && (box.right > room + 0.5 || box.left < -0.5)) {
            found.push(`${one.tagName} ${one.className} ${Math.round(box.right - room)} px`);
        }
    }
    const wider = document.documentElement.scrollWidth - room;
    if (wider > 0) found.push(`the whole page: ${wider} px`);
    return found.slice(0, 5);
}"""
# Code that has to be scrolled to be read.
SCROLLED_CODE = """() => [...document.querySelectorAll(".highlight-python pre")]
    .filter((one) => one.scrollWidth > one.clientWidth)
    .map((one) => one.textContent.slice(0, 60))"""


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """What is wrong with each page, by the width of the screen."""
    needs("chromium")
    folder = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "docs", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    pages = [page for page in sorted(folder.rglob("*.html")) if "_static" not in page.parts]
    assert {"index", "genindex", "search", "client-httpx"} < {page.stem for page in pages}
    return asyncio.run(look_at(folder, pages))


async def look_at(folder, pages):
    """Return what is wrong by width, and then by page; the code on a desk is `code`."""
    found = {width: {} for width in (*WIDTHS, "code")}
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = await browser.new_page()
        for file in pages:
            await page.goto(file.as_uri())
            for width in WIDTHS:
                await page.set_viewport_size({"width": width, "height": 900})
                found[width][file] = await page.evaluate(STICKING_OUT)
            found["code"][file] = await page.evaluate(SCROLLED_CODE)
        await browser.close()
    return {
        width: {str(file.relative_to(folder)): seen for file, seen in files.items() if seen}
        for width, files in found.items()
    }


@pytest.mark.timeout(300)  # the first one builds the pages
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(faults, width):
    assert faults[width] == {}


@pytest.mark.timeout(300)
def test_code_need_not_be_scrolled_on_a_desk(faults):
    assert faults["code"] == {}

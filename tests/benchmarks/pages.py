"""How long the pages take to load in a browser before an installation that is full."""

import os
import shutil
import time
from typing import Any

import numpy as np
from playwright.sync_api import Browser, TimeoutError, sync_playwright

from voxelight.app.ui.navigation import SCREENS

TIMES, WITHIN_S = 5, 30
READY = '[data-testid="stApp"][data-test-script-state="notRunning"]'


def measure_pages(url: str) -> dict[str, Any]:
    """Load every page of the navigation in Chromium: until its heading shows, and until it has run through."""
    chromium = os.environ.get("VOXELIGHT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        return {"left_out": "no Chromium on the path"}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        found = {screen.title: load(browser, f"{url}/{screen.file}") for screen in SCREENS}
        browser.close()
    return found


def load(browser: Browser, url: str) -> dict[str, Any]:
    """Time one page in tabs of its own, the first of which fills the cache of the browser."""
    headings, settled = [], []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(1000 * WITHIN_S)
    try:
        for _ in range(TIMES + 1):
            page = context.new_page()
            before = time.perf_counter()
            page.goto(url, wait_until="commit")
            page.locator("h1").first.wait_for()
            headings.append(1000 * (time.perf_counter() - before))
            page.locator(READY).wait_for()
            settled.append(1000 * (time.perf_counter() - before))
            page.close()
    except TimeoutError as error:
        return {"failed": str(error).splitlines()[0]}
    finally:
        context.close()
    return {
        "first_visit_heading_ms": round(headings[0]),
        "heading_p50_ms": round(float(np.median(headings[1:]))),
        "ready_p50_ms": round(float(np.median(settled[1:]))),
        "ready_max_ms": round(max(settled[1:])),
    }

"""A served installation, and a browser before it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, TimeoutError, expect, sync_playwright

# Read before the fixtures take every such name out of the environment.
SCREENSHOTS = os.environ.get("VOXELIGHT_SCREENSHOTS")
STARTS_WITHIN_S, ANSWERS_WITHIN_MS = 120, 60_000
WIDTH, HEIGHT, TALLEST = 1440, 900, 4000


@dataclass(frozen=True)
class Server:
    """A process that serves page and API, and the home folder that it serves."""

    url: str
    home: Path

    def get(self, path: str, **params: Any) -> httpx.Response:
        answer = httpx.get(self.url + path, params=params, timeout=30)
        answer.raise_for_status()
        return answer

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the shell on the same home folder."""
        return subprocess.run(
            [Path(sys.executable).with_name("voxelight"), "--home", self.home, *command],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )


@pytest.fixture(scope="session")
def server(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with _serve(tmp_path_factory.mktemp("served")) as served:
        yield served


@pytest.fixture(scope="module")
def server_without_worker(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with _serve(tmp_path_factory.mktemp("served"), "--no-worker") as served:
        yield served


@pytest.fixture(scope="session")
def serve() -> Callable[..., AbstractContextManager[Server]]:
    """Serve a home folder, with options of the shell, for as long as a block lasts."""
    return _serve


@contextmanager
def _serve(home: Path, *options: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (home / "serve.log").open("w+")
    command = [Path(sys.executable).with_name("voxelight"), "--home", home, "serve", "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process, home / "serve.log")
        yield Server(url, home)
    finally:
        process.terminate()
        try:
            process.wait(ANSWERS_WITHIN_MS / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/api/v1/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text()}")


# Its event loop runs in this thread until it is closed, and no worker starts beside one: so not for the whole session.
@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()


@dataclass(frozen=True)
class Visit:
    """What a person does on the page."""

    page: Page
    server: Server
    ends_within_ms: int = 180_000

    def open(self, path: str, title: str) -> None:
        self.page.goto(self.server.url + path)
        expect(self.page.get_by_role("heading", name=title, exact=True, level=1)).to_be_visible()
        self.settle()

    def settle(self) -> None:
        """Wait until the page has run through."""
        expect(self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible()

    def choose(self, label: str, option: str) -> None:
        """Choose in a list, of those whose label is exactly this."""
        field = self.page.get_by_test_id("stSelectbox").filter(has=self.page.get_by_text(label, exact=True))
        box, listed = field.get_by_role("combobox"), self.page.get_by_role("option", name=option, exact=True)
        for patience_ms in (3000, 3000, 10_000, ANSWERS_WITHIN_MS):
            box.click()
            try:
                listed.wait_for(timeout=3000)
            except TimeoutError:  # a long list holds only what is in sight
                box.fill(option)
            try:
                listed.click(timeout=patience_ms)
                self.page.get_by_role("listbox").wait_for(state="detached", timeout=patience_ms)
                expect(box).to_have_value(option, timeout=patience_ms)
                break
            except (TimeoutError, AssertionError):  # the page was drawn anew meanwhile, and the list with it
                self.page.keyboard.press("Escape")
                self.settle()
        else:
            pytest.fail(f"no {option} in the list of {label}")
        self.page.wait_for_timeout(300)  # until it runs
        self.settle()

    def create_dataset(self, name: str, consent: str = "", purpose: str = "", simulated: bool = False) -> None:
        self.open("/", "Upload")
        form = self.page.get_by_test_id("stExpander").filter(has_text="New data set")
        expect(form).to_be_visible()
        if form.locator("details").get_attribute("open") is None:
            form.get_by_text("New data set").click()
        form.get_by_role("textbox", name="Name").fill(name)
        if consent:
            self.choose("Consent", consent)
        form.get_by_role("textbox", name="Purpose").fill(purpose)
        if simulated:
            form.get_by_text("Simulated: made by a model").click()
        expect(form.get_by_role("textbox", name="Name")).to_have_value(name)
        form.get_by_role("button", name="Create data set").click()
        expect(self.page.get_by_role("heading", name=f"In {name}")).to_be_visible()
        self.settle()

    def upload(self, *paths: Path) -> None:
        self.page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(paths)

    def submit(self, recipe: str, dataset: str) -> None:
        self.open("/jobs", "Jobs")
        self.choose("Recipe", recipe)
        self.choose("Data set", dataset)
        self.page.get_by_role("button", name="Submit job").dblclick()  # as impatient people do

    def card(self, dataset: str) -> Locator:
        """The newest job of a data set in the list."""
        return self.page.locator("[class*='st-key-job-']").filter(has_text=f" on {dataset}").first

    def shoot(self, name: str) -> None:
        """Keep a picture of the whole page, where a folder for it was named."""
        if SCREENSHOTS:
            self.settle()
            height = self.page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
            self.page.set_viewport_size({"width": WIDTH, "height": min(TALLEST, max(HEIGHT, height))})
            self.page.wait_for_timeout(800)
            self.page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")
            self.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, accept_downloads=True)
    context.set_default_timeout(ANSWERS_WITHIN_MS)
    expect.set_options(timeout=ANSWERS_WITHIN_MS)
    strangers: list[str] = []
    context.on("request", lambda request: strangers.append(request.url))
    yield Visit(context.new_page(), server)
    context.close()
    outside = [url for url in strangers if not url.startswith((server.url, "data:", "blob:", "chrome-extension:"))]
    assert not outside, "the page asks only its own server"

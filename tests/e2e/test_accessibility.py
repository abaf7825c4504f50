"""Every page of the navigation and every one of our own: WCAG 2.1 AA by axe-core, by keyboard alone, light and dark."""

import subprocess
from contextlib import suppress

import httpx
import nibabel as nib
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from voxelight.app.api.static import FOLDER
from voxelight.app.ui.navigation import SCREENS

SIDE, MOST_TABS = 24, 250
LOOKS = [("light", 1280), ("dark", 390)]
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
OWN = sorted(path.stem for path in FOLDER.glob("*.html"))
PAGES = [screen.title for screen in SCREENS] + ["Job", *OWN, "docs/page"]
BRIGHTNESS = """() => {
  const page = document.querySelector('[data-testid="stApp"]') || document.body;
  const [r, g, b] = getComputedStyle(page).backgroundColor.match(/[0-9.]+/g).map(Number);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}"""
# Numbers every control that can be used now. Of radio buttons that belong together Tab reaches one.
NUMBER = """() => {
  const usable = 'a[href], button, input, select, textarea, summary, iframe, [role="combobox"], [tabindex="0"]';
  const radios = new Set();
  let count = 0;
  for (const each of document.querySelectorAll(usable)) {
    const style = getComputedStyle(each), box = each.getBoundingClientRect();
    if (each.disabled || each.tabIndex < 0 || each.closest('[inert], [aria-hidden="true"]')) continue;
    if (style.visibility === "hidden" || !box.width || !box.height) continue;
    if (each.closest("details:not([open]) > :not(summary)")) continue;
    const group = each.closest('[role="radiogroup"]') || (each.type === "radio" && each.name);
    if (group) {
      if (radios.has(group)) continue;
      radios.add(group);
    }
    each.dataset.numbered = count++;
  }
  return count;
}"""
# What has the focus, and whether it looks otherwise than without: the ring may be drawn by what surrounds it.
FOCUSED = """() => {
  const at = document.activeElement;
  const look = (each) => {
    const s = getComputedStyle(each);
    return [s.outlineStyle, s.outlineWidth, s.outlineColor, s.boxShadow, s.borderColor, s.backgroundColor].join();
  };
  const around = [];
  for (let each = at; each && around.length < 5; each = each.parentElement) around.push(each);
  if (at.nextElementSibling) around.push(at.nextElementSibling);
  if (at.previousElementSibling) around.push(at.previousElementSibling);
  const focused = around.map(look);
  const still = document.createElement("style");
  still.textContent = "* { transition: none !important; }";
  document.head.append(still);
  at.blur();
  const seen = around.map(look).some((each, place) => each !== focused[place]);
  at.focus({ preventScroll: true });
  still.remove();
  const first = at.closest('[role="radiogroup"]')?.querySelector("[data-numbered]")
    || (at.type === "radio" && document.querySelector(`input[name="${at.name}"][data-numbered]`)) || at;
  return { number: first.dataset.numbered ?? null, seen, html: at.outerHTML.slice(0, 160) };
}"""


@pytest.fixture(scope="module")
def addresses(server, tmp_path_factory):
    """Where every page is found with something on it: two label maps, of which one scan could not be segmented."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(2):
        noise = np.random.default_rng(number).normal(300, 60, (SIDE,) * 3).astype(np.float32)
        nib.save(nib.Nifti1Image(noise, np.eye(4)), folder / f"case{number}.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((90,) * 3, np.float32), np.eye(4)), folder / "too-large.nii.gz")
    server.run("ingest", str(folder), "--dataset", "looked-at", "--create")
    body = {"kind": "segment", "recipe": "hippocampus-agunet", "dataset": "looked-at", "queue": "cpu"}
    job = httpx.post(f"{server.url}/api/v1/jobs", json=body, timeout=60).raise_for_status().json()["id"]
    with suppress(subprocess.CalledProcessError):  # one item fails, and the command says so
        server.run("jobs", "watch", job)
    assert server.get(f"/api/v1/jobs/{job}").json()["failed"] == 1
    result = server.get("/api/v1/results", job=job).json()["items"][0]["id"]
    found = {screen.title: f"/{'' if screen is SCREENS[0] else screen.file}" for screen in SCREENS}
    found |= {name: f"/api/v1/pages/{name}" for name in (*OWN, "docs/page")}
    found["Job"] = f"/jobs?job={job}"
    found["viewer"] += f"?result={result}"
    found["review"] += f"?job={job}&reviewer=Ada"
    return found


@pytest.fixture(scope="module", params=PAGES)
def opened(request, browser, server, addresses):
    """A page with everything on it; one for both tests, since to open it takes longest."""
    context = browser.new_context(viewport={"width": LOOKS[0][1], "height": 900}, color_scheme=LOOKS[0][0])
    page = context.new_page()
    expect.set_options(timeout=30_000)
    address = addresses[request.param]
    if request.param == "sign-in":  # this server asks nobody for a key, so the page would move on
        page.route("**/api/v1/me", lambda route: route.fulfill(status=401, body="{}"))
    page.goto(server.url + address)
    if not address.startswith("/api/"):
        expect(page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible()
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    page.wait_for_timeout(300)
    yield page
    context.close()


def test_tab_reaches_every_control_and_shows_where_it_is(opened):
    controls = opened.evaluate(NUMBER)
    reached, unseen = set(), []
    for _ in range(MOST_TABS):
        opened.keyboard.press("Tab")
        at = opened.evaluate(FOCUSED)
        if at["number"] in reached and at["number"] == "0":
            break
        if at["number"] is not None:
            reached.add(at["number"])
            unseen += [] if at["seen"] or at["html"].startswith("<iframe") else [at["html"]]
        if len(reached) == controls:
            break
    missed = [
        opened.locator(f"[data-numbered='{number}']").evaluate_all("all => all.map(one => one.outerHTML.slice(0, 200))")
        for number in range(controls)
        if str(number) not in reached
    ]
    assert controls
    assert not [html for html in missed if html]
    assert not unseen, "nothing shows that the focus is here"


def test_a_page_keeps_the_rules_in_light_and_dark_wide_and_narrow(opened):
    backgrounds, broken = [], []
    for scheme, width in LOOKS:
        opened.emulate_media(color_scheme=scheme)
        opened.set_viewport_size({"width": width, "height": 900})
        opened.wait_for_timeout(300)  # colours fade into each other
        backgrounds.append(opened.evaluate(BRIGHTNESS))
        found = Axe().run(opened, options=RULES).response["violations"]
        broken += [(scheme, width, rule["id"], node["html"][:300]) for rule in found for node in rule["nodes"]]
        wide = opened.evaluate("document.documentElement.scrollWidth")
        broken += [(scheme, width, "wider than the screen", wide)] if wide > width else []
    assert not broken
    assert backgrounds[0] > 200 > 60 > backgrounds[1], "light and dark follow the browser"

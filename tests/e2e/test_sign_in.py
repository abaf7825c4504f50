"""Signing in to the page by an identity provider: there, back, under one's name and role, and out again.

The provider is the small one of our own; no real one is asked.
"""

import json
import sys
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import TimeoutError, expect

sys.path.insert(0, str(Path(__file__).parents[1] / "app" / "oidc"))

from little_provider import CLIENT, providing

SESSION = "voxelight_session"
WITHIN_MS = 60_000
# Settled, since what is drawn anew meanwhile ends its animation by an error.
STILL = "form => Promise.allSettled(form.getAnimations({ subtree: true }).map(each => each.finished)).then(() => null)"


def _person(number, name, *groups):
    return {"sub": str(number), "email": f"{name}@lab.example", "preferred_username": name, "groups": list(groups)}


PEOPLE = {
    "ana": _person(1, "ana", "lab"),
    "vera": _person(2, "vera", "lab-readers"),
    "noah": _person(3, "noah", "elsewhere"),
    "lena": _person(4, "lena"),
}


@pytest.fixture(scope="module")
def provider():
    # By another name than the server's, so that each is a site of its own to the browser, as in earnest.
    with providing("localhost", PEOPLE) as running:
        yield running


@pytest.fixture(scope="module")
def server(chromium, provider, serve, tmp_path_factory):
    """An installation that asks this provider who is there; lena has an account in it, and a place in no project."""
    roles = {"lab": "default:operator", "lab-readers": "default:viewer"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELIGHT_AUTH", "oidc")
        patch.setenv("VOXELIGHT_OIDC_ISSUER", provider.url)
        patch.setenv("VOXELIGHT_OIDC_CLIENT_ID", CLIENT)
        patch.setenv("VOXELIGHT_OIDC_CLIENT_SECRET", "a secret of the client")
        patch.setenv("VOXELIGHT_OIDC_ROLES", json.dumps(roles))
        with serve(tmp_path_factory.mktemp("served"), "--no-worker") as served:
            served.run("access", "accounts", "add", "lena", "--issuer", provider.url, "--subject", "4")
            yield served


@pytest.fixture
def page(browser, server, provider):
    """The page of a browser that nobody has signed in yet; it asks nobody but the server and the provider."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(WITHIN_MS)
    expect.set_options(timeout=WITHIN_MS)
    asked = []
    context.on("request", lambda request: asked.append(request.url))
    yield context.new_page()
    context.close()
    assert not [url for url in asked if not url.startswith((server.url, provider.url, "data:", "blob:"))]


def go_to_provider(page, server, provider):
    """Open the page, and from where that leads go on to the provider."""
    page.goto(server.url)
    expect(page).to_have_url(f"{server.url}/api/v1/pages/sign-in")
    page.get_by_role("link", name="Sign in with your organisation").click()
    expect(page.get_by_role("heading", name="The provider")).to_be_visible()
    assert page.url.startswith(f"{provider.url}/authorize?")


def sign_in(page, server, provider, name):
    go_to_provider(page, server, provider)
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Sign in here").click()


def find_session(page):
    return next((each["value"] for each in page.context.cookies() if each["name"] == SESSION), None)


def settle(page):
    expect(page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible()


def expect_name_and_role(page, name, role):
    account = page.get_by_test_id("stCaptionContainer").filter(has_text=f"Signed in as {name}")
    expect(account).to_be_visible()
    said = page.get_by_test_id("stTooltipContent")
    for patience_ms in (3000, 3000, WITHIN_MS):
        settle(page)
        page.mouse.move(0, 0)
        account.get_by_test_id("stTooltipHoverTarget").hover()
        try:
            said.wait_for(timeout=patience_ms)
            break
        except TimeoutError:  # the page was drawn anew meanwhile, and the text closed
            continue
    expect(said).to_have_text(role)
    page.mouse.move(0, 0)


def add_dataset(page, name):
    form = page.get_by_test_id("stExpander").filter(has_text="New data set")
    if form.locator("details").get_attribute("open") is None:
        form.get_by_text("New data set").click()
    form.evaluate(STILL)  # a click on what is still moving may miss it
    form.get_by_role("textbox", name="Name").fill(name)
    form.get_by_role("button", name="Create data set").click()


def test_a_person_comes_back_under_their_name_and_role_and_signs_out(page, server, provider):
    sign_in(page, server, provider, "ana")
    expect(page).to_have_url(f"{server.url}/")
    expect(page.get_by_role("heading", name="Upload", exact=True)).to_be_visible()
    expect_name_and_role(page, "ana", "operator in default")
    add_dataset(page, "of-ana")
    expect(page.get_by_role("heading", name="In of-ana")).to_be_visible()
    settle(page)

    kept = find_session(page)
    me = f"{server.url}/api/v1/me"
    assert httpx.get(me, cookies={SESSION: kept}).json()["name"] == "ana"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in", exact=True)).to_be_visible()
    expect(page.get_by_text("of-ana")).to_have_count(0)
    assert httpx.get(me, cookies={SESSION: kept}).status_code == 401, "a cookie that somebody kept opens nothing"
    page.reload()
    expect(page).to_have_url(f"{server.url}/api/v1/pages/sign-in")
    expect(page.get_by_label("Your key")).to_be_visible()


def test_a_viewer_sees_the_project_and_may_not_add_to_it(page, server, provider):
    sign_in(page, server, provider, "vera")
    expect_name_and_role(page, "vera", "viewer in default")
    add_dataset(page, "of-vera")
    expect(page.get_by_role("alert").filter(has_text="the role operator in a project")).to_be_visible()
    token = provider.token(**PEOPLE["vera"])
    listed = httpx.get(f"{server.url}/api/v1/datasets", headers={"Authorization": f"Bearer {token}"}).json()
    assert "of-vera" not in {each["name"] for each in listed["items"]}


def test_a_person_without_a_place_is_told_whom_to_ask(page, server, provider):
    sign_in(page, server, provider, "noah")
    expect(page.get_by_role("heading", name="Not signed in")).to_be_visible()
    said = page.get_by_role("main")
    expect(said).to_contain_text("Found a person without an account")
    expect(said).to_contain_text("Ask an administrator: voxelight access accounts add NAME")
    expect(said).to_contain_text(f"--issuer {provider.url} --subject 3")
    assert find_session(page) is None
    page.get_by_role("link", name="Back to the page").click()
    expect(page).to_have_url(f"{server.url}/api/v1/pages/sign-in")


def test_an_account_without_a_project_is_told_so(page, server, provider):
    sign_in(page, server, provider, "lena")
    expect(page.get_by_text("You belong to no project yet. Ask an administrator")).to_be_visible()
    expect_name_and_role(page, "lena", "In no project yet")
    expect(page.get_by_role("heading", name="Upload")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in", exact=True)).to_be_visible()


def test_who_turns_back_at_the_provider_may_try_again(page, server, provider):
    go_to_provider(page, server, provider)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("main")).to_contain_text("Found a sign-in that the provider refused")
    assert find_session(page) is None
    page.get_by_role("link", name="Back to the page").click()
    page.get_by_role("link", name="Sign in with your organisation").click()
    page.get_by_label("Name").fill("ana")
    page.get_by_role("button", name="Sign in here").click()
    expect_name_and_role(page, "ana", "operator in default")

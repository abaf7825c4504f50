"""The viewer in a real browser, its pixels looked at, and a correction drawn, saved and read back by another reader."""

import base64
import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.app.settings import Settings

LEFT, RIGHT = "left ball", "right ball"
NAMES = {1: LEFT, 2: RIGHT}
COLOURS = {LEFT: (0xFF, 0xB0, 0x00), RIGHT: (0x56, 0xB4, 0xE9)}
ADDED = (0x56, 0xB4, 0xE9)
LETTERS = (255, 209, 61)
# Stored axes L, A, S with three lengths of sides: what is drawn where is told apart by every mistake.
SHAPE, AFFINE = (56, 48, 36), np.array([[-1.25, 0, 0, 35.0], [0, 1.5, 0, -36.0], [0, 0, 2.0, -36.0], [0, 0, 0, 1]])
CENTRES_MM, RADIUS_MM = {LEFT: (-14.0, 9.0, 4.0), RIGHT: (17.0, -12.0, -8.0)}, {LEFT: 9.0, RIGHT: 6.0}


def places_mm() -> np.ndarray:
    """World coordinates of every voxel, array (i, j, k, 3)."""
    return nib.affines.apply_affine(AFFINE, np.moveaxis(np.indices(SHAPE), 0, -1))


def drawn_labels() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    for number, name in NAMES.items():
        array[np.linalg.norm(places_mm() - CENTRES_MM[name], axis=-1) <= RADIUS_MM[name]] = number
    return array


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    """A browser that draws WebGL by software; the others of these tests have none."""
    drawing = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage", *drawing]
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def stored(server, store_label_map, tmp_path_factory) -> dict[str, str]:
    """Ids of two results and of a 4-D scan, stored beside the server as a worker stores them."""
    folder = tmp_path_factory.mktemp("phantom")
    services = open_services(Settings(home=server.home))
    services.datasets.create(DatasetRequest(name="phantom", simulated=True))
    image = np.full(SHAPE, 300, np.int16) + np.random.default_rng(0).integers(-40, 40, SHAPE).astype(np.int16)
    ids = {}
    for name, labels in {"first": drawn_labels(), "second": np.roll(drawn_labels(), 2, axis=2)}.items():
        path = folder / f"{name}_T1w.nii.gz"
        nib.save(nib.Nifti1Image(image, AFFINE), path)
        ids[name] = str(store_label_map(services, path, labels, NAMES, "phantom"))
    series = np.stack([np.full((16, 16, 12), level, np.float32) for level in (100, 500, 900)], axis=-1)
    series[0, 0, 0] = (0, 0, 0)
    nib.save(nib.Nifti1Image(series, np.diag([3, 3, 3, 1])), folder / "bold.nii.gz")
    scan = services.scans.ingest_path(folder / "bold.nii.gz", ScanRequest(name="bold.nii.gz", dataset="phantom"))
    services.close()
    return ids | {"series": str(scan.id)}


@pytest.fixture
def viewer(visit):
    """Open the viewer's own page and wait until it has drawn."""

    def open_viewer(**named: str):
        query = "&".join(f"{name}={value}" for name, value in {"theme": "light", **named}.items())
        visit.page.goto(f"{visit.server.url}/api/v1/pages/viewer?{query}")
        expect(visit.page.locator('main[data-state="ready"]')).to_be_visible()
        return visit.page

    return open_viewer


def pixels(page, pane: int = 0) -> np.ndarray:
    """What a canvas shows, array (row, column, 3), one CSS pixel each."""
    shot = page.locator(".vw-canvas canvas").nth(pane).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def crosshair(page, plane: str = "axial", pane: int = 0) -> tuple[int, int]:
    """Column and row of the crosshair in a plane."""
    x, y = page.evaluate(f"voxelightViewer.panes[{pane}].whereIs('{plane}')")
    return round(x), round(y)


def colour_beside(page, plane: str = "axial", pane: int = 0) -> np.ndarray:
    """Colour a little off the crosshair, whose middle is open."""
    x, y = crosshair(page, plane, pane)
    return pixels(page, pane)[y - 6 : y - 3, x + 4 : x + 7].reshape(-1, 3).mean(axis=0)


def go_to(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    expect(page.locator("#status")).to_contain_text(name)


def pick(page, name: str) -> None:
    page.get_by_role("radio", name=name, exact=True).check()


def set_opacity(page, percent: int) -> None:
    page.get_by_label("Opacity").fill(str(percent))
    expect(page.locator("#opacity-said")).to_have_text(f"{percent} %")


def place_said(page) -> np.ndarray:
    """The crosshair in RAS+ mm, as the page says it."""
    found = re.findall(r"([LRPAIS]) (\d+\.\d)", page.locator("#status").inner_text())
    return np.array([float(value) * (1 if letter in "RAS" else -1) for letter, value in found])


def read_map(server, url: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(server.get(url).content))


@pytest.mark.parametrize("name", [LEFT, RIGHT])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_overlay_lies_where_the_label_lies(viewer, stored, name, plane):
    page = viewer(result=stored["first"])
    set_opacity(page, 100)
    go_to(page, name)
    np.testing.assert_allclose(place_said(page), CENTRES_MM[name], atol=1.1)
    np.testing.assert_allclose(colour_beside(page, plane), COLOURS[name], atol=12)
    set_opacity(page, 0)
    grey = colour_beside(page, plane)
    assert np.ptp(grey) < 6
    set_opacity(page, 50)
    np.testing.assert_allclose(colour_beside(page, plane), (grey + COLOURS[name]) / 2, atol=25)


def test_a_label_is_hidden_by_its_tick_and_the_other_stays(viewer, stored):
    page = viewer(result=stored["first"])
    set_opacity(page, 100)
    page.get_by_role("checkbox", name=f"Show {LEFT}").uncheck()
    go_to(page, LEFT)
    assert np.ptp(colour_beside(page)) < 6
    go_to(page, RIGHT)
    np.testing.assert_allclose(colour_beside(page), COLOURS[RIGHT], atol=12)


def test_volumes_are_those_of_the_voxels(viewer, stored):
    page = viewer(result=stored["first"])
    for number, name in NAMES.items():
        volume = (drawn_labels() == number).sum() * 1.25 * 1.5 * 2 / 1000
        row = page.get_by_role("row").filter(has=page.get_by_role("button", name=name))
        assert float(row.get_by_role("cell").last.inner_text()) == pytest.approx(volume, abs=1e-3)


def share_of(picture: np.ndarray, colour: tuple[int, int, int], near: int = 30) -> np.ndarray:
    return np.abs(picture - np.array(colour)).max(axis=-1) < near


def test_left_changes_sides_with_the_convention_and_so_do_the_letters(viewer, stored):
    page = viewer(result=stored["first"])
    pick(page, "Axial")
    go_to(page, RIGHT)  # away from the middle, where the letters are
    set_opacity(page, 100)
    seen = {}
    for convention in ("Neurological", "Radiological"):
        page.get_by_role("radio", name=re.compile(convention)).check()
        picture = pixels(page)
        half = picture.shape[1] // 2
        blue = share_of(picture, COLOURS[RIGHT], 14)
        letters = share_of(picture, LETTERS, 40)
        rows = slice(picture.shape[0] // 2 - 20, picture.shape[0] // 2 + 20)
        inked = [int(letters[rows, :half].sum()), int(letters[rows, half:].sum())]
        seen[convention] = (bool(blue[:, half:].sum() > blue[:, :half].sum()), inked)
    assert seen["Neurological"][0], "the person's right is drawn on the right"
    assert not seen["Radiological"][0]
    left, right = seen["Neurological"][1]
    assert 0 < left < right, "an L takes less ink than an R"
    left, right = seen["Radiological"][1]
    assert 0 < right < left
    assert page.evaluate("localStorage.getItem('vx-convention')") == "radiological"


def test_keys_do_what_the_list_says(viewer, stored):
    page = viewer(result=stored["first"])
    page.keyboard.press("r")
    expect(page.get_by_role("radio", name=re.compile("Radiological"))).to_be_checked()
    page.keyboard.press("]")
    expect(page.locator("#opacity-said")).to_have_text("70 %")
    page.keyboard.press("3")
    expect(page.get_by_role("radio", name="Coronal")).to_be_checked()
    before = place_said(page)
    page.keyboard.press("PageUp")
    page.keyboard.press("ArrowLeft")
    np.testing.assert_allclose(place_said(page) - before, [-1.25, 0, 2], atol=0.11)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename == "first_T1w.png"
    assert Image.open(download.value.path()).size[0] > 400


def start_correction(page, plane: str = "Axial") -> None:
    pick(page, plane)
    page.get_by_role("button", name="Start a correction").click()
    expect(page.get_by_role("button", name="Save correction")).to_be_visible()


def canvas_place(page, x: float, y: float) -> tuple[float, float]:
    box = page.locator(".vw-canvas canvas").first.bounding_box()
    return box["x"] + x, box["y"] + y


def stroke(page, start: tuple[float, float], *ways: tuple[float, float]) -> None:
    page.mouse.move(*canvas_place(page, *start))
    page.mouse.down()
    for way in ways:
        page.mouse.move(*canvas_place(page, *way), steps=6)
    page.mouse.up()


def drawn_now(page) -> np.ndarray:
    """Voxels of the correction under way, in RAS+ order."""
    packed = page.evaluate(
        """() => { let text = ""; for (const each of voxelightViewer.state.correction.voxels)
        text += String.fromCharCode(each); return btoa(text); }"""
    )
    return np.frombuffer(base64.b64decode(packed), np.uint8).reshape(SHAPE, order="F")


def in_ras(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(nib.as_closest_canonical(image).dataobj)


def test_a_correction_is_drawn_saved_and_read_back(viewer, visit, stored):
    page = viewer(result=stored["first"])
    view = visit.server.get(f"/api/v1/results/{stored['first']}/view").json()
    base = read_map(visit.server, view["versions"][0]["url"])
    before = visit.server.get(view["versions"][0]["url"]).content
    go_to(page, LEFT)
    start_correction(page)
    np.testing.assert_array_equal(drawn_now(page), in_ras(base))
    x, y = crosshair(page)
    stroke(page, (x + 90, y), (x + 130, y + 20))
    painted = drawn_now(page)
    added = (painted == 1) & (in_ras(base) != 1)
    assert added.sum() > 20
    assert len(np.unique(np.argwhere(added)[:, 2])) == 1, "the brush stays in its slice"
    stroke(page, (x + 130, y + 90))
    assert (drawn_now(page) != painted).any()
    page.keyboard.press("Control+z")
    np.testing.assert_array_equal(drawn_now(page), painted)
    page.keyboard.press("e")
    page.locator("#shape").select_option("ball")
    stroke(page, (x, y))
    erased = (drawn_now(page) == 0) & (in_ras(base) == 1)
    assert erased.sum() > 10
    assert len(np.unique(np.argwhere(erased)[:, 2])) > 1, "the ball reaches other slices"
    expected = drawn_now(page)

    page.get_by_role("button", name="Save correction").click()
    expect(page.get_by_text("Say who corrected it.")).to_be_visible()
    page.get_by_label("Your name").fill("Reader A")
    page.get_by_label("Note").fill("reaches too far")
    page.get_by_role("button", name="Save correction").click()
    expect(page.get_by_text("Saved as first_T1w_correction-01_dseg.nii.gz.")).to_be_visible()

    versions = visit.server.get(f"/api/v1/results/{stored['first']}/corrections").json()["items"]
    assert [(each["author"], each["note"]) for each in versions] == [("", ""), ("Reader A", "reaches too far")]
    saved = read_map(visit.server, versions[1]["url"])
    np.testing.assert_array_equal(in_ras(saved), expected)
    np.testing.assert_array_equal(saved.affine, base.affine)
    assert saved.shape == base.shape == SHAPE
    assert visit.server.get(versions[0]["url"]).content == before
    assert versions[1]["changes"][LEFT] == {
        "added": int(added.sum()),
        "removed": int(erased.sum()),
        "dice": pytest.approx(versions[1]["changes"][LEFT]["dice"]),
    }

    expect(page.get_by_label("Label map")).to_have_value(versions[1]["artifact"])
    set_opacity(page, 100)
    page.get_by_label("Show voxels that changed").check()
    coloured = share_of(pixels(page), ADDED, 40).sum()
    assert coloured > 100, "what was added is shown in its colour"
    page.get_by_label("Show voxels that changed").uncheck()
    page.get_by_label("Label map").select_option(versions[0]["artifact"])
    go_to(page, LEFT)
    np.testing.assert_allclose(colour_beside(page), COLOURS[LEFT], atol=12)


def test_the_place_that_was_painted_is_the_place_under_the_pointer(viewer, stored):
    page = viewer(result=stored["second"])
    go_to(page, RIGHT)
    start_correction(page, "Coronal")
    page.get_by_label("Diameter").fill("1.25")
    before = drawn_now(page)
    x, y = crosshair(page, "coronal")
    pick(page, "Look")
    page.mouse.click(*canvas_place(page, x - 120, y - 60))
    said = place_said(page)
    pick(page, "Brush")
    stroke(page, (x - 120, y - 60))
    [voxel] = np.argwhere(drawn_now(page) != before)
    ras = nib.as_closest_canonical(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE)).affine
    np.testing.assert_allclose(nib.affines.apply_affine(ras, voxel), said, atol=1.05)
    assert drawn_now(page)[tuple(voxel)] == 1


def test_holes_are_filled_and_slices_interpolated(viewer, stored):
    page = viewer(result=stored["second"])
    go_to(page, RIGHT)
    start_correction(page)
    x, y = crosshair(page)
    centre = (x - 150, y - 130)
    ring = [(centre[0] + dx, centre[1] + dy) for dx, dy in ((60, -60), (60, 60), (-60, 60), (-60, -60))]
    base = drawn_now(page)
    stroke(page, ring[-1], *ring)
    outline = drawn_now(page)
    pick(page, "Fill")
    page.mouse.click(*canvas_place(page, *centre))
    filled = drawn_now(page)
    assert (filled == 1).sum() > (outline == 1).sum() + 8
    page.mouse.click(*canvas_place(page, centre[0] - 140, centre[1]))
    expect(page.get_by_text("an outline that is open in this slice")).to_be_visible()

    pick(page, "Look")
    for _ in range(4):
        page.keyboard.press("PageUp")
    pick(page, "Brush")
    stroke(page, ring[-1], *ring)
    pick(page, "Fill")
    page.mouse.click(*canvas_place(page, *centre))
    two = drawn_now(page)
    changed = sorted(set(np.argwhere(two != base)[:, 2]))
    assert len(changed) == 2
    assert changed[1] - changed[0] == 4
    volume = page.get_by_role("row").filter(has=page.get_by_role("button", name=LEFT)).get_by_role("cell").last
    before = volume.inner_text()
    page.get_by_label("Which").select_option("drawn")
    page.get_by_role("button", name="Interpolate").click()
    expect(volume).not_to_have_text(before)
    between = drawn_now(page) != base
    assert between[..., changed[0] + 1 : changed[1]].any(axis=(0, 1)).all()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Discard").click()
    expect(page.get_by_role("button", name="Start a correction")).to_be_visible()


def test_two_results_share_one_crosshair(viewer, stored):
    page = viewer(result=stored["first"], other=stored["second"])
    expect(page.locator(".vw-canvas canvas")).to_have_count(2)
    x, y = crosshair(page, "axial")
    page.mouse.click(*canvas_place(page, x - 20, y - 25))
    said = place_said(page)
    places = page.evaluate(
        "voxelightViewer.panes.map(({nv}) => Array.from(nv.frac2mm(nv.scene.crosshairPos)).slice(0, 3))"
    )
    np.testing.assert_allclose(places[0], places[1], atol=1e-3)
    np.testing.assert_allclose(places[0], said, atol=0.06)
    expect(page.get_by_text("First: drawn, job")).to_be_visible()
    expect(page.get_by_text("Second: drawn, job")).to_be_visible()
    row = page.get_by_role("row").filter(has=page.get_by_role("button", name=LEFT))
    expect(row.get_by_role("cell")).to_have_count(4)
    inside = page.get_by_role("table").first.evaluate("each => each.scrollWidth <= each.parentElement.clientWidth")
    assert inside, "no volume is cut off"
    set_opacity(page, 100)
    go_to(page, LEFT)
    for pane in (0, 1):
        np.testing.assert_allclose(colour_beside(page, "axial", pane), COLOURS[LEFT], atol=12)


def test_time_goes_on_in_a_series(viewer, stored):
    page = viewer(scan=stored["series"])
    page.get_by_label("Darkest").fill("0")
    page.get_by_label("Brightest").fill("1000")
    page.get_by_label("Brightest").press("Tab")
    seen = []
    for frame in range(3):
        page.get_by_label("Time").fill(str(frame))
        expect(page.locator("#frame-said")).to_have_text(f"{frame + 1} of 3")
        expect(page.locator("#status")).to_contain_text(f"intensity {(100, 500, 900)[frame]}")
        seen.append(colour_beside(page).mean())
    np.testing.assert_allclose(seen, np.array([0.1, 0.5, 0.9]) * 255, atol=20)
    expect(page.get_by_role("button", name="Start a correction")).to_be_hidden()


def test_without_webgl_the_pictures_of_the_server_stand_in(visit, stored):
    visit.page.add_init_script(
        """const original = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
          return kind.startsWith("webgl") ? null : original.call(this, kind, ...rest); };"""
    )
    visit.page.goto(f"{visit.server.url}/api/v1/pages/viewer?result={stored['first']}")
    expect(visit.page.get_by_role("alert").filter(has_text="WebGL 2")).to_contain_text("What to do")
    picture = visit.page.get_by_alt_text("Three planes of first_T1w.nii.gz")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth > 50")


@pytest.mark.parametrize(
    ("query", "said"),
    [("", "no result and no scan"), ("?result=00000000-0000-0000-0000-000000000000", "no run"), ("?scan=x", "What")],
)
def test_an_address_that_names_nothing_says_so(visit, query, said):
    visit.page.goto(f"{visit.server.url}/api/v1/pages/viewer{query}")
    expect(visit.page.get_by_role("alert").filter(has_text=said)).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_accessible_and_fits_the_screen(viewer, visit, stored, theme, width):
    visit.page.set_viewport_size({"width": width, "height": 844})
    page = viewer(result=stored["first"], theme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Start a correction").click()
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]})
    assert found.violations_count == 0, found.generate_report()


def test_the_page_shows_it_in_a_frame(visit, stored):
    visit.open(f"/viewer?result={stored['first']}&other={stored['second']}", "Viewer")
    frame = visit.page.frame_locator('iframe[src*="/api/v1/pages/viewer"]')
    expect(frame.locator('main[data-state="ready"]')).to_be_visible()
    expect(frame.locator("canvas")).to_have_count(2)
    expect(visit.page.get_by_text("Simulated data").first).to_be_visible()
    visit.shoot("viewer")
    assert httpx.get(f"{visit.server.url}/api/v1/pages/viewer").headers["content-security-policy"]

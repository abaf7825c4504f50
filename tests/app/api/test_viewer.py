"""What the viewer reads and writes over HTTP."""

import gzip
import hashlib
import uuid
import zipfile

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from voxelight.models.errors import BadInput

NAMES = {1: "anterior", 2: "posterior"}
AFFINE = np.array([[-1.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 2.0, 5], [0, 0, 0, 1]])
SHAPE = (20, 18, 16)


def labels() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[4:9, 5:12, 3:9] = 1
    array[9:14, 5:12, 3:9] = 2
    return array


def pack(array: np.ndarray) -> bytes:
    return nib.Nifti1Image(array, AFFINE).to_bytes()


@pytest.fixture
def segmented(services, dataset, store_label_map, tmp_path):
    path = tmp_path / "brain.nii.gz"
    image = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    path.write_bytes(gzip.compress(pack(image)))
    return store_label_map(services, path, labels(), NAMES, dataset)


def test_a_scan_is_sent_as_it_is_stored_whole_and_in_part(client, upload, make, is_problem):
    content = make.nifti()
    scan = upload("t1.nii.gz", content)
    whole = client.get(f"scans/{scan['id']}/content")
    assert whole.headers["ETag"] == f'"{scan["sha256"]}"'
    assert hashlib.sha256(whole.content).hexdigest() == scan["sha256"]
    part = client.get(f"scans/{scan['id']}/content", headers={"Range": "bytes=5-9"})
    assert part.status_code == 206
    assert part.content == whole.content[5:10]
    known = client.get(f"scans/{scan['id']}/content", headers={"If-None-Match": whole.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    is_problem(client.get(f"scans/{scan['id']}/content", headers={"Range": "bytes=999999999-"}), 416)
    assert client.get(f"scans/{scan['id']}/image").content == whole.content
    is_problem(client.get(f"scans/{uuid.uuid4()}/content"), 404)


def test_what_is_no_image_has_no_view(client, upload, make, is_problem):
    scan = upload("seen.png", make.png())
    for route in ("image", "view"):
        assert "picture" in is_problem(client.get(f"scans/{scan['id']}/{route}"), 422)["found"]
    assert client.get(f"scans/{scan['id']}/content").status_code == 200


def test_a_view_names_everything_that_the_page_asks_for(client, segmented):
    view = client.get(f"results/{segmented}/view").json()
    assert [(label["number"], label["name"]) for label in view["labels"]] == list(NAMES.items())
    assert len({label["colour"] for label in view["labels"]}) == 2
    assert view["image"]["geometry"]["orientation"] == "LAS"
    assert view["image"]["frames"] == 1
    assert view["notice"] == "Not for clinical use."
    urls = [view["image"]["url"], *(each["url"] for each in view["versions"] + view["pictures"])]
    assert len(urls) >= 3
    for url in urls:
        assert client.get(f"http://localhost{url}").status_code == 200
    alone = client.get(f"scans/{view['scan']}/view").json()
    assert (alone["labels"], alone["versions"], alone["result"]) == ([], [], None)
    assert alone["image"] == view["image"]


def test_a_series_says_how_many_volumes_it_has(client, upload, make):
    scan = upload("bold.nii.gz", make.nifti((4, 5, 6, 7)))
    assert client.get(f"scans/{scan['id']}/view").json()["image"]["frames"] == 7


def test_a_correction_comes_back_as_it_was_drawn(client, segmented):
    array = labels()
    array[14, 5:7, 3:5] = 2
    base = client.get(f"results/{segmented}/view").json()["versions"][0]
    before = client.get(f"http://localhost{base['url']}").content
    asked = {"author": "Reader A", "note": "tail"}
    answer = client.post(f"results/{segmented}/corrections", params=asked, content=gzip.compress(pack(array)))
    assert answer.status_code == 201
    version = answer.json()
    assert answer.headers["Location"] == version["url"]
    stored = gzip.decompress(client.get(f"http://localhost{version['url']}").content)
    np.testing.assert_array_equal(np.asarray(nib.Nifti1Image.from_bytes(stored).dataobj), array)
    assert version["changes"]["posterior"] == {"added": 4, "removed": 0, "dice": pytest.approx(2 * 210 / 424)}
    assert client.get(f"http://localhost{base['url']}").content == before
    listed = client.get(f"results/{segmented}/corrections").json()["items"]
    assert [each["author"] for each in listed] == ["", "Reader A"]
    roles = [artifact["role"] for artifact in client.get(f"results/{segmented}").json()["artifacts"]]
    assert sorted(roles) == ["correction", "label_map"]
    again = client.post(f"results/{segmented}/corrections", params=asked, content=gzip.compress(pack(array)))
    assert again.json() == version


def test_a_map_larger_than_a_document_is_taken(client, services, dataset, store_label_map, tmp_path):
    """The limit of a megabyte is for JSON."""
    path, shape = tmp_path / "large.nii.gz", (128, 128, 100)
    nib.save(nib.Nifti1Image(np.random.default_rng(0).integers(0, 9, shape).astype(np.int16), np.eye(4)), path)
    run = store_label_map(services, path, np.zeros(shape, np.uint8), {1: "lesion"}, dataset)
    drawn = np.zeros(shape, np.uint8)
    drawn[5:9, 5:9, 5:9] = 1
    content = nib.Nifti1Image(drawn, np.eye(4)).to_bytes()
    assert len(content) > 1 << 20
    answer = client.post(f"results/{run}/corrections", params={"author": "A"}, content=content)
    assert answer.status_code == 201, answer.text
    assert answer.json()["volumes_ml"] == {"lesion": pytest.approx(0.064)}


@pytest.mark.parametrize(
    ("params", "content"),
    [
        ({}, pack(labels())),
        ({"author": "A", "autor": "B"}, pack(labels())),
        ({"author": "A"}, b"no image"),
        ({"author": "A"}, b""),
        ({"author": "A"}, pack(labels())),
        ({"author": "A"}, pack(labels()[1:])),
        ({"author": "A", "base": "none"}, pack(labels())),
    ],
    ids=["no author", "unknown parameter", "no image", "nothing", "no change", "cropped", "no id"],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(client, segmented, state, is_problem, params, content):
    before = state()
    is_problem(client.post(f"results/{segmented}/corrections", params=params, content=content), 422)
    assert state() == before


def test_slices_are_filled_in_and_nothing_is_stored(client, segmented, state, is_problem):
    array = labels()
    array[:, :, 4:8] = 0
    before = state()
    path = f"results/{segmented}/interpolation"
    answer = client.post(path, params={"label": 2}, content=pack(array))
    assert answer.status_code == 200
    filled = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(answer.content)).dataobj)
    np.testing.assert_array_equal(filled == 2, labels() == 2)
    assert not (filled[:, :, 4:8] == 1).any()
    is_problem(client.post(path, params={"label": 2, "first": 3}, content=pack(array)), 422)
    is_problem(client.post(path, params={"label": 9}, content=pack(array)), 422)
    is_problem(client.post(path, params={"label": 2, "plane": "oblique"}, content=pack(array)), 422)
    assert state() == before


def test_a_result_without_a_label_map_takes_no_correction(client, finished, is_problem):
    run = finished()
    is_problem(client.post(f"results/{run}/corrections", params={"author": "A"}, content=pack(labels())), 422)
    is_problem(client.post(f"results/{uuid.uuid4()}/corrections", params={"author": "A"}, content=b"x"), 404)
    is_problem(client.get(f"results/{run}/corrections"), 422)


def test_a_dicom_series_is_sent_as_an_image_on_its_own_grid(client, services, dataset, shared_data, tmp_path):
    from voxelight.app.schemas import ScanRequest
    from voxelight.storage.formats.dicom.bundle import bundle_series

    [bundle, *_] = bundle_series([shared_data / "udacity_brain_mr_dicom" / "Study1"], tmp_path)
    scan = services.scans.ingest_path(bundle.path, ScanRequest(name=bundle.name, dataset=dataset))
    view = client.get(f"scans/{scan.id}/view").json()
    answer = client.get(f"http://localhost{view['image']['url']}")
    assert view["image"]["name"].endswith(".nii.gz")
    image = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
    np.testing.assert_allclose(image.affine, view["image"]["geometry"]["affine"], atol=1e-4)
    assert list(image.shape) == view["image"]["geometry"]["shape"]
    reader = SimpleITK.ImageSeriesReader()
    with zipfile.ZipFile(bundle.path) as archive:
        archive.extractall(tmp_path / "files")
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "files")))
    told = reader.Execute()
    np.testing.assert_array_equal(
        np.sort(SimpleITK.GetArrayFromImage(told).ravel()), np.sort(image.get_fdata().ravel())
    )
    again = client.get(f"http://localhost{view['image']['url']}")
    assert (again.headers["ETag"], again.content) == (answer.headers["ETag"], answer.content)
    assert client.get(f"scans/{scan.id}/content").content[:2] == b"PK"


def test_clinical_headers_stay_here(client, is_problem):
    assert client.post("datasets", json={"name": "clinic", "keeps_headers": True}).status_code == 201
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.header["descrip"] = "SMITH^JOHN"
    scan = client.put("datasets/clinic/scans/brain.nii.gz", content=gzip.compress(image.to_bytes())).json()
    assert "clinical" in is_problem(client.get(f"scans/{scan['id']}/content"), 403)["found"]
    is_problem(client.get(f"scans/{scan['id']}/image"), 403)
    by_the_page = {"Sec-Fetch-Site": "same-origin"}
    answer = client.get(f"scans/{scan['id']}/image", headers=by_the_page)
    shown = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
    np.testing.assert_array_equal(shown.get_fdata(), image.get_fdata())
    assert b"SMITH" not in gzip.decompress(answer.content)
    assert answer.headers["ETag"] == client.get(f"scans/{scan['id']}/image", headers=by_the_page).headers["ETag"]


def test_a_comparison_says_how_far_two_label_maps_cover_the_same(
    client, services, dataset, segmented, store_label_map, tmp_path
):
    again = tmp_path / "again.nii.gz"
    again.write_bytes((tmp_path / "brain.nii.gz").read_bytes())
    swapped = np.roll(labels(), 2, axis=1)
    swapped[swapped > 0] = 3 - swapped[swapped > 0]  # the same names under other numbers
    other = store_label_map(services, again, swapped, {1: "posterior", 2: "anterior"}, dataset)
    jobs = [client.get(f"results/{run}").json()["job"] for run in (segmented, other)]
    asked = {"a": jobs[0], "b": jobs[1]}
    assert client.get("compare", params=asked).json()["pairs"][0]["overlap"] is None
    [pair] = client.get("compare", params=asked | {"overlap": True}).json()["pairs"]
    measure = SimpleITK.LabelOverlapMeasuresImageFilter()
    for number, name in NAMES.items():
        measure.Execute(*(SimpleITK.GetImageFromArray((each == number).astype(np.uint8)) for each in
                          (labels(), np.where(swapped > 0, 3 - swapped, 0))))  # fmt: skip
        assert pair["overlap"][name] == pytest.approx(measure.GetDiceCoefficient(1))
    assert 0 < pair["overlap"]["anterior"] < 1
    with pytest.raises(BadInput, match="no segmentation"):
        services.compare.overlap(segmented, uuid.uuid4())

"""The page Viewer: what it offers, what its frame is asked to show."""

import uuid
from urllib.parse import parse_qs, urlsplit

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.schemas import DatasetRequest


@pytest.fixture
def results(services, store_label_map, tmp_path) -> list[uuid.UUID]:
    """Two results with a label map."""
    services.datasets.create(DatasetRequest(name="mri", simulated=True))
    found = []
    for number in range(2):
        path = tmp_path / f"brain{number}.nii.gz"
        nib.save(nib.Nifti1Image(np.random.default_rng(number).normal(size=(6, 5, 4)), np.eye(4)), path)
        labels = np.zeros((6, 5, 4), np.uint8)
        labels[2, 2, 2] = 1
        found.append(store_label_map(services, path, labels, {1: "lesion"}, "mri"))
    return found


def framed(app) -> dict[str, str]:
    """Parameters of the frame's address."""
    [frame] = app.get("iframe")
    address = urlsplit(frame.proto.src)
    assert address.path == "/api/v1/pages/viewer"
    return {name: value for name, [value] in parse_qs(address.query).items() if name != "theme"}


def choice(app, label):
    return next(each for each in app.selectbox if each.label.startswith(label))


def test_without_a_volume_it_says_what_to_do(visit):
    app = visit("viewer")
    assert not app.exception
    assert not app.get("iframe")
    assert any("no volume to look at yet" in each.value for each in app.markdown)


def test_the_newest_result_is_shown_first_and_the_address_names_it(visit, results):
    app = visit("viewer")
    assert not app.exception
    assert framed(app) == {"result": str(results[1])}
    assert dict(app.query_params)["result"] in (str(results[1]), [str(results[1])])
    assert len(choice(app, "Show").options) == 4  # two results, two scans alone


def test_an_address_names_a_result_and_what_stands_beside_it(visit, results, services):
    assert framed(visit("viewer", result=str(results[0]))) == {"result": str(results[0])}
    both = {"result": str(results[0]), "other": str(results[1])}
    assert framed(visit("viewer", **both)) == both
    scan = str(services.viewer.view_result(results[0]).scan)
    assert framed(visit("viewer", scan=scan)) == {"scan": scan}
    assert framed(visit("viewer", scan=scan, otherscan=scan)) == {"scan": scan, "otherscan": scan}


def test_another_choice_changes_frame_and_address(visit, results):
    app = visit("viewer", result=str(results[0]))
    box = choice(app, "Beside it")
    app = box.set_value(("result", results[1])).run()
    assert framed(app) == {"result": str(results[0]), "other": str(results[1])}
    app = choice(app, "Show").set_value(("result", results[1])).run()
    assert framed(app) == {"result": str(results[1]), "other": str(results[1])}
    app = app.run()
    assert framed(app) == {"result": str(results[1]), "other": str(results[1])}


@pytest.mark.parametrize("name", ["result", "scan", "other", "otherscan"])
@pytest.mark.parametrize("value", ["nonsense", str(uuid.UUID(int=0)), '"><script>'])
def test_what_is_not_there_is_said_in_words(visit, results, name, value):
    app = visit("viewer", **{name: value})
    assert not app.exception
    assert not app.get("iframe")
    assert any("What to do" in each.value for each in app.error)

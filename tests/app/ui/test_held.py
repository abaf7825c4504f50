"""The part of the page Upload that shows scans which wait for a person."""

import pytest

from voxelight.app.schemas import DatasetRequest, ScanRequest


@pytest.fixture
def held(services, write_dicom, tmp_path):
    """A scan whose header says that writing is burned in."""

    def burn_in(header, place):
        header.BurnedInAnnotation = "YES"

    services.datasets.create(DatasetRequest(name="ward"))
    write_dicom(tmp_path / "in", change=burn_in)
    return services.scans.ingest_series([tmp_path / "in"], ScanRequest(name="x", dataset="ward"))[0][0]


def one(elements, label):
    return next(element for element in elements if element.label == label)


def said(app):
    kinds = (app.markdown, app.subheader, app.error)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def decide(app, author, reason, button):
    one(app.text_input, "Your name").set_value(author)
    one(app.text_input, "What you saw").set_value(reason)
    return one(app.button, button).click().run()


def test_a_held_scan_is_shown_with_its_reason_and_released_by_name(visit, services, held):
    app = visit("upload")
    assert "Held for a look: 1" in said(app)
    assert "BurnedInAnnotation is YES" in said(app)
    app = decide(app, "Dr. A", "no writing", "Release")
    assert not app.exception
    assert "Held for a look" not in said(app)
    assert services.scans.show(held.id).facts["released_by"] == "Dr. A"
    assert app.session_state["author"] == "Dr. A"


def test_nothing_is_decided_without_a_name(visit, services, held):
    app = decide(visit("upload"), "", "no writing", "Release")
    assert app.error
    assert services.scans.show(held.id).held


def test_a_held_scan_is_removed_for_good(visit, services, held):
    app = decide(visit("upload"), "Dr. A", "a name in slice 3", "Remove for good")
    assert not app.exception
    assert not services.scans.list("ward").items

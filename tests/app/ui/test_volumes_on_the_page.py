"""A DICOM series of several volumes on the page Upload: a scan each, or the one that is named."""

import pytest


def one(elements, label):
    """The element of this label."""
    return next(element for element in elements if element.label == label)


@pytest.fixture
def two_echoes(write_dicom, tmp_path):
    """Loose files of one series, two echoes of three slices, as a browser gives them."""
    places = []

    def change(header, place):
        header.EchoTime = (10.0, 80.0)[place % 2]
        places.append(list(header.ImagePositionPatient))
        header.ImagePositionPatient = places[place - place % 2]

    paths = write_dicom(tmp_path / "series", change=change)
    return [(f"IM{number:04}", path.read_bytes(), "x/y") for number, path in enumerate(paths)]


def test_each_volume_becomes_a_scan_or_one_is_named(visit, services, dataset, two_echoes):
    app = visit("upload")
    app.file_uploader[0].set_value(two_echoes).run()
    assert not app.exception
    both = services.scans.list(dataset, kind="volume").items
    told = {scan.facts["volume"]: scan.facts["volume_is"] for scan in both}
    assert told == {1: "EchoTime 10.0", 2: "EchoTime 80.0"}

    app = visit("upload")
    one(app.text_input, "Subject").set_value("07").run()
    one(app.number_input, "Volume or page").set_value(2).run()
    app.file_uploader[0].set_value(two_echoes).run()
    assert not app.exception
    [scan] = services.scans.list(dataset, subject="07").items
    assert (scan.facts["volume"], scan.facts["volumes_in_series"]) == (2, 2)

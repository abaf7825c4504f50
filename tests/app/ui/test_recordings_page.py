"""The page Upload: a folder of fMRI betas on the server."""

import json

import pytest

from voxelight.app.schemas import DatasetRequest
from voxelight.storage.formats.fmri.examples.write import write_example


@pytest.fixture(autouse=True)
def opened(tmp_path, monkeypatch):
    """A root with one folder in it."""
    write_example("nsd", tmp_path / "open" / "nsd")
    monkeypatch.setenv("VOXELIGHT_DATA_ROOTS", json.dumps([str(tmp_path / "open")]))
    return tmp_path / "open"


def button(app, label):
    return next(each for each in app.button if each.label.startswith(label))


def test_a_folder_is_registered_from_the_page(services, visit, opened):
    services.datasets.create(DatasetRequest(name="mine", consent="simulated", purpose="Tests", simulated=True))
    app = visit("upload")
    app.text_input(key="recording-path").set_value(str(opened / "nsd")).run()
    button(app, "Look into it").click().run()
    assert any("Natural Scenes Dataset as published" in each.value for each in app.markdown)
    app.multiselect(key="recording-subjects").set_value(["subj02"]).run()
    button(app, "Register 1 subject").click().run()
    assert not app.exception
    assert any("registered" in each.value for each in app.success)
    [scan] = services.scans.list("mine").items
    assert (scan.kind, scan.subject) == ("recording", "subj02")


def test_what_is_refused_is_said(services, visit, opened):
    services.datasets.create(DatasetRequest(name="mine", consent="simulated", purpose="Tests", simulated=True))
    app = visit("upload")
    app.text_input(key="recording-path").set_value("/etc").run()
    button(app, "Look into it").click().run()
    assert any(
        "VOXELIGHT_DATA_ROOTS" in str(each.value).replace("\\", "")
        for each in (*app.error, *app.markdown, *app.warning)
    )
    assert services.scans.list("mine").items == []

"""The page Upload: data sets, files, and what becomes of each."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.ui.uploads import LARGE, SMALL

EVENTS = b"stim_file\nface.png\nhouse.png\n"


def one(elements, label):
    """The element of this label."""
    return next(element for element in elements if element.label == label)


def texts(app):
    """Everything that the page says, escapes of markdown taken out."""
    kinds = (app.markdown, app.caption, app.error, app.warning, app.success, app.info, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


@pytest.fixture
def mri():
    """A small volume with a placement, as bytes of a NIfTI file."""
    array = np.random.default_rng(0).normal(100, 5, size=(12, 10, 8)).astype(np.float32)
    return gzip.compress(nib.Nifti1Image(array, np.diag([-2, 2, 3, 1])).to_bytes())


def create(app, name, consent="none", purpose=""):
    one(app.text_input, "Name").set_value(name)
    one(app.selectbox, "Consent").set_value(consent)
    one(app.text_area, "Purpose").set_value(purpose)
    return one(app.button, "Create data set").click().run()


def test_a_fresh_installation_says_what_to_do_first(visit):
    app = visit("upload")
    assert "Start with a data set" in texts(app)
    assert not app.file_uploader
    assert not app.exception


def test_the_form_creates_a_data_set_and_then_takes_files(visit, services):
    app = create(visit("upload"), "figures", "public", "Decode figures")
    assert not app.error
    made = services.datasets.show("figures")
    assert (made.consent, made.purpose, made.simulated) == ("public", "Decode figures", False)
    assert app.file_uploader
    assert one(app.text_input, "Name").value == ""


@pytest.mark.parametrize("name", ["two words", "../etc", ""])
def test_a_name_that_is_none_is_refused_in_words(name, visit, services):
    app = create(visit("upload"), name)
    assert "letters, digits, dots, dashes and underscores" in texts(app)
    assert not services.datasets.list().items


def test_a_name_that_is_taken_is_refused_and_what_was_typed_stays(visit, services, dataset):
    app = create(visit("upload"), dataset, purpose="Something else")
    assert "a data set named 'noise'" in texts(app)
    assert one(app.text_input, "Name").value == dataset
    app.run()
    assert "a data set named 'noise'" in texts(app), "it stays when the page runs again by itself"
    create(app, "other")
    assert not app.error


def test_a_volume_shows_what_the_check_found(visit, services, dataset, mri):
    app = visit("upload")
    app.file_uploader[0].upload("brain.nii.gz", mri).run()
    assert "1 stored, 0 refused" in texts(app)
    assert "12 × 10 × 8 voxels of 2 × 2 × 3 mm, stored as LAS" in texts(app)
    assert {scan.name for scan in services.scans.list(dataset).items} == {"betas.mat", "brain.nii.gz"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.docx", b"words"),
        ("empty.nii", b""),
        ("cut.nii.gz", gzip.compress(bytes(999))[:40]),
        ("x.npy", b"\x93NUMPY"),
    ],
    ids=["text", "empty", "cut", "npy"],
)
def test_a_bad_file_says_why_and_leaves_no_row_while_the_others_go_on(name, content, visit, services, dataset):
    app = visit("upload")
    app.file_uploader[0].set_value([(name, content, "x/y"), ("events.tsv", EVENTS, "text/plain")]).run()
    assert "1 stored, 1 refused" in texts(app)
    for word in (name, "Found:", "Expected:", "What to do:"):
        assert word in str(app.error[0].value).replace("\\", "")
    assert not app.exception
    assert {scan.name for scan in services.scans.list(dataset).items} == {"betas.mat", "events.tsv"}


def test_two_uploads_of_one_name_keep_the_first(visit, services, dataset):
    app = visit("upload")
    second = EVENTS.replace(b"face", b"tree")
    app.file_uploader[0].set_value([("events.tsv", EVENTS, "x/y"), ("events.tsv", second, "x/y")]).run()
    assert "a scan named 'events.tsv'" in texts(app)
    assert len(services.scans.list(dataset, kind="events").items) == 1


def test_a_rerun_takes_nothing_in_again(visit, services, dataset):
    app = visit("upload")
    app.file_uploader[0].upload("events.tsv", EVENTS).run()
    app.run().run()
    assert "1 stored, 0 refused" in texts(app)
    assert not app.error
    assert len(services.scans.list(dataset, kind="events").items) == 1


def test_another_subject_is_another_uploader(visit, services, dataset):
    app = visit("upload")
    app.file_uploader[0].upload("events.tsv", EVENTS).run()
    one(app.text_input, "Subject").set_value("02").run()
    assert [scan.subject for scan in services.scans.list(dataset, kind="events").items] == ["01"]
    app.file_uploader[0].upload("events.tsv", EVENTS).run()
    assert {scan.subject for scan in services.scans.list(dataset, kind="events").items} == {"01", "02"}


def test_consent_given_later_opens_the_data_set(visit, services):
    app = create(visit("upload"), "later")
    consents = [box for box in app.selectbox if box.label == "Consent"]
    consents[0].set_value("given")
    next(area for area in app.text_area if area.label == "Purpose").set_value("Decode")
    one(app.button, "Save").click().run()
    changed = services.datasets.show("later")
    assert (changed.consent, changed.purpose) == ("given", "Decode")


def test_names_say_where_many_files_go_once_that_was_looked_at(visit, services, dataset):
    app = visit("upload")
    one(app.text_input, "Pattern of names").set_value("sub-{subject}_ses-{session}_*.tsv").run()
    files = [(f"sub-{number:02}_ses-b_events.tsv", EVENTS, "x/y") for number in (1, 2, 3)]
    app.file_uploader[0].set_value([*files, ("notes.tsv", EVENTS, "x/y")]).run()
    assert "3 of 4 files, 3 subjects; 1 do not fit and stay here" in texts(app)
    assert not services.scans.list(dataset, kind="events").items, "nothing is stored before somebody agrees"
    one(app.button, "Store 3 files").click().run()
    assert "3 stored, 0 refused" in texts(app)
    stored = services.scans.list(dataset, kind="events").items
    assert {(scan.subject, scan.session) for scan in stored} == {("01", "b"), ("02", "b"), ("03", "b")}


def test_a_pattern_that_is_none_is_refused_in_words(visit, services, dataset):
    app = visit("upload")
    one(app.text_input, "Pattern of names").set_value("sub-01").run()
    app.file_uploader[0].upload("events.tsv", EVENTS).run()
    assert "with no part in braces" in texts(app)
    assert not services.scans.list(dataset, kind="events").items


def test_loose_files_of_a_series_become_one_scan(visit, services, dataset, slices):
    app = visit("upload")
    app.file_uploader[0].set_value([(f"IM{number:04}", content, "x/y") for number, content in enumerate(slices)]).run()
    assert "1 stored, 0 refused" in texts(app)
    [scan] = services.scans.list(dataset, kind="volume").items
    assert (scan.facts["slices"], scan.deid_status) == (len(slices), "cleaned")
    assert "UIDs were replaced and dates moved" in texts(app)
    assert "Doe" not in texts(app)


def test_large_files_have_a_page_of_their_own(visit, dataset):
    app = visit("upload")
    one(app.text_input, "Subject").set_value("07").run()
    app.segmented_control[0].set_value(LARGE).run()
    assert not app.exception
    assert not app.file_uploader
    assert "/api/v1/pages/upload?dataset=noise&subject=07&session=01&theme=" in texts(app)
    one(app.text_input, "Name").set_value("later")
    one(app.button, "Create data set").click().run()
    assert "/api/v1/pages/upload?dataset=noise&" in texts(app), "another address would stop what is under way"
    app.segmented_control[0].set_value(SMALL).run()
    assert app.file_uploader
    assert one(app.text_input, "Subject").value == "07"


def test_a_clinical_data_set_keeps_headers_and_says_so(visit, services, slices):
    app = visit("upload")
    one(app.text_input, "Name").set_value("clinic")
    one(app.checkbox, "Clinical and local: keep headers as they are").set_value(True)
    app = one(app.button, "Create data set").click().run()
    assert services.datasets.show("clinic").keeps_headers
    app.file_uploader[0].set_value([(f"IM{number}", content, "x/y") for number, content in enumerate(slices)]).run()
    assert services.scans.list("clinic").items[0].deid_status == "kept"
    assert "Header kept: clinical data, not to be exported." in texts(app)


def test_what_may_show_a_name_waits_for_a_look(visit, services, dataset, make_series):
    app = visit("upload")
    burned = make_series(burned="YES")
    app.file_uploader[0].set_value([(f"IM{number}", content, "x/y") for number, content in enumerate(burned)]).run()
    [scan] = services.scans.list(dataset, kind="volume").items
    assert scan.held
    assert "Held back" in texts(app)
    assert any("Held for a look: 1" in str(element.value) for element in app.subheader)
    one(app.text_input, "Your name").set_value("R. Eader")
    one(app.text_input, "What you saw").set_value("No writing in any slice")
    one(app.button, "Release").click().run()
    assert not services.scans.show(scan.id).held


def test_how_a_file_is_read_is_chosen_on_the_page(visit, services):
    image = nib.Nifti1Image(np.arange(120, dtype=np.int16).reshape(5, 4, 3, 2), None)
    image.set_sform(np.diag([2.0, 2, 2, 1]), 2)
    image.set_qform(np.diag([2.0, 2, 2, 1]) + np.eye(4, k=3) * 9, 1)
    create(visit("upload"), "bold")
    app = visit("upload")
    one(app.selectbox, "Placement of a NIfTI header that holds").set_value("sform")
    one(app.number_input, "Volume or page").set_value(2).run()
    [uploader] = app.file_uploader
    uploader.set_value([("bold.nii.gz", gzip.compress(image.to_bytes()), "application/gzip")]).run()
    assert not app.exception
    [scan] = services.scans.list("bold").items
    assert (scan.facts["preferred_form"], scan.facts["volume"]) == ("sform", 2)
    assert scan.geometry["shape"] == [5, 4, 3]

"""A correction is a new file on the exact grid of the label map, with its author; nothing else changes."""

import gzip
import uuid

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from sqlalchemy import func, select

from voxelight.app.schemas import DatasetRequest, JobRequest
from voxelight.app.schemas_viewer import CorrectionRequest, InterpolationRequest
from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.schema import Artifact, Blob, Correction, Run

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
NAMES = {1: "anterior", 2: "posterior"}
SHAPE = (18, 20, 16)
# Stored axes P, L, S with sides of three lengths: a grid that no two readers agree on by chance.
AFFINE = np.array([[0, -1.5, 0, 20.0], [-1.0, 0, 0, 9.5], [0, 0, 2.0, -11.25], [0, 0, 0, 1]])


def drawn_array() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[4:9, 5:12, 3:9] = 1
    array[9:14, 5:12, 3:9] = 2
    return array


def pack(array: np.ndarray, affine: np.ndarray = AFFINE, descrip: str = "") -> bytes:
    image = nib.Nifti1Image(array, affine)
    image.header["descrip"] = descrip
    return image.to_bytes()


@pytest.fixture
def segmented(services, store_label_map, tmp_path):
    """Id of a run that gave a label map."""
    services.datasets.create(DatasetRequest(name="mri"))
    path = tmp_path / "brain.nii"
    path.write_bytes(pack(np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)))
    return store_label_map(services, path, drawn_array(), NAMES, "mri")


@pytest.fixture
def keep(services, segmented):
    """Save a drawn map as a correction of the result."""

    def _keep(content: bytes, author: str = "Reader A", **request) -> object:
        with services.corrections.receive(segmented) as incoming:
            incoming.write(content)
            return services.corrections.keep(incoming, segmented, CorrectionRequest(author=author, **request))

    return _keep


def corrected() -> np.ndarray:
    array = drawn_array()
    array[4, 5:12, 3:9] = 0
    array[14, 5:7, 3:5] = 2
    return array


def read(services, version) -> nib.Nifti1Image:
    content = services.results.read(services.results.show_artifact(version.artifact))
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def test_it_is_stored_as_drawn_on_the_grid_of_its_base_and_the_base_stays(services, segmented, keep):
    first = services.corrections.list(segmented)[0]
    before = services.results.read(services.results.show_artifact(first.artifact))
    version = keep(pack(corrected(), descrip="SMITH^JOHN"), note="edge of the ventricle")
    image, base = read(services, version), read(services, first)
    np.testing.assert_array_equal(np.asarray(image.dataobj), corrected())
    np.testing.assert_array_equal(image.affine, base.affine)
    assert image.header.binaryblock == base.header.binaryblock
    assert b"SMITH" not in image.header.binaryblock
    assert services.results.read(services.results.show_artifact(first.artifact)) == before
    assert [each.author for each in services.corrections.list(segmented)] == ["", "Reader A"]
    assert version.base == first.artifact
    assert version.note == "edge of the ventricle"


@on_sqlite
def test_another_reader_finds_it_where_the_image_is(services, keep, tmp_path):
    version = keep(pack(corrected()))
    path = tmp_path / version.name
    path.write_bytes(services.results.read(services.results.show_artifact(version.artifact)))
    image = SimpleITK.ReadImage(str(path))
    np.testing.assert_allclose(image.GetOrigin(), [-20, -9.5, -11.25])
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).T, corrected())


@on_sqlite
def test_volumes_and_changes_are_counted_anew(keep):
    version = keep(pack(corrected()))
    voxel_ml = 1.5 * 1.0 * 2.0 / 1000
    for number, name in NAMES.items():
        assert version.volumes_ml[name] == pytest.approx((corrected() == number).sum() * voxel_ml)
    assert version.changes["anterior"].removed == 7 * 6
    assert version.changes["anterior"].added == 0
    assert version.changes["posterior"].added == 2 * 2
    assert version.changes["posterior"].removed == 0


@on_sqlite
def test_it_may_come_in_other_axes_of_the_same_voxels(services, keep):
    turned = nib.as_closest_canonical(nib.Nifti1Image(corrected(), AFFINE))
    assert turned.shape != SHAPE
    version = keep(turned.to_bytes())
    np.testing.assert_array_equal(np.asarray(read(services, version).dataobj), corrected())


@on_sqlite
def test_a_correction_of_a_correction_names_its_base(services, segmented, keep):
    first = keep(pack(corrected()))
    further = corrected()
    further[5, 5:12, 3:9] = 0
    second = keep(pack(further), author="Reader B", base=first.artifact)
    assert second.base == first.artifact
    assert second.changes["anterior"].removed == 7 * 6
    names = [each.name for each in services.corrections.list(segmented)]
    assert names == [
        "brain_dseg.nii.gz",
        "brain_correction-01_dseg.nii.gz",
        "brain_correction-02_dseg.nii.gz",
    ]


def test_the_same_one_sent_again_is_stored_once(services, segmented, keep):
    first = keep(pack(corrected()), note="a")
    assert keep(pack(corrected()), note="a") == first
    assert keep(pack(corrected()), author="Reader B", note="a") != first
    with services.stores.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Correction)) == 2
        assert len(services.corrections.list(segmented)) == 3


def shifted() -> bytes:
    affine = AFFINE.copy()
    affine[0, 3] += 0.5
    return pack(corrected(), affine)


def with_a_stranger() -> bytes:
    array = corrected()
    array[0, 0, 0] = 7
    return pack(array)


REFUSED = {
    "moved by half a millimetre": shifted,
    "one slice less": lambda: pack(corrected()[..., :-1]),
    "flipped left to right": lambda: pack(corrected(), AFFINE @ np.diag([1, -1, 1, 1])),
    "a label that has no name": with_a_stranger,
    "fractions": lambda: pack(corrected() * 0.5),
    "nothing changed": lambda: pack(drawn_array()),
    "four axes": lambda: pack(np.stack([corrected()] * 2, axis=-1)),
    "no image": lambda: b"words" * 200,
    "cut short": lambda: pack(corrected())[:1000],
    "empty": lambda: b"",
}


@on_sqlite
@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_and_leaves_nothing(services, segmented, keep, what):
    def count() -> list[int | None]:
        with services.stores.sessions() as session:
            return [session.scalar(select(func.count()).select_from(table)) for table in (Artifact, Correction, Blob)]

    before = count()
    with pytest.raises(BadInput) as refused:
        keep(REFUSED[what]())
    assert refused.value.remedy
    assert count() == before
    assert not [path for path in services.settings.spool.rglob("*") if path.is_file()]


@on_sqlite
def test_a_base_of_another_result_and_none_at_all_are_refused(services, segmented, keep):
    with pytest.raises(NotFound):
        keep(pack(corrected()), base=uuid.uuid4())
    with pytest.raises(NotFound), services.corrections.receive(uuid.uuid4()):
        pass


@pytest.mark.parametrize("author", ["", "   ", "x" * 121])
def test_an_author_is_named(author):
    with pytest.raises(ValueError, match="author"):
        CorrectionRequest(author=author)


@on_sqlite
def test_slices_are_filled_in_on_the_grid_of_the_result(services, segmented):
    """Axial slices are the third of the stored axes here, and the second in-plane axis is flipped."""
    array = drawn_array()
    array[:, :, 4:8] = 0
    with services.corrections.receive(segmented) as incoming:
        incoming.write(pack(array))
        request = InterpolationRequest(label=1, plane="axial")
        content = services.corrections.interpolate(incoming, segmented, request)
    filled = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    np.testing.assert_allclose(filled.affine, AFFINE)
    expected = array.copy()
    expected[4:9, 5:12, 4:8] = 1
    np.testing.assert_array_equal(np.asarray(filled.dataobj), expected)
    assert len(services.corrections.list(segmented)) == 1


@on_sqlite
def test_a_result_without_a_label_map_has_nothing_to_correct(services, brain):
    job = services.jobs.submit(
        JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset=brain, options={"permutations": 19})
    )
    from voxelight.app.runner import Runner

    Runner(services).list_batches(job.id)
    with services.stores.sessions() as session:
        run_id = session.scalar(select(Run.id).where(Run.job_id == job.id))
    with pytest.raises(BadInput):
        services.corrections.list(run_id)


@on_sqlite
def test_a_stored_scan_and_its_image_are_one_file_where_it_is_nifti(services, segmented):
    view = services.viewer.view_result(segmented)
    for file in (services.viewer.open_scan(view.scan), services.viewer.open_image(view.scan)):
        content = b"".join(file.read(0, file.size))
        assert nib.Nifti1Image.from_bytes(content).shape == SHAPE
        assert b"".join(file.read(0, 348)) == content[:348]
    assert [label.name for label in view.labels] == ["anterior", "posterior"]
    assert view.image.geometry["orientation"] == "PLS"

"""What is stored without its face: face voxels to the background, every other byte as it was. The face is given."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from voxelight.medseg.deface import Face
from voxelight.models.errors import BadInput
from voxelight.storage.formats import deface
from voxelight.storage.formats.volumes import read_image

SHAPE = (12, 14, 10)
# Stored axes P, L, S: no two readers agree on it by chance.
AFFINE = np.array([[0, -1.5, 0, 20.0], [-1.0, 0, 0, 9.5], [0, 0, 2.0, -11.25], [0, 0, 0, 1]])


@pytest.fixture(autouse=True)
def lower_front(monkeypatch):
    """A face that is the lower front of any head, by its place in RAS+."""

    def find(volume, _template):
        inside = np.zeros(volume.geometry.shape, bool)
        inside[:, inside.shape[1] // 2 :, : inside.shape[2] // 2] = True
        return Face(inside, 100.0, 0.3, np.eye(4))

    monkeypatch.setattr(deface, "find_face", find)
    monkeypatch.setattr(deface, "read_template", lambda: None)


def make(path, dtype=np.int16, shape=SHAPE, slope=None):
    stored = np.random.default_rng(0).integers(5, 900, shape).astype(dtype)
    image = nib.Nifti1Image(stored, AFFINE)
    image.header["descrip"] = b"kept"
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"a comment"))
    nib.save(image, path)
    if slope:  # in the header alone, the voxels as they are
        content = bytearray(path.read_bytes())
        content[112:120] = np.array(slope, "<f4").tobytes()
        path.write_bytes(bytes(content))
    return stored


def expected(stored):
    """Stored voxels whose place is low and in front, told from the affine alone."""
    places = np.moveaxis(np.indices(SHAPE), 0, -1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    y, z = (np.sort(np.unique(places[..., axis])) for axis in (1, 2))
    return (places[..., 1] >= y[len(y) // 2]) & (places[..., 2] < z[len(z) // 2])


@pytest.mark.parametrize("slope", [None, (2.5, -3.0)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_only_voxels_of_the_face_differ_and_no_other_byte(tmp_path, dtype, slope):
    path, target = tmp_path / "t1.nii", tmp_path / "out.nii"
    stored = make(path, dtype, slope=slope)
    assert deface.remove_face(path, "t1.nii", target) is not None
    before, after = path.read_bytes(), target.read_bytes()
    begin = int(nib.load(path).dataobj.offset)
    voxels = np.frombuffer(after[begin : begin + stored.nbytes], stored.dtype).reshape(SHAPE, order="F")
    face = expected(stored)
    np.testing.assert_array_equal(voxels[~face], stored[~face])
    assert set(voxels[face].tolist()) == {stored.min()}
    assert before[:begin] == after[:begin]
    assert len(before) == len(after)


def test_gzip_stays_gzip_and_a_series_goes_volume_by_volume(tmp_path):
    path, target = tmp_path / "bold.nii.gz", tmp_path / "out.nii.gz"
    stored = make(path, shape=(*SHAPE, 3))
    deface.remove_face(path, "bold.nii.gz", target)
    after = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(target.read_bytes())).dataobj)
    face = expected(stored)
    assert (after[face] == stored.min()).all()
    np.testing.assert_array_equal(after[~face], stored[~face])


def test_a_dicom_series_becomes_a_volume_on_its_grid(tmp_path, make_series):
    import zipfile

    path, target = tmp_path / "t1.dcm.zip", tmp_path / "t1.nii.gz"
    with zipfile.ZipFile(path, "w") as archive:
        for number, content in enumerate(make_series(count=6)):
            archive.writestr(f"{number}.dcm", content)
    before, grid = read_image(path)
    found = deface.remove_face(path, "t1.dcm.zip", target)
    after, written = read_image(target)
    assert after.geometry.matches(before.geometry)
    np.testing.assert_allclose(written.affine, grid.affine, atol=1e-4)
    np.testing.assert_array_equal(after.array[0][~found.face.inside], before.array[0][~found.face.inside])
    assert set(after.array[0][found.face.inside].tolist()) == {float(before.array.min())}


def test_a_label_map_is_left_as_it_is(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:6] = 2
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "a_dseg.nii")
    assert deface.remove_face(tmp_path / "a_dseg.nii", "a_dseg.nii", tmp_path / "out.nii") is None
    assert not (tmp_path / "out.nii").exists()


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(BadInput, match="from which no face"):
        deface.remove_face(tmp_path / "a.nrrd", "a.nrrd", tmp_path / "out.nii")

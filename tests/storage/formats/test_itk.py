"""NRRD and MetaImage, beside SimpleITK and pynrrd; what names a person in their headers goes."""

import itertools

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813, its own name for itself

from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap
from voxelight.storage.formats.clean_files import clean_file
from voxelight.storage.formats.intake import inspect
from voxelight.storage.formats.itk import read_itk
from voxelight.storage.formats.itk_header import join_metaimage
from voxelight.storage.formats.nifti import write_label_map
from voxelight.storage.formats.volumes import read_image, read_overview

SHAPE = (5, 6, 7)


def make(direction=None, dtype=np.int16):
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetSpacing((0.9, 1.1, 2.5))
    image.SetOrigin((-31.0, 12.5, 40.0))
    if direction is not None:
        image.SetDirection(np.ravel(direction).tolist())
    return image, array


def to_ras(image, index):
    return np.array(image.TransformIndexToPhysicalPoint([int(i) for i in index])) * (-1, -1, 1)


DIRECTIONS = [
    np.eye(3)[:, list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_all_48_orientations_lie_where_itk_has_them_and_go_back_onto_their_grid(suffix, tmp_path):
    for direction in DIRECTIONS:
        image, array = make(direction)
        path = tmp_path / f"a{suffix}"
        sitk.WriteImage(image, str(path))
        volume, grid = read_image(path)
        assert grid.is_placed
        for index in ((0, 0, 0), (4, 5, 6), (1, 3, 2)):
            assert np.allclose(grid.affine @ (*index, 1), (*to_ras(image, index), 1), atol=1e-4)
        at = np.rint(np.linalg.inv(volume.geometry.affine) @ (*to_ras(image, (1, 3, 2)), 1)).astype(int)
        assert volume.array[(0, *at[:3])] == array[1, 3, 2]
        labels = LabelMap((volume.array[0] > 100).astype(np.uint8), volume.geometry, {1: "bright"})
        write_label_map(tmp_path / "dseg.nii.gz", labels, grid)
        back = nib.load(tmp_path / "dseg.nii.gz")
        assert np.allclose(back.affine, grid.affine, atol=1e-4)
        assert np.array_equal(np.asarray(back.dataobj), array > 100), direction


def test_oblique_axes_and_a_compressed_file_agree_with_pynrrd(tmp_path):
    angle = np.deg2rad(17)
    turned = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    image, _ = make(turned, np.float32)
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"), useCompression=True)
    array, grid = read_itk(tmp_path / "a.nrrd")
    seen, header = nrrd.read(str(tmp_path / "a.nrrd"))
    assert np.array_equal(array, seen)
    lps = np.diag([-1, -1, 1]) @ grid.affine[:3]
    assert np.allclose(lps[:, :3], np.array(header["space directions"]).T, atol=1e-6)
    assert np.allclose(lps[:, 3], header["space origin"])


def test_real_nrrd_files_are_read_as_pynrrd_reads_them(shared_data):
    for path in sorted((shared_data / "pyradiomics_nrrd").glob("brain*_image.nrrd")):
        array, grid = read_itk(path)
        seen, header = nrrd.read(str(path))
        assert np.array_equal(array, seen.astype(np.float32))
        lps = np.diag([-1, -1, 1]) @ grid.affine[:3, :3]
        assert np.allclose(lps, np.array(header["space directions"]).T, atol=1e-5)
        found = inspect(path, path.name)
        assert (found.kind, found.geometry.shape) == ("volume", seen.shape)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1.0), ("um", 1e-3), ("cm", 10.0)])
def test_units_of_an_nrrd_file_are_honoured(unit, mm, tmp_path):
    header = {
        "space": "left-posterior-superior",
        "space directions": np.diag([2.0, 2.0, 3.0]),
        "space origin": [0, 0, 0],
        "space units": [unit] * 3,
    }
    nrrd.write(str(tmp_path / "a.nrrd"), np.zeros(SHAPE, np.int16), header)
    assert read_itk(tmp_path / "a.nrrd")[1].geometry.spacing == pytest.approx((2 * mm, 2 * mm, 3 * mm))


def test_an_unknown_unit_is_refused(tmp_path):
    header = {"space": "left-posterior-superior", "space directions": np.eye(3), "space units": ["inch"] * 3}
    nrrd.write(str(tmp_path / "a.nrrd"), np.zeros(SHAPE, np.int16), header | {"space origin": [0, 0, 0]})
    with pytest.raises(BadInput, match="in units of inch"):
        read_itk(tmp_path / "a.nrrd")


def test_a_header_that_does_not_say_where_left_is_gets_a_warning(tmp_path):
    nrrd.write(str(tmp_path / "a.nrrd"), np.arange(210).reshape(SHAPE).astype(np.int16), {"spacings": [1.0, 1.0, 2.0]})
    assert "where left is" in inspect(tmp_path / "a.nrrd", "a.nrrd").warnings[0].found


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_what_names_a_person_goes_and_the_voxels_stay(suffix, tmp_path):
    image, array = make(dtype=np.float32)
    secrets = {"PatientName": "Erika^Mustermann", "DICOM_0010_0020": "ID-4711", "Comment": "seen by Dr. Rossi"}
    for key, value in secrets.items():
        image.SetMetaData(key, value)
    path, target = tmp_path / f"a{suffix}", tmp_path / "cleaned"
    sitk.WriteImage(image, str(path))
    if suffix == ".nrrd":
        content = path.read_bytes().replace(b"\ntype:", b"\n# Erika Mustermann\ncontent: Erika\ntype:", 1)
        path.write_bytes(content)
    assert b"Erika" in path.read_bytes()
    assert clean_file(path, target, path.name)
    for secret in (b"Erika", b"4711", b"Rossi"):
        assert secret not in target.read_bytes()
    before, after = read_itk(path), read_itk(target, path.name)
    assert np.array_equal(before[0], after[0])
    assert np.allclose(before[1].affine, after[1].affine)
    assert np.array_equal(after[0], array)
    again = tmp_path / f"again{suffix}"
    again.write_bytes(target.read_bytes())
    assert not clean_file(again, tmp_path / "nothing", again.name), "what is clean stays as it is"


def test_a_detached_header_is_joined_with_its_voxels(tmp_path):
    image, array = make()
    sitk.WriteImage(image, str(tmp_path / "a.mhd"))
    with pytest.raises(BadInput, match="lie in another file"):
        read_itk(tmp_path / "a.mhd", "a.mha")
    join_metaimage(tmp_path / "a.mhd", tmp_path / "a.raw", tmp_path / "joined.mha")
    assert np.array_equal(read_itk(tmp_path / "joined.mha")[0], array)
    (tmp_path / "b.raw").write_bytes((tmp_path / "a.raw").read_bytes())
    with pytest.raises(BadInput, match=r"leads to a\.raw"):
        join_metaimage(tmp_path / "a.mhd", tmp_path / "b.raw", tmp_path / "no.mha")


def _detached(path):
    path.write_bytes(b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: /etc/passwd\n\n")


def _colour(path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True), str(path))


def _flat(path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.uint8)), str(path))


def _huge(path):
    sizes = b"sizes: 60000 60000 60000"
    path.write_bytes(b"NRRD0004\ntype: short\ndimension: 3\n" + sizes + b"\nencoding: gzip\nendian: little\n\nabc")


def _claims(path):
    sizes = b"sizes: 600 600 600"
    path.write_bytes(b"NRRD0004\ntype: short\ndimension: 3\n" + sizes + b"\nencoding: gzip\nendian: little\n\nabc")


def _cut(path):
    sitk.WriteImage(make()[0], str(path))
    path.write_bytes(path.read_bytes()[:-100])


def _nan(path):
    sitk.WriteImage(sitk.GetImageFromArray(np.full(SHAPE, np.nan, np.float32)), str(path))


@pytest.mark.parametrize(
    ("spoil", "reason", "suffix"),
    [
        (_detached, "another file", ".nrrd"),
        (_huge, "at most 4 GiB", ".nrrd"),
        (_claims, "holds what its header claims", ".nrrd"),
        *[
            (spoil, reason, suffix)
            for suffix in (".nrrd", ".mha")
            for spoil, reason in (
                (_colour, "3 values a voxel"),
                (_flat, "2-D of shape"),
                (_cut, "can't be read|cut off"),
                (_nan, "NaN or infinite"),
            )
        ],
    ],
)
def test_a_bad_file_is_refused_in_words(spoil, reason, suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    spoil(path)
    with pytest.raises(BadInput, match=reason) as refused:
        inspect(path, path.name)
    assert str(tmp_path) not in str(refused.value)


def test_an_overview_has_the_orientation_of_the_whole(tmp_path):
    image, _ = make(DIRECTIONS[13])
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    small, geometry = read_overview(tmp_path / "a.nrrd", most=3)
    assert max(small.shape) <= 4
    assert geometry.matches(read_image(tmp_path / "a.nrrd")[0].geometry)

import itertools
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its own name for itself
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap
from voxelight.storage.formats.dicom.bundle import bundle_series
from voxelight.storage.formats.dicom.series import find_series
from voxelight.storage.formats.dicom.volume import open_stack, read_array
from voxelight.storage.formats.intake import inspect
from voxelight.storage.formats.nifti import write_label_map
from voxelight.storage.formats.thumbnails import thumbnail
from voxelight.storage.formats.volumes import read_image

OBLIQUE = tuple(
    np.round(np.linalg.qr(np.array([[0.9, 0.2, 0.1], [-0.2, 0.95, 0.3], [0, 0, 1.0]]))[0][:, :2].T.ravel(), 9)
)
AXES = [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (-1, 0, 0, 0, -1, 0), OBLIQUE]


def read_by_itk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (i, j, k) and the affine to RAS, by another reader."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine


def pack(target: Path, paths: list[Path]) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, f"study/{path.name}")
    return target


@pytest.mark.parametrize("axes", AXES)
def test_a_series_is_read_as_another_reader_does(axes, write_dicom, tmp_path):
    write_dicom(tmp_path / "series", axes=axes)
    stack = open_stack(tmp_path / "series")
    voxels, affine = read_by_itk(tmp_path / "series")
    assert np.array_equal(read_array(stack, 1 << 30), voxels)
    assert np.allclose(stack.affine, affine, atol=1e-5)


@pytest.mark.parametrize(
    "place",
    [
        "mr_dicom_t1_pddl/dicoms",
        "udacity_brain_mr_dicom/Study1/13_HCropVolume",
        "udacity_brain_mr_dicom/Study2/14_HCropVolume",
    ],
)
def test_a_real_series_is_read_as_another_reader_does(place, shared_data):
    stack = open_stack(shared_data / place)
    voxels, affine = read_by_itk(shared_data / place)
    assert np.array_equal(read_array(stack, 1 << 30), voxels)
    assert np.allclose(stack.affine, affine, atol=1e-6)


def test_neither_names_nor_instance_numbers_decide_the_order(write_dicom, tmp_path):
    def reverse(header: Dataset, place: int) -> None:
        header.InstanceNumber = 100 - place

    straight = read_array(open_stack(write_dicom(tmp_path / "a")[0].parent), 1 << 30)
    assert np.array_equal(
        read_array(open_stack(write_dicom(tmp_path / "b", change=reverse)[0].parent), 1 << 30), straight
    )


def test_each_slice_has_its_own_rescaling(write_dicom, tmp_path):
    def scale(header: Dataset, place: int) -> None:
        header.RescaleSlope, header.RescaleIntercept = str(1 + place / 2), "-1000"

    plain = read_array(open_stack(write_dicom(tmp_path / "plain")[0].parent), 1 << 30)
    scaled = read_array(open_stack(write_dicom(tmp_path / "scaled", change=scale)[0].parent), 1 << 30)
    assert np.allclose(scaled, plain * (1 + np.arange(6) / 2) - 1000)
    voxels, _ = read_by_itk(tmp_path / "scaled")
    assert np.allclose(scaled[..., 0], voxels[..., 0])


def test_an_archive_is_read_as_its_folder_and_what_is_no_image_is_passed_over(write_dicom, tmp_path):
    paths = write_dicom(tmp_path / "series")
    (tmp_path / "series/readme.txt").write_text("nothing")
    (tmp_path / "series/.DS_Store").write_bytes(b"\0" * 200)
    archive = pack(tmp_path / "a.zip", [*paths, tmp_path / "series/readme.txt"])
    assert [len(series.files) for series in find_series([tmp_path / "series"])] == [6]
    volume, grid = read_image(archive.rename(tmp_path / "a.dcm.zip"))
    assert volume.array.shape == (1, 12, 10, 6)
    assert grid.shape == (12, 10, 6)
    assert np.array_equal(
        read_array(open_stack(tmp_path / "series"), 1 << 30), read_array(open_stack(tmp_path / "a.dcm.zip"), 1 << 30)
    )


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.keyword)
def test_a_compressed_series_holds_the_same_voxels(syntax, write_dicom, tmp_path):
    plain = write_dicom(tmp_path / "plain", shape=(40, 48))
    for path in plain:
        header = dcmread(path)
        header.compress(syntax)
        header.save_as(tmp_path / path.name)
    for path in plain:
        (tmp_path / "packed").mkdir(exist_ok=True)
        (tmp_path / path.name).rename(tmp_path / "packed" / path.name)
    assert np.array_equal(
        read_array(open_stack(tmp_path / "packed"), 1 << 30), read_array(open_stack(tmp_path / "plain"), 1 << 30)
    )


def test_an_enhanced_file_is_read_as_its_slices(make_enhanced, write_dicom, tmp_path):
    paths = write_dicom(tmp_path / "slices", axes=OBLIQUE)
    enhanced = open_stack(make_enhanced(paths, tmp_path / "enhanced.dcm"))
    classic = open_stack(tmp_path / "slices")
    assert np.allclose(enhanced.affine, classic.affine)
    assert np.array_equal(read_array(enhanced, 1 << 30), read_array(classic, 1 << 30) * 2 - 5)


def drop(*places: int):
    def change(paths: list[Path]) -> None:
        for place in places:
            paths[place].unlink()

    return change


def edit(**values):
    """Set attributes in some slices: keyword -> function of the place, None to leave it."""

    def change(paths: list[Path]) -> None:
        for place, path in enumerate(paths):
            header = dcmread(path)
            for keyword, make in values.items():
                if (value := make(header, place)) is not None:
                    setattr(header, keyword, value)
            header.save_as(path)

    return change


def strip(keyword: str):
    def change(paths: list[Path]) -> None:
        for path in paths:
            header = dcmread(path)
            delattr(header, keyword)
            header.save_as(path)

    return change


def cut(paths: list[Path]) -> None:
    paths[2].write_bytes(paths[2].read_bytes()[:-100])


def to_mpeg(paths: list[Path]) -> None:
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"))


def tilted(header: Dataset, place: int) -> list[float]:
    x, y, z = header.ImagePositionPatient
    return [x, float(y) + 0.3 * place, z]


SPOILED = [
    (drop(2, 3), "2 of 6 slices are missing, the first after slice 2", "Export or copy the whole series"),
    (
        edit(ImagePositionPatient=lambda h, p: [-20, 5, 9.5] if p == 2 else None),
        "more than one slice in 1 of 5",
        "twice",
    ),
    (
        edit(ImageOrientationPatient=lambda h, p: [0, 1, 0, 0, 0, -1] if p == 4 else None),
        "1 of 6 slices in another",
        "localiser",
    ),
    (edit(ImagePositionPatient=tilted), "6.8 degrees", "_Tilt"),
    (
        edit(ImagePositionPatient=lambda h, p: [-20, 5, 7 + 2.5 * p + 0.4 * (p == 3)]),
        "mm away from an even grid",
        "_Eq",
    ),
    (edit(PhotometricInterpretation=lambda h, p: "RGB", SamplesPerPixel=lambda h, p: 3), "in colour", "colour maps"),
    (edit(PhotometricInterpretation=lambda h, p: "PALETTE COLOR"), "in colour", "colour maps"),
    (edit(ImageType=lambda h, p: ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "mosaics", "dcm2niix"),
    (strip("ImagePositionPatient"), "do not give position", "copy of the screen"),
    (strip("PixelSpacing"), "do not give pixel spacing", "copy of the screen"),
    (edit(ImageOrientationPatient=lambda h, p: [1, 0, 0, 1, 0, 0]), "no right angles", "damaged"),
    (edit(PixelSpacing=lambda h, p: [1, 1] if p == 3 else None), "2 sizes or pixel spacings", "localisers"),
    (to_mpeg, "compressed as 1.2.840.10008.1.2.9", "dcmdjpeg"),
]


@pytest.mark.parametrize(("spoil", "found", "remedy"), SPOILED, ids=[found[:30] for _, found, _ in SPOILED])
def test_a_series_that_is_no_one_volume_is_refused_with_the_reason(spoil, found, remedy, write_dicom, tmp_path):
    spoil(write_dicom(tmp_path / "bad"))
    write_dicom(tmp_path / "good", seed=1)
    (tmp_path / "out").mkdir()
    bad, good = sorted(
        bundle_series([tmp_path / "bad", tmp_path / "good"], tmp_path / "out"), key=lambda each: not each.problem
    )
    assert found in bad.problem.found
    assert remedy in bad.problem.remedy
    assert not bad.path.exists()
    assert "Jane" not in str(bad.problem), "no word of a header that a person typed"
    assert good.problem is None, "one bad series stops no other"
    assert inspect(good.path, good.name).facts["slices"] == 6


def test_a_file_that_is_cut_off_is_refused_when_its_voxels_are_read(write_dicom, tmp_path):
    cut(write_dicom(tmp_path / "series"))
    with pytest.raises(BadInput, match=r"0-002.dcm, whose voxels can't be decoded"):
        read_array(open_stack(tmp_path / "series"), 1 << 30)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("start", [b"", bytes(132)], ids=["empty", "zeros"])
def test_a_last_slice_whose_start_is_lost_is_not_passed_over(start, packed, write_dicom, tmp_path):
    paths = write_dicom(tmp_path / "series")
    paths[-1].write_bytes(start + paths[-1].read_bytes()[132:] if start else b"")
    (tmp_path / "series/notes.txt").write_text("of another kind, and passed over")
    found = pack(tmp_path / "a.zip", sorted((tmp_path / "series").iterdir())) if packed else tmp_path / "series"
    with pytest.raises(BadInput, match=rf"{paths[-1].name}, which does not begin as DICOM does"):
        find_series([found])
    paths[-1].unlink()
    [series] = find_series([tmp_path / "series"])
    assert len(series.files) == 5


def test_a_table_of_offsets_longer_than_its_file_is_refused(write_dicom, tmp_path):
    for path in write_dicom(tmp_path / "series", shape=(40, 48)):
        header = dcmread(path)
        header.compress(RLELossless)
        header.save_as(path)
        content = path.read_bytes()
        table = content.rindex(b"\xfe\xff\x00\xe0\x04\x00\x00\x00")
        path.write_bytes(content[: table + 4] + b"\x04\x04\x00\xe0" + content[table + 8 :])
    with pytest.raises(BadInput, match=r"0-000.dcm, whose voxels can't be decoded \(error\)"):
        read_array(open_stack(tmp_path / "series"), 1 << 30)


def test_a_file_with_two_transfer_syntaxes_is_refused(write_dicom, tmp_path):
    for path in write_dicom(tmp_path / "series", shape=(40, 48)):
        content = path.read_bytes()
        syntax = b"1.2.840.10008.1.2.1\0"
        assert syntax in content
        path.write_bytes(content.replace(syntax, b"1.2.840.10008.1.2\\1\0"))
    with pytest.raises(BadInput, match=r"compressed as \['1.2.840.10008.1.2', '1'\]"):
        read_array(open_stack(tmp_path / "series"), 1 << 30)


def test_a_slice_that_is_there_twice_as_the_same_instance_is_taken_once_and_told(write_dicom, tmp_path):
    paths = write_dicom(tmp_path / "series")
    (tmp_path / "series/copy.dcm").write_bytes(paths[0].read_bytes())
    (tmp_path / "out").mkdir()
    [bundle] = bundle_series([tmp_path / "series"], tmp_path / "out")
    assert bundle.problem is None
    assert "1 files that hold a slice twice" in bundle.warnings[0].found
    assert len(zipfile.ZipFile(bundle.path).namelist()) == 6


def test_a_bundle_is_one_archive_in_order_that_names_nobody(write_dicom, tmp_path):
    write_dicom(tmp_path / "a")
    (tmp_path / "out").mkdir()
    [bundle] = bundle_series([tmp_path / "a"], tmp_path / "out")
    assert bundle.name == "003_MR_t1-mprage-sag.dcm.zip"
    assert bundle.facts == {"modality": "MR", "files": 6, "description": "t1 mprage sag"}
    with zipfile.ZipFile(bundle.path) as archive:
        assert archive.namelist() == [f"{number:06d}.dcm" for number in range(1, 7)]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    first = bundle.path.read_bytes()
    bundle_series([tmp_path / "a"], tmp_path / "out")
    assert bundle.path.read_bytes() == first


def test_the_intake_shows_geometry_and_picture(write_dicom, tmp_path):
    paths = write_dicom(tmp_path / "a", axes=OBLIQUE)
    intake = inspect(pack(tmp_path / "0f3a", paths), "a.dcm.zip")
    assert (intake.kind, intake.media_type) == ("volume", "application/zip")
    assert intake.geometry.shape == (12, 10, 6)
    assert intake.geometry.spacing_mm == (0.9, 0.8, 2.5)
    assert intake.facts["minimum"] >= 0
    assert intake.facts["voxels"] == 720
    assert thumbnail(tmp_path / "0f3a", intake).shape == (192, 588, 3)
    assert "Doe" not in intake.model_dump_json()


@pytest.mark.parametrize("axes", AXES)
def test_a_label_map_returns_on_the_grid_of_its_series(axes, write_dicom, tmp_path):
    archive = pack(tmp_path / "a.dcm.zip", write_dicom(tmp_path / "a", axes=axes))
    volume, grid = read_image(archive)
    labels = LabelMap((volume.array[0] > 500).astype(np.uint8), volume.geometry, {1: "bright"})
    write_label_map(tmp_path / "labels.nii.gz", labels, grid)
    voxels, affine = read_by_itk(tmp_path / "a")
    written = nib.load(tmp_path / "labels.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), voxels > 500)
    assert np.allclose(written.affine, affine, atol=1e-4)
    assert np.allclose(written.get_qform(), affine, atol=1e-4)


def test_all_turns_of_the_axes_place_a_marked_corner_alike(write_dicom, tmp_path):
    for number, (across, down) in enumerate(itertools.permutations(range(3), 2)):
        for sign in (1, -1):
            axes = np.zeros(6)
            axes[across], axes[3 + down] = sign, -sign
            folder = tmp_path / f"{number}{sign}"
            write_dicom(folder, axes=tuple(axes))
            volume, grid = read_image(pack(tmp_path / f"{number}{sign}.dcm.zip", sorted(folder.iterdir())))
            voxels, affine = read_by_itk(folder)
            place = np.array([7, 3, 4])
            world = affine @ [*place, 1]
            index = np.rint(np.linalg.solve(volume.geometry.affine, world))[:3].astype(int)
            assert volume.array[0][tuple(index)] == voxels[tuple(place)]
            assert np.allclose(grid.affine, affine, atol=1e-5)

"""What can be read in more than one way is chosen by a person: two placements, several volumes."""

import io

import highdicom
import nibabel as nib
import numpy as np
import pytest
from pydicom import Dataset, dcmread

from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap
from voxelight.storage.formats.dicom.bundle import bundle_series, name_all
from voxelight.storage.formats.dicom.segmentation import SegmentedBy, write_dicom_seg
from voxelight.storage.formats.intake import inspect
from voxelight.storage.formats.nifti import read_source_grid
from voxelight.storage.formats.reading import Reading, settle
from voxelight.storage.formats.volumes import read_image

ARRAY = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def placed(path, qform, units="mm"):
    image = nib.Nifti1Image(ARRAY, np.eye(4))
    image.set_sform(np.diag([2.0, 2.0, 2.0, 1.0]), 2)
    image.set_qform(qform, 1)
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path


def shifted(mm):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 3] = mm
    return affine


def turned(degrees, side=0.01):
    """Turn tiny voxels, so that no corner moves by 0.1 mm."""
    angle = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return affine @ np.diag([side, side, side, 1.0])


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_placements_that_differ_are_refused_unless_one_is_preferred(name, tmp_path):
    path = placed(tmp_path / name, shifted(0.2))
    with pytest.raises(BadInput, match=r"place a corner 0\.20 mm apart.*prefer sform"):
        inspect(path, name)
    for form, corner in (("sform", 0.0), ("qform", 0.2)):
        target = tmp_path / f"{form}-{name}"
        assert settle(path, name, target, Reading(prefer=form))
        made = nib.load(target)
        for affine in (made.get_sform(), made.get_qform(), read_source_grid(target).affine):
            assert affine[0, 3] == pytest.approx(corner)
        assert np.array_equal(np.asarray(made.dataobj), ARRAY)
        assert not settle(target, target.name, tmp_path / "again.nii", Reading(prefer=form))


def test_less_than_a_tenth_of_a_millimetre_is_let_be(tmp_path):
    path = placed(tmp_path / "a.nii", shifted(0.09))
    assert read_source_grid(path).affine[0, 3] == 0


def test_an_angle_is_refused_though_no_corner_moves_far(tmp_path):
    image = nib.Nifti1Image(ARRAY, turned(0))
    image.set_sform(turned(0), 2)
    image.set_qform(turned(0.6), 1)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(BadInput, match=r"turned by 0\.60 degrees"):
        inspect(tmp_path / "a.nii", "a.nii")
    image.set_qform(turned(0.4), 1)
    nib.save(image, tmp_path / "b.nii")
    assert np.allclose(read_source_grid(tmp_path / "b.nii").affine, turned(0)), "less than half a degree is let be"


def test_units_count_before_the_distance_does(tmp_path):
    """A fifth of a micron is nothing, a fifth of a metre is."""
    assert read_source_grid(placed(tmp_path / "a.nii", shifted(0.2), "micron")).geometry.spacing[0] == 0.002
    with pytest.raises(BadInput, match=r"200\.00 mm apart"):
        inspect(placed(tmp_path / "b.nii", shifted(0.2), "meter"), "b.nii")


def test_a_sheared_sform_that_is_preferred_leaves_no_qform(tmp_path):
    path = placed(tmp_path / "a.nii", shifted(0))
    image = nib.load(path)
    sheared = np.diag([2.0, 2.0, 2.0, 1.0])
    sheared[0, 1] = 0.5
    image.set_sform(sheared, 2)
    nib.save(image, tmp_path / "b.nii")
    assert settle(tmp_path / "b.nii", "b.nii", tmp_path / "c.nii", Reading(prefer="sform"))
    made = nib.load(tmp_path / "c.nii")
    assert int(made.header["qform_code"]) == 0
    assert np.allclose(read_source_grid(tmp_path / "c.nii").affine, sheared)


def test_a_form_that_is_not_there_can_not_be_preferred(write_nifti, tmp_path):
    path = write_nifti("a.nii", ARRAY, qform_code=0)
    with pytest.raises(BadInput, match="without a qform"):
        settle(path, "a.nii", tmp_path / "b.nii", Reading(prefer="qform"))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_one_volume_of_a_series_is_taken_to_the_byte(name, write_nifti, tmp_path):
    series = np.random.default_rng(0).integers(0, 999, (4, 5, 6, 3)).astype(np.int16)
    path = write_nifti(name, series, scl_slope=0.5, scl_inter=3)
    assert settle(path, name, tmp_path / name.replace("a", "b"), Reading(volume=2))
    made = nib.load(tmp_path / name.replace("a", "b"))
    assert made.shape == (4, 5, 6)
    assert np.allclose(made.get_fdata(), series[..., 1] * 0.5 + 3)
    with pytest.raises(BadInput, match="from 1 to 3"):
        settle(path, name, tmp_path / "c.nii", Reading(volume=4))


def echoes(header, place):
    """Six slices at two echo times: three places, each twice."""
    first = place % 2 == 0
    header.EchoTime = 10.0 if first else 80.0
    header.AcquisitionNumber = 1
    position = list(header.ImagePositionPatient)
    if not first:
        header.ImagePositionPatient = echoes.last
    else:
        echoes.last = position


def test_each_volume_of_a_series_becomes_an_archive_of_its_own(write_dicom, tmp_path):
    write_dicom(tmp_path / "series", change=echoes)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(BadInput, match=r"2 volumes of 3 slices.*1: EchoTime 10\.0; 2: EchoTime 80\.0"):
        read_image(pack(tmp_path, "series"))
    short, long = bundle_series([tmp_path / "series"], out)
    assert [each.facts["volume_is"] for each in (short, long)] == ["EchoTime 10.0", "EchoTime 80.0"]
    assert [each.name.partition("vol-")[2] for each in (short, long)] == ["1.dcm.zip", "2.dcm.zip"]
    first, second = (read_image(each.path)[0].array for each in (short, long))
    assert first.shape == second.shape
    assert first.shape[1:].count(3) == 1
    assert not np.array_equal(first, second)


def join(paths, target):
    """Join slices to one enhanced file, each frame with its echo time in a sequence, frames in a mixed order."""
    order = [3, 0, 5, 1, 4, 2]
    headers = [dcmread(path) for path in paths]
    joined = dcmread(paths[0])
    joined.SOPClassUID = joined.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    joined.NumberOfFrames = len(headers)
    joined.PixelData = b"".join(headers[place].PixelData for place in order)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = joined.PixelSpacing, joined.SliceThickness
    plane.ImageOrientationPatient = joined.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    joined.SharedFunctionalGroupsSequence = [shared]
    joined.PerFrameFunctionalGroupsSequence = []
    for place in order:
        frame, position, echo = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = headers[place].ImagePositionPatient
        echo.EffectiveEchoTime = float(headers[place].EchoTime)
        frame.PlanePositionSequence, frame.MREchoSequence = [position], [echo]
        joined.PerFrameFunctionalGroupsSequence.append(frame)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "EchoTime", "AcquisitionNumber"):
        delattr(joined, keyword)
    joined.save_as(target)
    return target


def test_volumes_of_one_enhanced_file_are_told_apart_frame_by_frame(write_dicom, tmp_path):
    """Its frames can't be parted, so each scan keeps the whole file and says which volume is meant."""
    classic, enhanced = tmp_path / "classic", tmp_path / "enhanced"
    for folder in (enhanced, tmp_path / "out", tmp_path / "apart"):
        folder.mkdir()
    join(write_dicom(classic, change=echoes), enhanced / "joined.dcm")
    with pytest.raises(BadInput, match=r"2 volumes of 3 slices.*1: EffectiveEchoTime 10\.0; 2: Eff.* 80\.0"):
        read_image(pack(tmp_path, "enhanced"))
    found = bundle_series([enhanced], tmp_path / "out")
    assert [each.facts["volume_is"] for each in found] == ["EffectiveEchoTime 10.0", "EffectiveEchoTime 80.0"]
    for one, other in zip(found, bundle_series([classic], tmp_path / "apart"), strict=True):
        (ours, grid), (expected, classic_grid) = read_image(one.path), read_image(other.path)
        assert np.array_equal(ours.array, expected.array)
        assert np.allclose(grid.affine, classic_grid.affine)
        assert inspect(one.path, one.name).facts["slices"] == 3


def test_a_segmentation_of_one_volume_refers_to_its_frames_alone(write_dicom, tmp_path):
    for folder in ("enhanced", "out"):
        (tmp_path / folder).mkdir()
    joined = dcmread(join(write_dicom(tmp_path / "classic", change=echoes), tmp_path / "enhanced/joined.dcm"))
    for bundle in bundle_series([tmp_path / "enhanced"], tmp_path / "out"):
        volume, _ = read_image(bundle.path)
        array = (np.random.default_rng(0).random(volume.geometry.shape) > 0.5).astype(np.uint8)
        labels = LabelMap(array, volume.geometry, {1: "lesion"})
        content = write_dicom_seg(labels, bundle.path, SegmentedBy("a model", "1"))
        header = dcmread(io.BytesIO(content))
        read = highdicom.seg.segread(io.BytesIO(content)).get_volume(combine_segments=True)
        assert int((read.array > 0).sum()) == int(array.sum())
        assert len(header.PerFrameFunctionalGroupsSequence) == 3
        for frame, groups in zip(header.pixel_array, header.PerFrameFunctionalGroupsSequence, strict=True):
            [source] = groups.DerivationImageSequence[0].SourceImageSequence
            referred = joined.PerFrameFunctionalGroupsSequence[source.ReferencedFrameNumber - 1]
            corner = groups.PlanePositionSequence[0].ImagePositionPatient
            assert referred.PlanePositionSequence[0].ImagePositionPatient == corner
            assert f"EffectiveEchoTime {referred.MREchoSequence[0].EffectiveEchoTime}" == bundle.facts["volume_is"]
            voxel = np.linalg.inv(volume.geometry.affine) @ np.diag([-1, -1, 1, 1]) @ [*map(float, corner), 1]
            assert int(frame.sum()) == int(array[..., round(voxel[2])].sum())


def pack(folder, name):
    import shutil

    shutil.make_archive(str(folder / "packed"), "zip", folder / name)
    (folder / "packed.zip").rename(folder / "packed.dcm.zip")
    return folder / "packed.dcm.zip"


def test_slices_that_nothing_tells_apart_are_refused(write_dicom, tmp_path):
    def same(header, place):
        echoes(header, place)
        header.EchoTime = 10.0

    write_dicom(tmp_path / "series", change=same)
    [(_, series)] = name_all([tmp_path / "series"])
    assert series.volume is None
    with pytest.raises(BadInput, match="differ in nothing"):
        read_image(pack(tmp_path, "series"))

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from voxelight.storage.formats.found import Intake
from voxelight.storage.formats.images import write_png
from voxelight.storage.formats.intake import inspect
from voxelight.storage.formats.thumbnails import thumbnail

SHAPE = (8, 10, 12)


def ramp(shape=SHAPE) -> np.ndarray:
    return np.linspace(0, 100, np.prod(shape), dtype=np.float32).reshape(shape)


def warned(intake: Intake) -> str:
    return " | ".join(f"{finding.found}. {finding.remedy}" for finding in intake.warnings)


def test_a_volume_is_described_on_its_own_grid_under_the_name_given(write_nifti):
    affine = np.array([[-1, 0, 0, 5], [0, 2, 0, 6], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])
    path = write_nifti("blob.nii.gz", ramp(), affine)
    bare = path.rename(path.with_name("0f3a"))  # as a store keeps it
    intake = inspect(bare, "Sub-01_T1w.NII.GZ")
    assert (intake.kind, intake.suffix, intake.media_type) == ("volume", ".nii.gz", "application/gzip")
    assert intake.geometry is not None
    assert (intake.geometry.shape, intake.geometry.orientation) == (SHAPE, "LAS")
    assert intake.geometry.spacing_mm == (1, 2, 2.5)
    assert np.array_equal(intake.geometry.affine, affine)
    assert intake.facts == {"dtype": "float32", "voxels": 960, "minimum": 0.0, "maximum": 100.0}
    assert intake.warnings == ()
    assert Intake.model_validate_json(intake.model_dump_json()) == intake


def test_no_text_of_a_header_is_told(write_nifti):
    path = write_nifti("a.nii", ramp(), descrip=b"DOE JANE", db_name=b"DOE", aux_file=b"DOE", intent_name=b"DOE")
    assert "DOE" not in inspect(path, "a.nii").model_dump_json()


@pytest.mark.parametrize(
    ("name", "change", "fields", "words"),
    [
        ("a.nii", lambda a: a - 50, {}, "480 of 960 values below zero, down to -50"),
        ("a.nii", lambda a: a * 0 + 3, {}, "one value everywhere, 3"),
        ("a.nii", None, {"sform_code": 0, "qform_code": 0}, "does not say where left is .* taken as LAS"),
        ("a.nii", None, {"srow_z": [0, 0, 4, 0]}, "1 x 1 x 4 mm"),
        ("sub-01_dseg.nii", None, {}, "fractional values in what its name calls labels"),
    ],
)
def test_a_volume_to_look_at_twice_is_accepted_with_a_warning(name, change, fields, words, write_nifti):
    intake = inspect(write_nifti(name, ramp() if change is None else change(ramp()), **fields), name)
    assert len(intake.warnings) == 1
    assert re.search(words, warned(intake))


def test_a_series_is_counted_by_volumes_and_its_gaps_are_told(write_nifti):
    series = ramp((*SHAPE, 3))
    series[0, 0, 0] = np.nan
    intake = inspect(write_nifti("betas.nii.gz", series), "betas.nii.gz")
    assert intake.kind == "series"
    assert (intake.facts["volumes"], intake.facts["voxels"]) == (3, 960)
    assert "3 of 2880 values that are NaN" in warned(intake)
    assert "mask" in warned(intake)


def test_betas_tell_what_weakens_them(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.random((5, 16))[[0, 0, 0, 1, 1, 2, 2, 2]]
    values = rng.normal(7, 2, size=(8, 30))
    values[:, 3] = 1
    scipy.io.savemat(tmp_path / "a.mat", {"fmriTrn": values, "stimTrn": pictures})
    intake = inspect(tmp_path / "a.mat", "a.mat")
    assert (intake.kind, intake.geometry) == ("betas", None)
    assert (intake.facts["trials"], intake.facts["stimuli"]) == (8, 3)
    assert "1 of 3 stimuli shown fewer than 3 times" in warned(intake)
    assert "1 voxels that never change" in warned(intake)


def test_events_and_pictures_are_counted(tmp_path):
    (tmp_path / "e.tsv").write_text("onset\tstim_file\n" + "".join(f"{n}\t{'ab'[n % 2]}.png\n" for n in range(6)))
    intake = inspect(tmp_path / "e.tsv", "e.tsv")
    assert intake.facts == {"rows": 6, "stimuli": 2, "columns": "onset, stim_file"}
    assert intake.warnings == ()
    assert thumbnail(tmp_path / "e.tsv", intake) is None
    write_png(tmp_path / "p.png", np.zeros((4, 6, 3)))
    intake = inspect(tmp_path / "p.png", "p.png")
    assert intake.facts == {"rows": 4, "columns": 6, "channels": 3}
    assert "one colour" in warned(intake)


def test_real_files_are_taken_in_with_their_traps_named(shared_data: Path):
    said = {
        path.name: inspect(path, path.name)
        for pattern in (
            "msd_task04_hippocampus/images/*_075.nii.gz",
            "ms_lesion_mni/**/FLAIR*.nii.gz",
            "pymvpa_haxby/bold.nii.gz",
            "fmri_miyawaki2008/*.mat",
            "bold5000_csi1_vols/**/*run-01_events.tsv",
            "tcga_lgg_multimodal/**/*FLAIR*.nii.gz",
        )
        for path in list(shared_data.glob(pattern))[:1]
    }
    assert [intake.kind for intake in said.values()] == ["volume", "volume", "series", "betas", "events", "volume"]
    hippocampus, lesion, bold, miyawaki, events, thick = said.values()
    assert hippocampus.warnings == ()
    assert "below zero" in warned(lesion)
    assert bold.facts["volumes"] == 1452
    assert (miyawaki.facts["trials"], miyawaki.facts["voxels"], miyawaki.facts["stimuli"]) == (119, 967, 20)
    assert "z-scored before any split" in warned(miyawaki)
    assert events.facts["rows"] == 37
    assert "5.5 mm" in warned(thick)


def test_thumbnail_puts_left_on_the_left_and_front_on_top_whatever_the_orientation(write_nifti):
    array = np.zeros((20, 20, 20), np.float32)  # stored LPS: i to the left, j to the back
    array[2:8, 2:8, :] = 100  # right and front
    affine = np.diag([-1.0, -1, 1, 1])
    path = write_nifti("a.nii.gz", array, affine)
    picture = thumbnail(path, inspect(path, "a.nii.gz"))
    assert picture is not None
    assert picture.dtype == np.uint8
    axial = picture[:, : picture.shape[0], 0].astype(float)
    half = len(axial) // 2
    quarters = [axial[:half, :half], axial[:half, half:], axial[half:, :half], axial[half:, half:]]
    assert int(np.argmax([quarter.mean() for quarter in quarters])) == 1, "front right is drawn above, to the right"


def test_thumbnails_of_real_stimuli_and_photographs(shared_data: Path):
    for pattern, width in (("fmri_miyawaki2008/*.mat", 400), ("coco_mini/train2017/*.jpg", 192)):
        path = sorted(shared_data.glob(pattern))[0]
        picture = thumbnail(path, inspect(path, path.name))
        assert picture is not None
        assert picture.shape[1:] == (width, 3)
        assert picture.std() > 20

"""Two ways in give one value: a notebook and a job."""

import io
import json

import nibabel as nib
import numpy as np
import pytest

import voxelight
from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.app.settings import Settings
from voxelight.app.worker import working
from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import LabelMap
from voxelight.neuro.recipes import find_recipe
from voxelight.storage.formats.betas import read_betas_mat
from voxelight.storage.formats.images import encode_png


@pytest.fixture(scope="module")
def crop(shared_data):
    return shared_data / "msd_task04_hippocampus/images/hippocampus_003.nii.gz"


@pytest.fixture
def services(tmp_path):
    opened = open_services(Settings(home=tmp_path / "home", poll_s=0.05))
    yield opened
    opened.close()


def carry_out(services, request):
    job = services.jobs.submit(request)
    with working(services):
        while services.jobs.show(job.id).status in ("queued", "running"):
            pass
    return services.jobs.show(job.id), list(services.results.walk(ResultQuery(job=job.id)))


def test_an_array_gives_the_label_map_that_a_job_gives(services, crop, tmp_path):
    services.datasets.create(DatasetRequest(name="d"))
    services.scans.ingest_path(crop, ScanRequest(name=crop.name, dataset="d"))
    _, (result,) = carry_out(services, JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="d"))
    artifact = next(artifact for artifact in result.artifacts if artifact.role == "label_map")
    (stored,) = services.results.export([artifact], tmp_path)
    image = nib.load(crop)
    found = voxelight.segment(image.get_fdata(), image.affine)
    assert isinstance(found, LabelMap)
    np.testing.assert_array_equal(found.array, np.asarray(nib.load(stored).dataobj))
    assert found.volumes_ml() == result.volumes_ml
    assert {str(number): name for number, name in found.names.items()} == result.labels


@pytest.mark.parametrize("axes", ["LPS", "PIR", "SAR", "ILA"])
def test_every_orientation_gives_the_same_voxels(crop, axes):
    image = nib.load(crop)
    plain = voxelight.segment(image.get_fdata(), image.affine)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes))
    )
    found = voxelight.segment(turned.get_fdata(), turned.affine)
    assert found.geometry.shape == turned.shape
    np.testing.assert_array_equal(found.geometry.affine, turned.affine)
    back = nib.Nifti1Image(found.array, turned.affine).as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(turned.affine), nib.io_orientation(image.affine))
    )
    np.testing.assert_array_equal(np.asarray(back.dataobj), plain.array)


def test_what_is_no_volume_is_refused():
    with pytest.raises(BadInput):
        voxelight.segment(np.ones((8, 8)), np.eye(4))
    with pytest.raises(BadInput):
        voxelight.segment(np.full((8, 8, 8), np.nan), np.eye(4))
    with pytest.raises(BadInput):
        voxelight.segment(np.ones((8, 8, 8)), np.zeros((4, 4)))
    with pytest.raises(NotFound):
        voxelight.segment(np.ones((8, 8, 8)), np.eye(4), recipe="absent")


def test_betas_give_the_pictures_and_scores_that_a_job_gives(services, betas_mat, tmp_path):
    services.datasets.create(DatasetRequest(name="d", consent="simulated", purpose="a test", simulated=True))
    services.scans.ingest(io.BytesIO(betas_mat), ScanRequest(name="b.mat", dataset="d"))
    request = JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset="d", options={"permutations": 9})
    job, results = carry_out(services, request)
    (tmp_path / "b.mat").write_bytes(betas_mat)
    recipe = find_recipe("miyawaki-ridge").model_copy(update={"permutations": 9})
    found = voxelight.decode(*read_betas_mat(tmp_path / "b.mat"), recipe=recipe)
    assert found.images.shape == (8, 4, 4, 1)
    pictures = dict(zip(found.stimulus_ids.tolist(), map(encode_png, found.images), strict=True))
    for result in results:
        artifact = next(artifact for artifact in result.artifacts if artifact.role == "reconstruction")
        assert services.results.read(artifact) == pictures[result.stimuli[0]]
    scores = json.loads(services.results.read(next(a for a in job.artifacts if a.role == "scores")))
    assert scores["scores"] == found.report.rows()

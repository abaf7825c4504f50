"""Follow-up after registration, through what is stored: simulated visits of one head; no real ones lie at hand."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from voxelight.app.schemas import DatasetRequest
from voxelight.app.schemas_reviews import FollowupQuery
from voxelight.app.verbs.registered import follow_lesions
from voxelight.models.errors import BadInput

SHAPE = (44, 48, 40)
NAMES = {1: "lesion"}


@pytest.fixture
def turned():
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (5, -4, 8), degrees=True).as_matrix()
    matrix[:3, 3] = 4, -3, 2
    return matrix


@pytest.fixture
def person(services, store_label_map, turned, tmp_path):
    """Two visits of a simulated head: one lesion grows by 2 mm in radius, one stays."""
    services.datasets.create(DatasetRequest(name="lesions", simulated=True, purpose="a test"))
    texture = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(96, 96, 96)), 2.5) * 900
    spacing = np.diag([2.0, 2, 2, 1])
    spacing[:3, 3] = -np.array(SHAPE) + 1
    grid = np.diag([2.0, 2, 2, 1])
    grid[:3, 3] = -95
    for session, radius, to_first in (("1", 8.0, np.eye(4)), ("2", 10.0, np.linalg.inv(turned))):
        at = np.indices(SHAPE).reshape(3, -1)
        head = (to_first @ spacing @ np.vstack([at, np.ones(at.shape[1])]))[:3]
        voxels = np.linalg.solve(grid, np.vstack([head, np.ones(head.shape[1])]))[:3]
        inside = (np.abs(head) < np.array([[36], [40], [32]])).all(axis=0)
        image = 100 * inside + ndimage.map_coordinates(texture, voxels, order=1) * inside
        apart = [np.linalg.norm(head - np.array(centre)[:, None], axis=0) for centre in ((-14, 6, 4), (16, -10, 0))]
        labels = (apart[0] < radius) | (apart[1] < 9)
        path = tmp_path / f"visit{session}.nii.gz"
        nib.save(nib.Nifti1Image((image + 60 * labels).reshape(SHAPE).astype(np.float32), spacing), path)
        labels = labels.reshape(SHAPE).astype(np.uint8)
        store_label_map(services, path, labels, NAMES, "lesions", subject="07", session=session)
    return "07"


def test_lesions_are_followed_in_a_head_that_moved(services, person):
    told = []
    query = FollowupQuery(minimal_change_percent=15, day=["1:0", "2:90"])
    answer = follow_lesions(services.stores, "lesions", person, query, told.append)
    assert told == [0.5, 1]
    assert answer.simulated
    assert answer.turned_degrees == {"1": 0, "2": pytest.approx(10.3, abs=0.7)}
    [structure] = answer.structures
    changes = {lesion.growth[0].beyond: lesion for lesion in structure.lesions}
    assert {lesion.course for lesion in structure.lesions} == {"persists"}
    assert set(changes) == {True, False}
    assert changes[True].growth[0].change_percent == pytest.approx(100 * (10**3 / 8**3 - 1), abs=12)
    assert changes[True].growth[0].doubling_days == pytest.approx(90 * np.log(2) / np.log(10**3 / 8**3), rel=0.15)
    assert "registered rigidly" in answer.warnings[0]


def test_one_visit_or_another_label_can_not_be_followed(services, person):
    for query, told in ((FollowupQuery(scan="visit1*"), "1 sessions"), (FollowupQuery(label="oedema"), "'oedema'")):
        with pytest.raises(BadInput, match=told):
            follow_lesions(services.stores, "lesions", person, query)

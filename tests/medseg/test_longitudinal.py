"""Follow-ups that are simulated: no longitudinal data lie at hand."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from voxelight.medseg.followup import MinimalChange
from voxelight.medseg.longitudinal import Visit, follow_registered
from voxelight.medseg.register import register_rigid
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap, Volume

CENTRES = {"grows": (-20.0, 5, 0), "stays": (18, 12, 6), "goes": (0, -20, -8), "comes": (20, -18, 10)}
CENTRES |= {"left": (-6, 0, 0), "right": (6, 0, 0)}
FIRST = {"grows": 6.0, "stays": 7.0, "goes": 5.0, "comes": 0.0}
LATER = {"grows": 7.5, "stays": 7.0, "goes": 0.0, "comes": 5.5}


def place(shape, spacing, shift=(0.0, 0, 0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(shift) - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Geometry(shape, affine)


def turn(degrees=(6.0, -4, 9), shift=(3.0, -5, 4)):
    """The head at the later visit, mm of the first visit -> mm of the later one."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), shift
    return matrix


def draw(geometry, radii, to_first):
    """Balls at fixed places of the head, on any grid of any visit."""
    at = np.indices(geometry.shape).reshape(3, -1)
    at = (to_first @ geometry.affine @ np.vstack([at, np.ones(at.shape[1])]))[:3]
    found = np.zeros(at.shape[1], bool)
    for name, radius in radii.items():
        found |= np.linalg.norm(at - np.array(CENTRES[name])[:, None], axis=0) < radius
    return LabelMap(found.reshape(geometry.shape).astype(np.uint8), geometry, {1: "lesion"})


def volume_ml(radius):
    return 4 / 3 * np.pi * radius**3 / 1000


@pytest.fixture(scope="module")
def visits():
    moved = turn()
    first = draw(place((72, 72, 60), (1, 1, 1)), FIRST, np.eye(4))
    later = draw(place((80, 84, 50), (0.9, 0.9, 1.3)), LATER, np.linalg.inv(moved))
    return [Visit("1", first, np.eye(4), day=0), Visit("2", later, np.linalg.inv(moved), day=180)]


def test_each_lesion_is_found_again_in_a_head_that_moved(visits):
    found = follow_registered(visits, "lesion", MinimalChange(percent=10))
    assert len(found.lesions) == 4
    by_course = {}
    for lesion in found.lesions:
        by_course.setdefault(lesion.course, []).append(lesion)
    assert {name: len(each) for name, each in by_course.items()} == {"persists": 2, "new": 1, "gone": 1}
    grown, stable = sorted(by_course["persists"], key=lambda each: -each.growth[0].change_ml)
    assert grown.volumes_ml["1"] == pytest.approx(volume_ml(6), rel=0.03)
    assert grown.volumes_ml["2"] == pytest.approx(volume_ml(7.5), rel=0.03)
    assert grown.growth[0].change_percent == pytest.approx(100 * (7.5**3 / 6**3 - 1), abs=6)
    assert grown.growth[0].beyond
    assert stable.growth[0].beyond is False
    assert by_course["new"][0].volumes_ml["2"] == pytest.approx(volume_ml(5.5), rel=0.04)
    assert by_course["gone"][0].growth[0].beyond
    total = sum(map(volume_ml, LATER.values()))
    assert found.volumes_ml["2"] == pytest.approx(total, rel=0.03)
    assert found.outside_ml == {"1": 0, "2": 0}
    assert found.growth[0].doubling_days is not None


def test_without_registration_lesions_would_be_taken_for_others(visits):
    moved = turn((20, -15, 25), (10, -12, 9))
    back = np.linalg.inv(moved)
    later = draw(place((90, 90, 80), (1, 1, 1)), LATER, back)
    persists = {}
    for name, to_first in (("registered", back), ("as scanned", np.eye(4))):
        found = follow_registered([visits[0], Visit("2", later, to_first)], "lesion")
        persists[name] = sum(lesion.course == "persists" for lesion in found.lesions)
    assert persists["registered"] == 2
    assert persists["as scanned"] < 2


def test_what_a_visit_has_not_seen_is_no_change(visits):
    narrow = place((40, 72, 60), (1, 1, 1), shift=(-16, 0, 0))  # the right side is cut off
    later = Visit("2", draw(narrow, FIRST, np.eye(4)), np.eye(4))
    found = follow_registered([visits[0], later], "lesion", MinimalChange(percent=5))
    assert not any(lesion.growth[0].beyond for lesion in found.lesions)
    assert found.volumes_ml["1"] == pytest.approx(found.volumes_ml["2"])
    assert found.outside_ml["1"] > volume_ml(7) * 0.9
    assert found.seen["2"] == pytest.approx(40 / 72, abs=0.03)


def test_pieces_that_merge_stay_one_lesion():
    grid = place((40, 40, 40), (1, 1, 1))
    visits = [
        Visit(name, draw(grid, {"left": radius, "right": radius}, np.eye(4)), np.eye(4))
        for name, radius in (("1", 4.0), ("2", 8.0))
    ]
    [lesion] = follow_registered(visits, "lesion").lesions
    assert lesion.pieces == {"1": 2, "2": 1}
    assert lesion.course == "persists"


def test_registration_and_growth_together(template):
    """A T1 template with simulated lesions, scanned again in another position: only what grew is flagged."""
    head = template.geometry
    first = place((54, 62, 50), (3, 3, 3), shift=(0, -18, 18))
    moved = turn()
    later = place((60, 66, 54), (2.8, 3, 3), shift=(2, -20, 20))
    lesions, images = [], []
    for grid, radii, to_first in ((first, FIRST, np.eye(4)), (later, LATER, np.linalg.inv(moved))):
        wide = {name: 2 * radius for name, radius in radii.items()}
        lesions.append(draw(grid, wide, to_first))
        back = np.linalg.inv(head.affine) @ to_first @ grid.affine
        image = ndimage.affine_transform(template.array[0], back[:3, :3], back[:3, 3], output_shape=grid.shape, order=1)
        noise = np.random.default_rng(len(images)).normal(0, 0.01 * image.max(), image.shape)
        images.append(Volume((image * (1 - 0.4 * lesions[-1].array) + noise)[None].astype(np.float32), grid))
    found = register_rigid(images[1], images[0]).to_fixed
    corners = np.array(np.meshgrid([-40, 40], [-60, 40], [-20, 50])).reshape(3, -1)
    error = (found @ moved @ np.vstack([corners, np.ones(8)]))[:3] - corners
    assert np.linalg.norm(error, axis=0).max() < 2.0  # mm; voxels are 3 mm
    visits = [Visit("1", lesions[0], np.eye(4)), Visit("2", lesions[1], found)]
    result = follow_registered(visits, "lesion", MinimalChange(percent=12))
    courses = sorted(lesion.course for lesion in result.lesions)
    assert courses == ["gone", "new", "persists", "persists"]
    flagged = [lesion.growth[0].beyond for lesion in result.lesions if lesion.course == "persists"]
    assert sorted(flagged) == [False, True]


def test_what_can_not_be_followed_is_refused(visits):
    with pytest.raises(BadInput, match="1 visits"):
        follow_registered(visits[:1], "lesion")
    with pytest.raises(BadInput, match="'oedema'"):
        follow_registered(visits, "oedema")
    far = np.eye(4)
    far[0, 3] = 1000
    with pytest.raises(BadInput, match="do not meet"):
        follow_registered([visits[0], Visit("2", visits[1].label_map, far)], "lesion")

"""A face goes, the brain stays; what has no face is not taken for one. Heads are simulated where the text says so."""

from dataclasses import replace

import numpy as np
import pytest
from heads import CHIN, EYES, NOSE, simulate_head, tilt

from voxelight.medseg.deface import Face, draw_heads, find_face, find_plane
from voxelight.models.errors import BadInput
from voxelight.models.values import Volume
from voxelight.storage.formats.template import read_template
from voxelight.storage.formats.volumes import read_image


def at(inside, affine, point):
    place = np.rint(np.linalg.inv(affine) @ np.append(point, 1.0))[:3].astype(int)
    return bool(inside[tuple(place)])


def test_the_plane_lies_under_the_brain_and_before_it():
    template = read_template()
    normal, offset = find_plane(template)[:3], find_plane(template)[3]
    assert np.linalg.norm(normal) == pytest.approx(1)
    assert normal[1] > 0.2, "to the front"
    assert normal[2] < -0.2, "and down"
    geometry = template.image.geometry
    brain = np.argwhere(template.brain) @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    assert (brain @ normal).max() == pytest.approx(offset - 6, abs=1), "6 mm from the brain, and no nearer anywhere"
    for point in (NOSE, CHIN, *EYES):
        assert point @ normal > offset


def test_the_face_of_a_tilted_simulated_head_goes_and_its_brain_stays():
    turned = tilt(12, (8.0, -15.0, 20.0), 0.94)
    head, brain = simulate_head(turned)
    face = find_face(head, read_template())
    affine = head.geometry.affine
    for point in (NOSE - [0, 6, 0], CHIN, *EYES):
        assert at(face.inside, affine, (turned @ np.append(point, 1.0))[:3]), point
    assert not (face.inside & brain).any(), "no voxel of the brain"
    found = np.linalg.inv(face.to_template)[:3, 3]
    assert np.linalg.norm(found - turned[:3, 3]) < 6, "millimetres from where it was put"
    assert face.millilitres > 300
    after = Volume(np.where(face.inside, 0, head.array), head.geometry)
    drawn = draw_heads(head, after)
    top, bottom = np.array_split(drawn, 2)
    third = drawn.shape[1] // 3
    assert drawn.ndim == 3
    assert np.count_nonzero(bottom[:, third:]) < 0.9 * np.count_nonzero(top[:, third:]), "the pictures differ"


def test_the_face_of_a_real_head_of_thick_slices_goes(shared_data):
    [path] = (shared_data / "tcga_lgg_multimodal").rglob("T1_AX_*.nii.gz")
    head, _ = read_image(path)
    face = find_face(head, read_template())
    assert 80 < face.millilitres < 400
    array, inside = head.array[0], face.inside
    tissue = array > 0.15 * np.percentile(array, 99)
    front = np.zeros_like(inside)
    front[:, inside.shape[1] // 2 :] = True
    low = np.zeros_like(inside)
    low[:, :, : inside.shape[2] // 2] = True
    assert (inside & tissue & front & low).sum() > 0.8 * (inside & tissue).sum(), "what goes is low and in front"
    assert not inside[:, :, inside.shape[2] // 2 + 2 :].any(), "nothing of the upper half"


def test_a_brain_without_its_face_is_refused():
    template = read_template()
    with pytest.raises(BadInput, match="0 ml of tissue where the face should be"):
        find_face(template.image, template)


def test_what_is_told_of_a_face_is_numbers():
    face = Face(np.zeros((1, 1, 1), bool), 123.456, 0.25, np.eye(4))
    assert replace(face).describe() == {"face_ml": 123.5, "face_similarity": 0.25}

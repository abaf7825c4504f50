"""Both hippocampi of any T1-weighted head; what is none is refused with the reason."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from voxelight.medseg.evaluate import dice
from voxelight.medseg.find import prepare_head, refuse_empty
from voxelight.medseg.head import place_head
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.register import correct_bias, move, register_rigid
from voxelight.medseg.segment import label, segment
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.storage.formats.dicom.bundle import bundle_series
from voxelight.storage.formats.template import read_template
from voxelight.storage.formats.volumes import read_image

FLAIR = "ms_lesion_mni/MNI/patient19/FLAIR_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI.nii.gz"
RECIPE = find_recipe("hippocampus-t1")


@pytest.fixture(scope="module")
def mni():
    return read_template()


def tilt(degrees, scale=(1.0, 1.0, 1.0), shift=(0.0, 0.0, 0.0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(scale)
    affine[:3, 3] = shift
    return affine


def test_a_head_that_is_tilted_stretched_and_shifted_is_found(mni, for_heads):
    away = tilt((-28, 12, 20), (1.05, 0.95, 1.1), (14, -22, 31))
    cut = mni.image.array[:, 8:-5, 3:-9, 12:-4]  # another field too, with a cut neck
    geometry = mni.image.geometry.affine.copy()
    geometry[:3, 3] += (8, 3, 12)
    head = Volume(cut, Geometry(cut.shape[1:], geometry))
    truth = segment(head, for_heads)  # which needs it where the template is
    tilted = move(Volume(head.array * 3.7 + 12, head.geometry), away)

    prepared, placed = prepare_head(tilted, RECIPE, mni)
    found = label(prepared, for_heads).label_map

    points = np.array([[-26, -21, -14, 1], [26, -21, -14, 1], [0, 40, 50, 1]]).T
    apart = np.linalg.norm((placed.registration.to_fixed @ away @ points - points)[:3], axis=0)
    assert apart.max() < 1.0, "mm, at both hippocampi and far from them"
    assert found.geometry.matches(tilted.geometry)
    for number, name in truth.names.items():
        assert dice(found.array, truth.array, number) > 0.93, name
    volumes = found.volumes_ml()
    stretched = abs(np.linalg.det(away[:3, :3]))
    for name, value in truth.volumes_ml().items():
        assert volumes[name] == pytest.approx(value * stretched, rel=0.05), "ml of the person and not of the template"


def test_a_flair_is_refused_by_its_contrast(mni, shared_data):
    with pytest.raises(BadInput, match=r"white matter is 0\.9\d times as bright as grey matter, as in FLAIR"):
        place_head(read_image(shared_data / FLAIR)[0], mni)


def test_a_ct_is_refused(mni, shared_data):
    with pytest.raises(BadInput, match="a CT, whose air"):
        place_head(read_image(shared_data / "totalseg_ct_example/example_ct.nii.gz")[0], mni)


def test_an_mr_of_another_part_of_the_body_is_refused(mni, shared_data):
    with pytest.raises(BadInput, match=r"no head was found|stretched|too little of the brain"):
        place_head(read_image(shared_data / "totalseg_ct_example/example_mr_sm.nii.gz")[0], mni)


def test_a_slab_of_a_real_head_is_placed_and_refused_for_what_it_cuts_off(mni, shared_data, tmp_path):
    [bundle] = bundle_series([shared_data / "mr_dicom_t1_pddl"], tmp_path)
    with pytest.raises(BadInput, match=r"holds [78]\d% of the region of the left side"):
        prepare_head(read_image(bundle.path)[0], RECIPE, mni)


def noise(shape=(100, 110, 90)):
    values = np.random.default_rng(0).normal(100, 20, (1, *shape)).astype(np.float32)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-100, -110, -90)
    return Volume(values, Geometry(shape, affine))


def test_noise_is_refused(mni):
    with pytest.raises(BadInput, match="no head was found"):
        place_head(noise(), mni)


@pytest.mark.parametrize(
    ("volume", "reason"),
    [
        (Volume(np.full((1, 60, 60, 60), 7, np.float32), Geometry((60, 60, 60), np.diag([3, 3, 3, 1.0]))), "blank"),
        (noise((30, 30, 12)), "too small for a head"),
        (Volume(np.concatenate([noise().array] * 2), noise().geometry), "2 channels"),
    ],
)
def test_what_needs_no_registration_is_refused_at_once(volume, reason, mni):
    with pytest.raises(BadInput, match=reason):
        place_head(volume, mni)


def test_an_answer_with_an_empty_side_is_refused():
    names = RECIPE.output_labels
    array = np.zeros((20, 20, 20), np.uint8)
    array[:10] = 1
    with pytest.raises(BadInput, match=r"0\.00 ml on the right side"):
        refuse_empty(LabelMap(array, Geometry((20, 20, 20), np.eye(4)), names), RECIPE)


def test_contrasts_of_one_person_are_aligned_to_a_known_turn(mni):
    """T1 against an image of the opposite contrast, coarser, so that only what they share can align them."""
    affine = mni.image.geometry.affine @ np.diag([2, 2, 2, 1.0])
    t1 = Volume(mni.image.array[:, ::2, ::2, ::2], Geometry((99, 117, 95), affine))
    other = Volume(np.where(t1.array > 0, 255 - t1.array, 0).astype(np.float32), t1.geometry)
    away = tilt((6, -4, 8), shift=(7, -5, 4))
    found = register_rigid(move(other, away), t1)
    points = np.array([[-60, 0, 0, 1], [60, 0, 0, 1], [0, -90, 0, 1], [0, 0, 70, 1]]).T
    assert np.linalg.norm((found.to_fixed @ away @ points - points)[:3], axis=0).max() < 0.5


def test_n4_takes_out_a_slow_change_of_brightness(mni):
    t1 = Volume(mni.image.array[:, ::3, ::3, ::3], Geometry((66, 78, 63), np.diag([3, 3, 3, 1.0])))
    slope = np.exp(np.linspace(-0.5, 0.5, 66))[:, None, None].astype(np.float32)
    white = mni.white[::3, ::3, ::3] > 0.95
    left, right = white[:33], white[33:]

    def unevenness(array):
        return abs(np.log(np.median(array[:33][left]) / np.median(array[33:][right])))

    before = (t1.array * slope)[0]
    after = correct_bias(Volume(before[np.newaxis], t1.geometry)).array[0]
    assert unevenness(after) < 0.25 * unevenness(before)

import numpy as np
import pytest
import SimpleITK
from monai.transforms import ScaleIntensityRangePercentiles
from scipy import ndimage

from voxelight.medseg.recipes.recipe import Normalisation, Region
from voxelight.medseg.transforms import box_of, crop_head, cut, grid_of_region, grid_of_spacing, normalise, resample
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry


@pytest.fixture
def picture():
    noise = np.random.default_rng(0).random((1, 20, 24, 18))
    return ndimage.gaussian_filter(noise, (0, 2, 2, 2)).astype(np.float32) * 900


def test_minmax_is_that_of_monai(picture):
    found = normalise(picture, Normalisation(method="minmax", percentiles=(2, 98)))
    expected = ScaleIntensityRangePercentiles(2, 98, 0, 1, clip=True)(picture)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_zscore_has_no_mean_and_one_deviation_in_each_channel(picture):
    found = normalise(np.concatenate([picture, 1e5 - 40 * picture]), Normalisation())
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=(1, 2, 3)), 1, rtol=1e-5)


@pytest.mark.parametrize("method", ["zscore", "minmax"])
def test_a_flat_picture_is_refused(method):
    with pytest.raises(BadInput, match="flat"):
        normalise(np.full((1, 4, 4, 4), 3.0, np.float32), Normalisation(method=method))


def test_the_head_is_cropped_to_its_box():
    array = np.zeros((9, 8, 7), np.float32)
    array[2:6, 1:7, 3:5] = 1
    assert crop_head(array) == (slice(2, 6), slice(1, 7), slice(3, 5))
    with pytest.raises(BadInput, match="a head"):
        crop_head(np.zeros((4, 4, 4), np.float32))


def test_resampling_to_finer_voxels_is_that_of_simpleitk(picture):
    source = Geometry(picture.shape[1:], np.diag([1.0, 1.2, 2.0, 1.0]))
    target = grid_of_spacing(source, (0.7, 0.7, 0.7))
    image = SimpleITK.GetImageFromArray(picture[0].T)
    image.SetSpacing((1.0, 1.2, 2.0))
    frame = SimpleITK.Image(list(target.shape), SimpleITK.sitkFloat32)
    frame.SetSpacing((0.7, 0.7, 0.7))
    frame.SetOrigin(target.affine[:3, 3].tolist())
    expected = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(image, frame, SimpleITK.Transform(), SimpleITK.sitkLinear)
    ).T
    found = resample(picture, source, target)[0]
    inside = (slice(3, -3),) * 3
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.02 * picture.std())


def test_resampling_to_an_oblique_grid_is_that_of_scipy(picture):
    source = Geometry(picture.shape[1:], np.eye(4))
    turn = np.eye(4)
    angle = 0.3
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = [6, 2, 3]
    target = Geometry((9, 10, 8), turn)
    expected = ndimage.affine_transform(picture[0], turn[:3, :3], turn[:3, 3], target.shape, order=1)
    np.testing.assert_allclose(resample(picture, source, target)[0], expected, atol=1e-2)


def test_a_coarser_grid_does_not_alias():
    stripes = np.tile(np.array([0.0, 1.0], np.float32), 20)[None, :, None, None] * np.ones((1, 40, 8, 8), np.float32)
    source = Geometry((40, 8, 8), np.eye(4))
    found = resample(stripes, source, grid_of_spacing(source, (4.0, 1.0, 1.0)))
    assert np.abs(found[0, 2:-2] - 0.5).max() < 0.1


def test_the_same_grid_leaves_every_bit(picture):
    grid = Geometry(picture.shape[1:], np.eye(4))
    assert resample(picture, grid, grid_of_spacing(grid, (1, 1, 1))) is picture


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.0)])
def test_a_new_spacing_keeps_the_middle_of_the_field(spacing):
    old = Geometry((30, 41, 22), np.array([[0, -1.1, 0, 5], [0.9, 0, 0, -3], [0, 0, 2.5, 8], [0, 0, 0, 1.0]]))
    new = grid_of_spacing(old, spacing)
    np.testing.assert_allclose(new.spacing, spacing)
    middles = [g.affine[:3, :3] @ ((np.array(g.shape) - 1) / 2) + g.affine[:3, 3] for g in (old, new)]
    np.testing.assert_allclose(*middles, atol=1e-9)
    np.testing.assert_allclose(np.array(new.shape) * spacing, np.array(old.shape) * old.spacing, atol=max(spacing))


def test_a_mirrored_region_is_read_from_right_to_left():
    plain, mirrored = (
        grid_of_region(Region(prefix="", centre_mm=(x, -21, -14), size_mm=(39, 55, 39), mirror=mirror), (1, 1, 1))
        for x, mirror in ((-26, False), (26, True))
    )
    np.testing.assert_allclose(np.diag([-1, 1, 1, 1]) @ plain.affine, mirrored.affine)
    assert plain.shape == mirrored.shape == (39, 55, 39)


def test_a_box_holds_the_grid_and_no_more():
    geometry = Geometry((50, 60, 40), np.diag([1.0, 1.0, 2.0, 1.0]))
    grid = Geometry((10, 10, 10), np.array([[-1, 0, 0, 20], [0, 1, 0, 5], [0, 0, 1, 70.0], [0, 0, 0, 1]]))
    box = box_of(grid, geometry, margin_mm=2.0)
    assert box == (slice(9, 23), slice(3, 17), slice(34, 40))
    here = cut(geometry, box)
    assert here.shape == (14, 14, 6)
    np.testing.assert_allclose(here.affine[:3, 3], [9, 3, 68])

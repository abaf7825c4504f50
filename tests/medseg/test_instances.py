"""Nuclei told apart and counted, on real reference maps; pictures out of a recipe's domain."""

import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import find_boundaries

from voxelight.medseg.domain import as_read
from voxelight.medseg.instances import score_instances, split_instances
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.recipes.recipe import Instances
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.storage.formats.volumes import read_image

RECIPE = find_recipe("nuclei-msga")


def as_labels(instances):
    """Insides 1 and borders 2 of an instance map (row, column), as the recipe learns them."""
    edges = find_boundaries(instances, mode="inner")
    labels = np.where(edges, 2, instances > 0).astype(np.uint8).T[..., None]
    return LabelMap(labels, Geometry(labels.shape, np.eye(4)), {1: "nucleus", 2: "border"})


def read_reference(path):
    return np.asarray(Image.open(path)).astype(np.int32)


def test_real_nuclei_come_back_from_their_insides_and_borders(shared_data):
    """Each nucleus of the references, those that touch too; one is lost only where it is all border."""
    counts = []
    for path in sorted((shared_data / "nuclei_dsb2018/labels").glob("*.png"))[::20]:
        reference = read_reference(path)
        found = split_instances(as_labels(reference), RECIPE.instances).array[..., 0].T
        assert ((found > 0) >= (found > 0) * (reference > 0)).all()
        counts.append(score_instances(found, reference).counts[0.7])
    tp, fn, fp = (sum(getattr(each, name) for each in counts) for name in ("tp", "fn", "fp"))
    assert tp > 150
    assert 2 * tp / (2 * tp + fn + fp) > 0.97


def test_touching_nuclei_are_two_and_specks_are_none():
    labels = np.zeros((30, 20, 1), np.uint8)
    labels[2:14, 2:14] = labels[14:26, 2:14] = 2
    labels[3:13, 3:13] = labels[15:25, 3:13] = 1
    labels[28, 18] = 1
    made = LabelMap(labels, Geometry(labels.shape, np.eye(4)), {1: "nucleus", 2: "border"})
    found = split_instances(made, Instances(inside=1, border=2, smallest=5)).array[..., 0]
    assert sorted(np.bincount(found.ravel())[1:]) == [144, 144]
    assert set(np.unique(found[2:14, 2:14])) == {1}
    assert split_instances(made, Instances(inside=1, border=2)).array.max() == 3
    only_border = LabelMap((labels == 2).astype(np.uint8) * 2, made.geometry, made.names)
    assert split_instances(only_border, Instances(inside=1, border=2)).array.max() == 1


def test_what_hangs_together_by_a_neck_is_cut_there_and_what_is_small_or_even_is_not():
    i, j = np.mgrid[:40, :60]
    two = (np.hypot(i - 14, j - 12) < 8) | (np.hypot(i - 14, j - 26) < 8)  # discs of radius 8 whose overlap is narrow
    even = np.hypot((i - 32) / 5, (j - 24) / 18) < 1
    small = np.hypot(i - 8, j - 50) < 1.5
    labels = (two | even | small).astype(np.uint8)[..., None]
    made = LabelMap(labels, Geometry(labels.shape, np.eye(4)), {1: "nucleus"})
    assert split_instances(made, Instances(inside=1, border=2)).array.max() == 3
    cut = split_instances(made, Instances(inside=1, border=2, split_depth=0.5, split_smoothing=1.5)).array[..., 0]
    assert cut.max() == 4
    assert ((cut > 0) == (labels[..., 0] > 0)).all()
    assert len(np.unique(cut[even])) == len(np.unique(cut[small])) == 1
    assert cut[14, 12] != cut[14, 26]
    nearer = np.where(j < 19, cut[14, 12], cut[14, 26])
    assert (cut == nearer)[two & (j != 19)].mean() > 0.97


def test_objects_are_counted_as_a_loop_over_all_pairs_does():
    rng = np.random.default_rng(0)
    found, reference = (np.kron(rng.integers(0, 6, (6, 6)), np.ones((4, 4), int)) for _ in range(2))
    reference[:12] = found[:12]
    reference[3, :] = 0
    scores = score_instances(found, reference, (0.5, 0.7))
    for threshold in (0.5, 0.7):
        pairs = 0
        for ours in set(np.unique(found)) - {0}:
            for theirs in set(np.unique(reference)) - {0}:
                a, b = found == ours, reference == theirs
                pairs += (a & b).sum() / (a | b).sum() > threshold
        counts = scores.counts[threshold]
        assert (counts.tp, counts.fn, counts.fp) == (pairs, len(np.unique(reference)) - 1 - pairs,
                                                     len(np.unique(found)) - 1 - pairs)  # fmt: skip
    a, b = found > 0, reference > 0
    assert scores.foreground_dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    nothing = score_instances(np.zeros((4, 4), int), np.zeros((4, 4), int))
    assert (nothing.foreground_dice, nothing.counts[0.5].fp) == (None, 0)
    with pytest.raises(BadInput, match="one grid"):
        score_instances(found, reference[1:])


def test_fluorescence_is_read_and_other_stains_are_out_of_domain(shared_data):
    for path in sorted((shared_data / "nuclei_dsb2018/images").glob("*.png"))[::40]:
        picture = read_image(path)[0]
        read = as_read(picture, RECIPE)
        np.testing.assert_allclose(read.array[0], picture.array.mean(0), atol=1e-6)
        inverted = Volume(1 - picture.array, picture.geometry)
        with pytest.raises(BadInput, match="out of the domain of nuclei-msga"):
            as_read(inverted, RECIPE)
    stained = next(path for path in sorted((shared_data / "monuseg").rglob("*"))
                   if path.suffix in {".png", ".tif"} and read_image(path)[0].array.shape[0] == 3)  # fmt: skip
    with pytest.raises(BadInput, match="in colour: out of the domain"):
        as_read(read_image(stained)[0], RECIPE)

import numpy as np
import pytest
from sklearn.metrics import f1_score

from voxelight.medseg.slices import number_labels, pooled_dice
from voxelight.models.errors import BadInput


def test_grey_values_become_labels():
    image = np.array([[0, 63], [252, 126]], dtype=np.uint8)
    np.testing.assert_array_equal(number_labels(image, (0, 63, 126, 189, 252)), [[0, 1], [4, 2]])


def test_a_grey_value_between_labels_is_refused():
    with pytest.raises(BadInput, match="grey values 31, 32 in a label map"):
        number_labels(np.array([0, 31, 32, 63]), (0, 63))


def test_pooled_dice_is_that_of_all_slices_together():
    rng = np.random.default_rng(0)
    found, references = rng.integers(3, size=(2, 5, 8, 8))
    expected = f1_score(references.ravel(), found.ravel(), average=None)
    np.testing.assert_allclose(pooled_dice(list(found), list(references), 3), expected, rtol=1e-6)

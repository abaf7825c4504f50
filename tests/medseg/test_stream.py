import gc

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from voxelight.medseg.stream import Windows, find_starts, stream


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv3d(2, 5, 3, padding=1), torch.nn.Softmax(dim=1)).eval()


def gather(image, predict, windows, tick=None):
    """Put the blocks together, and count how often each voxel comes."""
    found, times = None, torch.zeros(image.shape[1:])
    for box, block in stream(image, predict, windows, tick):
        found = torch.full((len(block), *image.shape[1:]), torch.nan) if found is None else found
        found[(slice(None), *box)] = block
        times[box] += 1
    return found, times


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.8])
@pytest.mark.parametrize(
    ("shape", "size", "at_once"),
    [
        ((20, 21, 22), (8, 8, 8), 1),
        ((20, 9, 33), (8, 12, 16), 3),  # an axis smaller than its window
        ((7, 5, 6), (8, 8, 8), 4),  # all of it smaller
        ((17, 16, 16), (16, 16, 16), 2),  # the last window begins one voxel after the one before
        ((11, 24, 1), (8, 8, 1), 5),  # one slice
    ],
)
@torch.inference_mode()
def test_blocks_put_together_are_what_monai_blends(network, shape, size, at_once, overlap):
    image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    expected = sliding_window_inference(image[None], size, 1, network, overlap, mode="gaussian")[0]
    found, times = gather(image, network, Windows(size, overlap, at_once))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert (times == 1).all()


@torch.inference_mode()
def test_progress_counts_windows_and_ends_at_one(network):
    told = []
    gather(torch.zeros(2, 16, 16, 24), network, Windows((8, 8, 8), 0.0, at_once=5), told.append)
    assert told == pytest.approx([5 / 12, 10 / 12, 1])


@torch.inference_mode()
def test_a_reader_who_stops_leaves_the_rest_undone():
    calls = []

    def predict(x):
        calls.append(len(x))
        return x

    blocks = stream(torch.zeros(1, 32, 8, 8), predict, Windows((8, 8, 8), 0.0))
    next(blocks)
    blocks.close()
    assert calls == [1]


@torch.inference_mode()
def test_what_is_kept_between_windows_does_not_hold_the_volume():
    """At any moment fewer values are alive than the volume has for one label in three."""
    alive = []

    def predict(x):
        held = {t.untyped_storage().data_ptr(): t.numel() for t in gc.get_objects() if isinstance(t, torch.Tensor)
                and t.dim() == 4 and len(t) == 13}  # fmt: skip
        alive.append(sum(held.values()))
        return torch.zeros(len(x), 12, *x.shape[2:])

    gc.freeze()  # what other tests left is not looked through at every window
    try:
        for _ in stream(torch.zeros(1, 64, 64, 64), predict, Windows((16, 16, 16), 0.25)):
            pass
    finally:
        gc.unfreeze()
    assert 0 < max(alive) < 12 * 64**3 / 3


@pytest.mark.parametrize(("side", "window", "overlap"), [(384, 96, 0.25), (97, 96, 0.5), (96, 96, 0.5), (10, 3, 0.9)])
def test_windows_reach_both_ends(side, window, overlap):
    starts = find_starts(side, window, overlap)
    assert (starts[0], starts[-1]) == (0, side - window)
    assert (np.diff(starts) > 0).all()
    assert max(np.diff(starts), default=0) <= window

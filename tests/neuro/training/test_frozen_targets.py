"""Targets are computed once a picture; a training is refused while some are missing."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from voxelight.models.errors import BadInput, Unavailable
from voxelight.models.training.loop import Hooks
from voxelight.neuro.train import fit_decoder
from voxelight.neuro.training import targets
from voxelight.neuro.training.augment import augment_pictures, augmented
from voxelight.neuro.training.samples import TrainingData
from voxelight.neuro.training.targets import (
    CachedTargets,
    ComputedTargets,
    compute_targets,
    decode_captions,
    encode_captions,
    hash_picture,
)
from voxelight.storage.targets import TargetStore
from voxelight.storage.training_log import TrainingLog

PIXELS = np.random.default_rng(0).integers(0, 256, size=(10, 3, 8, 8), dtype=np.uint8)
KEYS = [hash_picture(picture) for picture in PIXELS]


class Album:
    def __init__(self):
        self.asked = []

    def read(self, keys):
        self.asked += list(keys)
        return PIXELS[[KEYS.index(key) for key in keys]]


def encode(pictures, keys):
    assert pictures.dtype == torch.float32
    assert 0 <= pictures.min() <= pictures.max() <= 1
    return pictures.mean(dim=(2, 3))


def test_each_picture_is_encoded_once_and_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "BATCHES_A_PART", 2)
    store, album = TargetStore(tmp_path), Album()

    def stop(done, total):
        assert total == 10
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_targets(KEYS, album, {"tokens": (encode, store.table("tokens", "w"))}, "cpu", 4, stop)
    assert album.asked == KEYS[:8]
    again = compute_targets(KEYS, album, {"tokens": (encode, store.table("tokens", "w"))}, "cpu", 4)
    assert again == {"tokens": 2}
    assert album.asked == KEYS
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    assert compute_targets(KEYS, album, {"tokens": (encode, store.table("tokens", "w"))}, "cpu", 4) == {"tokens": 0}
    found = store.table("tokens", "w").read(KEYS)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, PIXELS.mean(axis=(2, 3)) / 255, atol=5e-4)


def test_targets_that_half_precision_can_not_hold_are_refused(tmp_path):
    table = TargetStore(tmp_path).table("tokens", "w")
    with pytest.raises(BadInput, match="half precision"):
        compute_targets(KEYS, Album(), {"tokens": (lambda x, keys: 1e6 * encode(x, keys), table)}, "cpu")
    assert table.missing(KEYS) == KEYS


def test_the_key_is_the_picture_and_nothing_else():
    assert hash_picture(PIXELS[0]) == hash_picture(PIXELS[0].copy(order="F"))
    other = PIXELS[0].copy()
    other[0, 0, 0] ^= 1
    assert len({hash_picture(PIXELS[0]), hash_picture(other), hash_picture(PIXELS[0].astype(np.float32))}) == 3


def test_a_training_is_refused_before_its_first_step_while_targets_are_missing(small, make_network, tmp_path):
    subject, recipe = small.make_subject("s"), small.make_recipe()
    complete = small.make_targets(tmp_path, [subject])
    store = TargetStore(tmp_path)
    for tables, said in (
        ({"tokens": store.table("tokens", "x")}, "no latent of 30 pictures"),
        ({"tokens": store.table("tokens", "none"), "latent": store.table("latent", "x")}, "no tokens of 30"),
    ):
        data = TrainingData((subject,), CachedTargets(tables), frozenset())
        with pytest.raises(Unavailable, match=said):
            fit_decoder(make_network(data, recipe), data, recipe, "cpu", Hooks())
    other = small.make_subject("other", first=5000)
    data = TrainingData((other,), complete, frozenset())
    with pytest.raises(Unavailable, match="tokens of all 30 pictures"):
        fit_decoder(make_network(data, recipe), data, recipe, "cpu", Hooks())


def test_augmented_copies_take_turns(small, tmp_path):
    subject = small.make_subject("s")
    kept = small.make_targets(tmp_path, [subject])
    keys = list(subject.pictures[:3])
    first, second, third = (kept.read("maps_aug", keys, step) for step in range(3))
    assert torch.equal(first, third)
    assert not torch.equal(first, second)
    assert torch.equal(kept.read("maps", keys, 0), kept.read("maps", keys, 1))


def test_targets_computed_at_every_step_train_as_cached_ones_do(small, make_network, tmp_path):
    """Beside rounding to half precision, which these targets have none of."""
    subject, recipe = small.make_subject("s"), small.make_recipe(epochs=2)
    cached = small.make_targets(tmp_path, [subject], copies=1)

    class Keyed:
        def read(self, keys):
            return np.zeros((len(keys), 3, 2, 2), np.float32)

    def look_up(kind):
        return lambda pictures, keys: cached.read(kind, keys, 0)

    encoders = {kind: look_up(kind) for kind in ("tokens", "latent", "maps", "maps_aug")}
    curves = []
    for source in (cached, ComputedTargets(Keyed(), encoders, "cpu")):
        data = TrainingData((subject,), source, frozenset())
        log = TrainingLog(tmp_path / f"{len(curves)}.jsonl")
        fit_decoder(make_network(data, recipe), data, recipe, "cpu", Hooks(log=log))
        curves.append(log.rows())
    assert curves[0] == curves[1]
    with pytest.raises(Unavailable, match="no encoder for maps"):
        ComputedTargets(Keyed(), {"tokens": look_up("tokens")}, "cpu").check(["tokens", "maps"], [])


def test_captions_are_kept_as_bytes(tmp_path):
    captions = ["a photo of a dog", "", "eine Straße – ☃"]
    table = TargetStore(tmp_path).table("captions", "w")

    def caption(pictures, keys):
        return torch.from_numpy(encode_captions([captions[KEYS.index(key)] for key in keys]))

    assert compute_targets(KEYS[:3], Album(), {"captions": (caption, table)}, "cpu", 2) == {"captions": 3}
    assert decode_captions(table.read(KEYS[:3])) == captions
    with pytest.raises(BadInput, match="600 bytes"):
        encode_captions(["x" * 600])


def test_augmentation_hangs_on_the_picture_and_the_copy_alone():
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    keys = ["a", "b", "c"]
    found = augment_pictures(pictures, keys, 0)
    assert found.shape == (3, 3, 224, 224)
    assert 0 <= found.min() < found.max() <= 1
    assert torch.equal(found, augment_pictures(pictures, keys, 0))
    assert torch.equal(found[1:2], augment_pictures(pictures[1:2], keys[1:2], 0))
    assert not torch.equal(found, augment_pictures(pictures, keys, 1))
    means = augmented(lambda x: x.mean(dim=(2, 3)), 1)(pictures, keys)
    torch.testing.assert_close(means, augment_pictures(pictures, keys, 1).mean(dim=(2, 3)))


def test_augmentation_does_as_often_as_it_says():
    """Of a picture whose channels differ and which has nothing brighter than a half."""
    picture = torch.stack([torch.full((16, 16), value) for value in (0.1, 0.2, 0.3)])[None].expand(400, -1, -1, -1)
    found = augment_pictures(picture, [str(number) for number in range(400)], 0).mean(dim=(2, 3))
    grey = (found.amax(dim=1) - found.amin(dim=1) < 1e-4).float().mean().item()
    same = (found - torch.tensor([0.1, 0.2, 0.3])).abs().amax(dim=1).lt(1e-4).float().mean().item()
    assert grey == pytest.approx(0.1, abs=0.05)
    assert same == pytest.approx(0.2 * 0.9, abs=0.06)
    whole = tv.resize(picture[:1], [224, 224], antialias=False)
    assert whole.shape == (1, 3, 224, 224)

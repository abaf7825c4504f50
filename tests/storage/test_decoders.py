"""Trained decoders on disk: whole or not at all, found again by name, and opened like any other weights."""

import json

import numpy as np
import pytest
import torch

from voxelight.models.decoders.mindeye2 import MindEye2Config
from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.models.weights import find_part_sha256, load_into, load_part
from voxelight.neuro.training.standardise import VoxelStatistics
from voxelight.storage.decoders import TrainedDecoder, TrainedDecoders

VOXELS = (7, 5)
SIZES = {"hidden": 6, "tokens": 2, "dim": 4, "low_level": False, "prior": None}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MindEye2Config(voxels=VOXELS, **SIZES).build()


def make(**changes):
    told = {
        "name": "both", "profile": "random-small", "config": SIZES, "subjects": (("s1", 7), ("s2", 5)),
        "normalisation": "training-rows-per-session", "simulated": True, "licence": "CC0-1.0", "source": "a test",
        "card": "# both", "provenance": {"seed": 3},
    }  # fmt: skip
    return TrainedDecoder(**told | changes)


def statistics(voxels, sessions=("a", "b")):
    rng = np.random.default_rng(voxels)
    return VoxelStatistics(sessions, rng.normal(size=(2, voxels)), rng.uniform(size=(2, voxels)))


def test_a_decoder_comes_back_as_it_was_kept(tmp_path, network):
    decoders = TrainedDecoders(tmp_path)
    kept = decoders.write(make(), network.state_dict(), [statistics(7), None], frozenset({"a" * 64, "b" * 64}))
    assert len(kept.sha256) == 64
    assert decoders.list() == [decoders.find("both")] == [kept]
    assert decoders.read_pictures("both") == {"a" * 64, "b" * 64}
    found = decoders.read_statistics("both", 0)
    assert found.sessions == ("a", "b")
    np.testing.assert_array_equal(found.mean, statistics(7).mean)
    assert decoders.read_statistics("both", 1) is None
    assert [kept.find_subject(label) for label in (None, "s1", "s2")] == [0, 0, 1]
    with pytest.raises(NotFound, match="s1, s2"):
        kept.find_subject("s3")
    state = decoders.load("both")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(state[name].float(), value.half().float(), rtol=0, atol=0)


def test_each_subject_opens_as_a_decoder_of_its_own(tmp_path, network):
    decoders = TrainedDecoders(tmp_path)
    kept = decoders.write(make(), network.state_dict(), [None, None], frozenset())
    network = network.half().float().eval()
    for number, voxels in enumerate(VOXELS):
        alone = MindEye2Config(voxels=(voxels,), **SIZES).build().eval()
        load_into(alone, load_part(tmp_path, kept.name_weights(number), "decoder"))
        betas = torch.randn(3, 1, voxels)
        torch.testing.assert_close(alone(betas).tokens, network(betas, number).tokens)
    hashes = {find_part_sha256(tmp_path, kept.name_weights(number), "decoder") for number in (0, 1)}
    assert len(hashes) == 2


def test_nothing_is_left_of_what_can_not_be_kept(tmp_path, network):
    decoders = TrainedDecoders(tmp_path)
    state = network.state_dict()
    with pytest.raises(BadInput, match="float16"):
        decoders.write(
            make(), state | {"backbone.backbone_linear.bias": torch.full((8,), 1e6)}, [None, None], frozenset()
        )
    with pytest.raises(BadInput, match="statistics of 1"):
        decoders.write(make(), state, [None], frozenset())
    assert decoders.list() == []
    assert list((tmp_path / "decoders").iterdir()) == []
    decoders.write(make(), state, [None, None], frozenset())
    with pytest.raises(Conflict, match="already"):
        decoders.write(make(), state, [None, None], frozenset())
    replaced = decoders.write(make(source="again"), state, [None, None], frozenset(), replace=True)
    assert decoders.find("both").source == replaced.source == "again"


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [("no/name", BadInput, "letters"), ("mindeye2", Conflict, "packaged"), ("miyawaki-ridge", Conflict, "packaged")],
)
def test_names_that_others_have_are_refused(tmp_path, name, error, said):
    with pytest.raises(error, match=said):
        TrainedDecoders(tmp_path).refuse_name(name)


def test_what_is_damaged_is_told(tmp_path, network):
    decoders = TrainedDecoders(tmp_path)
    decoders.write(make(), network.state_dict(), [None, None], frozenset())
    place = tmp_path / "decoders" / "both"
    shard = next(place.glob("shared-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(Conflict, match="bytes"):
        decoders.load("both")
    (place / "model.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(BadInput, match="can't be read"):
        decoders.find("both")
    assert decoders.list() == []
    (place / "model.json").unlink()
    with pytest.raises(NotFound, match="none yet"):
        decoders.find("both")


def test_betas_of_another_session_or_mask_are_refused():
    known = statistics(7)
    betas = np.random.default_rng(0).normal(size=(4, 7))
    scaled = known.standardise(betas, ["b", "a", "a", "b"])[np.arange(4)]
    np.testing.assert_allclose(scaled[1], (betas[1] - known.mean[0]) * known.scale[0], rtol=1e-5)
    with pytest.raises(BadInput, match="session c"):
        known.standardise(betas, ["a", "a", "c", "b"])
    with pytest.raises(BadInput, match="unknown"):
        known.standardise(betas)
    with pytest.raises(BadInput, match="6 voxels"):
        known.standardise(betas[:, :6], ["a"] * 4)

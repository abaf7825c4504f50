"""MindEye1 from voxels to tokens, and its low-level branch."""

import re

from checks.cases import Also, Beside, Found, Kind
from checks.files import Fixture
from torch import Tensor

from voxelight.models.checkpoints import modern_names
from voxelight.models.decoders.mindeye1 import LowLevelConfig, MindEye1Config
from voxelight.models.decoders.mindeye2 import BrainOutput

OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def decode(fixture: Fixture) -> BrainOutput:
    config = fixture.config
    decoder = MindEye1Config(
        voxels=(config["vox"],),
        hidden=config["h"],
        blocks=config["n_blocks"],
        tokens=config["tok"],
        dim=config["clip"],
        projector_width=config["projector_hidden"],
        prior=None,
    ).build()
    decoder.voxel2clip.load_state_dict(fixture.part("w."))
    return decoder.eval()(fixture.given("in.voxels"))


def run_tokens(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return fixture.once(decode).tokens.flatten(1)


def run_retrieval(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return fixture.once(decode).retrieval


BACKBONE = Kind(
    outputs={r"out\.clip_voxels_mse": run_tokens, r"out\.clip_voxels_proj": run_retrieval},
    known=frozenset({"vox", "h", "n_blocks", "clip", "tok", "projector_hidden"}),
)


def decode_low_level(fixture: Fixture, weights: dict[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    config = fixture.config
    branch = LowLevelConfig(
        voxels=(config["in_dim"],),
        hidden=config["h"],
        blocks=config["n_blocks"],
        decoder_widths=tuple(config["decoder_block_out_channels"]),
        maps_width=config["maps_projector_width"],
    ).build()
    branch.load_state_dict(fixture.part("w.") if weights is None else weights)
    return branch.eval()(fixture.given("in.voxels"))


def run_latent(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return fixture.once(decode_low_level)[0]


def run_maps(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return fixture.once(decode_low_level)[1]


def spell_as_of_old(fixture: Fixture) -> Found:
    """The spelling of attention that the released file has gives the same latent."""
    old = {}
    for name, value in fixture.part("w.").items():
        for new, spelled in OLD.items():
            name = name.replace(f".attentions.0.{new}.", f".attentions.0.{spelled}.")
        old[name] = value
    latent, _ = decode_low_level(fixture, modern_names(old))
    return {
        "names that differ": Beside(len(set(old) - set(fixture.part("w."))), 8),
        "out.latent, attention spelled as of old": Beside(latent, fixture.given("out.latent")),
    }


LOW_LEVEL = Kind(
    outputs={r"out\.latent": run_latent, r"out\.feats": run_maps},
    also={"spelling": Also((r"out\.latent",), spell_as_of_old)},
    known=frozenset({"in_dim", "h", "n_blocks", "decoder_block_out_channels", "maps_projector_width"}),
)

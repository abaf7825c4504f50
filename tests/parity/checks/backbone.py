"""MindEye2 from voxels to tokens: a ridge layer a subject, the mixer, the projector, the low-level branch."""

import re

import torch
from checks.cases import Also, Beside, Found, Kind
from checks.files import Fixture
from torch import Tensor

from voxelight.models.decoders.mindeye2 import BrainOutput, MindEye2, MindEye2Config

PARTS = {
    "backbone": lambda output: output.tokens,
    "clip_voxels": lambda output: output.retrieval,
    "blurry_latent": lambda output: output.blurry_latent,
    "blurry_aux": lambda output: output.maps,
}


def build(fixture: Fixture) -> MindEye2:
    config = fixture.config
    low_level = {}
    if config["blurry_recon"]:
        # The width of the maps is not among the sizes that the file states.
        maps = fixture.given("w.backbone.b_maps_projector.0.weight").shape[0]
        low_level = {"decoder_widths": tuple(config["decoder_block_out_channels"]), "maps_width": maps}
    decoder = MindEye2Config(
        voxels=tuple(config["input_sizes"]),
        hidden=config["hidden_dim"],
        blocks=config["n_blocks"],
        seq_len=config["seq_len"],
        tokens=config["clip_seq_dim"],
        dim=config["clip_emb_dim"],
        low_level=config["blurry_recon"],
        prior=None,
        **low_level,
    ).build()
    decoder.load_state_dict(fixture.part("w."))
    return decoder.eval()


def decode(fixture: Fixture) -> BrainOutput:
    return build(fixture).backbone(fixture.given("in.backbone"))


def run_ridge(fixture: Fixture, match: re.Match[str]) -> Tensor:
    subject = int(match["subject"])
    return build(fixture).ridge(fixture.given(f"in.voxels.{subject}"), subject)


def run_part(fixture: Fixture, match: re.Match[str]) -> Tensor:
    return PARTS[match["part"]](fixture.once(decode))


def compare_mixers(fixture: Fixture) -> Found:
    """The short-cut and the whole mixer agree; what the first half of the mixer says matters beyond one entry only."""
    decoder, pairs = build(fixture), {}
    for shortcut in (True, False):
        decoder.backbone.shortcut = shortcut
        tokens = decoder.backbone(fixture.given("in.backbone")).tokens
        pairs[f"out.backbone (short-cut {shortcut})"] = Beside(tokens, fixture.given("out.backbone"))
    with torch.no_grad():
        for weights in decoder.backbone.mixer_blocks1.parameters():
            weights.add_(10 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0)))
    moved = decoder.backbone(fixture.given("in.backbone")).tokens
    reach = int((moved - tokens).abs().max() > 1e-2)
    pairs["mixer_blocks1 reach the output"] = Beside(reach, int(fixture.config["seq_len"] > 1))
    return pairs


def compare_whole(fixture: Fixture) -> Found:
    """From a subject's voxels in one call, beside the backbone alone on what the published ridge gave.

    A longer sequence takes its other entries from the other trials.
    """
    decoder, pairs = build(fixture), {}
    for subject in range(len(fixture.config["input_sizes"])):
        given, published = fixture.given(f"in.voxels.{subject}"), fixture.given(f"out.ridge.{subject}")
        places = range(fixture.config["seq_len"])
        whole = decoder(torch.cat([given.roll(place, 0) for place in places], dim=1), subject)
        alone = decoder.backbone(torch.cat([published.roll(place, 0) for place in places], dim=1))
        for name, read in PARTS.items():
            if read(alone) is not None:
                pairs[f"{name} of subject {subject}, whole beside parts"] = Beside(read(whole), read(alone))
    return pairs


KIND = Kind(
    outputs={
        r"out\.ridge\.(?P<subject>\d+)": run_ridge,
        rf"out\.(?P<part>{'|'.join(PARTS)})": run_part,
    },
    also={
        "mixers": Also((r"out\.backbone",), compare_mixers),
        "whole": Also((r"out\.ridge\.\d+",), compare_whole),
    },
    known=frozenset(
        {
            "blurry_recon",
            "clip_emb_dim",
            "clip_seq_dim",
            "decoder_block_out_channels",
            "hidden_dim",
            "input_sizes",
            "n_blocks",
            "seq_len",
        }
    ),
)

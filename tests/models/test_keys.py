"""Names of published weights, against diffusers' own converters and the counts of the published files."""

import json

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import load_file

from voxelight.models.diffusion.autoencoder import AutoencoderConfig
from voxelight.models.diffusion.keys import diffusers_vae_names, rename, unet_names, vae_names
from voxelight.models.diffusion.unet import UNetConfig
from voxelight.models.errors import BadInput

REFINER = {"context_dim": 2048, "vector_dim": 2816}
SMALL = {"head_dim": 32, "context_dim": 8, "vector_dim": 16}
UNETS = {
    "unclip": UNetConfig(),
    "refiner": UNetConfig(**REFINER),
    "one layer": UNetConfig(channels=(32, 64, 64), depth=(1, 1, 2), layers=1, **SMALL),
    "three layers": UNetConfig(channels=(32, 32, 64), depth=(1, 2, 1), layers=3, **SMALL),
    "two levels": UNetConfig(channels=(32, 64), depth=(1, 3), attention=(False, True), **SMALL),
    "four levels": UNetConfig(
        channels=(32, 32, 64, 64), depth=(1, 1, 2, 1), attention=(True, False, True, False), **SMALL
    ),
}
AUTOENCODERS = {
    "sdxl": AutoencoderConfig(),
    "one layer": AutoencoderConfig(channels=(32, 64), layers=1),
    "three levels": AutoencoderConfig(channels=(32, 32, 64), layers=3),
}


def on_meta(config: UNetConfig | AutoencoderConfig) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return config.build().state_dict()


@pytest.mark.parametrize(("config", "parameters"), [("unclip", 2_501_272_324), ("refiner", 2_567_463_684)])
def test_the_released_unets_have_their_tensors_and_parameters(config: str, parameters: int):
    names, tensors = unet_names(UNETS[config]), on_meta(UNETS[config])
    assert len(names) == 1680
    assert sorted(names.values()) == sorted(tensors)
    assert sum(tensor.numel() for tensor in tensors.values()) == parameters


def test_the_released_autoencoder_has_its_tensors_and_parameters():
    names, tensors = vae_names(AutoencoderConfig()), on_meta(AutoencoderConfig())
    assert len(names) == 248
    assert sorted(names.values()) == sorted(tensors)
    assert sum(tensor.numel() for tensor in tensors.values()) == 83_653_863


@pytest.mark.parametrize("config", UNETS)
def test_unet_names_agree_with_the_converter_of_diffusers(config: str):
    names = unet_names(UNETS[config])
    with torch.device("meta"):
        settings = UNETS[config].build().config
    converted = convert_ldm_unet_checkpoint({f"model.diffusion_model.{name}": name for name in names}, settings)
    assert {theirs: ours for ours, theirs in converted.items()} == names
    assert sorted(converted) == sorted(on_meta(UNETS[config]))


@pytest.mark.parametrize("config", AUTOENCODERS)
def test_autoencoder_names_agree_with_the_converter_of_diffusers(config: str):
    names = vae_names(AUTOENCODERS[config])
    numbered = {f"first_stage_model.{name}": torch.full((1, 1, 1, 1), k) for k, name in enumerate(names)}
    with torch.device("meta"):
        settings = AUTOENCODERS[config].build().vae.config
    converted = convert_ldm_vae_checkpoint(numbered, settings)
    theirs = {f"vae.{key}": int(value) for key, value in converted.items()}
    assert theirs == {key: k for k, key in enumerate(names.values())}


def test_renamed_weights_of_an_autoencoder_fit_though_attention_was_written_as_convolutions():
    config = AUTOENCODERS["one layer"]
    network = config.build()
    names = vae_names(config)
    expected = network.state_dict()
    attention = (".q.weight", ".k.weight", ".v.weight", ".proj_out.weight")
    published = {
        f"first_stage_model.{theirs}": expected[ours][:, :, None, None]
        if theirs.endswith(attention)
        else expected[ours]
        for theirs, ours in names.items()
    }
    renamed = rename(published | {"model.other": torch.zeros(1)}, names, "first_stage_model.")
    assert renamed.keys() == expected.keys()
    assert all(torch.equal(renamed[key], expected[key]) for key in expected)


@pytest.mark.parametrize("old", [False, True], ids=["today's spelling", "old spelling"])
def test_a_diffusers_autoencoder_is_read_in_both_spellings(old: bool):
    config = AUTOENCODERS["one layer"]
    expected = config.build().state_dict()
    spelling = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    file = {}
    for key, tensor in expected.items():
        name = key.removeprefix("vae.")
        for new, former in spelling.items() if old else ():
            name = name.replace(f".{new}.", f".{former}.")
        file[name] = tensor
    renamed = rename(file, diffusers_vae_names(config, file))
    assert renamed.keys() == expected.keys()
    assert all(renamed[key] is expected[key] for key in expected)


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_a_checkpoint_with_another_tensor_is_refused(change: str):
    names = unet_names(UNETS["one layer"])
    tensors = {f"unet.{name}": torch.zeros(1) for name in names}
    if change == "missing":
        del tensors["unet.middle_block.1.norm.weight"]
    else:
        tensors["unet.middle_block.1.norm.gain"] = torch.zeros(1)
    with pytest.raises(BadInput, match=rf"{'1 tensors missing' if change == 'missing' else '1 too many'}.*norm"):
        rename(tensors, names, "unet.")


def test_every_tensor_of_an_sgm_unet_is_named(shared_fixtures):
    path = shared_fixtures / "mindeye" / "sgm_unet_edm.safetensors"
    if not path.is_file():
        pytest.skip("the folder of fixtures holds no sgm_unet_edm")
    prefix = "w.model.diffusion_model."
    theirs = {
        key.removeprefix(prefix): tuple(tensor.shape)
        for key, tensor in load_file(path).items()
        if key.startswith(prefix)
    }
    config = UNetConfig.from_sgm(json.loads(path.with_suffix(".json").read_text())["config"])
    ours = on_meta(config)
    assert {name: tuple(ours[key].shape) for name, key in unet_names(config).items()} == theirs

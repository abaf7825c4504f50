"""The MindEye2 decoder: the published file's names and sizes, what the mixer amounts to, and what is refused."""

import random

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from voxelight.models.decoders.mindeye2 import MindEye2Config
from voxelight.models.decoders.mixer import mix
from voxelight.models.diffusion.prior import PriorConfig
from voxelight.models.errors import BadInput
from voxelight.models.registry import NETWORKS, find_config

SMALL = {
    "voxels": (37, 53),
    "hidden": 48,
    "blocks": 3,
    "tokens": 5,
    "dim": 16,
    "decoder_widths": (32, 64),
    "prior": None,
}
SMALL_PRIOR = PriorConfig(dim=16, tokens=5, depth=2, heads=2, dim_head=8, timesteps=10)
SUBJECTS_2_TO_8 = (14278, 15226, 13153, 13039, 17907, 12682, 14386)


def build(**options):
    """A small decoder, no weight of which is at its start: a bias of nought would hide what it adds."""
    torch.manual_seed(0)
    network = MindEye2Config(**SMALL | options).build().eval()
    with torch.no_grad():
        for value in network.parameters():
            if value.requires_grad:
                value.add_(0.2 * torch.randn_like(value))
    return network


def on_meta(**options):
    with torch.device("meta"):
        return MindEye2Config(**options).build()


def count(module):
    return sum(value.numel() for value in module.parameters())


def trials(batch=4, voxels=37, entries=1, seed=1):
    return torch.randn(batch, entries, voxels, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def released():
    return on_meta()


def upsampler_shapes():
    """Names and shapes of the upsampler, by the structure that its specification gives."""
    shapes = {"conv_in.weight": (128, 64, 3, 3), "conv_in.bias": (128,)}

    def norm(name, width):
        shapes.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    def convolution(name, inputs, outputs, side):
        shapes.update({f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)})

    def resnet(name, inputs, outputs):
        norm(f"{name}.norm1", inputs)
        convolution(f"{name}.conv1", inputs, outputs, 3)
        norm(f"{name}.norm2", outputs)
        convolution(f"{name}.conv2", outputs, outputs, 3)
        if inputs != outputs:
            convolution(f"{name}.conv_shortcut", inputs, outputs, 1)

    for index in range(2):
        resnet(f"mid_block.resnets.{index}", 128, 128)
    norm("mid_block.attentions.0.group_norm", 128)
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        shapes |= {f"mid_block.attentions.0.{part}.weight": (128, 128), f"mid_block.attentions.0.{part}.bias": (128,)}
    for block, (inputs, outputs) in enumerate([(128, 128), (128, 64), (64, 32)]):
        resnet(f"up_blocks.{block}.resnets.0", inputs, outputs)
        resnet(f"up_blocks.{block}.resnets.1", outputs, outputs)
        if block < 2:
            convolution(f"up_blocks.{block}.upsamplers.0.conv", outputs, outputs, 3)
    norm("conv_norm_out", 32)
    convolution("conv_out", 32, 4, 3)
    return shapes


def linear_shapes(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def test_the_released_decoder_has_the_published_names_and_shapes(released):
    expected = linear_shapes("ridge.linears.0", 15724, 4096)
    for family, width in {"backbone.mixer_blocks1": 4096, "backbone.mixer_blocks2": 1}.items():
        for index in range(4):
            expected |= {f"{family}.{index}.0.weight": (width,), f"{family}.{index}.0.bias": (width,)}
            for layer in (0, 3):
                expected |= linear_shapes(f"{family}.{index}.1.{layer}", width, width)
    expected |= linear_shapes("backbone.backbone_linear", 4096, 256 * 1664)
    for index in (0, 3, 6):
        expected |= {f"backbone.clip_proj.{index}.{name}": (1664,) for name in ("weight", "bias")}
        expected |= linear_shapes(f"backbone.clip_proj.{index + 2}", 1664, 1664)
    expected |= linear_shapes("backbone.blin1", 4096, 3136)
    expected |= {"backbone.bnorm.weight": (64,), "backbone.bnorm.bias": (64,)}
    expected |= {f"backbone.bupsampler.{name}": shape for name, shape in upsampler_shapes().items()}
    expected |= {f"backbone.b_maps_projector.{n}.weight": (512, i, 1, 1) for n, i in ((0, 64), (3, 512), (6, 512))}
    expected |= {f"backbone.b_maps_projector.{n}.{name}": (512,) for n in (1, 4) for name in ("weight", "bias")}
    expected["backbone.b_maps_projector.6.bias"] = (512,)
    found = {name: tuple(value.shape) for name, value in released.state_dict().items()}
    prior = {name for name in found if name.startswith("diffusion_prior.")}
    assert {name: shape for name, shape in found.items() if name not in prior} == expected
    with torch.device("meta"):
        assert prior == {f"diffusion_prior.{name}" for name in PriorConfig().build().state_dict()}


@pytest.mark.parametrize(
    ("part", "parameters"),
    {
        "ridge": 64_409_600,
        "backbone": 1_903_020_028,
        "backbone.mixer_blocks1": 134_283_264,
        "backbone.mixer_blocks2": 24,
        "backbone.backbone_linear": 1_745_256_448,
        "backbone.clip_proj": 8_321_664,
        "backbone.blin1": 12_848_192,
        "backbone.bnorm": 128,
        "backbone.bupsampler": 1_750_692,
        "backbone.b_maps_projector": 559_616,
        "diffusion_prior": 259_865_216,
        "": 2_227_294_844,
    }.items(),
)
def test_every_part_has_the_published_number_of_parameters(released, part, parameters):
    assert count(released.get_submodule(part)) == parameters


def test_the_model_of_seven_subjects_has_the_published_size():
    network = on_meta(voxels=SUBJECTS_2_TO_8)
    assert count(network.ridge) == 412_377_088
    assert count(network) == 2_575_262_332


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"hidden": 1024}, 458_885_116),
        ({"hidden": 1024, "low_level": False}, 453_360_280),
        ({"low_level": False}, 1_887_861_400),
    ],
)
def test_the_other_published_backbones_have_their_size(options, parameters):
    assert count(on_meta(prior=None, **options).backbone) == parameters


def test_the_released_size_runs_through_without_weights(released):
    released.eval()
    out = released(torch.empty(2, 1, 15724, device="meta"))
    assert [tuple(part.shape) for part in out] == [(2, 256, 1664), (2, 256, 1664), (2, 4, 28, 28), (2, 49, 512)]


def test_the_registry_knows_the_decoder():
    assert find_config(NETWORKS, "mindeye2") is MindEye2Config


@pytest.mark.parametrize("blocks", [1, 3, 4])
def test_at_one_entry_the_mixer_only_adds_a_number(blocks):
    network = build(blocks=blocks)
    x = network.ridge(trials())
    short, full = network.backbone.mixed(x), mix(x, network.backbone.mixer_blocks1, network.backbone.mixer_blocks2)
    torch.testing.assert_close(short, full, rtol=1e-5, atol=1e-5)
    added = full - x
    torch.testing.assert_close(added, added.mean().expand_as(added), rtol=1e-4, atol=1e-5)
    assert added.abs().min() > 1e-3, "the number is not nought, so that leaving it out would be seen"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_the_short_cut_changes_no_output(dtype, tolerance):
    network = build().to(dtype)
    with torch.no_grad():
        short = network(trials().to(dtype))
        network.backbone.shortcut = False
        full = network(trials().to(dtype))
    for one, other in zip(short, full, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def scramble(module):
    with torch.no_grad():
        for value in module.parameters():
            value.add_(10 * torch.randn_like(value))


@pytest.mark.parametrize("shortcut", [True, False])
def test_at_one_entry_the_first_blocks_reach_no_output(shortcut):
    network = build()
    network.backbone.shortcut = shortcut
    with torch.no_grad():
        before = network(trials())
        scramble(network.backbone.mixer_blocks1)
        after = network(trials())
        assert all(map(torch.equal, before, after))
        scramble(network.backbone.mixer_blocks2)
        assert not torch.allclose(network(trials()).tokens, before.tokens)


def test_at_two_entries_the_first_blocks_do():
    network = build(seq_len=2)
    with torch.no_grad():
        before = network(trials(entries=2))
        scramble(network.backbone.mixer_blocks1)
        assert not torch.allclose(network(trials(entries=2)).tokens, before.tokens)


def test_each_axis_keeps_a_residual_of_its_own():
    backbone = build(seq_len=2).backbone
    x = torch.randn(4, 2, 48, generator=torch.Generator().manual_seed(1))
    y, width_residual, sequence_residual = x, x, x.transpose(1, 2)
    with torch.no_grad():
        for over_width, over_sequence in zip(backbone.mixer_blocks1, backbone.mixer_blocks2, strict=True):
            for blocks in (over_width, over_sequence):
                norm, (one, _, _, two) = blocks
                z = F.layer_norm(y, y.shape[-1:], norm.weight, norm.bias)
                z = F.gelu(z @ one.weight.T + one.bias) @ two.weight.T + two.bias
                if blocks is over_width:
                    width_residual = y = z + width_residual
                else:
                    sequence_residual = y = z + sequence_residual
                y = y.transpose(1, 2)
        torch.testing.assert_close(backbone.mixed(x), y, rtol=1e-4, atol=1e-5)


def test_without_the_short_cut_training_takes_the_whole_path():
    network, voxels = build().double().train(), trials().double()
    network.backbone.shortcut = False
    x = network.ridge(voxels)
    torch.manual_seed(0)
    one, other = network.backbone.mixed(x), network.backbone.mixed(x)
    assert not torch.allclose(one, other), "dropout acts on the number that is added"
    network(voxels).tokens.square().sum().backward()
    dead = [value.grad.abs().max() for value in network.backbone.mixer_blocks1.parameters()]
    alive = [network.backbone.backbone_linear.weight, network.backbone.mixer_blocks2[0][1][3].weight]
    # The gradient of a norm over one entry is nought but for rounding.
    assert max(dead) < 1e-12 * min(value.grad.abs().max() for value in alive)


def test_with_the_short_cut_training_leaves_out_what_reaches_no_output():
    network, voxels = build().double().train(), trials().double()
    x = network.ridge(voxels)
    torch.manual_seed(0)
    added = network.backbone.mixed(x) - x
    assert len(added.unique().round(decimals=9).unique()) > 1, "every entry has a dropout of its own"
    network(voxels).tokens.square().sum().backward()
    assert all(value.grad is None for value in network.backbone.mixer_blocks1.parameters())
    assert network.backbone.mixer_blocks2[0][1][3].weight.grad.abs().max() > 0
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    short = network.backbone.mixed(x)
    network.backbone.shortcut = False
    torch.testing.assert_close(short, network.backbone.mixed(x))


def test_repeats_may_be_averaged_before_the_tokens_but_not_before_retrieval():
    network, repeats = build(), trials(batch=3)
    with torch.no_grad():
        each, mean = network(repeats), network(repeats.mean(dim=0, keepdim=True))
    torch.testing.assert_close(each.tokens.mean(dim=0), mean.tokens[0], rtol=1e-5, atol=1e-5)
    for name in ("retrieval", "blurry_latent", "maps"):
        assert not torch.allclose(getattr(each, name).mean(dim=0), getattr(mean, name)[0], atol=1e-3), name


def test_at_two_entries_the_tokens_are_not_linear():
    network, repeats = build(seq_len=2), trials(batch=3, entries=2)
    with torch.no_grad():
        each, mean = network(repeats).tokens.mean(dim=0), network(repeats.mean(dim=0, keepdim=True)).tokens[0]
    assert not torch.allclose(each, mean, atol=1e-3)


def test_every_subject_has_a_map_of_its_own():
    network = build()
    for subject, voxels in enumerate(SMALL["voxels"]):
        x, linear = trials(voxels=voxels), network.ridge.linears[subject]
        torch.testing.assert_close(network.ridge(x, subject), F.linear(x, linear.weight, linear.bias))
        assert network(x, subject).tokens.shape == (4, 5, 16)


def test_without_the_low_level_branch_there_is_neither_latent_nor_name():
    network = build(low_level=False)
    out = network(trials())
    assert out.blurry_latent is None
    assert out.maps is None
    names = {name.split(".")[1] for name in network.backbone.state_dict(prefix="backbone.")}
    assert names == {"mixer_blocks1", "mixer_blocks2", "backbone_linear", "clip_proj"}


@pytest.mark.parametrize("assign", [True, False])
def test_weights_in_any_order_give_the_same_decoder(assign):
    network = build(prior=SMALL_PRIOR)
    state = list(network.state_dict().items())
    random.Random(0).shuffle(state)
    with torch.device("meta" if assign else "cpu"):
        other = MindEye2Config(**SMALL | {"prior": SMALL_PRIOR}).build().eval()
    other.load_state_dict(dict(state), assign=assign)
    tokens = network(trials()).tokens
    assert torch.equal(other(trials()).tokens, tokens)
    draws = [torch.randn(4, 5, 16) for _ in range(10)]
    one, two = (each.diffusion_prior.sample(tokens, draws.__getitem__, steps=4) for each in (network, other))
    assert torch.equal(one, two)


def test_a_missing_weight_is_not_overlooked():
    network = build()
    state = network.state_dict()
    del state["backbone.mixer_blocks1.2.1.3.bias"]
    with pytest.raises(RuntimeError, match=r"mixer_blocks1\.2\.1\.3\.bias"):
        network.load_state_dict(state)


@pytest.mark.parametrize(
    ("voxels", "subject", "message"),
    [
        ((4, 1, 53), 0, r"\(b, n, 37\) for subject index 0"),
        ((4, 1, 37), 1, r"\(b, n, 53\) for subject index 1"),
        ((4, 1, 37), 2, "subject index 2"),
        ((4, 1, 53), -1, "subject index -1"),
        ((4, 37), 0, r"voxels of shape \(4, 37\)"),
        ((4, 2, 37), 0, r"\(b, 1, 48\)"),
    ],
)
def test_voxels_that_do_not_fit_are_refused(voxels, subject, message):
    with pytest.raises(BadInput, match=message):
        build()(torch.zeros(voxels), subject)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 3},
        {"voxels": ()},
        {"blocks": 0},
        {"decoder_widths": (16, 32)},
        {"prior": PriorConfig(dim=32, tokens=5)},
    ],
)
def test_a_decoder_refuses_options_that_make_no_sense(wrong):
    with pytest.raises(ValidationError):
        MindEye2Config(**SMALL | wrong)

"""AGUNet and what stands around it."""

import re

import torch
from checks.cases import Beside, check_config
from checks.files import Fixture
from checks.segmentation import Found, SegmentationKind
from monai.networks.nets.attentionunet import AttentionBlock

from voxelight.medseg.losses import released_dice_of
from voxelight.medseg.recipes.recipe import Normalisation
from voxelight.medseg.transforms import crop_head, normalise
from voxelight.models.segmentation.agunet import AGUNetConfig, AttentionGate
from voxelight.models.segmentation.attention import ChannelAttention, PositionAttention
from voxelight.models.segmentation.daunet import DAUNetConfig


def run_gate(fixture: Fixture, case: str) -> Found:
    check_config(fixture.fact("cases")[case], {"inter", "rule"}, {})
    inputs = fixture.part(f"{case}/in/")
    channels = inputs["g"].shape[1], inputs["x"].shape[1], fixture.fact("cases")[case]["inter"]
    gate = AttentionGate(AGUNetConfig(norm_eps=fixture.fact("bn_eps")), *channels).eval()
    load(gate, fixture.part(f"{case}/w/"))
    return {"psi": gate.weigh(inputs["g"], inputs["x"]), "y": gate(inputs["g"], inputs["x"])}


def run_additive_gate(fixture: Fixture, case: str) -> Found:
    """The published code of this gate does not run, so it is MONAI's that ours is compared with."""
    check_config(fixture.fact("cases")[case], {"unbuildable"}, {})
    torch.manual_seed(0)
    g, x = torch.randn(2, 6, 4, 4, 4), torch.randn(2, 4, 4, 4, 4)
    theirs = AttentionBlock(3, f_int=5, f_g=6, f_l=4).eval()
    gate = AttentionGate(AGUNetConfig(gate="add", norm_eps=1e-5), 6, 4, 5).eval()
    found = gate.load_state_dict(dict(zip(gate.state_dict(), theirs.state_dict().values(), strict=True)))
    assert not found.missing_keys
    return {"y (MONAI's AttentionBlock)": Beside(gate(g, x), theirs(g, x))}


def run_network(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    switches = {"deep_supervision", "input_pyramid", "attention_guiding"}
    check_config(facts, {"filters", "input", "classes", "params", "outputs", *switches}, {})
    options = {
        "in_channels": facts["input"][-1],
        "classes": facts["classes"],
        "filters": facts["filters"],
        "multi_scale_input": facts["input_pyramid"],
        "deep_supervision": facts["deep_supervision"],
        "norm_eps": fixture.fact("bn_eps"),
    }
    guided = {"attention_guiding": facts.get("attention_guiding", False)}
    released = {"channel_form": "released", "guiding_form": "released"}
    network = (DAUNetConfig(**options, **guided, **released) if case[0] == "d" else AGUNetConfig(**options)).build()
    load(network, {rename(name): value for name, value in fixture.part(f"{case}/w/").items()})
    image = fixture.given(f"{case}/in/x")
    levels, first = network.eval().forward_levels(image), network(image)
    numbers = sum(value.numel() for name, value in network.state_dict().items() if "num_batches" not in name)
    return {
        "parameters": Beside(numbers, facts["params"]),
        "prob0 (whole network)": Beside(first.softmax(dim=1), fixture.given(f"{case}/out/prob0")),
        **{f"prob{number}": logits.softmax(dim=1) for number, logits in enumerate(levels)},
    }


def rename(name: str) -> str:
    """Return our name of a published one."""
    name = re.sub(r"^(enc|dec|head)(\d*)", lambda m: f"{m[1]}.{m[2] or 0}", name)
    for pattern, ours in {
        r"PAM\.key_c": "attention.position.attention.query",  # the rows of the published map come from its "key"
        r"PAM\.query_b": "attention.position.attention.key",
        r"PAM\.value_d": "attention.position.attention.value",
        r"PAM\.gamma": "attention.position.attention.gamma",
        r"CAM\.gamma": "attention.channel.attention.gamma",
        r"^pam": "attention.position",
        r"^cam": "attention.channel",
        r"^fuse": "attention",
        r"afm_up": "guide.up",
    }.items():
        name = re.sub(pattern, ours, name)
    return name


def run_attention(fixture: Fixture, case: str) -> Found:
    check_config(fixture.fact("cases")[case], {"rule"}, {})
    x = fixture.given(f"{case}/in/x")
    module = PositionAttention(3, x.shape[1], bias=False) if case == "pam" else ChannelAttention("released")
    load(module, {rename(name).rpartition("attention.")[2]: v for name, v in fixture.part(f"{case}/w/").items()})
    return {"y": module(x)}


def run_released_dice(fixture: Fixture, case: str) -> Found:
    inputs, slopes = fixture.part(f"{case}/in/"), fixture.fact("cases")[case]["grad_norms"]
    losses, gradients = [], []
    for number in range(len(slopes)):
        given = inputs[f"pred{number}"].clone().requires_grad_()
        with torch.enable_grad():
            losses.append(released_dice_of(given, inputs["target"]))
            gradients.append(torch.autograd.grad(losses[-1], given)[0].norm())
    return {"loss": torch.stack(losses), "gradient": Beside(torch.stack(gradients), torch.tensor(slopes))}


def run_normalisation(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    check_config(facts, {"percentiles", "mode"}, {})
    method = {"default": "minmax", "zeromean": "zscore"}[facts["mode"]]
    options = Normalisation(method=method, percentiles=tuple(facts["percentiles"]))
    return {"v": normalise(fixture.given(f"{case}/in/v").numpy(), options)}


def run_crop(fixture: Fixture, case: str) -> Found:
    array = fixture.given(f"{case}/in/v").numpy()
    box = crop_head(array)
    return {"bbox": [part.start for part in box] + [part.stop for part in box], "v": array[box]}


def load(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    found = module.load_state_dict(weights, strict=False)
    missing = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]
    assert not missing, f"weights are missing: {missing}"
    assert not found.unexpected_keys, f"weights that nothing takes: {found.unexpected_keys}"


KIND = SegmentationKind(
    cases={
        r"attention_gate": run_gate,
        r"attention_gate_oktay": run_additive_gate,
        r"pam|cam": run_attention,
        r"d?agunet_\w+|daunet_\w+": run_network,
        r"dice_loss_K\d+": run_released_dice,
        r"normalise_\w+[\w.]*": run_normalisation,
        r"crop_head": run_crop,
    },
)

"""AGUNet and what stands around it."""

import re

import torch
from checks.cases import Beside, check_config
from checks.files import Fixture
from checks.segmentation import Found, SegmentationKind

from voxelight.medseg.losses import released_dice_of
from voxelight.medseg.recipes.recipe import Normalisation
from voxelight.medseg.transforms import crop_head, normalise
from voxelight.models.segmentation.agunet import AGUNetConfig, AttentionGate


def run_gate(fixture: Fixture, case: str) -> Found:
    check_config(fixture.fact("cases")[case], {"inter", "rule"}, {})
    inputs = fixture.part(f"{case}/in/")
    channels = inputs["g"].shape[1], inputs["x"].shape[1], fixture.fact("cases")[case]["inter"]
    gate = AttentionGate(AGUNetConfig(norm_eps=fixture.fact("bn_eps")), *channels).eval()
    load(gate, fixture.part(f"{case}/w/"))
    return {"psi": gate.weigh(inputs["g"], inputs["x"]), "y": gate(inputs["g"], inputs["x"])}


def run_network(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    known = {"filters", "input", "classes", "params", "outputs", "deep_supervision", "input_pyramid"}
    check_config(facts, known, {"attention_guiding": False})
    network = AGUNetConfig(
        in_channels=facts["input"][-1],
        classes=facts["classes"],
        filters=facts["filters"],
        multi_scale_input=facts["input_pyramid"],
        deep_supervision=facts["deep_supervision"],
        norm_eps=fixture.fact("bn_eps"),
    ).build()
    weights = fixture.part(f"{case}/w/")
    load(
        network,
        {re.sub(r"^(enc|dec|head)(\d*)", lambda m: f"{m[1]}.{m[2] or 0}", name): v for name, v in weights.items()},
    )
    image = fixture.given(f"{case}/in/x")
    levels, first = network.eval().forward_levels(image), network(image)
    numbers = sum(value.numel() for name, value in network.state_dict().items() if "num_batches" not in name)
    return {
        "parameters": Beside(numbers, facts["params"]),
        "prob0 (whole network)": Beside(first.softmax(dim=1), fixture.given(f"{case}/out/prob0")),
        **{f"prob{number}": logits.softmax(dim=1) for number, logits in enumerate(levels)},
    }


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
        r"agunet_\w+": run_network,
        r"dice_loss_K\d+": run_released_dice,
        r"normalise_\w+[\w.]*": run_normalisation,
        r"crop_head": run_crop,
    },
    later={
        r"pam|cam": "dual attention",
        r"dagunet_\w+": "DAGUNet",
        r"attention_gate_oktay": "the attention gate after Oktay",
    },
)

"""Multi-scale self-guided attention: its parts, its head on given features of a backbone, its losses."""

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from checks.agunet import load
from checks.cases import check_config
from checks.files import BrokenFixture, Fixture
from checks.segmentation import Found, SegmentationKind
from torch import Tensor
from torch.nn import functional as F

from voxelight.medseg.guided import GuidedLoss, squared_differences
from voxelight.medseg.losses import LOSSES
from voxelight.medseg.slices import number_labels, pooled_dice
from voxelight.models.segmentation.attention import ChannelAttention, PositionAttention
from voxelight.models.segmentation.msga import MSGA, Autoencoder, Guided, MSGAConfig, attention_layer, fusion

SCALES = 4
NAMES: dict[str, str] = {
    r"down(\d)": r"down.{0}",
    r"fuse1\.fuse_attn": "fuse",
    r"pam_attention_(\d)_(\d)\.attn": "stages.{0}.position.{1}",
    r"cam_attention_(\d)_(\d)\.attn": "stages.{0}.channel.{1}",
    r"semanticModule_(\d)_(?:\d)": "stages.{0}.semantic",
    r"conv_sem_(\d)_(\d)": "stages.{0}.narrow.{1}",
    r"conv8_(1?)([1-4])(?=\.)": "stages.{0}.mix.{1}",
    r"predict(\d)(_2)?": "predict.{0}",
}
DEEPEST_FIRST = ("conv_sem", "conv8")


def rename(name: str) -> str:
    """Return our name of a published one, within the head."""
    for pattern, ours in NAMES.items():
        match = re.match(pattern, name)
        if match:
            name = ours.format(*_places(name, match)) + name[match.end() :]
            break
    return inner(name)


def _places(name: str, match: re.Match[str]) -> list[int]:
    """Return what stands for stage and scale, counted from zero and the finest scale."""
    first, *rest = match.groups() or ("",)
    if name.startswith("conv8"):
        return [int(bool(first)), SCALES - int(rest[0])]
    if name.startswith("predict"):
        return [int(first) - 1 + SCALES * bool(rest[0])]
    places = [int(digit) - 1 for digit in match.groups() if digit]
    return [places[0], SCALES - 1 - places[1]] if name.startswith(DEEPEST_FIRST) else places


def inner(name: str) -> str:
    """Return our name of what a layer of attention or an autoencoder holds."""
    return re.sub(r"(query|key|value)_conv", r"\1", re.sub(r"\.(en|de)code\.", ".", name)).removeprefix("attn.")


def run_attention(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    check_config(facts, {"in_dim", "qk_dim"}, {"scale": "none", "energy": "rowmax(XX^T)-XX^T, softmax over last dim"})
    module = PositionAttention(2, facts["in_dim"], bias=True) if case == "pam" else ChannelAttention("danet")
    return run_module(fixture, case, module)


def run_layer(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    check_config(facts, {"in_ch"}, {"bn": "eval statistics"})
    width = facts["in_ch"]
    attention = PositionAttention(2, width, bias=True) if case == "pam_layer" else ChannelAttention("danet")
    return run_module(fixture, case, attention_layer(fixture.given(f"{case}/in/x").shape[1], width, attention))


def run_module(fixture: Fixture, case: str, module: torch.nn.Module) -> Found:
    load(module, {inner(name): value for name, value in fixture.part(f"{case}/w/").items()})
    return {"y": module.eval()(fixture.given(f"{case}/in/x"))}


def run_fusion(fixture: Fixture, case: str) -> Found:
    weights = {name.removeprefix("fuse_attn."): value for name, value in fixture.part(f"{case}/w/").items()}
    width, inputs = weights["0.weight"].shape[:2]
    module = fusion(inputs, width).eval()
    load(module, weights)
    return {"y": module(fixture.given(f"{case}/in/x"))}


def run_autoencoder(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    vector = "bottleneck flattened over batch, channel and space"
    check_config(facts, {"in_dim"}, {"bn": "eval", "vector": vector})
    module = Autoencoder(facts["in_dim"]).eval()
    load(module, {inner(name): value for name, value in fixture.part(f"{case}/w/").items()})
    bottleneck, rebuilt = module(fixture.given(f"{case}/in/x"))
    return {"vector": bottleneck.flatten(), "recon": rebuilt}


def draw(key: str, shape: Sequence[int], salt: str) -> Tensor:
    """Return the weights that the recipe of the fixture gives a published name."""
    seed = int.from_bytes(hashlib.sha256(f"{salt}:{key}".encode()).digest()[:8], "little")
    v = np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(shape))
    if len(shape) > 1:
        v = v * 1.2 / np.sqrt(np.prod(shape[1:]))
    elif key.endswith(".gamma"):
        v = 0.5 + 0.1 * v
    elif key.endswith(".running_var"):
        v = 1 + 0.3 * np.abs(v)
    else:
        v = 0.1 * v + (1.0 if key.endswith(".weight") else 0.0)
    return torch.from_numpy(v.astype(np.float32))


class Given(torch.nn.Module):
    """Features of a backbone that the fixture gives."""

    def __init__(self, features: list[Tensor]) -> None:
        super().__init__()
        self.features = features

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.features


def build_network(fixture: Fixture) -> MSGA:
    """Return the network of the case ``head``, on the features that it gives."""
    facts, inputs = fixture.fact("cases")["head"], fixture.part("head/in/")
    check_config(facts, {"keys", "salt", "recipe", "unused_modules", "train_tuple"}, {"weights": "by name"})
    keys: Mapping[str, Sequence[int]] = facts["keys"]
    features = [inputs[f"layer{scale}"] for scale in range(1, SCALES + 1)]
    classes, width = keys["predict1.weight"][:2]
    backbones = {2048: "resnet50", 512: "resnet18"}
    if features[-1].shape[1] not in backbones:
        raise BrokenFixture(f"no backbone ends in {features[-1].shape[1]} channels")
    channels = inputs["image"].shape[1]
    config = MSGAConfig(in_channels=channels, classes=classes, width=width, backbone=backbones[features[-1].shape[1]])
    network = config.build().eval()
    load(network.head, {rename(key): draw(key, shape, facts["salt"]) for key, shape in keys.items()})
    network.backbone = Given(features)
    return network


def run_head(fixture: Fixture, _: str) -> Found:
    return fixture.once(compute_head)


def compute_head(fixture: Fixture) -> Found:
    network, inputs = build_network(fixture), fixture.part("head/in/")
    found = network.forward_guided(inputs["image"])
    return read(found) | run_losses(network, found, inputs) | {"logits_eval": network(inputs["image"])}


def read(found: Guided) -> Found:
    """Return logits and the size of the bottlenecks, finest scale first."""
    logits = {
        f"logits_s{1 + number // SCALES}_scale{1 + number % SCALES}": value for number, value in enumerate(found.logits)
    }
    vectors = {
        f"semV_{1 + stage}_{1 + scale}_rms": pair[stage].square().mean().sqrt()
        for scale, pair in enumerate(found.vectors)
        for stage in range(2)
    }
    return logits | vectors


def run_losses(network: MSGA, found: Guided, inputs: Mapping[str, Tensor]) -> Found:
    reference = F.one_hot(inputs["labels"], network.config.classes).movedim(-1, 1).float()
    total = GuidedLoss(network, LOSSES["ce"])("network", network, inputs["image"], reference, torch.Generator())
    return {
        "loss_ce": torch.stack([LOSSES["ce"](logits, reference) for logits in found.logits]),
        "loss_guide": squared_differences(found.vectors[::-1]),
        "loss_rec": squared_differences(found.reconstructions),
        "loss_total": total["loss"],
    }


class Answering(torch.nn.Module):
    """A network that answers with what the fixture gives."""

    def __init__(self, answer: Guided) -> None:
        super().__init__()
        self.config, self.answer = MSGAConfig(backbone="resnet18", width=8), answer

    def warm_start(self) -> None:
        """Keep what is given."""

    def forward_guided(self, image: Tensor) -> Guided:
        return self.answer


def run_loss(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    total = "sum CE (weight 1 each of 8) + 0.25*sum MSE(semantic) + 0.1*sum MSE(reconstruction)"
    check_config(facts, {"classes"}, {"total": total})
    given = fixture.part(f"{case}/in/")
    vectors = list(zip(given["sem1"], given["sem2"], strict=True))
    rebuilt = list(zip(given["enc_in"], given["dec_out"], strict=True))
    found = Guided(list(given["logits"]), vectors, rebuilt)
    reference = F.one_hot(given["labels"], facts["classes"]).movedim(-1, 1).float()
    network = Answering(found)
    terms = GuidedLoss(network, LOSSES["ce"])("network", network, given["labels"], reference, torch.Generator())
    return {
        "ce": torch.stack([LOSSES["ce"](logits, reference) for logits in found.logits]),
        "guide": squared_differences(vectors),
        "rec": squared_differences(rebuilt),
        "total": terms["loss"],
    }


def run_dice(fixture: Fixture, case: str) -> Found:
    facts = fixture.fact("cases")[case]
    check_config(facts, {"label_values", "rule"}, {})
    given = fixture.part(f"{case}/in/")
    target = number_labels(given["label_png"][:, 0].numpy(), facts["label_values"])
    labels = given["prob"].argmax(dim=1).numpy()
    return {"target": target, "dice": pooled_dice(labels, target, given["prob"].shape[1])}


KIND = SegmentationKind(
    cases={
        r"[pc]am": run_attention,
        r"[pc]am_layer": run_layer,
        r"multiconv": run_fusion,
        r"semantic": run_autoencoder,
        r"head": run_head,
        r"loss": run_loss,
        r"dice2d": run_dice,
    },
)

"""AGUNet beside the published code: random weights, inputs, and what came out of it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from voxelight.medseg.losses import released_dice_of
from voxelight.medseg.recipes.recipe import Normalisation
from voxelight.medseg.transforms import crop_head, normalise
from voxelight.models.segmentation.agunet import AGUNetConfig, AttentionGate

# Kinds and cases that no code of ours answers to yet.
NOT_YET_KINDS = {"msga", "cdal", "patient_metrics"}
NOT_YET_CASES = ("pam", "cam", "dagunet_*", "attention_gate_oktay")


class Fixture:
    """One file of cases."""

    def __init__(self, path: Path) -> None:
        self.facts = json.loads(path.read_text())
        self.tensors = load_file(path.with_suffix(".safetensors"))
        self.eps = self.facts["bn_eps"]

    def part(self, case: str, part: str) -> dict[str, torch.Tensor]:
        start = f"{case}/{part}/"
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}

    def close(self, found, expected) -> None:
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), **self.facts["tolerance"])


def check_gate(fixture: Fixture, case: str) -> None:
    inputs, outputs = fixture.part(case, "in"), fixture.part(case, "out")
    inter = fixture.facts["cases"][case]["inter"]
    gate = AttentionGate(AGUNetConfig(norm_eps=fixture.eps), inputs["g"].shape[1], inputs["x"].shape[1], inter).eval()
    load(gate, fixture.part(case, "w"))
    with torch.no_grad():
        fixture.close(gate.weigh(inputs["g"], inputs["x"]), outputs["psi"])
        fixture.close(gate(inputs["g"], inputs["x"]), outputs["y"])


def check_network(fixture: Fixture, case: str) -> None:
    facts = fixture.facts["cases"][case]
    network = AGUNetConfig(
        in_channels=facts["input"][-1],
        classes=facts["classes"],
        filters=facts["filters"],
        multi_scale_input=facts["input_pyramid"],
        deep_supervision=facts["deep_supervision"],
        norm_eps=fixture.eps,
    ).build()
    assert (
        sum(value.numel() for name, value in network.state_dict().items() if "num_batches" not in name)
        == facts["params"]
    )
    names = fixture.part(case, "w")
    load(
        network,
        {re.sub(r"^(enc|dec|head)(\d*)", lambda m: f"{m[1]}.{m[2] or 0}", name): v for name, v in names.items()},
    )
    with torch.no_grad():
        levels = network.eval().forward_levels(fixture.part(case, "in")["x"])
        first = network(fixture.part(case, "in")["x"])
    outputs = fixture.part(case, "out")
    assert len(levels) == len(outputs)
    for number, logits in enumerate(levels):
        fixture.close(logits.softmax(dim=1), outputs[f"prob{number}"])
    fixture.close(first.softmax(dim=1), outputs["prob0"])


def check_released_dice(fixture: Fixture, case: str) -> None:
    inputs, losses = fixture.part(case, "in"), fixture.part(case, "out")["loss"]
    for number, (loss, slope) in enumerate(zip(losses, fixture.facts["cases"][case]["grad_norms"], strict=True)):
        given = inputs[f"pred{number}"].clone().requires_grad_()
        found = released_dice_of(given, inputs["target"])
        fixture.close(found.detach(), loss)
        (gradient,) = torch.autograd.grad(found, given)
        fixture.close(gradient.norm(), slope)


def check_normalisation(fixture: Fixture, case: str) -> None:
    facts = fixture.facts["cases"][case]
    method = {"default": "minmax", "zeromean": "zscore"}[facts["mode"]]
    options = Normalisation(method=method, percentiles=tuple(facts["percentiles"]))
    fixture.close(normalise(fixture.part(case, "in")["v"].numpy(), options), fixture.part(case, "out")["v"])


def check_crop(fixture: Fixture, case: str) -> None:
    array, expected = fixture.part(case, "in")["v"].numpy(), fixture.part(case, "out")
    box = crop_head(array)
    assert [part.start for part in box] + [part.stop for part in box] == expected["bbox"].tolist()
    fixture.close(array[box], expected["v"])


CHECKS = {
    r"attention_gate": check_gate,
    r"agunet_\w+": check_network,
    r"dice_loss_K\d+": check_released_dice,
    r"normalise_\w+[\w.]*": check_normalisation,
    r"crop_head": check_crop,
}


def load(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    found = module.load_state_dict(weights, strict=False)
    assert not found.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in found.missing_keys)


def is_later(case: str) -> bool:
    return any(re.fullmatch(name.replace("*", r"\w+"), case) for name in NOT_YET_CASES)


def find_check(case: str):
    return next((check for pattern, check in CHECKS.items() if re.fullmatch(pattern, case)), None)


@pytest.fixture(scope="module")
def fixtures(shared_fixtures) -> list[Fixture]:
    """Every fixture of this kind."""
    return [Fixture(path) for path in sorted((shared_fixtures / "segmentation").glob("seg_*_agunet.json"))]


def test_every_file_is_of_a_known_kind(shared_fixtures):
    kinds = {re.match(r"seg_[^_]+_(.+)", path.stem)[1] for path in (shared_fixtures / "segmentation").iterdir()}
    assert "agunet" in kinds
    assert not kinds - {"agunet"} - NOT_YET_KINDS, "write a check for this kind of fixture, or say that it comes later"


def test_every_case_is_checked_or_named_as_later(fixtures):
    assert fixtures
    cases = [case for fixture in fixtures for case in fixture.facts["cases"]]
    unknown = [case for case in cases if bool(find_check(case)) == is_later(case)]
    assert not unknown, "each case belongs in exactly one of CHECKS and NOT_YET_CASES"


@pytest.mark.parametrize("pattern", CHECKS)
def test_what_the_published_code_gives(fixtures, pattern):
    checked = 0
    for fixture in fixtures:
        for case in fixture.facts["cases"]:
            if re.fullmatch(pattern, case) and not is_later(case):
                CHECKS[pattern](fixture, case)
                checked += 1
    assert checked, f"no case is called {pattern}"

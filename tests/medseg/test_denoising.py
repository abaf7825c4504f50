"""The losses of cDAL: which phases there are, what each moves, and both objectives learn."""

import pytest
import torch
from torch.nn import functional as F

from voxelight.medseg.denoising import Denoising, weigh
from voxelight.medseg.losses import LOSSES
from voxelight.models.errors import BadInput
from voxelight.models.segmentation.cdal import CDALConfig

SMALL = {"width": 8, "multipliers": (1, 2), "encoder_blocks": 1, "latent": 6, "embedding": 8, "discriminator_width": 4,
         "discriminator_time": 8, "steps": 2, "votes": 2}  # fmt: skip
FORMS = {
    "repaired": {},
    "published": {"attention": "label", "adversarial_weight": 0},
    "squared error": {"attention": "none", "adversarial_weight": 0},
    "supervised": {"supervision_weight": 1.0, "classes": 3},
}


def make(**options):
    torch.manual_seed(0)
    network = CDALConfig(**SMALL | options).build().train()
    return network, Denoising(network, LOSSES["dice_ce"])


def draw_batch(classes):
    labels = torch.zeros(4, 10, 12, dtype=torch.long)
    labels[:, 2:7, 3:9] = 1
    reference = F.one_hot(labels, classes).movedim(-1, 1).float()
    return reference[:, 1:2] + 0.1 * torch.randn(4, 1, 10, 12), reference


@pytest.mark.parametrize("form", FORMS)
def test_every_form_learns_and_its_phases_move_their_own(form):
    network, objective = make(**FORMS[form])
    image, reference = draw_batch(network.config.classes)
    generator = torch.Generator().manual_seed(0)
    phases = objective.phases(network)
    assert [phase.name for phase in phases] == (
        ["generator"] if form == "squared error" else ["discriminator", "generator"]
    )
    optimisers = {phase.name: torch.optim.Adam(phase.parameters, lr=5e-3 * phase.rate) for phase in phases}
    errors = []
    for _ in range(15):
        for phase in phases:
            others = [p for other in phases if other is not phase for p in other.parameters]
            before = [p.detach().clone() for p in others]
            terms = objective(phase.name, network, image, reference, generator)
            optimisers[phase.name].zero_grad()
            terms["loss"].backward(inputs=list(phase.parameters))
            optimisers[phase.name].step()
            assert all(torch.equal(p, was) for p, was in zip(others, before, strict=True))
        errors.append(float(terms["squared error"].detach()))
    assert sum(errors[-3:]) < 0.7 * sum(errors[:3])


def test_the_slope_is_penalised_every_so_many_steps():
    network, objective = make(r1_interval=3)
    image, reference = draw_batch(2)
    generator = torch.Generator().manual_seed(0)
    seen = ["r1" in objective("discriminator", network, image, reference, generator) for _ in range(7)]
    assert seen == [True, False, False, True, False, False, True]
    fresh = Denoising(network, LOSSES["dice"])
    fresh.load_state_dict(objective.state_dict())
    assert "r1" not in fresh("discriminator", network, image, reference, generator), "the count is in a checkpoint"


def test_the_same_draws_give_the_same_loss():
    network, objective = make()
    image, reference = draw_batch(2)
    losses = [
        objective("generator", network, image, reference, torch.Generator().manual_seed(seed))["loss"]
        for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_the_discriminator_stays_out_of_the_weights():
    network, objective = make()
    assert not any("discriminator" in name for name in network.state_dict())
    assert any(name.startswith("discriminator.") for name in objective.state_dict())


def test_crops_below_what_the_discriminator_can_halve_are_refused():
    network, objective = make(discriminator="large", attention_scale=3)
    image, reference = draw_batch(2)
    with pytest.raises(BadInput, match=r"crops of 10 x 12 .*64 x 64"):
        objective("generator", network, image, reference, torch.Generator())


def test_weights_of_the_loss_average_one_and_rise_with_attention():
    looks = torch.randn(2, 1, 6, 6)
    weights = weigh(looks)
    torch.testing.assert_close(weights.mean(dim=(1, 2, 3)), torch.ones(2))
    assert (weights.flatten(1).argsort() == looks.flatten(1).argsort()).all()

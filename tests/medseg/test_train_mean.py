"""The running mean of the weights, beside that of torch."""

import sys
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import make_case, make_recipe

from voxelight.medseg.train import SegmentationTrainee, build_network
from voxelight.medseg.train_samples import prepare_sample

DECAY = 0.09  # below the least that the first steps are averaged with, so that it holds from the first on


def test_what_is_kept_is_the_mean_that_torch_takes():
    recipe = make_recipe("segresnet", average=DECAY, steps=5, warm_up=0, learning_rate=1e-2)
    trainee = SegmentationTrainee([prepare_sample(make_case(0), recipe)], frozenset(), recipe, torch.device("cpu"))
    own = build_network(recipe)
    own.load_state_dict(trainee.state()["network"])
    mean = AveragedModel(own, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    mean.update_parameters(own)  # the first is taken as it is
    with trainee.ahead:
        for number in range(5):
            trainee.step(number)
            own.load_state_dict(trainee.state()["network"])
            mean.update_parameters(own)
    kept, expected = trainee.settle(), mean.module.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(kept[name], value)
    last = trainee.state()["network"]
    assert any(not torch.allclose(value, last[name], rtol=1e-3) for name, value in kept.items())

"""A training in a process of its own, which a test may kill, or several that torchrun would start.

python worker.py FOLDER [changes of the recipe as JSON]
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import conftest
import torch

from voxelight.models.training import processes
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.neuro.train import fit_decoder
from voxelight.neuro.training.samples import TrainingData
from voxelight.neuro.training.start import build_decoder
from voxelight.storage.checkpoints import CheckpointFolder
from voxelight.storage.training_log import TrainingLog


def train(folder, dropout=True, subjects=2, checkpoint_steps=2, pause=None, **changes):
    made = tuple(
        conftest.make_subject(f"subject {number}", voxels=20 + number, first=1000 * number)
        for number in range(subjects)
    )
    data = TrainingData(made, conftest.make_targets(folder / "targets", made), frozenset())
    recipe = conftest.make_recipe(**{"batch": 4, "trials_a_session": 6} | changes)
    network = build_decoder(recipe, [subject.voxels.shape[1] for subject in made])
    if not dropout:
        conftest.silence(network)
    hooks = Hooks(CheckpointFolder(folder / "checkpoints"), TrainingLog(folder / "log.jsonl"), pause=pause)
    return fit_decoder(network, data, recipe, "cpu", hooks, LoopOptions(checkpoint_steps=checkpoint_steps, log_steps=1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with processes.joined("cpu"):
        fitted = train(Path(sys.argv[1]), **json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}"))
        if processes.is_first():
            torch.save(dict(fitted.weights), Path(sys.argv[1]) / "weights.pt")

"""Check a linear decoder on held-out pictures, in the space that pictures have."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxelight.app.pipelines.linear_targets import as_tokens
from voxelight.neuro.evaluate.guards import Guard
from voxelight.neuro.linear.recipe import PIXELS, LinearRecipe
from voxelight.neuro.training.check import HeldOutScore, check_pictures, score_held_out
from voxelight.neuro.training.recorded import PreparedSubject, SeenTrials, check_statistics
from voxelight.storage.linear import open_linear
from voxelight.storage.targets import TargetTable

_OF_PIXELS = "Likeness of small pictures says little of whether they are one picture."


@dataclass(frozen=True, eq=False)
class Checked:
    """What is known of a linear decoder from pictures that it was not fitted to.

    Parameters
    ----------
    scores : of its subject
    guards : what was looked at so that no picture is on both sides
    spaces : space -> penalties
    """

    scores: tuple[HeldOutScore, ...]
    guards: tuple[Guard, ...]
    spaces: dict[str, list[float]]


def check_linear(
    fitted: Path, space: str, table: TargetTable, trials: tuple[SeenTrials, PreparedSubject], recipe: LinearRecipe,
    normalisation: str,
) -> Checked:  # fmt: skip
    """Score retrieval and identification on the means of held-out trials.

    Parameters
    ----------
    fitted : folder of the decoder
    space : in which it is compared with pictures
    table : of the targets in that space
    trials : of the subject, as they were seen and as they were prepared
    recipe, normalisation : of the fit

    Raises
    ------
    Leak
        A held-out picture is a training picture, or the statistics of betas notice held-out trials.
    """
    (seen, subject), (decoder, facts) = trials, open_linear(fitted)
    training = subject.training
    train = list(dict.fromkeys(training.pictures[row] for row in training.rows.tolist()))
    test = list(subject.test)
    guards, _ = check_pictures(
        train, test, lambda keys: as_tokens(table.read(keys), space).values, space,
        meaningful=not (recipe.random_weights or space == PIXELS),
    )  # fmt: skip
    if space == PIXELS:
        guards = tuple(Guard("tokens", "not checked", _OF_PIXELS) if g.name == "tokens" else g for g in guards)
    means = np.stack([training.read(rows).mean(0, dtype=np.float64) for rows in subject.test.values()])
    predicted = as_tokens(decoder.predict(means, space).astype(np.float32), space)
    shown = as_tokens(np.asarray(table.read(test), np.float32), space)
    statistics = check_statistics(seen, subject, frozenset(test), normalisation)
    return Checked(
        score_held_out(predicted, shown, subject, recipe.seed),
        (*guards, statistics),
        {name: list(known.alphas) for name, known in facts.spaces.items()},
    )

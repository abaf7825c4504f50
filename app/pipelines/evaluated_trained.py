"""What an evaluation knows of a decoder that was trained here: which pictures it saw, and under what conditions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors

from voxelight.app.pipelines.profiles import find_trained
from voxelight.models.values import ClipTokens, Stimuli
from voxelight.neuro.evaluate.compare import FEWEST_PICTURES, Curve, find_distance, score_by_distance
from voxelight.neuro.evaluate.controls import pick_nearest
from voxelight.neuro.evaluate.guards import GUARDS, Guard, hash_pictures
from voxelight.neuro.splits import Labels
from voxelight.storage.decoders import TrainedDecoder, TrainedDecoders
from voxelight.storage.results import read_output
from voxelight.storage.schema import Job, Run
from voxelight.storage.stores import Stores

Floats = NDArray[np.floating[Any]]

UNKNOWN = "What the decoder was trained on is not recorded here."
_NO_ENCODER = "The image encoder can't be had, so no training picture is found by its tokens."
_NO_PICTURES = "The data set holds no picture that the decoder was trained on."


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What is known of the training.

    Parameters
    ----------
    decoder : None where it was not trained here
    trained_on : ids of the data set's pictures that it was trained on
    held_out : ids of those that were held out and checked against all training pictures
    """

    decoder: TrainedDecoder | None
    trained_on: frozenset[str]
    held_out: frozenset[str]

    def refuses(self, stimulus: str) -> bool:
        """Return whether a stimulus may not be scored, the decoder having been trained on its picture."""
        return stimulus in self.trained_on


def find_knowledge(stores: Stores, job: Job, stimuli: Stimuli | None) -> Knowledge:
    """Return what is recorded of the decoder of a job."""
    decoder = find_trained(stores.weights, job.recipe)
    if decoder is None or stimuli is None:
        return Knowledge(decoder, frozenset(), frozenset())
    keys = dict(zip(stimuli.ids.tolist(), hash_pictures(stimuli.images), strict=True))
    known = TrainedDecoders(stores.weights).read_pictures(decoder.name)
    checked = set(decoder.provenance["held_out_pictures"])
    return Knowledge(
        decoder,
        frozenset(name for name, key in keys.items() if key in known),
        frozenset(name for name, key in keys.items() if key in checked),
    )


def tell_conditions(knowledge: Knowledge, subject: str, count: int) -> dict[str, Any]:
    """Return test set, sessions and normalisation as the training recorded them; nothing where it was not here."""
    decoder = knowledge.decoder
    if decoder is None:
        return {}
    every = decoder.provenance["conditions"]
    own = every.get(subject, next(iter(every.values())))
    return {
        "test_set": f"{count} pictures that the decoder was not trained on; held out were {own['test_set']}",
        "sessions": own["sessions"],
        "normalisation": decoder.normalisation,
    }


def guard(knowledge: Knowledge, ids: Labels) -> tuple[Guard, ...]:
    """Return a record of each guard-rail but the gallery's."""
    decoder = knowledge.decoder
    reasons = {name: UNKNOWN for name in GUARDS if name != "gallery"}
    reasons["normalisation"] = "Betas were taken as stored; how they were normalised is not recorded here."
    reasons["alone"] = "Not repeated for this job: stimuli are decoded independently of those beside them."
    if decoder is not None:
        reasons["fit"] = "Not refitted: no trial of a held-out picture is among the rows that were trained on."
    found = {name: Guard(name, "not checked", reason) for name, reason in reasons.items()}
    if decoder is None:
        return tuple(found.values())
    pictures = len(knowledge.trained_on)
    scored = f"None of {len(ids)} scored pictures is among the {pictures} of this data set that were trained on."
    found["ids"] = Guard("ids", "held", scored)
    found["pictures"] = Guard("pictures", "held", f"{scored} Compared by the hash of their pixels.")
    for name in ("tokens", "normalisation"):
        told = [line for line in decoder.provenance["guards"] if GUARDS[name] in line and line.startswith("held")]
        if told and knowledge.held_out.issuperset(ids.tolist()):
            found[name] = Guard(name, "held", f"At the training: {told[0].partition(GUARDS[name])[2].strip()}")
        else:
            found[name] = Guard(name, "not checked", "Not all scored pictures were among those of the training's test.")
    return tuple(found.values())


def read_tokens(stores: Stores, runs: Sequence[Run], ids: Labels, space: str) -> ClipTokens | None:
    """Return the decoded tokens that are compared with pictures; None where a run has none."""
    by_item = {run.item_key: run for run in runs}
    found = [load_tensors(read_output(stores, by_item[name].id, "tokens")) for name in ids.tolist()]
    if any("retrieval" not in each for each in found):
        return None
    return ClipTokens(np.stack([each["retrieval"] for each in found]), space)


def find_nearest(
    knowledge: Knowledge, predicted: ClipTokens | None, stimuli: Stimuli | None, gallery: ClipTokens | None
) -> tuple[Labels | None, str]:
    """Return for each decoded stimulus the training picture whose tokens come next, or why there is none."""
    if knowledge.decoder is None:
        return None, UNKNOWN
    if gallery is None or predicted is None or stimuli is None:
        return None, _NO_ENCODER
    rows = _find_training_rows(knowledge, stimuli)
    if not len(rows):
        return None, _NO_PICTURES
    train = replace(gallery, values=gallery.values[rows])
    nearest: Labels = stimuli.ids[rows[pick_nearest(predicted, train)]]
    return nearest, ""


def draw_distance(
    knowledge: Knowledge, ids: Labels, stimuli: Stimuli, gallery: ClipTokens | None, scores: Floats
) -> tuple[Curve, ...]:
    """Return the score by distance to the nearest training picture, where both are known of enough pictures."""
    rows = _find_training_rows(knowledge, stimuli)
    if gallery is None or not len(rows) or len(ids) < 2 * FEWEST_PICTURES:
        return ()
    place = {name: row for row, name in enumerate(stimuli.ids.tolist())}
    test = replace(gallery, values=gallery.values[[place[name] for name in ids.tolist()]])
    distance = find_distance(test, replace(gallery, values=gallery.values[rows]))
    return (score_by_distance(scores, distance),)


def draw_bottleneck(knowledge: Knowledge, subject: str) -> tuple[Curve, ...]:
    """Return how few dimensions of the betas the decoder needs, as measured at its training."""
    if knowledge.decoder is None:
        return ()
    every = knowledge.decoder.provenance["bottleneck"]
    told = every.get(subject, next(iter(every.values())))
    if not told["k"]:
        return ()
    n = len(knowledge.decoder.provenance["held_out_pictures"])
    return (
        Curve(
            title="Bottleneck: two-way identification of tokens with k dimensions of the betas, at the training",
            x_label="k, principal components of the training betas",
            y_label="score",
            x=np.array(told["k"], np.float64),
            y=np.array(told["y"]),
            low=np.array(told["low"]),
            high=np.array(told["high"]),
            n=np.full(len(told["k"]), n, np.intp),
        ),
    )


def _find_training_rows(knowledge: Knowledge, stimuli: Stimuli) -> NDArray[np.intp]:
    return np.flatnonzero([name in knowledge.trained_on for name in stimuli.ids.tolist()])

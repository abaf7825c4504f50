"""The best decoder of a simulated subject, beside the scores of a training, where the generator can be made again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from voxelight.app.pipelines.inputs import BetasInput
from voxelight.models.errors import BadInput, VoxelightError
from voxelight.neuro.simulation import TEXTURE, Encoder, SubjectOptions, features_by_id, make_subject
from voxelight.neuro.simulation.pictures import PictureSet
from voxelight.neuro.training.check import HeldOutScore
from voxelight.neuro.training.oracle import add_oracle, score_oracle
from voxelight.neuro.training.recorded import PreparedSubject, SeenTrials
from voxelight.storage.formats.fmri.registered import read_reference
from voxelight.storage.formats.picture_sets import open_pictures, read_rows_by_id
from voxelight.storage.formats.simulated import hash_pictures, read_make
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Scan
from voxelight.storage.stores import Stores

_PICTURES, _FEATURES = "pictures", ("features.npz", "features.npy")


def find_encoder(make: Mapping[str, Any], features: Path | None, shown: PictureSet) -> Encoder:
    """Return what simulated subjects respond to.

    Parameters
    ----------
    make : how they were made
    features : ``.npy`` or ``.npz``, where they were made of some
    shown : the pictures

    Raises
    ------
    BadInput
        They were made of features that are not given.
    """
    if make["encoder"] == TEXTURE.name:
        return TEXTURE
    if features is None:
        raise BadInput(f"no features of {make['encoder']}, by which the subjects were made", "those of every picture",
                       "Give the file that they were simulated with.")  # fmt: skip
    rows, named = read_rows_by_id(features, "features")
    return features_by_id(make["encoder"], rows, shown.ids if len(rows) == len(shown.ids) else named)


def tell_oracle(
    make: Mapping[str, Any], number: int, shown: PictureSet, encoder: Encoder,
    trials: tuple[SeenTrials, PreparedSubject], scores: Sequence[HeldOutScore],
) -> None:  # fmt: skip
    """Write beside the scores of a simulated subject what the best decoder would reach.

    Parameters
    ----------
    make, number : how the subjects were made, and which one it is
    shown, encoder : pictures and what responds to them
    trials : of the subject, as they were seen and as they were prepared
    scores : of the subject
    """
    (seen, prepared), place = trials, {each: row for row, each in enumerate(shown.ids.tolist())}
    subject = make_subject(number, shown, SubjectOptions(**make["options"]), encoder)
    ids = dict(zip(seen.keys, seen.betas.stimulus_ids.tolist(), strict=True))
    stimuli = shown.read(np.array([place[ids[key]] for key in prepared.test], np.intp))
    add_oracle(tuple(scores), score_oracle(subject, stimuli, prepared), subject)


def tell_stored_oracle(
    session: Session, stores: Stores, inputs: BetasInput, trials: tuple[SeenTrials, PreparedSubject],
    scores: Sequence[HeldOutScore],
) -> str:  # fmt: skip
    """Do so for a stored data set, and return in words whether it could be done.

    The generator of a registered folder of `voxelight simulate` can be made again where all ``pictures`` lie in it
    and, for subjects that were made of features, ``features.npz``.
    """
    scan = find_row(session, Scan, inputs.betas)
    if not trials[0].betas.simulated:
        return "None: the betas were measured."
    if scan.kind != "recording":
        return "None: of a simulation that was not registered as a folder the generator is not known."
    with stores.blobs.local_file(scan.blob_sha256, scan.name) as path:
        told = read_reference(path)
    if told.layout != "simulated":
        return f"None: the layout {told.layout} does not tell the generator."
    try:
        make, shown = read_make(told.path), open_pictures(told.path / _PICTURES)
        if hash_pictures(shown) != make["pictures_sha256"]:
            return "None: the pictures in the folder are not those that the subjects were made from."
        features = next((told.path / name for name in _FEATURES if (told.path / name).is_file()), None)
        encoder = find_encoder(make, features, shown)
    except VoxelightError as error:
        return f"None: {error}"
    tell_oracle(make, int(told.subject.removeprefix("sub-")), shown, encoder, trials, scores)
    return f"By the generator, {make['kind']}, {make['encoder']}."

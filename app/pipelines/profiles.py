"""The profile that a decoding is done by: a packaged one, or one with a decoder that was trained here in its place."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.models.weights import find_licence
from voxelight.neuro.profiles import Part, Profile, SubjectWeights, find_profile, list_profiles
from voxelight.storage.decoders import TrainedDecoder, TrainedDecoders

AS_STORED = "as stored"
_LICENCE_LETTERS = 200


def list_decoding_profiles(weights: Path) -> list[Profile]:
    """Return the packaged profiles, and one for each decoder that was trained here."""
    trained = [_adopt(decoder) for decoder in TrainedDecoders(weights).list() if decoder.profile in list_profiles()]
    return [*map(find_profile, list_profiles()), *trained]


def find_trained(weights: Path, name: str) -> TrainedDecoder | None:
    """Return the decoder of a name that was trained here; None where there is none."""
    decoders = TrainedDecoders(weights)
    return decoders.find(name) if name not in list_profiles() and decoders.has(name) else None


def find_decoding_profile(weights: Path, name: str, subject: str | None = None) -> Profile:
    """Return a profile with the decoder of a subject, of the first where none is named.

    Raises
    ------
    NotFound
        Neither a profile nor a trained decoder has the name, or it has no such subject.
    BadInput
        It is a linear decoder, which has no profile.
    """
    trained = find_trained(weights, name)
    if trained is not None and trained.profile not in list_profiles():
        raise BadInput(f"the linear decoder {name}", "one by the tokens of a profile", "Choose another decoder.")
    profile = find_profile(name) if trained is None else _adopt(trained)
    return profile if subject is None else profile.select_subject(subject)


def standardise_betas(weights: Path, name: str, subject: str | None, betas: Betas) -> tuple[Betas, str]:
    """Return betas as the decoder was trained on them, and the name of the normalisation.

    Parameters
    ----------
    weights : folder of all weights of the installation
    name : of a profile, which takes betas as they are stored, or of a trained decoder
    subject : of that decoder
    betas : as stored

    Raises
    ------
    BadInput
        Another number of voxels, or a session that was not in the training.
    """
    trained = find_trained(weights, name)
    if trained is None:
        return betas, AS_STORED
    statistics = TrainedDecoders(weights).read_statistics(name, trained.find_subject(subject))
    if statistics is None:
        return betas, trained.normalisation
    sessions = betas.labels.get("session")
    scaled = statistics.standardise(betas.values, None if sessions is None else sessions.tolist())
    return replace(betas, values=scaled[np.arange(len(betas.values))]), trained.normalisation


def find_licences(weights: Path, profile: Profile) -> str:
    """Return the licences of all weights of a profile."""
    decoders = TrainedDecoders(weights)
    found: dict[str, None] = {}
    for part, name in profile.weights.items():
        if part == "decoder" and name.startswith("decoders/"):
            found[f"data: {decoders.find(profile.name).licence or 'not stated'}"] = None
        else:
            found[find_licence(name)] = None
    return ", ".join(found)[:_LICENCE_LETTERS]


def _adopt(decoder: TrainedDecoder) -> Profile:
    """Return the profile that a decoder predicts the tokens of, with this decoder in it."""
    base = find_profile(decoder.profile)
    subjects = {
        label: SubjectWeights(weights=decoder.name_weights(number), voxels=voxels)
        for number, (label, voxels) in enumerate(decoder.subjects)
    }
    first = next(iter(subjects.values()))
    part = Part(network="mindeye2", config={**decoder.config, "voxels": [first.voxels]})
    spared = set() if decoder.config.get("low_level", True) else {"blurry"}
    labels = ", ".join(subjects)
    return base.model_copy(
        update={
            "name": decoder.name,
            "title": f"{decoder.name}: trained here{' on SIMULATED betas' if decoder.simulated else ''}",
            "summary": f"Decodes {labels} to the tokens of {base.name}, and goes on by its networks.",
            "parts": {name: each for name, each in base.parts.items() if name not in spared} | {"decoder": part},
            "weights": {name: each for name, each in base.weights.items() if name not in spared}
            | {"decoder": first.weights},
            "subjects": subjects,
            "simulated": decoder.simulated,
        }
    )

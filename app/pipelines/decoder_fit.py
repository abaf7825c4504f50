"""Train a decoder on what was prepared, check it on held-out pictures, and keep it with its card."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from voxelight.app.pipelines.decoder_card import write_card
from voxelight.app.pipelines.decoder_data import SHOWN_SIDE
from voxelight.app.pipelines.decoder_recipes import DecoderOptions
from voxelight.app.provenance import find_revision
from voxelight.models.decoders.mindeye2 import MindEye2
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.models.values import ClipTokens
from voxelight.models.weights import load_part
from voxelight.neuro import stages
from voxelight.neuro.evaluate.guards import Guard
from voxelight.neuro.networks import Networks, load_networks
from voxelight.neuro.profiles import GenerationOptions, Profile
from voxelight.neuro.train import Fitted, fit_decoder
from voxelight.neuro.training.bottleneck import sweep_decoder
from voxelight.neuro.training.check import (
    HeldOutScore,
    check_pictures,
    decode_held_out,
    score_held_out,
    tell_distance,
)
from voxelight.neuro.training.held_out import hold_out
from voxelight.neuro.training.recipe import TrainingRecipe
from voxelight.neuro.training.recorded import (
    Album,
    PreparedSubject,
    SeenTrials,
    check_statistics,
    prepare_subject,
)
from voxelight.neuro.training.samples import TrainingData
from voxelight.neuro.training.start import build_decoder
from voxelight.neuro.training.targets import CachedTargets, Encode, compute_targets
from voxelight.storage.decoders import TrainedDecoder, TrainedDecoders
from voxelight.storage.targets import TargetStore, TargetTable

OnStep = Callable[[int, int], None]

_LATENT_SIDE = 224  # of the pictures that the low-level branch is taught, as published


@dataclass(frozen=True, eq=False)
class Work:
    """What a training is made of.

    Parameters
    ----------
    recipe, options, profile : what was asked for
    seen, album : trials of every subject, and the pictures
    by_session : whether sessions are known
    weights : folder of all weights of the installation
    targets : where frozen targets are kept
    device : to train on
    """

    recipe: TrainingRecipe
    options: DecoderOptions
    profile: Profile
    seen: tuple[SeenTrials, ...]
    album: Album
    by_session: bool
    weights: Path
    targets: TargetStore
    device: str

    @property
    def normalisation(self) -> str:
        """What the betas are standardised by."""
        return self.options.find_normalisation(self.by_session)


@dataclass(frozen=True, eq=False)
class Checked:
    """What is known of a decoder from pictures that it was not trained on.

    Parameters
    ----------
    scores : of every subject by itself
    distances : subject -> its score by distance to the nearest training picture, where there are enough pictures
    bottlenecks : subject -> its score with k dimensions of the betas
    guards : what was looked at so that no picture is on both sides
    """

    scores: Mapping[str, tuple[HeldOutScore, ...]]
    distances: Mapping[str, Any]
    bottlenecks: Mapping[str, Any]
    guards: tuple[Guard, ...]


class DecoderTraining:
    """One training: what is held out is chosen at once, so that the same work is always the same training.

    Parameters
    ----------
    work : what it is made of

    Raises
    ------
    BadInput
        Too few pictures, sessions or trials.
    Leak
        A picture that is to be held out was trained on by the decoder that this starts from.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        options, decoders = work.options, TrainedDecoders(work.weights)
        start = options.start_from
        self._known = decoders.read_pictures(start) if start is not None and decoders.has(start) else frozenset()
        seed = work.recipe.seed
        seen, self.held_out, self.chosen = hold_out(
            work.seen, options.held_out, options.held_out_share, seed, self._known, work.album.read
        )
        self.work = work = replace(work, seen=seen)
        sessions = work.recipe.sessions
        self.subjects: tuple[PreparedSubject, ...] = tuple(
            prepare_subject(seen, self.held_out, work.normalisation, sessions) for seen in work.seen
        )

    @property
    def trained_on(self) -> list[str]:
        """Keys of the pictures of all training rows."""
        return list(
            dict.fromkeys(
                subject.training.pictures[row] for subject in self.subjects for row in subject.training.rows.tolist()
            )
        )

    @property
    def tested_on(self) -> list[str]:
        """Keys of the held-out pictures that were shown."""
        return list(dict.fromkeys(key for subject in self.subjects for key in subject.test))

    def compute_targets(self, on_step: OnStep) -> dict[str, TargetTable]:
        """Compute what is not kept yet of the frozen targets of all pictures; return their tables by kind.

        Raises
        ------
        Unavailable
            The image encoder of the profile can't be had.
        """
        work, parts = self.work, {"tokens": "image_encoder"}
        if work.recipe.losses.low_level:
            parts["latent"] = "blurry"
        options = GenerationOptions(stop="tokens", dtype="float32")
        networks = load_networks(work.profile, work.weights, options, work.device, parts=tuple(parts.values()))
        tables = {
            kind: work.targets.table(kind, f"{networks.part_sha256[part]} at {SHOWN_SIDE} px, float32")
            for kind, part in parts.items()
        }
        encoders: dict[str, Encode] = {"tokens": _encode_tokens(networks)}
        if "latent" in parts:
            encoders["latent"] = _encode_latents(networks)
        keys = [*self.trained_on, *self.tested_on]
        with networks.on_device(*parts.values()):
            compute_targets(keys, work.album, {kind: (encoders[kind], tables[kind]) for kind in parts}, work.device,
                            on_step=on_step)  # fmt: skip
        return tables

    def fit(self, tables: Mapping[str, TargetTable], hooks: Hooks, options: LoopOptions) -> tuple[MindEye2, Fitted]:
        """Fit from the last checkpoint, if there is one.

        Raises
        ------
        BadInput, Leak, Unavailable, Conflict, Diverged
            As `neuro.train.fit_decoder`.
        """
        work = self.work
        start = work.options.start_from
        voxels = [subject.training.voxels.shape[1] for subject in self.subjects]
        network = build_decoder(work.recipe, voxels, None if start is None else load_start(work.weights, start))
        subjects = tuple(subject.training for subject in self.subjects)
        data = TrainingData(subjects, CachedTargets(tables), self.held_out)
        return network, fit_decoder(network, data, work.recipe, work.device, hooks, options)

    def check(self, network: MindEye2, tokens: TargetTable, on_step: OnStep) -> Checked:
        """Score the decoder on held-out pictures, each subject by itself.

        Raises
        ------
        Leak
            A held-out picture is a training picture under another id.
        """
        space, random = self.work.profile.space, self.work.profile.draws("image_encoder")
        tested = self.tested_on
        guards, distance = check_pictures(self.trained_on, tested, tokens.read, space, meaningful=not random)
        guards = (*guards, *self._check_statistics())
        scores, distances, bottlenecks = {}, {}, {}
        for number, subject in enumerate(self.subjects):
            name, keys = subject.training.name, list(subject.test)
            values = decode_held_out(network, number, subject, self.work.device, on_step)
            predicted, shown = ClipTokens(values, space), ClipTokens(tokens.read(keys), space)
            scores[name] = score_held_out(predicted, shown, subject, self.work.recipe.seed)
            bottlenecks[name] = sweep_decoder(
                network, number, subject, shown, self.work.device, on_step, self.work.recipe.seed
            )
            if distance is not None:
                place = {key: row for row, key in enumerate(tested)}
                distances[name] = tell_distance(predicted, shown, distance[[place[key] for key in keys]])
        return Checked(scores, distances, bottlenecks, guards)

    def _check_statistics(self) -> list[Guard]:
        pairs = zip(self.work.seen, self.subjects, strict=True)
        return [check_statistics(seen, own, self.held_out, self.work.normalisation) for seen, own in pairs]

    def state_conditions(self, subject: PreparedSubject) -> dict[str, Any]:
        """Return under what the scores of a subject hold, as every report must say."""
        training, recipe = subject.training, self.work.recipe
        sessions, every = training.session_count(), len(set(training.sessions))
        told = f"{sessions} of {every}"
        if self.work.normalisation == "training-rows-per-session" and sessions < every:
            told += "; mean and deviation also from training trials of the others, as published"
        return {
            "test_set": self.chosen,
            "sessions": told,
            "trials": "averaged",
            "normalisation": self.work.normalisation,
            "reference": f"pixels of {len(subject.test)} pictures as tokens of {self.work.profile.space}",
            "random_weights": self.work.profile.draws("image_encoder"),
            "seed": recipe.seed,
        }

    def keep(
        self, name: str, fitted: Fitted, checked: Checked, data: Mapping[str, str], facts: Mapping[str, Any],
        replace: bool,
    ) -> TrainedDecoder:  # fmt: skip
        """Keep the decoder as a model of the installation.

        Parameters
        ----------
        name : of the model
        fitted, checked : of this training
        data : ``name``, ``licence``, ``source`` of the data set
        facts : what else is known, such as the job and the hashes of its inputs
        replace : put it in place of an earlier one of its name
        """
        work = self.work
        config = {key: value for key, value in work.recipe.config.items() if key != "voxels"}
        simulated = any(seen.betas.simulated for seen in work.seen)
        provenance = {
            **facts,
            "recipe": work.recipe.model_dump(mode="json"),
            "training": dict(fitted.made_by),
            "start_from": work.options.start_from,
            "steps": fitted.steps,
            "device": work.device,
            "revision": find_revision(),
            "data": dict(data),
            "held_out": self.chosen,
            "held_out_pictures": sorted(self.tested_on),
            "conditions": {each.training.name: self.state_conditions(each) for each in self.subjects},
            "scores": {
                subject: [{"name": s.name, "value": s.value, "low": s.low, "high": s.high, **s.detail} for s in found]
                for subject, found in checked.scores.items()
            },
            "by_distance": dict(checked.distances),
            "bottleneck": dict(checked.bottlenecks),
            "guards": [guard.line() for guard in checked.guards],
            "random_encoder": work.profile.draws("image_encoder"),
        }
        decoder = TrainedDecoder(
            name=name,
            profile=work.profile.name,
            config=config,
            subjects=tuple((each.training.name, each.training.voxels.shape[1]) for each in self.subjects),
            normalisation=work.normalisation,
            simulated=simulated,
            licence=data.get("licence", ""),
            source=data.get("source", ""),
            provenance=provenance,
        )
        card = write_card(decoder, len(self.trained_on))
        written = TrainedDecoder(**{**decoder.__dict__, "card": card})
        statistics = [subject.statistics for subject in self.subjects]
        pictures = self._known | frozenset(self.trained_on)
        return TrainedDecoders(work.weights).write(written, dict(fitted.weights), statistics, pictures, replace)


def load_start(weights: Path, name: str) -> dict[str, Tensor]:
    """Return the weights of a decoder of this installation, or of published ones.

    Raises
    ------
    NotFound
        Nothing has the name.
    Unavailable
        They were not fetched, or not converted.
    """
    decoders = TrainedDecoders(weights)
    return decoders.load(name) if decoders.has(name) else load_part(weights, name, "decoder")


def _encode_tokens(networks: Networks) -> Encode:
    def encode(pictures: Tensor, _: Sequence[str]) -> Tensor:
        return stages.encode_images(networks, pictures)

    return encode


def _encode_latents(networks: Networks) -> Encode:
    autoencoder: Any = networks.parts["blurry"]

    def encode(pictures: Tensor, _: Sequence[str]) -> Tensor:
        latent: Tensor = autoencoder.encode(stages.resize(pictures, _LATENT_SIDE))
        return latent

    return encode

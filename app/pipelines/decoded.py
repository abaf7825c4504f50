"""What is kept of a decoded stimulus, and of a decoding job as a whole."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from voxelight.app.pipelines.outputs import PNG, TENSORS, file_stem
from voxelight.app.pipelines.profiles import AS_STORED
from voxelight.app.provenance import describe, find_revision
from voxelight.app.schemas import DECODING_NOTICE, RANDOM_NOTICE
from voxelight.models.values import Betas, ClipTokens, Provenance, Stimuli
from voxelight.neuro.evaluate.guards import hash_pictures
from voxelight.storage.formats.images import decode_png, encode_png
from voxelight.storage.results import Decoded, JobOutcome, Outcome, OutputFile, Score, read_outputs
from voxelight.storage.schema import Run
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.app.pipelines.loaded import Gallery
    from voxelight.neuro.reconstruct import Decoded as Found

RETRIEVED = 5
_ON_SHEET = 24
_FEWEST = 2
_SCORED_SIDE = 64
_DRAWS = 1000
# Attribute of a result -> role of its file.
_PICTURES = {"image": "reconstruction", "unrefined": "unrefined", "blurry": "blurry"}


class Source(Protocol):
    """What decodes: a profile, or a linear decoder."""

    @property
    def name(self) -> str:
        """As jobs name it."""

    @property
    def space(self) -> str:
        """Of its tokens."""

    @property
    def random_weights(self) -> bool:
        """Whether it learnt nothing."""


@dataclass(frozen=True, eq=False)
class Recording:
    """What a decoding job works on.

    Parameters
    ----------
    betas, stimuli : as they were read; not every stimulus needs a picture
    gallery : the same pictures in the space of the decoder
    options, inputs : for the provenance
    profile, seed, device : of the job
    normalisation : of the betas
    trained_on : hashes of the pictures that the decoder was trained on; None where that is recorded nowhere
    """

    betas: Betas
    stimuli: Stimuli | None
    gallery: "Gallery"
    options: dict[str, Any]
    inputs: dict[str, str]
    profile: Source
    seed: int
    device: str
    normalisation: str = AS_STORED
    trained_on: frozenset[str] | None = None

    @cached_property
    def unseen(self) -> frozenset[str]:
        """Stimuli with a picture that the decoder is not known to have been trained on."""
        if self.stimuli is None:
            return frozenset()
        keys = hash_pictures(self.stimuli.images)
        known = self.trained_on or frozenset()
        return frozenset(name for name, key in zip(self.stimuli.ids.tolist(), keys, strict=True) if key not in known)

    def find_trials(self, stimulus: str) -> NDArray[np.float32]:
        """Return the betas of all trials of a stimulus, array (repeat, voxel)."""
        trials: NDArray[np.float32] = self.betas.values[self.betas.stimulus_ids == stimulus]
        return trials

    def find_seed(self, stimulus: str) -> int:
        """Return the seed of a stimulus: 63 bits of a SHA-256 of the job's seed and its id, whatever the batch."""
        digest = hashlib.sha256(f"{self.seed}:{stimulus}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def find_picture(self, stimulus: str) -> NDArray[np.float32] | None:
        """Return what was seen, where there is a picture of it."""
        if self.stimuli is None or stimulus not in self.stimuli.ids:
            return None
        picture: NDArray[np.float32] = self.stimuli.select(np.array([stimulus])).images[0]
        return picture


def describe_run(recording: Recording, stimulus: str, found: "Sequence[Found]") -> Outcome:
    """Turn the samples of a stimulus into files and rows."""
    stem = file_stem(stimulus)
    retrieved = _retrieve(recording, found[0])
    files = [_save_tokens(recording, stimulus, found)]
    captions = [each.caption for each in found if each.caption is not None]
    if captions:
        content = "".join(f"{caption}\n" for caption in captions).encode()
        files.append(OutputFile("caption", f"{stem}_caption.txt", "text/plain; charset=utf-8", content))
    decoded, words = [], files[-1]
    for rank, each in enumerate(found):
        sample = f"{stem}_sample-{rank + 1:02d}" if len(found) > 1 else stem
        pictures = [
            OutputFile(role, f"{sample}_{role}.png", PNG, encode_png(image))
            for name, role in _PICTURES.items()
            if (image := getattr(each, name)) is not None
        ]
        shown = pictures[0] if pictures else words
        files += pictures
        decoded.append(Decoded(stimulus, shown.name, shown.role, rank, each.seed, each.caption or "", tuple(retrieved)))
    files += _show_stimuli(recording, stimulus, retrieved)
    return Outcome(tuple(files), _describe(recording, found), decoded=tuple(decoded))


def describe_job(stores: Stores, recording: Recording, runs: Sequence[Run]) -> JobOutcome:
    """Draw the contact sheet; score what has pictures to be scored against."""
    files = []
    sheet = _draw(stores, recording, runs[:_ON_SHEET])
    if sheet is not None:
        files.append(OutputFile("contact_sheet", "contact_sheet.png", PNG, encode_png(sheet)))
    scores, notes = _score(stores, recording, runs)
    profile = recording.profile
    content = {
        "profile": profile.name,
        "random_weights": profile.random_weights,
        "simulated": recording.betas.simulated,
        "scores": [{"name": s.name, "value": s.value, "low": s.low, "high": s.high, **s.detail} for s in scores],
        "notes": notes,
        "notice": RANDOM_NOTICE if profile.random_weights else DECODING_NOTICE,
    }
    files.append(OutputFile("scores", "scores.json", "application/json", json.dumps(content, indent=2).encode()))
    return JobOutcome(tuple(files), tuple(scores))


def _save_tokens(recording: Recording, stimulus: str, found: "Sequence[Found]") -> OutputFile:
    """Keep tokens in half precision: of each sample, and once those that are compared with pictures."""
    tensors = {"tokens": np.stack([each.tokens for each in found]).astype(np.float16)}
    if found[0].retrieval is not None:
        tensors["retrieval"] = found[0].retrieval.astype(np.float16)
    facts = {
        "stimulus": stimulus,
        "space": found[0].space,
        "seeds": [each.seed for each in found],
        "random_weights": recording.profile.random_weights,
    }
    # One entry: several would come in an order of their own each time, and the same tokens have one hash.
    content = save_tensors(tensors, metadata={"facts": json.dumps(facts)})
    return OutputFile("tokens", f"{file_stem(stimulus)}_tokens.safetensors", TENSORS, content)


def _retrieve(recording: Recording, found: "Found") -> list[str]:
    from voxelight.neuro.retrieve import retrieve

    if recording.gallery.tokens is None or recording.stimuli is None or found.retrieval is None:
        return []
    query = ClipTokens(found.retrieval[np.newaxis], found.space)
    rows = retrieve(query, recording.gallery.tokens, RETRIEVED).rows[0]
    names: list[str] = recording.stimuli.ids[rows].tolist()
    return names


def _show_stimuli(recording: Recording, stimulus: str, retrieved: Sequence[str]) -> list[OutputFile]:
    stem = file_stem(stimulus)
    named = [("stimulus", stimulus, f"{stem}_stimulus.png")]
    named += [("retrieved", name, f"{stem}_retrieved-{place}.png") for place, name in enumerate(retrieved, 1)]
    return [
        OutputFile(role, file, PNG, encode_png(picture))
        for role, name, file in named
        if (picture := recording.find_picture(name)) is not None
    ]


def _describe(recording: Recording, found: "Sequence[Found]") -> dict[str, Any]:
    told = {
        "random_weights": recording.profile.random_weights,
        "space": recording.profile.space,
        "seeds": [each.seed for each in found],
        "normalisation": recording.normalisation,
        "repeats": "outputs averaged",
    }
    provenance = Provenance(
        recipe=recording.profile.name,
        weights_sha256=found[0].weights_sha256,
        revision=find_revision(),
        seed=recording.seed,
        device=recording.device,
        options=recording.options | told,
    )
    return describe(provenance, recording.inputs)


def _draw(stores: Stores, recording: Recording, runs: Sequence[Run]) -> NDArray[np.uint8] | None:
    from voxelight.neuro.draw import DecodedStages, draw_stages

    rows = []
    for run in runs:
        seen = recording.find_picture(run.item_key)
        pictures = {} if seen is None else {"stimulus": seen}
        for stage, role in (("blurry", "blurry"), ("unrefined", "unrefined"), ("final", "reconstruction")):
            stored = read_outputs(stores, run.id, role)
            if stored:
                pictures[stage] = decode_png(stored[0])
        captions = read_outputs(stores, run.id, "caption")
        caption = captions[0].decode().partition("\n")[0] if captions else ""
        rows.append(DecodedStages(run.item_key, pictures, caption))
    if not any(row.pictures for row in rows):
        return None
    profile = recording.profile
    return draw_stages(rows, recording.betas.simulated, profile.random_weights, f"Seen and decoded by {profile.name}")


def _score(stores: Stores, recording: Recording, runs: Sequence[Run]) -> tuple[list[Score], list[str]]:
    shown = [run for run in runs if recording.find_picture(run.item_key) is not None]
    scored = [run for run in shown if run.item_key in recording.unseen]
    notes = []
    if len(scored) < len(shown):
        notes.append(
            f"{len(shown) - len(scored)} of {len(shown)} decoded pictures were trained on; only the others are scored."
        )
    if recording.profile.random_weights:
        notes.append("RANDOM WEIGHTS: nothing was learnt, so these scores show chance and nothing else.")
    if recording.betas.simulated:
        notes.append("Simulated data: the betas were made by a model, nobody was scanned.")
    if len(scored) < _FEWEST:
        notes.append(f"No score: pictures of {len(scored)} decoded stimuli, and a score takes {_FEWEST} or more.")
        return [], notes
    if recording.trained_on is None:
        notes.append("Whether the decoder was trained on these pictures is not known here.")
    retrieval, pixels = _score_retrieval(stores, recording, scored), _score_pixels(stores, recording, scored)
    if retrieval:
        notes.append("The paper calls the brain of an image its image retrieval, and the image of a brain the reverse.")
    else:
        notes.append(recording.gallery.missing)
    if pixels:
        notes.append(f"Two-way identification and pixel correlation compare {_SCORED_SIDE} x {_SCORED_SIDE} pixels.")
    return retrieval + pixels, notes


def _score_retrieval(stores: Stores, recording: Recording, runs: Sequence[Run]) -> list[Score]:
    from voxelight.neuro.retrieve import score_retrieval

    gallery = recording.gallery.tokens
    if gallery is None or recording.stimuli is None:
        return []
    predicted = [load_tensors(read_outputs(stores, run.id, "tokens")[0])["retrieval"] for run in runs]
    rows = {name: row for row, name in enumerate(recording.stimuli.ids.tolist())}
    shown = gallery.values[[rows[run.item_key] for run in runs]]
    report = score_retrieval(
        ClipTokens(np.stack(predicted), gallery.space), ClipTokens(shown, gallery.space), seed=recording.seed
    )
    conditions = {
        "chance": report.chance,
        "pool": report.pool,
        "draws": report.draws,
        "interval": report.interval,
        "normalisation": recording.normalisation,
        "n": len(runs),
    }
    named = {
        "retrieval_image_of_brain": (report.image_of_brain, "brain retrieval (bwd)"),
        "retrieval_brain_of_image": (report.brain_of_image, "image retrieval (fwd)"),
    }
    return [
        Score(name, rate.mean, low=rate.low, high=rate.high, detail=conditions | {"published_as": published})
        for name, (rate, published) in named.items()
    ]


def _score_pixels(stores: Stores, recording: Recording, runs: Sequence[Run]) -> list[Score]:
    from voxelight.neuro.evaluate.intervals import bootstrap_mean
    from voxelight.neuro.evaluate.similarity import METRICS, correlate

    pairs = []
    for run in runs:
        stored, seen = read_outputs(stores, run.id, "reconstruction"), recording.find_picture(run.item_key)
        if stored and seen is not None:
            pairs.append((_bring(decode_png(stored[0])), _bring(seen)))
    if len(pairs) < _FEWEST:
        return []
    correlations = correlate(*(np.stack(side) for side in zip(*pairs, strict=True)))
    own = np.arange(len(pairs))
    chances = {"two_way": 0.5}
    scores = []
    for name, metric in METRICS.items():
        values = metric(correlations, own)
        low, high = bootstrap_mean(values, own.astype(str), _DRAWS, recording.seed)
        detail = {
            "interval": "bootstrap, over images",
            "side": _SCORED_SIDE,
            "normalisation": recording.normalisation,
            "n": len(pairs),
        }
        if name in chances:
            detail["chance"] = chances[name]
        scores.append(Score(name, float(values.mean()), low=low, high=high, detail=detail))
    return scores


def _bring(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a picture as RGB of the side at which pixels are compared."""
    from skimage import transform

    shape = (_SCORED_SIDE, _SCORED_SIDE, picture.shape[2])
    resize: Any = transform.resize
    small = resize(picture, shape, order=1, anti_aliasing=True)
    brought: NDArray[np.float32] = np.broadcast_to(small, (_SCORED_SIDE, _SCORED_SIDE, 3)).astype(np.float32)
    return brought

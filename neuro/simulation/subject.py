"""One simulated subject: its voxels and their responses to pictures."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from voxelight.models.errors import BadInput
from voxelight.models.values import Stimuli
from voxelight.neuro.simulation.ceilings import REGIONS, count_voxels, draw_ncsnr, find_nsd_subject
from voxelight.neuro.simulation.early import EARLY_REGIONS, EarlyVoxels, draw_early_voxels, respond_early
from voxelight.neuro.simulation.gabor import GaborBank, make_bank, see
from voxelight.neuro.simulation.late import Encoder, LateVoxels, draw_linear_voxels, draw_mixed_voxels
from voxelight.neuro.simulation.noise import LINEAR_GAUSSIAN, NoiseOptions, draw_loadings, neighbours_variance
from voxelight.neuro.simulation.oracle import LinearGaussian, TrialNoise
from voxelight.neuro.simulation.pictures import PictureSet
from voxelight.neuro.simulation.streams import find_stream
from voxelight.neuro.simulation.texture import TEXTURE

Floats = NDArray[np.floating[Any]]

KINDS = {
    "mismatched": "compressive Gabor energy, and late voxels of an encoder that is neither target nor judge",
    "matched": "every voxel linear in the decoder's own tokens: an oracle check only",
}
_SAMPLE = 1000  # pictures that responses are standardised on
BATCH = 100  # pictures at once; always the same ones together, for their sums to be the same to the last bit


class SubjectOptions(BaseModel):
    """What subjects of one simulation have in common.

    Parameters
    ----------
    kind : a key of `KINDS`
    voxels : voxels of each subject; NSD's own numbers where not given
    seed : of everything
    noise : where not given, the defaults of `NoiseOptions` for mismatched and `LINEAR_GAUSSIAN` for matched
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mismatched", "matched"] = "mismatched"
    voxels: PositiveInt | None = None
    seed: NonNegativeInt = 0
    noise: NoiseOptions | None = None

    @property
    def used_noise(self) -> NoiseOptions:
        """The noise that is added."""
        return self.noise or (LINEAR_GAUSSIAN if self.kind == "matched" else NoiseOptions())


@dataclass(frozen=True, eq=False)
class SimulatedSubject:
    """A subject whose make is known.

    Parameters
    ----------
    number : from 1
    options : SubjectOptions
    regions : array (voxel,), str
    ncsnr : array (voxel,), what repeats should show
    bank, early : what the early voxels respond by; the latter None where every voxel is linear in tokens
    late : LateVoxels
    centre, scale : array (voxel,), mean and standard deviation of the responses to the sample
    loadings : array (voxel, dimension) of the common noise, rows of length 1
    """

    number: int
    options: SubjectOptions
    regions: NDArray[np.str_]
    ncsnr: Floats
    bank: GaborBank
    early: EarlyVoxels | None
    late: LateVoxels
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]
    loadings: NDArray[np.float32]

    @property
    def name(self) -> str:
        """Label that says the kind, as every result should: ``simulated-mismatched-01``."""
        return f"simulated-{self.options.kind}-{self.number:02d}"

    @property
    def roi(self) -> str:
        """Region of all voxels together."""
        return f"simulated nsdgeneral ({self.options.kind}, {self.late.encoder.name})"

    @property
    def signal_std(self) -> Floats:
        """Standard deviation of the signal, that of signal and noise together being 1: array (voxel,)."""
        return self.ncsnr / np.sqrt(1 + self.ncsnr**2)

    @property
    def noise_std(self) -> Floats:
        """Standard deviation of the noise of one trial, overlap and drift included: array (voxel,)."""
        return 1 / np.sqrt(1 + self.ncsnr**2)

    @property
    def own_variance(self) -> Floats:
        """Variance of the noise that each voxel has for itself, when all else is taken off: array (voxel,)."""
        noise = self.options.used_noise
        left = self.noise_std**2 * (1 - noise.correlated - noise.drift)
        own: Floats = np.maximum(left - neighbours_variance(noise.overlap) * self.signal_std**2, 0)
        return own

    def respond(self, stimuli: Stimuli) -> NDArray[np.float32]:
        """Return what one trial of each picture would give without noise.

        Parameters
        ----------
        stimuli : Stimuli

        Returns
        -------
        array (picture, voxel), mean 0 and standard deviation `signal_std` over the sample
        """
        raw = self.late.respond(self.late.encoder(stimuli))
        if self.early is not None:
            raw = np.concatenate([respond_early(see(stimuli.images, self.bank), self.early), raw], axis=1)
        scaled: NDArray[np.float32] = (raw - self.centre) * (self.signal_std / self.scale).astype(np.float32)
        return scaled


def make_subject(
    number: int, pictures: PictureSet, options: SubjectOptions | None = None, encoder: Encoder = TEXTURE
) -> SimulatedSubject:
    """Draw a subject. It depends on the seed, the picture set and the encoder, and on no other subject.

    Parameters
    ----------
    number : from 1; its sizes and ceilings follow the NSD subject of that number, and after the eighth begin again
    pictures : up to 1000 of them, drawn by the seed, standardise the responses
    options : SubjectOptions
    encoder : for matched the decoder's own tokens; for mismatched neither target nor judge

    Raises
    ------
    BadInput
        There are fewer than two pictures, or matched is asked for without an encoder of tokens.
    """
    options = options or SubjectOptions()
    if len(pictures.ids) < 2 or (options.kind == "matched" and encoder is TEXTURE):
        raise BadInput(
            f"{len(pictures.ids)} pictures and the encoder {encoder.name} for a {options.kind} subject",
            "two pictures or more, and for matched the tokens of the decoder",
            "Hand in pictures, and tokens_by_id(tokens, ids) as the encoder.",
        )
    table = find_nsd_subject(number)
    counts = count_voxels(table, options.voxels)
    ncsnr, loadings, early, late = (
        find_stream(options.seed, "subject", number, part) for part in ("ncsnr", "loadings", "early", "late")
    )
    bank, voxels = make_bank(), None
    if options.kind == "mismatched":
        voxels = draw_early_voxels({region: counts[region] for region in EARLY_REGIONS}, bank, early)
    first, features = _respond_to_sample(pictures, options.seed, encoder, bank, voxels)
    draw = draw_linear_voxels if voxels is None else draw_mixed_voxels
    mixed = draw(sum(counts.values()) - first.shape[1], encoder, features, late)
    raw = np.concatenate([first, mixed.respond(features)], axis=1).astype(np.float64)
    std = raw.std(0)
    return SimulatedSubject(
        number,
        options,
        np.repeat(REGIONS, [counts[region] for region in REGIONS]),
        draw_ncsnr(table, counts, ncsnr),
        bank,
        voxels,
        mixed,
        raw.mean(0).astype(np.float32),
        np.where(std > 0, std, 1).astype(np.float32),
        draw_loadings(len(std), options.used_noise.rank, loadings),
    )


def make_oracle(subject: SimulatedSubject, features: Floats) -> LinearGaussian:
    """Return the generator of a matched subject, whose best decoder is known.

    Parameters
    ----------
    subject : of the kind matched, with `LINEAR_GAUSSIAN` noise or such
    features : array (picture, feature), flattened tokens that give the prior's mean and covariance

    Raises
    ------
    BadInput
        The subject is not linear-Gaussian.
    """
    noise = subject.options.used_noise
    if subject.early is not None or subject.late.exponent != 1 or not noise.linear_gaussian:
        raise BadInput(
            f"the {subject.options.kind} subject {subject.number} with the noise {noise}",
            "a matched one without drift, overlap, gain and offset",
            "The best decoder is known in closed form only for these.",
        )
    share = subject.signal_std / subject.scale
    found = find_trial_noise(subject)
    return LinearGaussian(
        weights=(subject.late.weights.astype(np.float64) * share).T,
        intercept=-(subject.late.offset @ subject.late.weights + subject.centre) * share,
        variance=found.variance,
        loadings=found.loadings,
        mean=features.mean(0),
        covariance=np.cov(features, rowvar=False),
    )


def find_trial_noise(subject: SimulatedSubject) -> TrialNoise:
    """Return the noise of one trial of either kind, for identification by the true responses (`response_likelihood`).

    Drift and what is left of neighbours count as noise of each voxel for itself, and gain and offset as known:
    standardise the betas of a mismatched subject in each session first. A rule that also used the neighbours could do
    a little better.

    Parameters
    ----------
    subject : SimulatedSubject
    """
    share = subject.options.used_noise.correlated
    return TrialNoise(
        (1 - share) * subject.noise_std**2, subject.loadings * (subject.noise_std * np.sqrt(share))[:, None]
    )


def _respond_to_sample(
    pictures: PictureSet, seed: int, encoder: Encoder, bank: GaborBank, voxels: EarlyVoxels | None
) -> tuple[NDArray[np.float32], Floats]:
    """Return early responses, array (picture, voxel), and late features, array (picture, feature), of the sample."""
    rows = find_stream(seed, "sample").permutation(len(pictures.ids))[:_SAMPLE]
    early, late = [], []
    for first in range(0, len(rows), BATCH):
        stimuli = pictures.read(rows[first : first + BATCH])
        empty = np.empty((len(stimuli.ids), 0), np.float32)
        early.append(empty if voxels is None else respond_early(see(stimuli.images, bank), voxels))
        late.append(encoder(stimuli))
    return np.concatenate(early), np.concatenate(late)

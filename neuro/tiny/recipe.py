"""What the training of the `tiny` profile is made of: sizes of its networks and options of its stages. No torch."""

import tomllib
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from voxelight.models.registry import NETWORKS, find_config
from voxelight.neuro.simulation.design import DesignOptions
from voxelight.neuro.training.recipe import TrainingRecipe


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Descent(_Options):
    """How a stage steps downhill.

    Parameters
    ----------
    steps, batch : gradient steps, pictures a step
    learning_rate, weight_decay, warm_up : AdamW; a linear rise over `warm_up` steps, then a cosine to zero
    average : decay of the running mean of the weights, which is what is kept
    clip : largest norm of the gradient
    """

    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat = 0.01
    warm_up: NonNegativeInt = 200
    average: float = Field(0.999, ge=0, lt=1)
    clip: PositiveFloat = 1.0


class Augmentation(_Options):
    """What is done to a training picture at random.

    Parameters
    ----------
    area : smallest share of the picture that is kept, the largest being 1
    stretch : largest logarithm of the width over the height of what is kept, before it is brought to a square
    turn : largest angle, degrees
    colour : largest change of brightness, contrast and saturation, as a share
    grey : share of pictures without colours
    erase : share of pictures with one rectangle greyed out
    mix : share of batches whose pictures are blended in pairs, half of them by a pasted rectangle
    """

    area: float = Field(1.0, gt=0, le=1)
    stretch: NonNegativeFloat = 0.0
    turn: NonNegativeFloat = 0.0
    colour: float = Field(0.0, ge=0, lt=1)
    grey: float = Field(0.0, ge=0, le=1)
    erase: float = Field(0.0, ge=0, le=1)
    mix: float = Field(0.0, ge=0, le=1)


class TeacherStage(_Options):
    """A convolutional classifier that is learnt from the same pictures and then taught from.

    Parameters
    ----------
    smoothing : share of the target that is spread over all classes
    """

    descent: Descent
    augmentation: Augmentation
    smoothing: float = Field(0.1, ge=0, lt=1)


class ImageTextStage(_Options):
    """The image-text model.

    Parameters
    ----------
    smoothing : share of the target that is spread over all classes
    taught : share of the class losses whose target is the teacher's answer
    guide : weight of the distance between tokens of a middle layer and the teacher's map
    pixels : weight of the squared error of the pixels that are read off the tokens
    drop : probability that a picture skips the last block, falling linearly to 0 at the first
    """

    descent: Descent
    augmentation: Augmentation
    smoothing: float = Field(0.1, ge=0, lt=1)
    taught: float = Field(0.7, ge=0, le=1)
    guide: NonNegativeFloat = 1.0
    pixels: NonNegativeFloat = 0.1
    drop: float = Field(0.1, ge=0, lt=1)


class AutoencoderStage(_Options):
    """The autoencoder.

    Parameters
    ----------
    structure : weight of 1 - SSIM beside the absolute error
    divergence : weight of the Kullback-Leibler divergence from the standard normal, per number of the latent
    """

    descent: Descent
    augmentation: Augmentation
    structure: NonNegativeFloat = 0.2
    divergence: NonNegativeFloat = 1e-4


class UnclipStage(_Options):
    """The UNet that draws pictures from tokens.

    Parameters
    ----------
    augmentation : of the views
    views : versions of every picture whose tokens and latents are computed once; the first is the picture itself
    uncond : share of pictures whose tokens are replaced by normal noise
    heaviest : largest weight of the error of the noise, which is ``1 + sigma^2`` below it
    guessed : share of pictures whose tokens are replaced by a guess at them, see `voxelight.neuro.tiny.guesses`
    """

    descent: Descent
    augmentation: Augmentation
    views: PositiveInt = 8
    uncond: float = Field(0.1, ge=0, lt=1)
    heaviest: PositiveFloat = 6.0
    guessed: float = Field(0.0, ge=0, lt=1)


class CaptionStage(_Options):
    """The token converter and the caption model, together.

    Parameters
    ----------
    augmentation : of the views
    views : versions of every picture whose tokens are computed once
    smoothing : share of the target that is spread over all words
    """

    descent: Descent
    augmentation: Augmentation
    views: PositiveInt = 4
    smoothing: float = Field(0.1, ge=0, lt=1)


class SubjectStage(_Options):
    """A simulated subject and the decoder of its betas.

    Parameters
    ----------
    number : which of NSD's subjects it follows in its noise
    voxels : of the subject
    encoder : what its late voxels answer to: fixed statistics of Gabor energy, or a network trained on ImageNet
    companions : further subjects, who saw other pictures and are fitted along; only what all share of theirs ships
    design : what it saw; shared pictures are those that are kept aside
    decoder : fields of a `TrainingRecipe`
    """

    number: PositiveInt = 1
    voxels: PositiveInt
    encoder: Literal["gabor-texture", "efficientnet-lite1"] = "gabor-texture"
    companions: NonNegativeInt = 0
    design: DesignOptions
    decoder: dict[str, Any]

    def find_decoder(self, seed: int) -> TrainingRecipe:
        """Return the checked recipe of the decoder."""
        return TrainingRecipe(
            name="tiny-decoder",
            title="Decoder of a simulated subject",
            summary="Of the tiny profile.",
            seed=seed,
            **self.decoder,
        )


class TinyRecipe(_Options):
    """Everything that decides the weights of the profile, with the pictures.

    Parameters
    ----------
    seed : of every random draw
    held_out : pictures that no stage sees, the same number of every class
    side : pixels of a side of a picture
    networks : part -> fields of its configuration, see `build_part`
    text : width, heads and layers of the text tower
    """

    seed: NonNegativeInt
    held_out: PositiveInt
    side: PositiveInt
    networks: dict[str, dict[str, Any]]
    text: dict[str, PositiveInt]
    teacher: TeacherStage
    image_text: ImageTextStage
    autoencoder: AutoencoderStage
    unclip: UnclipStage
    captions: CaptionStage
    subject: SubjectStage

    def build_config(self, part: str) -> Any:
        """Return the configuration of a part, whose network this call imports."""
        return find_config(NETWORKS, PART_NETWORKS[part])(**self.networks[part])

    def made_by(self, stage: str, pictures: str) -> dict[str, Any]:
        """Return what decides the curve of a stage beside its steps, as JSON.

        Parameters
        ----------
        stage : a field of this class
        pictures : hash of the training pictures
        """
        sizes = {"networks": self.networks, "text": self.text, "side": self.side}
        return {"sizes": sizes, "stage": getattr(self, stage).model_dump(), "pictures": pictures}


PART_NETWORKS: dict[str, str] = {
    "image_encoder": "clip-image",
    "autoencoder": "autoencoder",
    "unclip": "sdxl-unet",
    "converter": "token-converter",
    "captioner": "git-captioner",
}


def find_tiny_recipe() -> TinyRecipe:
    """Return the packaged recipe of the `tiny` profile."""
    text = files(__package__).joinpath("tiny.toml").read_text(encoding="utf-8")
    return TinyRecipe.model_validate(tomllib.loads(text))

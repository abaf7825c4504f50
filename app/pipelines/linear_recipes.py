"""What a linear decoder is asked for by, as a job: spaces, subject, what is held out, and who draws. No torch."""

import uuid
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from voxelight.models.errors import BadInput, NotFound, Unavailable
from voxelight.models.published import find_published
from voxelight.models.weights import find_part_sha256
from voxelight.neuro.linear import LinearRecipe, list_linear_recipes
from voxelight.neuro.linear.recipe import FIRST_GUESS, PIXELS, WORDS, Generator
from voxelight.neuro.training.recorded import HeldOutWay
from voxelight.storage.decoders import TrainedDecoder, TrainedDecoders

PREFIX = "train-"
GENERATORS = "generators"
_LICENCE_LETTERS = 200


class LinearOptions(BaseModel):
    """What the training of a linear decoder can set beside its recipe.

    Parameters
    ----------
    name : of the model that comes out
    subject : label of the subject, where the data set has several
    spaces : targets to fit; left out, all that can be made of pictures, and those of words where captions are given
    captions : stimulus -> caption, for the space `clip-text`
    sessions : that are trained on, the first in time; left out, all
    held_out, held_out_share, normalisation, mask : as for the training of another decoder
    precision : of products with targets
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, max_length=120)
    subject: str | None = None
    spaces: list[str] | None = Field(None, min_length=1)
    captions: dict[str, str] | None = None
    sessions: int | None = Field(None, ge=1)
    held_out: HeldOutWay = "auto"
    held_out_share: float = Field(0.1, gt=0, lt=1)
    normalisation: Literal["training-rows", "training-rows-per-session", "as-stored"] | None = None
    precision: Literal["float64", "float32", "tf32"] = "float32"
    mask: uuid.UUID | None = None


def find_spaces(recipe: LinearRecipe, options: LinearOptions, weights: Path) -> tuple[str, ...]:
    """Return the spaces that are fitted.

    Raises
    ------
    BadInput
        A space is not of the recipe, or captions are missing.
    Unavailable
        Nothing here makes its targets, or weights were not fetched.
    """
    made = [space for space in recipe.targets if recipe.makes(space) and (space != WORDS or options.captions)]
    chosen = tuple(dict.fromkeys(options.spaces or made))
    for space in chosen:
        if space not in recipe.targets:
            raise BadInput(f"the space {space!r}", f"one of {', '.join(recipe.targets)}", f"Name one of {recipe.name}.")
        target = recipe.targets[space]
        if not recipe.makes(space):
            raise Unavailable(f"no network that makes {space}", target.made_by,
                              f"Fit {', '.join(made)}; targets of your own go to voxelight linear fit.")  # fmt: skip
        if space == WORDS and not options.captions:
            raise BadInput(
                f"no captions for {WORDS}", "stimulus -> caption in `captions`", "Give them, or leave it out."
            )
        if target.encoder is not None:
            require_weights(weights, target.encoder)
    recipe.compared(chosen)
    return chosen


def require_weights(weights: Path, name: str) -> str:
    """Return the hash of published weights of one part.

    Raises
    ------
    Unavailable
        They were not fetched.
    """
    (part,) = find_published(name).parts
    return find_part_sha256(weights, name, part)


def list_linear(weights: Path) -> list[TrainedDecoder]:
    """Return the linear decoders that were fitted here."""
    return [decoder for decoder in TrainedDecoders(weights).list() if decoder.profile in list_linear_recipes()]


def find_linear(weights: Path, name: str) -> TrainedDecoder | None:
    """Return the linear decoder of a name that was fitted here; None where there is none."""
    decoders = TrainedDecoders(weights)
    found = decoders.find(name) if decoders.has(name) else None
    return found if found is not None and found.profile in list_linear_recipes() else None


def tell_licence(decoder: TrainedDecoder) -> str:
    """Return the licence of a linear decoder: that of its data."""
    return f"data: {decoder.licence or 'not stated'}"[:_LICENCE_LETTERS]


def find_generator(recipe: LinearRecipe, spaces: set[str], name: str | None, weights: Path) -> Generator | None:
    """Return what draws pictures, its checkpoint being a folder of this installation; None: the first guess itself.

    Parameters
    ----------
    recipe : LinearRecipe
    spaces : that were fitted
    name : of the generator; left out, the recipe's first; ``first-guess`` for the ridge to small pictures
    weights : folder of all weights; checkpoints lie below ``generators/``, ``owner/name`` as ``owner--name``

    Raises
    ------
    NotFound
        The recipe has no such generator.
    BadInput
        What it begins from was not fitted, or only files can hold it.
    Unavailable
        Its checkpoint is not there.
    """
    known = (*recipe.generators, FIRST_GUESS)
    name = name or known[0]
    if name not in known:
        raise NotFound(f"the generator {name!r} of {recipe.name}", f"one of {', '.join(known)}", "Name one.")
    generator = recipe.generators.get(name)
    needed = {PIXELS}
    if generator is not None and generator.kind == "controlnet":
        raise BadInput(f"the generator {name}, which begins from depth maps", f"img2img or {FIRST_GUESS}",
                       "No network here makes them: voxelight linear pictures takes a file.")  # fmt: skip
    if generator is not None:
        needed |= {"git"} if generator.kind == "img2img" else {WORDS, "clip-vision"}
    if missing := sorted(needed - spaces):
        raise BadInput(
            f"a decoder without {', '.join(missing)}", f"the spaces that {name} begins from",
            "Fit them, choose another generator, or stop at the caption.",
        )  # fmt: skip
    if generator is None:
        return None
    folder = weights / GENERATORS / generator.checkpoint.replace("/", "--")
    if not (folder / "model_index.json").is_file():
        raise Unavailable(
            f"no checkpoint of {generator.checkpoint} here",
            f"it in diffusers' form as {GENERATORS}/{folder.name} below the folder of weights",
            f"Put it there, or choose the generator {FIRST_GUESS}, or stop at the caption.",
        )
    return generator.model_copy(update={"checkpoint": str(folder)})

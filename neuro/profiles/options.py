"""What a person may choose for one run, whatever the profile. Imports no torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

Stop = Literal["tokens", "caption", "unrefined", "refined"]
DType = Literal["bfloat16", "float16", "float32"]


class GenerationOptions(BaseModel):
    """How far to go, how carefully, and on how much memory.

    Parameters
    ----------
    stop : the last stage; each gives all that the ones before it give
    samples : results for every trial; the first uses the trial's own seed, the others seeds derived from it
    preset : a key of `models.diffusion.presets.PRESETS`
    prior_steps : steps of the diffusion prior; left out, those of the profile
    dtype : of the networks; solver states, averages and results are float32 in any case
    batch : images that go through the networks at once; left out, the memory plan decides
    candidates : images that each result is chosen from, where the profile chooses; left out, those of the profile
    memory : size of the card in GiB that the plan is made for; ``auto`` asks the device
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stop: Stop = "refined"
    samples: PositiveInt = 1
    preset: Literal["published", "fast"] = "published"
    prior_steps: PositiveInt | None = None
    dtype: DType = "bfloat16"
    batch: PositiveInt | None = None
    memory: Literal["auto", "24", "40", "80"] = "auto"
    candidates: PositiveInt | None = None

    def reaches(self, stage: Stop) -> bool:
        """Whether the run goes at least as far as a stage."""
        stages = tuple(PARTS_OF_STAGE)
        return stages.index(self.stop) >= stages.index(stage)

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of a profile that the run needs, in the order of their use."""
        return tuple(part for stage, parts in PARTS_OF_STAGE.items() if self.reaches(stage) for part in parts)


PARTS_OF_STAGE: dict[Stop, tuple[str, ...]] = {
    "tokens": ("decoder", "low_level"),
    "caption": ("converter", "captioner"),
    "unrefined": ("unclip", "variation", "autoencoder", "blurry"),
    "refined": ("text", "refiner_text", "refiner", "refiner_autoencoder"),
}

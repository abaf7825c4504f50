"""Pictures to the tokens that GIT captions: its vision tower (Wang et al. 2022), target of linear decoders."""

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GitVisionConfig as VisionConfig
from transformers import GitVisionModel

from voxelight.models.clip.image_encoder import check_images, normalise
from voxelight.models.errors import BadInput
from voxelight.models.positions import keep_positions


class GitVisionConfig(BaseModel):
    """Sizes of the vision tower; those of ``git-base-coco`` by default.

    Parameters
    ----------
    width, layers, heads, mlp_width : of the transformer
    patch, side : pixels of one side of a patch and of the square image that the transformer sees
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: PositiveInt = 768
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    mlp_width: PositiveInt = 3072
    patch: PositiveInt = 16
    side: PositiveInt = Field(224, ge=2)

    @model_validator(mode="after")
    def _divides(self) -> "GitVisionConfig":
        if self.width % self.heads or self.side % self.patch:
            raise ValueError(f"width {self.width} and side {self.side} are no multiples of heads and patch")
        return self

    @property
    def tokens(self) -> int:
        """Tokens of one image, the class token first."""
        return (self.side // self.patch) ** 2 + 1

    def build(self) -> "GitVision":
        """Return the tower with fresh weights."""
        return GitVision(self)


class GitVision(nn.Module):
    """Images to tokens: the last layer after its norm. The keys are GIT's own, ``image_encoder.*``."""

    def __init__(self, config: GitVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = GitVisionModel(
            VisionConfig(
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.mlp_width,
                patch_size=config.patch,
                image_size=config.side,
            )
        )
        keep_positions(self.image_encoder.vision_model.embeddings, config.tokens)

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens of images.

        Parameters
        ----------
        images : tensor (b, 3, h, w) in [0, 1], of any floating type, square

        Returns
        -------
        tensor (b, token, width)

        Raises
        ------
        BadInput
            The images have another shape or whole numbers.
        """
        check_images(images)
        if images.shape[2] != images.shape[3]:
            raise BadInput(f"images of shape {tuple(images.shape)}", "(b, 3, side, side) in [0, 1]", "Cut them square.")
        side = self.config.side
        x = F.interpolate(images.float(), (side, side), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        dtype = self.image_encoder.vision_model.embeddings.class_embedding.dtype
        tokens: Tensor = self.image_encoder(pixel_values=normalise(x).to(dtype)).last_hidden_state
        return tokens

"""Images to the CLIP tokens that MindEye1 predicts: OpenAI's ViT-L/14, every token projected (Radford et al. 2021)."""

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from voxelight.models.clip.image_encoder import check_images, normalise
from voxelight.models.positions import keep_positions


class ClipVisionConfig(BaseModel):
    """Sizes of the vision transformer; those of ViT-L/14 by default.

    Parameters
    ----------
    width, layers, heads, mlp_width : of the transformer
    patch, side : pixels of one side of a patch and of the square image that the transformer sees
    dim : of a token after its projection
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: PositiveInt = 1024
    layers: PositiveInt = 24
    heads: PositiveInt = 16
    mlp_width: PositiveInt = 4096
    patch: PositiveInt = 14
    side: PositiveInt = Field(224, ge=2)
    dim: PositiveInt = 768

    @model_validator(mode="after")
    def _divides(self) -> "ClipVisionConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        if self.side % self.patch:
            raise ValueError(f"side {self.side} is no multiple of patch {self.patch}")
        return self

    @property
    def tokens(self) -> int:
        """Tokens of one image, the class token first."""
        return (self.side // self.patch) ** 2 + 1

    def build(self) -> "ClipVision":
        """Return the encoder with fresh weights."""
        return ClipVision(self)


class ClipVision(nn.Module):
    """Images to tokens: normed, projected, and divided by the length of the class token.

    The keys are those of transformers, ``vision_model.*`` and ``visual_projection``.
    """

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        self.config = config
        whole = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.mlp_width,
                patch_size=config.patch,
                image_size=config.side,
                projection_dim=config.dim,
            )
        )
        self.vision_model, self.visual_projection = whole.vision_model, whole.visual_projection
        keep_positions(self.vision_model.embeddings, config.tokens)

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (b, token, dim), see `forward`, and the pooled embedding (b, dim), the first of them."""
        tokens = self(images)
        return tokens, tokens[:, 0]

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens of images.

        Parameters
        ----------
        images : tensor (b, 3, h, w) in [0, 1], of any floating type

        Returns
        -------
        tensor (b, token, dim)

        Raises
        ------
        BadInput
            The images have another shape or whole numbers.
        """
        check_images(images)
        side = self.config.side
        # As torchvision 0.15 resized tensors: bicubic, not antialiased.
        x = F.interpolate(images.float(), size=(side, side), mode="bicubic", align_corners=False)
        pixels = normalise(x).to(self.visual_projection.weight.dtype)
        hidden = self.vision_model(pixel_values=pixels).last_hidden_state
        tokens: Tensor = self.visual_projection(self.vision_model.post_layernorm(hidden))
        length: Tensor = tokens[:, :1].norm(dim=-1, keepdim=True)
        return tokens / length

"""The image-text model: OpenCLIP's two towers at small size, learnt from pictures and the names of their classes."""

from collections.abc import Sequence
from typing import cast

import torch
from open_clip.transformer import TextTransformer
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from voxelight.models.clip.image_encoder import ClipImageEncoder, prepare_pixels
from voxelight.models.clip.text import encode_bigg
from voxelight.neuro.tiny.augment import augment, mix_pairs, to_unit_floats
from voxelight.neuro.tiny.descent import Sitting, State, Walk, descend, place
from voxelight.neuro.tiny.recipe import ImageTextStage, TinyRecipe
from voxelight.neuro.tiny.teacher import MAP_WIDTH, Teacher
from voxelight.neuro.tiny.words import build_vocabulary, caption_class, spell_numbers

# Pixels of one side that a patch is shrunk to before its tokens have to give it back.
_COARSE = 4
_PIXEL_SPREAD = 0.25


class ImageText(nn.Module):
    """Both towers, and the heads that only training needs.

    Parameters
    ----------
    recipe : sizes
    names : of the classes
    """

    def __init__(self, recipe: TinyRecipe, names: Sequence[str]) -> None:
        super().__init__()
        config = recipe.build_config("image_encoder")
        self.image: ClipImageEncoder = config.build()
        vocabulary = build_vocabulary(names)
        captions = torch.tensor(spell_numbers([caption_class(name) for name in names], vocabulary))
        self.register_buffer("captions", captions, persistent=False)
        self.text = TextTransformer(
            context_length=captions.shape[1],
            vocab_size=len(vocabulary),
            output_dim=config.output_dim,
            no_causal_mask=True,  # encode_bigg makes it
            **recipe.text,
        )
        self.logit_scale = nn.Parameter(torch.tensor([2.66]))  # log(1 / 0.07)
        self.classes = nn.Linear(config.width, len(names))
        self.guide = nn.Linear(config.width, MAP_WIDTH)
        self.pixels = nn.Linear(config.width, 3 * _COARSE**2)

    def embed_images(self, images: Tensor, drop: float, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return pooled embedding, tokens and the tokens after two thirds of the layers; see `ClipImageEncoder`.

        Parameters
        ----------
        images : tensor (b, 3, side, side) in [0, 1]
        drop : of the last block, see `ImageTextStage`
        generator : on the device of the images
        """
        visual, config = self.image.visual, self.image.config
        x = prepare_pixels(images, config.side, config.washed_out).to(visual.conv1.weight.dtype)
        x = visual._embeds(x)
        blocks = visual.transformer.resblocks
        middle = x
        for number, block in enumerate(blocks):
            share = drop * number / max(1, len(blocks) - 1)
            after = block(x)
            if share:
                stays = torch.rand(len(x), 1, 1, generator=generator, device=x.device) >= share
                # Scaled up, so that the sum of what all blocks add keeps its mean (Huang et al. 2016).
                after = torch.addcmul(x, after - x, (stays / (1 - share)).to(x.dtype))
            x = after
            if number == 2 * len(blocks) // 3 - 1:
                middle = x[:, 1:]
        pooled, tokens = visual._pool(x)
        return pooled @ visual.proj, tokens, middle

    def embed_texts(self) -> Tensor:
        """Return the embedding of every class's caption, tensor (class, dim)."""
        return encode_bigg(self.text, cast(Tensor, self.captions))[1]

    def compare(self, pooled: Tensor, texts: Tensor) -> Tensor:
        """Return scaled cosines of images and texts, float32 tensor (b, class)."""
        cosines = F.normalize(pooled.float(), dim=1) @ F.normalize(texts.float(), dim=1).T
        return self.logit_scale.float().clamp(max=4.6).exp() * cosines


class _Objective:
    """The loss of a batch: classes by text and by tokens, the teacher's map, and the pixels."""

    def __init__(self, model: ImageText, teacher: Teacher | None, stage: ImageTextStage, classes: int) -> None:
        self.model, self.teacher, self.stage, self.count = model, teacher, stage, classes

    def __call__(self, pixels: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        stage, model = self.stage, self.model
        x = augment(pixels, stage.augmentation, generator)
        x, targets = mix_pairs(x, F.one_hot(labels, self.count).float(), stage.augmentation, generator)
        pooled, tokens, middle = model.embed_images(x, stage.drop, generator)
        smooth = (1 - stage.smoothing) * targets + stage.smoothing / self.count
        parts = {}
        if self.teacher is not None:
            with torch.no_grad():
                answers, third = self.teacher(x)
            smooth = (1 - stage.taught) * smooth + stage.taught * answers.softmax(1)
            parts["guide"] = stage.guide * _cosine_distance(model.guide(middle), third.flatten(2).mT)
        parts["text"] = F.cross_entropy(model.compare(pooled, model.embed_texts()), smooth)
        parts["classes"] = F.cross_entropy(model.classes(tokens.mean(1)).float(), smooth)
        parts["pixels"] = stage.pixels * _pixel_error(model.pixels(tokens), x)
        return torch.stack(list(parts.values())).sum(), parts


def fit_image_text(
    pixels: Tensor, labels: Tensor, names: Sequence[str], recipe: TinyRecipe, teacher: Teacher | None, sitting: Sitting
) -> State | None:
    """Fit the image-text model.

    Parameters
    ----------
    pixels : uint8 tensor (picture, 3, side, side), on the device to compute on
    labels : int64 tensor (picture,)
    names : of the classes
    recipe : sizes, options and seed
    teacher : of `build_teacher`; without it the labels teach alone
    sitting : checkpoints, curve and interruption

    Returns
    -------
    state of an `ImageText`; None where it was paused
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = ImageText(recipe, names)
        _initialise(model)
    place(model, pixels.device).train()
    objective = _Objective(model, teacher, recipe.image_text, len(names))
    walk = Walk(
        model,
        len(pixels),
        lambda rows, generator: objective(pixels[rows], labels[rows], generator),
        recipe.image_text.descent,
        recipe.seed,
        recipe.made_by("image_text", sitting.pictures),
    )
    return descend(walk, sitting)


def build_image_text(state: State, recipe: TinyRecipe, names: Sequence[str], device: torch.device | str) -> ImageText:
    """Return a fitted model, ready to be asked."""
    model = ImageText(recipe, names)
    model.load_state_dict(state)
    place(model, device)
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def encode_pixels(encoder: ClipImageEncoder, pixels: Tensor, batch: int = 2000) -> Tensor:
    """Return the tokens of uint8 pictures (picture, 3, side, side), in the dtype of the encoder, where it lies."""
    return torch.cat([encoder(to_unit_floats(part)) for part in torch.split(pixels, batch)])


@torch.inference_mode()
def classify(model: ImageText, pixels: Tensor, batch: int = 2000) -> tuple[Tensor, Tensor]:
    """Return the class logits of pictures by the text tower and by the linear layer on the mean token.

    Parameters
    ----------
    model : of `build_image_text`
    pixels : uint8 tensor (picture, 3, side, side)
    batch : pictures at once

    Returns
    -------
    by text, by tokens : float32 tensor (picture, class)
    """
    texts = model.embed_texts()
    pairs = [model.image.embed(to_unit_floats(part)) for part in torch.split(pixels, batch)]
    by_text = torch.cat([model.compare(pooled, texts) for _, pooled in pairs])
    return by_text, torch.cat([model.classes(tokens.mean(1)).float() for tokens, _ in pairs])


def _initialise(model: ImageText) -> None:
    """Start with small linear maps and no residual noise, as vision transformers that learn from little do."""
    for module in model.image.visual.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            nn.init.trunc_normal_(module.in_proj_weight, std=0.02)


def _cosine_distance(one: Tensor, other: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(one.float(), other.float(), dim=-1).mean()


def _pixel_error(read: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared error of patches (b, token, 3 * 16) read off tokens, in units of the pixels' spread."""
    grid = round(read.shape[1] ** 0.5)
    coarse = F.adaptive_avg_pool2d(images, grid * _COARSE)
    patches = F.unfold(coarse, _COARSE, stride=_COARSE).mT
    return F.mse_loss(read.float(), (patches - 0.5) / _PIXEL_SPREAD)

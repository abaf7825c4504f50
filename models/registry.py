"""Networks by name: ``name -> "module:Config"``. Importing this file imports no network."""

from importlib import import_module
from typing import Any

from voxelight.models.errors import NotFound


def find_config(table: dict[str, str], name: str) -> type[Any]:
    """Import and return the configuration class that a table names.

    Parameters
    ----------
    table : network name -> ``"module:Config"``
    name : a key of the table

    Raises
    ------
    NotFound
        The table has no such name.
    """
    if name not in table:
        raise NotFound(
            f"the network name {name!r}", f"one of {', '.join(sorted(table)) or '(none)'}", "Correct the name."
        )
    module, _, config = table[name].partition(":")
    found: type[Any] = getattr(import_module(module), config)
    return found


SEGMENTERS: dict[str, str] = {
    "agunet": "voxelight.models.segmentation.agunet:AGUNetConfig",
    "daunet": "voxelight.models.segmentation.daunet:DAUNetConfig",
    "dagunet": "voxelight.models.segmentation.daunet:DAGUNetConfig",
    "msga": "voxelight.models.segmentation.msga:MSGAConfig",
    "cdal": "voxelight.models.segmentation.cdal:CDALConfig",
    "attention_unet": "voxelight.models.segmentation.attention_unet:AttentionUnetConfig",
    "dynunet": "voxelight.models.segmentation.baselines:DynUNetConfig",
    "segresnet": "voxelight.models.segmentation.baselines:SegResNetConfig",
    "swin_unetr": "voxelight.models.segmentation.baselines:SwinUNETRConfig",
}

# Networks that were trained elsewhere; `voxelight models import` makes recipes that name them.
IMPORTED: dict[str, str] = {
    "nnunet": "voxelight.models.segmentation.imported:NnunetConfig",
    "monai": "voxelight.models.segmentation.imported:MonaiConfig",
    "onnx": "voxelight.models.segmentation.imported:OnnxConfig",
}

DECODERS: dict[str, str] = {
    "ridge": "voxelight.models.decoders.ridge:RidgeConfig",
}

NETWORKS: dict[str, str] = {
    "mindeye2": "voxelight.models.decoders.mindeye2:MindEye2Config",
    "mindeye1": "voxelight.models.decoders.mindeye1:MindEye1Config",
    "mindeye1-low-level": "voxelight.models.decoders.mindeye1:LowLevelConfig",
    "variation-unet": "voxelight.models.diffusion.variation:VariationConfig",
    "clip-vision": "voxelight.models.clip.vision:ClipVisionConfig",
    "sdxl-unet": "voxelight.models.diffusion.unet:UNetConfig",
    "autoencoder": "voxelight.models.diffusion.autoencoder:AutoencoderConfig",
    "clip-image": "voxelight.models.clip.image_encoder:ImageEncoderConfig",
    "sdxl-text": "voxelight.models.clip.text:TextEncoderConfig",
    "token-converter": "voxelight.models.captioning.converter:ConverterConfig",
    "git-vision": "voxelight.models.captioning.git_vision:GitVisionConfig",
    "clip-words": "voxelight.models.clip.words:WordsConfig",
    "git-captioner": "voxelight.models.captioning.git:CaptionerConfig",
}

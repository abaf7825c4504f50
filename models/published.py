"""The published files: where they come from, under which licence, what they give. Nothing here reads or fetches."""

from collections.abc import Mapping
from typing import Any

from voxelight.models.errors import NotFound
from voxelight.models.published_decoders import LINEAR, MINDEYE1, VARIATION
from voxelight.models.published_file import INFERRED, OPTIMISER, SUBJECTS, VOXELS, PartSizes, PublishedFile

__all__ = ["PUBLISHED", "PartSizes", "PublishedFile", "find_published"]


def find_published(name: str) -> PublishedFile:
    """Return what is known of a published file.

    Raises
    ------
    NotFound
        No published file has this name.
    """
    if name not in PUBLISHED:
        raise NotFound(
            f"the published weights {name!r}",
            f"one of {', '.join(sorted(PUBLISHED))}",
            "Correct the name; voxelight weights list shows them all.",
        )
    return PUBLISHED[name]


_MINDEYE2 = "pscotti/mindeyev2"


def _decoder(name: str, what: str, config: Mapping[str, Any], size: int, note: str) -> PublishedFile:
    parts = {"decoder": PartSizes("mindeye2", config)}
    file = f"train_logs/{name}/last.pth"
    return PublishedFile(
        name, what, _MINDEYE2, file, "nsd", "mindeye2", parts, size=size, dataset=True, note=note + OPTIMISER
    )


def _others(subject: int) -> tuple[int, ...]:
    return tuple(voxels for other, voxels in VOXELS.items() if other != subject)


def _refiner(name: str, what: str, repository: str, file: str, **more: Any) -> PublishedFile:
    parts = {
        "refiner": PartSizes("sdxl-unet", {"context_dim": 2048, "vector_dim": 2816}),
        "refiner_autoencoder": PartSizes("autoencoder"),
        "refiner_text": PartSizes("sdxl-text"),
    }
    return PublishedFile(name, what, repository, file, "openrail++", "sdxl", parts, **more)


_FINE_TUNED = [
    _decoder(
        f"final_subj0{subject}_pretrained_{sessions}sess_24bs",
        f"MindEye2 for subject {subject} of NSD, fine-tuned on {sessions} session{'s' if sessions > 1 else ''}",
        {"voxels": (VOXELS[subject],)},
        8_900_000_000,
        INFERRED,
    )
    for sessions in (40, 1)
    for subject in SUBJECTS
]
_PRETRAINED = [
    _decoder(
        f"final_multisubject_subj0{subject}",
        f"MindEye2 pretrained on the seven subjects of NSD other than {subject}, a start for fine-tuning",
        {"voxels": _others(subject)},
        10_300_000_000,
        INFERRED,
    )
    for subject in SUBJECTS
]
_SMALL = _decoder(
    "multisubject_subj01_1024hid_nolow_300ep",
    "MindEye2 with 1024 hidden units and no low-level branch, pretrained on the seven subjects other than 1",
    {"voxels": _others(1), "hidden": 1024, "low_level": False},
    2_900_000_000,
    INFERRED,
)
_GENERATORS = [
    PublishedFile(
        "unclip6_epoch0_step110000",
        "SDXL-unCLIP: bigG tokens to images, with its autoencoder and the bigG image encoder",
        _MINDEYE2,
        "unclip6_epoch0_step110000.ckpt",
        "openrail++",
        "unclip",
        {
            "unclip": PartSizes("sdxl-unet"),
            "autoencoder": PartSizes("autoencoder"),
            "image_encoder": PartSizes("clip-image"),
        },
        size=18_000_000_000,
        dataset=True,
        note="A derivative of SDXL base 1.0, so its restrictions carry over.",
    ),
    PublishedFile(
        "sd_image_var_autoenc",
        "Autoencoder of SD image variations: the blurry image of the low-level branch",
        _MINDEYE2,
        "sd_image_var_autoenc.pth",
        "openrail",
        "autoencoder",
        {"blurry": PartSizes("autoencoder", {"scale": 0.18215})},
        size=300_000_000,
        dataset=True,
    ),
    _refiner(
        "zavychromaxl_v30",
        "ZavyChromaXL 3.0, a fine-tuned SDXL: the refinement of the published system",
        _MINDEYE2,
        "zavychromaxl_v30.safetensors",
        size=6_900_000_000,
        dataset=True,
        note="That it lies in this repository is [not verified]. Where the hub has it not: version 3.0 of model 119229 "
        "on Civitai, then voxelight weights convert zavychromaxl_v30 FILE. A derivative of SDXL, so its restrictions "
        "carry over.",
    ),
    _refiner(
        "sd_xl_base_1.0",
        "SDXL base 1.0, the other choice for the refinement",
        "stabilityai/stable-diffusion-xl-base-1.0",
        "sd_xl_base_1.0.safetensors",
        sha256="31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b",
        size=6_938_078_334,
        note="Hash and size as several public lists state them from the hub; not computed here.",
    ),
]
_WORDS = [
    PublishedFile(
        "CLIP-ViT-bigG-14-laion2B-39B-b160k",
        "OpenCLIP bigG: the second text encoder of SDXL (its text tower only)",
        "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        "open_clip_model.safetensors",
        "mit-bigg",
        "clip-text",
        {"text": PartSizes("sdxl-text")},
        size=10_200_000_000,
        needs=("clip-vit-large-patch14",),
        note="open_clip_pytorch_model.bin of the same repository is read as well.",
    ),
    PublishedFile(
        "clip-vit-large-patch14",
        "OpenAI CLIP ViT-L/14: the first text encoder of SDXL (its text tower only)",
        "openai/clip-vit-large-patch14",
        "model.safetensors",
        "mit-clip",
        size=1_700_000_000,
        note="Converted together with CLIP-ViT-bigG-14-laion2B-39B-b160k.",
    ),
    PublishedFile(
        "bigG_to_L_epoch8",
        "Converter from bigG tokens to those of CLIP ViT-L, for captions",
        _MINDEYE2,
        "bigG_to_L_epoch8.pth",
        "mindeye2",
        "bigg-to-l",
        {"converter": PartSizes("token-converter")},
        size=7_100_000,
        dataset=True,
    ),
    PublishedFile(
        "git-large-coco",
        "GIT large, fine-tuned on COCO: captions from tokens (its image encoder is left out)",
        "microsoft/git-large-coco",
        "pytorch_model.bin",
        "mit-git",
        "git",
        {"captioner": PartSizes("git-captioner")},
        size=1_600_000_000,
        needs=("git-large-coco-vocabulary",),
        note="model.safetensors of the same repository is read as well.",
    ),
    PublishedFile(
        "git-large-coco-vocabulary",
        "The words of GIT: BERT's uncased vocabulary",
        "microsoft/git-large-coco",
        "vocab.txt",
        "mit-git",
        "vocabulary",
        size=232_000,
        note="Kept with the weights of git-large-coco.",
    ),
]
_UNUSED = [
    PublishedFile(
        "convnext_xlarge_alpha0.75_fullckpt",
        "ConvNeXt-XL of VICRegL: the teacher of the contrast maps, for training only",
        _MINDEYE2,
        "convnext_xlarge_alpha0.75_fullckpt.pth",
        "cc-by-nc",
        size=6_600_000_000,
        dataset=True,
        note="No reconstruction needs it.",
    ),
    PublishedFile(
        "gnet_multisubject",
        "GNet: an encoder of brain activity, for the brain correlation scores only",
        _MINDEYE2,
        "gnet_multisubject.pt",
        "gnet",
        size=1_300_000_000,
        dataset=True,
        note="No reconstruction needs it.",
    ),
]

PUBLISHED: dict[str, PublishedFile] = {
    row.name: row
    for row in (
        *(*_FINE_TUNED, *_PRETRAINED, _SMALL, *MINDEYE1),
        *(*_GENERATORS, *VARIATION, *_WORDS, *LINEAR, *_UNUSED),
    )
}

"""Licences of published weights, as far as they are known."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """Terms of use, as far as they are known.

    Parameters
    ----------
    id : SPDX identifier, or ``LicenseRef-...`` where SPDX has none
    url : where the text is
    terms : what it restricts, in a sentence or two
    """

    id: str
    url: str
    terms: str


_HUB = "https://huggingface.co"

LICENCES: dict[str, Licence] = {
    "nsd": Licence(
        "LicenseRef-not-verified",
        f"{_HUB}/datasets/pscotti/mindeyev2",
        "The licence of the data set on the hub is [not verified]; the code is MIT. Trained on the Natural Scenes "
        "Dataset, whose signed terms (naturalscenesdataset.org) forbid passing the data on.",
    ),
    "mindeye2": Licence(
        "LicenseRef-not-verified",
        f"{_HUB}/datasets/pscotti/mindeyev2",
        "The licence of the data set on the hub is [not verified]; the code is MIT.",
    ),
    "mindeye1": Licence(
        "LicenseRef-not-verified",
        f"{_HUB}/datasets/pscotti/naturalscenesdataset",
        "The licence of the data set on the hub is [not verified]; the code is MIT. Trained on the Natural Scenes "
        "Dataset, whose signed terms (naturalscenesdataset.org) forbid passing the data on.",
    ),
    "mit-versatile": Licence("MIT", f"{_HUB}/shi-labs/versatile-diffusion", "Keep the notice. [not verified]"),
    "openrail++": Licence(
        "LicenseRef-CreativeML-OpenRAIL++-M",
        f"{_HUB}/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
        "Use-based restrictions of attachment A, which carry over to every derivative and must be passed on with it.",
    ),
    "openrail": Licence(
        "LicenseRef-CreativeML-OpenRAIL-M",
        f"{_HUB}/lambdalabs/sd-image-variations-diffusers",
        "Use-based restrictions, which carry over to derivatives. That this file is under it is [not verified].",
    ),
    "cc-by-nc": Licence(
        "CC-BY-NC-4.0",
        "https://github.com/facebookresearch/VICRegL",
        "No commercial use. The README says CC-BY-NC; the version is [not verified].",
    ),
    "gnet": Licence(
        "LicenseRef-not-verified",
        f"{_HUB}/datasets/pscotti/mindeyev2",
        "The licence of GNet is [not verified]. Trained on the Natural Scenes Dataset.",
    ),
    "mit-bigg": Licence(
        "MIT",
        f"{_HUB}/laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
        "Keep the notice. [not verified]",
    ),
    "mit-clip": Licence("MIT", "https://github.com/openai/CLIP/blob/main/LICENSE", "Keep the notice. [not verified]"),
    "mit-git": Licence("MIT", f"{_HUB}/microsoft/git-large-coco", "Keep the notice. [not verified]"),
}

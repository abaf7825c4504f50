"""Networks that were trained elsewhere: nnU-Net v2, MONAI bundles, ONNX files; each reads windows of one size."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from voxelight.models.errors import BadInput, NotInstalled

Sides = tuple[PositiveInt, PositiveInt, PositiveInt]
_INSTALL = "Install it: pip install 'voxelight[imported]'."
# The parts that a plan of nnU-Net may name; nothing else of Python is looked up by a name in a file.
_PARTS: dict[str, Any] = {
    "torch.nn.modules.conv.Conv3d": nn.Conv3d,
    "torch.nn.modules.instancenorm.InstanceNorm3d": nn.InstanceNorm3d,
    "torch.nn.modules.batchnorm.BatchNorm3d": nn.BatchNorm3d,
    "torch.nn.LeakyReLU": nn.LeakyReLU,
    "torch.nn.modules.activation.LeakyReLU": nn.LeakyReLU,
    "torch.nn.ReLU": nn.ReLU,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
}
_LEAST = 1e-7


class ImportedConfig(BaseModel):
    """What all have in common.

    Parameters
    ----------
    in_channels : image channels
    classes : labels, background included
    patch : voxels (i, j, k) of a window; what is smaller is padded with zeros, as their own programs do
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_channels: PositiveInt = 1
    classes: int = Field(ge=2)
    patch: Sides
    spatial_dims: Literal[3] = 3


class NnunetConfig(ImportedConfig):
    """A network of nnU-Net v2 (Isensee et al. 2021), built by its own package.

    Parameters
    ----------
    in_channels, classes, patch : as of `ImportedConfig`
    architecture, arguments : as its plans have them
    axes : which of our axes (i, j, k) each axis of the network is
    """

    architecture: Literal["PlainConvUNet", "ResidualEncoderUNet"]
    arguments: dict[str, Any]
    axes: tuple[int, int, int] = (2, 1, 0)

    def build(self) -> nn.Module:
        """Return the network without weights.

        Raises
        ------
        NotInstalled
            The package dynamic-network-architectures is missing.
        BadInput
            The plans name a part that is not known.
        """
        try:
            module = import_module("dynamic_network_architectures.architectures.unet")
        except ImportError:
            raise NotInstalled("no package dynamic-network-architectures", "the one that builds networks of nnU-Net",
                               _INSTALL) from None  # fmt: skip
        arguments = {name: _find_part(value) for name, value in self.arguments.items()}
        inner = getattr(module, self.architecture)(
            input_channels=self.in_channels, num_classes=self.classes, deep_supervision=False, **arguments
        )
        return Windowed(inner, self.patch, self.axes)


class MonaiConfig(ImportedConfig):
    """A network of MONAI.

    Parameters
    ----------
    in_channels, classes, patch : as of `ImportedConfig`
    architecture, arguments : class of `monai.networks.nets` and what it takes
    """

    architecture: Literal[
        "UNet", "BasicUNet", "AttentionUnet", "DynUNet", "SegResNet", "SegResNetDS", "UNETR", "SwinUNETR", "VNet"
    ]
    arguments: dict[str, Any]

    def build(self) -> nn.Module:
        """Return the network without weights.

        Raises
        ------
        BadInput
            MONAI refuses the arguments.
        """
        network = getattr(import_module("monai.networks.nets"), self.architecture)
        try:
            inner = network(**self.arguments)
        except (TypeError, ValueError) as error:
            raise BadInput(f"arguments that {self.architecture} refuses ({error})", "those of MONAI 1.6",
                           "Check network_def of the bundle.") from None  # fmt: skip
        return Windowed(inner, self.patch, (0, 1, 2))


class OnnxConfig(ImportedConfig):
    """A network in an ONNX file, carried as a tensor of bytes and computed by ONNX Runtime on the processor.

    Parameters
    ----------
    in_channels, classes, patch : as of `ImportedConfig`
    size : bytes of the file
    channels_last : whether channels come after the axes of space
    gives : ``probabilities`` or ``logits``
    """

    size: PositiveInt
    channels_last: bool = True
    gives: Literal["probabilities", "logits"] = "probabilities"

    def build(self) -> nn.Module:
        """Return the network without its file."""
        return Windowed(OnnxNetwork(self.size, self.channels_last, self.gives), self.patch, (0, 1, 2))


class Windowed(nn.Module):
    """A network that reads windows of one size, in its own order of axes.

    Parameters
    ----------
    inner : takes and gives tensors (b, c, three axes)
    patch : sides (i, j, k) of a window
    axes : which of our axes each of its axes is
    """

    def __init__(self, inner: nn.Module, patch: tuple[int, int, int], axes: tuple[int, int, int]) -> None:
        super().__init__()
        self.inner = inner
        self._patch = patch
        self._axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, i, j, k) to logits (b, class, i, j, k); smaller windows are padded with zeros on both sides."""
        more = [max(0, side - there) for side, there in zip(self._patch, x.shape[2:], strict=True)]
        before = [count // 2 for count in more]
        padding = [part for count, start in zip(reversed(more), reversed(before), strict=True)
                   for part in (start, count - start)]  # fmt: skip
        padded = nn.functional.pad(x, padding)
        there = self.inner(padded.permute(0, 1, *(axis + 2 for axis in self._axes)).contiguous())
        back = tuple(self._axes.index(axis) + 2 for axis in range(3))
        logits = there.permute(0, 1, *back)
        i, j, k = (slice(start, start + side) for start, side in zip(before, x.shape[2:], strict=True))
        cropped: Tensor = logits[:, :, i, j, k]
        return cropped


class OnnxNetwork(nn.Module):
    """An ONNX file as a module; its only state is the file."""

    def __init__(self, size: int, channels_last: bool, gives: str) -> None:
        super().__init__()
        self.register_buffer("file", torch.zeros(size, dtype=torch.uint8))
        self._channels_last = channels_last
        self._gives = gives
        self._run: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_run": None}  # a session can't be copied

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, i, j, k) to logits (b, class, i, j, k)."""
        if self._run is None:
            self._run = open_onnx(self.file.cpu().numpy().tobytes())  # type: ignore[operator]
        array = x.detach().float().cpu().numpy()
        array = np.moveaxis(array, 1, -1) if self._channels_last else array
        found = self._run(np.ascontiguousarray(array))
        found = np.moveaxis(found, -1, 1) if self._channels_last else found
        values = torch.from_numpy(np.ascontiguousarray(found)).to(x.device)
        return values.clamp(min=_LEAST).log() if self._gives == "probabilities" else values


def carry_file(content: bytes) -> Tensor:
    """Return the bytes of a file as a tensor, as `OnnxNetwork` carries it."""
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())


def open_onnx(content: bytes) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """Return what computes the first output of an ONNX file.

    Raises
    ------
    NotInstalled
        The package onnxruntime is missing.
    BadInput
        The file is damaged or of operators that are not known.
    """
    try:
        import onnxruntime
    except ImportError:
        raise NotInstalled("no package onnxruntime", "the one that computes ONNX files", _INSTALL) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has an exception class for each fault and no base of its own
        raise BadInput(f"an ONNX file that can't be opened ({type(error).__name__})", "an intact file",
                       "Export or copy it again.") from None  # fmt: skip
    [name] = [each.name for each in session.get_inputs()][:1]
    return lambda array: np.asarray(session.run(None, {name: array})[0])


def _find_part(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in _PARTS:
        raise BadInput(f"the part {value[:80]!r} in the plans of a network", f"one of {', '.join(_PARTS)}",
                       "This network can't be imported.")  # fmt: skip
    return _PARTS[value]

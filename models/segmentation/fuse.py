"""The form of a network that computes fastest on a processor: same function, fewer passes over memory."""

import copy
from collections import Counter
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.hooks import RemovableHandle

from voxelight.models.segmentation.joined import Doubling

Network = TypeVar("Network", bound=nn.Module)

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TOLERANCE = 1e-3


def fuse(network: Network, example: Tensor) -> Network:
    """Return a copy in which every batch normalisation is part of the convolution before it, channels last in memory.

    So is a ReLU in place that follows, and convolutions are computed by oneDNN whatever their size, where torch has it.
    What stands before what is seen on one pass over an example, so that a network needs no list of its pairs. A pair
    is left alone where anything but the normalisation reads the convolution. The copy is for prediction only.

    Parameters
    ----------
    network : in evaluation mode, on the device of the example
    example : tensor (b, c, i, j, k) or (b, c, i, j), small; its values don't matter

    Returns
    -------
    a copy of the network; the network itself where the copy would not give the same (relative error above 0.001)
    """
    names = {module: name for name, module in network.named_modules()}
    pairs, activations = _find_pairs(network, example)
    fused = copy.deepcopy(network)
    for convolution, norm in pairs.items():
        _replace(fused, names[convolution], names[norm])
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if there and hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        last = {names[norm]: names[conv] for conv, norm in pairs.items()}
        _compute_by_onednn(fused, {last.get(names[each], names[each]): names[act] for each, act in activations.items()})
    if example.dim() in (4, 5):
        layout = torch.channels_last if example.dim() == 4 else torch.channels_last_3d
        fused = fused.to(memory_format=layout)
    return fused if _agree(network, fused, example) else network


class OneDNNConvolution(nn.Module):
    """A convolution in single precision on a processor, with the ReLU behind it where there is one, in one pass.

    Parts that stand one behind the other are convolved one by one onto the same sum, so that nobody copies them
    together.
    """

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d, activated: bool) -> None:
        super().__init__()
        self.inner = convolution
        self.activated = activated

    def forward(self, *parts: Tensor) -> Tensor:
        """Return features, channels last in memory."""
        inner, found = self.inner, None
        where = (inner.padding, inner.stride, inner.dilation, inner.groups)
        weights = torch.split(inner.weight, [part.shape[1] // inner.groups for part in parts], dim=1)
        for number, (part, weight) in enumerate(zip(parts, weights, strict=True), start=1):
            unary = "relu" if self.activated and number == len(parts) else None
            x, weight = _channels_last(part), _channels_last(weight)
            if found is None:
                found = torch.ops.mkldnn._convolution_pointwise(x, weight, inner.bias, *where, unary or "none", [], "")
            else:
                torch.ops.mkldnn._convolution_pointwise_.binary(
                    found, x, weight, None, *where, "add", None, unary, [], None
                )
        return cast(Tensor, found)


class OneDNNDoubling(nn.Module):
    r"""`Doubling` as one convolution on the coarse grid, of what each of the eight fine voxels of a coarse one sees.

    Along an axis with kernel w: :math:`y_{2m} = w_0 x_m + w_2 x_{m-1}, \ y_{2m+1} = w_1 x_m`.
    """

    def __init__(self, doubling: Doubling, activated: bool) -> None:
        super().__init__()
        inputs, outputs = doubling.weight.shape[:2]
        taps = torch.zeros(2, 3, 2)  # phase, tap, offset: before and here
        taps[0, 2, 0] = taps[0, 0, 1] = taps[1, 1, 1] = 1
        taps = taps.to(doubling.weight)
        weight = torch.einsum("coijk,pia,qjb,rkd->pqrocabd", doubling.weight.detach(), taps, taps, taps)
        bias = torch.zeros(outputs).to(doubling.weight) if doubling.bias is None else doubling.bias.detach()
        phases = nn.Conv3d(inputs, 8 * outputs, 2)
        phases.weight = nn.Parameter(weight.reshape(8 * outputs, inputs, 2, 2, 2), requires_grad=False)
        phases.bias = nn.Parameter(bias.repeat(8), requires_grad=False)
        self.phases = OneDNNConvolution(phases, activated)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (b, outputs, 2i, 2j, 2k), channels last in memory."""
        b, (i, j, k) = len(x), x.shape[2:]
        found = self.phases(F.pad(x, (1, 0, 1, 0, 1, 0))).permute(0, 2, 3, 4, 1)
        fine: Tensor = found.reshape(b, i, j, k, 2, 2, 2, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return fine.reshape(b, 2 * i, 2 * j, 2 * k, -1).permute(0, 4, 1, 2, 3)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


class _Watch:
    """Which convolution a normalisation reads, and which ReLU what that gives, by the memory that they read."""

    def __init__(self) -> None:
        self.made: dict[int, nn.Module] = {}
        self.kept: list[Tensor] = []  # memory that is held is not handed out a second time
        self.pairs: dict[nn.Module, nn.Module] = {}
        self.normed: dict[int, nn.Module] = {}  # memory of a normalisation that nobody has read yet
        self.activations: dict[nn.Module, nn.Module] = {}  # of a normalisation, or of a convolution without one
        self.reads: Counter[nn.Module] = Counter()
        self.calls: Counter[nn.Module] = Counter()

    def see_output(self, module: nn.Module, _: Any, output: Tensor) -> None:
        self.calls[module] += 1
        if isinstance(module, _CONVOLUTIONS):
            self.made[output.untyped_storage().data_ptr()] = module
            self.kept.append(output)
        if isinstance(module, _NORMS):
            self.normed[output.untyped_storage().data_ptr()] = module
            self.kept.append(output)

    def see_input(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        for value in inputs:
            norm = self.normed.pop(value.untyped_storage().data_ptr(), None) if isinstance(value, Tensor) else None
            if norm is not None and isinstance(module, nn.ReLU) and module.inplace:
                self.activations[norm] = module  # in place and first: whoever reads it later sees it activated
            source = self.made.get(value.untyped_storage().data_ptr()) if isinstance(value, Tensor) else None
            if source is not None:
                if isinstance(module, nn.ReLU) and module.inplace and not self.reads[source]:
                    self.activations[source] = module
                self.reads[source] += 1
                if isinstance(module, _NORMS):
                    self.pairs[source] = module


def _find_pairs(network: nn.Module, example: Tensor) -> tuple[dict[nn.Module, nn.Module], dict[nn.Module, nn.Module]]:
    """Return convolution -> normalisation, and what comes last of both -> ReLU."""
    watch, hooks = _Watch(), list[RemovableHandle]()
    for module in network.modules():
        if not list(module.children()):
            hooks += [module.register_forward_hook(watch.see_output), module.register_forward_pre_hook(watch.see_input)]
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    norms = Counter(watch.pairs.values())
    pairs = {
        convolution: norm
        for convolution, norm in watch.pairs.items()
        if watch.reads[convolution] == watch.calls[convolution] == watch.calls[norm] == norms[norm] == 1
    }
    once = {norm: module for norm, module in watch.activations.items() if watch.calls[module] == 1}
    return pairs, once


def _compute_by_onednn(network: nn.Module, activations: dict[str, str]) -> None:
    for name, module in list(network.named_modules()):
        known = isinstance(module, (nn.Conv2d, nn.Conv3d, Doubling)) and module.weight.dtype is torch.float32
        known = known and not (isinstance(module, Doubling) and module.stride != (2, 2, 2))
        if not known or module.padding_mode != "zeros" or isinstance(module.padding, str):
            continue
        form = OneDNNDoubling if isinstance(module, Doubling) else OneDNNConvolution
        network.set_submodule(name, form(module, name in activations))
        if name in activations:
            network.set_submodule(activations[name], nn.Identity())


def _replace(network: nn.Module, convolution: str, norm: str) -> None:
    before = network.get_submodule(convolution)
    after = cast(nn.BatchNorm3d, network.get_submodule(norm))
    merged = fuse_conv_bn_eval(before, after, transpose=_is_transposed(before))  # type: ignore[type-var]
    network.set_submodule(convolution, merged)
    network.set_submodule(norm, nn.Identity())


def _is_transposed(module: nn.Module) -> bool:
    return isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))


def _agree(network: nn.Module, fused: nn.Module, example: Tensor) -> bool:
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    with torch.inference_mode():
        expected, found = network(noise), fused(noise)
    scale = float(expected.abs().max())
    return bool((found - expected).abs().max() <= _TOLERANCE * max(scale, 1e-12))

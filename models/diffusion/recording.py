"""Calls of a UNet, each shape recorded once as a CUDA graph, with what its cross-attention makes of the context."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

KeyValue = tuple[Tensor, Tensor]
RECORDINGS_KEPT = 4


class Attends(Protocol):
    """A transformer block that may be handed the keys and values of its context."""

    kept: KeyValue | None

    def find_key_value(self, context: Tensor) -> KeyValue:
        """Return keys and values (b, token, dim) of a context (b, token, dim)."""


class _Recording:
    """What belongs to one shape of input: keys and values of the context, and a CUDA graph."""

    def __init__(self) -> None:
        self.graph: Any = None
        self._addresses: tuple[int, ...] = ()
        self._inputs: list[Tensor] = []
        self._output: Tensor | None = None
        self._kept: list[KeyValue] = []
        self._context: Tensor | None = None
        self._version: int | None = None

    def keep(self, context: Tensor, blocks: Sequence[Attends]) -> None:
        """Hand the context's keys and values to the blocks, made anew where it changed, at the same addresses."""
        version = None if context.is_inference() else context._version
        if context is not self._context or version != self._version:
            fresh = [block.find_key_value(context) for block in blocks]
            for kept, made in zip(self._kept, fresh, strict=bool(self._kept)):
                kept[0].copy_(made[0])
                kept[1].copy_(made[1])
            self._kept = self._kept or fresh
            self._context, self._version = context, version
        for block, kept in zip(blocks, self._kept, strict=True):
            block.kept = kept

    def replay(self, run: Callable[..., Tensor], inputs: list[Tensor], addresses: tuple[int, ...], pool: Any) -> Tensor:
        """Return what ``run(*inputs)`` gives, from a graph that is recorded anew when the weights have moved."""
        if self.graph is None or addresses != self._addresses:
            self.graph = self._output = None
            self._inputs = [one.clone() for one in inputs]
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # kernels are chosen and compiled before the recording
                run(*self._inputs)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self._output = run(*self._inputs)
            self.graph, self._addresses = graph, addresses
        for held, one in zip(self._inputs, inputs, strict=True):
            held.copy_(one)
        self.graph.replay()
        assert self._output is not None
        return self._output.clone()


class Calls:
    """Stands in for the `forward` of a UNet.

    Parameters
    ----------
    unet : whose `forward` it is
    blocks : its transformer blocks
    graphs : whether calls on a GPU are recorded
    """

    def __init__(self, unet: nn.Module, blocks: Sequence[Attends], graphs: bool) -> None:
        self._forward = unet.forward
        self._parameters = list(unet.parameters())
        self._blocks = blocks
        self._graphs = graphs
        self._recordings: OrderedDict[Any, _Recording] = OrderedDict()

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        class_labels: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """Return the noise estimate, (b, 4, h, w), as a tuple of one."""
        sample = sample.contiguous(memory_format=torch.channels_last)
        timesteps = torch.as_tensor(timestep, device=sample.device).expand(len(sample))
        inputs = [sample, timesteps] if class_labels is None else [sample, timesteps, class_labels]
        recording = self._find((sample.shape, encoder_hidden_states.shape, timesteps.dtype, len(inputs)))

        def run(sample: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
            with _kernels_by_trial():
                out: Tensor = self._forward(sample, timesteps, encoder_hidden_states, labels, return_dict=False)[0]
            return out

        with torch.no_grad():
            try:
                recording.keep(encoder_hidden_states, self._blocks)
                if not (self._graphs and sample.is_cuda):
                    return (run(*inputs),)
                addresses = tuple(parameter.data_ptr() for parameter in self._parameters)
                return (recording.replay(run, inputs, addresses, self._find_pool()),)
            finally:  # whoever calls parts of the UNet has a context of his own
                for block in self._blocks:
                    block.kept = None

    def _find(self, key: Any) -> _Recording:
        recording = self._recordings.pop(key, None) or _Recording()
        self._recordings[key] = recording
        while len(self._recordings) > (RECORDINGS_KEPT if self._graphs else 1):
            self._recordings.popitem(last=False)
        return recording

    def _find_pool(self) -> Any:
        """Return the memory that recordings share: they are never replayed at once, and outputs are copied."""
        graphs = (recording.graph for recording in self._recordings.values())
        return next((graph.pool() for graph in graphs if graph is not None), None)


@contextmanager
def _kernels_by_trial() -> Iterator[None]:
    """Let cuDNN choose convolutions by trying them, unless whoever runs us wants the same choice every time."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or not torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before

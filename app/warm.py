"""Networks that stay loaded in a worker from job to job, as many as fit a budget; what was used longest ago goes."""

import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from voxelight.app.metrics import EVICTED

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")

_SHARE = 0.5  # of the memory of a device, where no budget is set
_log = logging.getLogger(__name__)


@dataclass
class _Kept:
    value: Any
    label: str
    device: str
    size: int


class WarmModels:
    """Loaded networks by what they are made from.

    The one in use always stays, whatever its size. The budget holds for each device by itself.

    Parameters
    ----------
    budget_bytes : of the parameters that are kept on a device beside the peak of work there; None: half its memory
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self.budget_bytes = budget_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.RLock()
        self.evicted = 0

    def find(
        self, key: str, label: str, device: str, make: Callable[[], T], count: Callable[[T], int], need: int = 0
    ) -> T:
        """Return what was loaded under a key, or load it.

        Parameters
        ----------
        key : names all that it is made from
        label : recipe or profile, to be shown
        device : where it is
        make : loads it
        count : bytes of what was loaded
        need : bytes for which room is made before it is loaded
        """
        with self._lock:
            if key not in self._kept:
                self._make_room(device, need)
                value = make()
                self._kept[key] = _Kept(value, label, device, count(value))
            self._kept.move_to_end(key)
            self._make_room(device, 0)
            found: T = self._kept[key].value
            return found

    def describe(self) -> dict[str, int]:
        """Return what is loaded, label -> bytes."""
        kept = list(self._kept.values())  # without the lock, which is held while something is loaded
        return {label: sum(each.size for each in kept if each.label == label) for label in {k.label for k in kept}}

    def clear(self) -> None:
        """Let everything go."""
        with self._lock:
            self._kept.clear()

    def _make_room(self, device: str, need: int) -> None:
        """Let go of what was used longest ago until the rest fits; with nothing to be loaded, the last one stays."""
        budget = self._find_budget(device)
        while True:
            there = [key for key, each in self._kept.items() if each.device == device]
            held = sum(self._kept[key].size for key in there)
            if held + need <= budget or len(there) <= (0 if need else 1):
                return
            gone = self._kept.pop(there[0])
            self.evicted += 1
            EVICTED.inc()
            _log.info(
                "Let go of %s, %.2f GiB on %s: %.2f GiB are kept at most.", gone.label, gone.size / 2**30, device,
                budget / 2**30,
            )  # fmt: skip
            del gone
            _free(device)

    def _find_budget(self, device: str) -> float:
        if self.budget_bytes is not None:
            return self.budget_bytes
        if device.startswith("cuda"):
            import torch

            return float(torch.cuda.get_device_properties(device).total_memory * _SHARE)
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * _SHARE)


WARM = WarmModels()


def count_bytes(modules: "Iterable[nn.Module]") -> int:
    """Return the bytes of the parameters and buffers of networks."""
    return sum(
        tensor.numel() * tensor.element_size()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    )


def _free(device: str) -> None:
    if device.startswith("cuda") and "torch" in sys.modules:
        import torch

        torch.cuda.empty_cache()

"""Fixed tensors that belong to a published file and not to training."""

from collections.abc import Callable
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from voxelight.models.errors import BadInput


class Constants(nn.Module):
    """Fixed tensors that published files list: float32 whatever the type of the rest, and checked when loaded.

    Half precision holds neither the frequencies nor the schedule well enough: at position 500 a rotary angle would be
    off by a radian.

    Parameters
    ----------
    values : makes the tensors by name
    as_parameters : list them as parameters that are not trained, not as buffers
    """

    def __init__(self, values: Callable[[], dict[str, Tensor]], as_parameters: bool = False) -> None:
        super().__init__()
        self._values = values
        for name, value in values().items():
            if as_parameters:
                self.register_parameter(name, nn.Parameter(value, requires_grad=False))
            else:
                self.register_buffer(name, value)
        self.register_load_state_dict_post_hook(_refuse_others)  # type: ignore[no-untyped-call]

    def exact(self) -> dict[str, Tensor]:
        """Return the tensors as they must be, on the CPU."""
        with torch.device("cpu"):
            return self._values()

    def restore(self) -> None:
        """Put the exact values back, where the module's tensors are now."""
        for name, value in self.exact().items():
            moved = value.to(getattr(self, name).device)
            setattr(self, name, nn.Parameter(moved, requires_grad=False) if name in self._parameters else moved)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.restore()
        return self


def _refuse_others(module: nn.Module, _: Any) -> None:
    """Refuse a file whose constants are not those of the configuration; a rounded copy is made exact."""
    constants = cast(Constants, module)
    for name, value in constants.exact().items():
        held = getattr(constants, name)
        if not held.is_meta and not torch.allclose(held.float().cpu(), value, rtol=1e-2, atol=1e-6):
            raise BadInput(
                f"weights whose {name} begin with {held.flatten()[:3].tolist()}",
                f"{value.flatten()[:3].tolist()}, as the configuration gives",
                "Load weights of a prior with this schedule.",
            )
    constants.restore()

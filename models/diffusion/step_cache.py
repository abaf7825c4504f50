"""A UNet that computes its deep levels on some steps only, and keeps what they gave for the steps between."""

from typing import Any, cast

from torch import Tensor, nn

from voxelight.models.errors import BadInput


class StepCache(nn.Module):
    """Reuse of deep features between neighbouring steps (Ma et al. 2024, DeepCache).

    Deep features change slowly from step to step. On a step that reuses them only the finest level is computed, which
    in SDXL is a fifteenth of the work. What that costs in fidelity grows with the distance between steps, so it
    suits many small steps better than a few large ones. Build one for each run of a sampler.

    Parameters
    ----------
    unet : of `UNetConfig.build`, its finest level without attention
    every : steps from one full evaluation to the next; 1 reuses nothing

    Raises
    ------
    BadInput
        The finest level attends, or is the only one; or the UNet's calls are replayed from a recording.
    """

    def __init__(self, unet: nn.Module, every: int) -> None:
        super().__init__()
        self.unet = cast(Any, unet)
        self.every = every
        self._reuses = 0
        self._deep: Tensor | None = None
        if len(self.unet.down_blocks) < 2 or getattr(self.unet.down_blocks[0], "has_cross_attention", False):
            raise BadInput(
                "a UNet whose finest level attends or is the only one",
                "several levels, the finest without attention",
                "Sample without reuse of deep features.",
            )

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        encoder_hidden_states: Tensor,
        class_labels: Tensor,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """Return the noise estimate, as the UNet does without ``return_dict``."""
        # Where guidance begins or ends the batch changes, and nothing kept fits.
        if self._deep is None or len(self._deep) != len(x) or self._reuses == self.every - 1:
            return self._run_whole(x, timesteps, encoder_hidden_states, class_labels)
        self._reuses += 1
        unet = self.unet
        emb = unet.time_embedding(unet.get_time_embed(sample=x, timestep=timesteps))
        emb = emb + unet.get_class_embed(sample=x, class_labels=class_labels)
        shallow = [unet.conv_in(x)]
        for resnet in unet.down_blocks[0].resnets:
            shallow.append(resnet(shallow[-1], emb))
        out = unet.up_blocks[-1](hidden_states=self._deep, temb=emb, res_hidden_states_tuple=tuple(shallow))
        return (unet.conv_out(unet.conv_act(unet.conv_norm_out(out))),)

    def _run_whole(self, x: Tensor, timesteps: Tensor, context: Tensor, vector: Tensor) -> tuple[Tensor]:
        """Call the UNet, and keep what its second finest level gives the finest."""
        kept: list[Tensor] = []
        handle = self.unet.up_blocks[-2].register_forward_hook(lambda module, given, deep: kept.append(deep))
        try:
            (eps,) = self.unet(x, timesteps, encoder_hidden_states=context, class_labels=vector, return_dict=False)
        finally:
            handle.remove()
        if not kept:
            raise BadInput(
                "a UNet whose calls are replayed from a recording",
                "one that runs its levels at each call",
                "Sample without reuse of deep features, or prepare the UNet without recordings.",
            )
        self._deep, self._reuses = kept[-1], 0
        return (eps,)

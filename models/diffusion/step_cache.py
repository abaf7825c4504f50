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
        The finest level attends, or is the only one.
    """

    def __init__(self, unet: nn.Module, every: int) -> None:
        super().__init__()
        self.unet = cast(Any, unet)
        self.every = every
        self._calls = 0
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
        unet = self.unet
        emb = unet.time_embedding(unet.get_time_embed(sample=x, timestep=timesteps))
        emb = emb + unet.get_class_embed(sample=x, class_labels=class_labels)
        shallow = [unet.conv_in(x)]
        for resnet in unet.down_blocks[0].resnets:
            shallow.append(resnet(shallow[-1], emb))
        # Where guidance begins or ends the batch changes, and nothing kept fits.
        if self._deep is None or len(self._deep) != len(x) or self._calls % self.every == 0:
            self._deep = self._compute_deep(shallow[-1], emb, encoder_hidden_states)
            self._calls = 0
        self._calls += 1
        out = unet.up_blocks[-1](hidden_states=self._deep, temb=emb, res_hidden_states_tuple=tuple(shallow))
        return (unet.conv_out(unet.conv_act(unet.conv_norm_out(out))),)

    def _compute_deep(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        """Run every level below the finest, on its output x."""
        unet = self.unet
        skips = [x]  # taken by nobody here, and known for its size
        for downsampler in unet.down_blocks[0].downsamplers:
            x = downsampler(x)
        skips.append(x)
        for block in unet.down_blocks[1:]:
            x, passed = block(hidden_states=x, temb=emb, **_condition(block, context))
            skips += passed
        x = unet.mid_block(x, emb, encoder_hidden_states=context)
        for block in unet.up_blocks[:-1]:
            layers = len(block.resnets)
            taken, skips = tuple(skips[-layers:]), skips[:-layers]
            # Of odd sizes, halved, the upsampler can't know what they were.
            size = skips[-1].shape[2:]
            x = block(
                hidden_states=x,
                temb=emb,
                res_hidden_states_tuple=taken,
                upsample_size=size,
                **_condition(block, context),
            )
        return x


def _condition(block: Any, context: Tensor) -> dict[str, Tensor]:
    return {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}

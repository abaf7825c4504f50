"""A UNet made fast for inference: the same weights and numbers, fewer passes over memory, one launch a call.

docs/speed.md says what each step gave.
"""

# What is called in a prepared network is known, so the signatures are narrower than those of diffusers.
# mypy: disable-error-code="override, no-untyped-call"

from collections.abc import Sequence
from typing import Any, cast

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.diffusion import plain
from voxelight.models.diffusion.recording import Calls, KeyValue
from voxelight.models.errors import BadInput

HALF = (torch.bfloat16, torch.float16)


def prepare_unet(unet: nn.Module, graphs: bool = True, fp8: bool = False) -> nn.Module:
    """Make a UNet fast, in place.

    Call it once, on the device and in the dtype that the UNet will work in, after its weights are loaded: it changes
    the order of rows in the weights of feed-forward layers, so that a state read afterwards is not to be saved.

    The UNet is then called as before, ``unet(x, timesteps, encoder_hidden_states=context, class_labels=vector)``. Keys
    and values of a context are kept until another tensor is given, or the tensor changes in place; PyTorch does not
    count changes in place of tensors made under ``inference_mode``: give a new tensor there.

    Parameters
    ----------
    unet : what `voxelight.models.diffusion.unet.UNetConfig.build` returns
    graphs : whether calls on a GPU are recorded once for each shape and replayed; not where weights move between calls
    fp8 : whether transformers multiply in 8 bits, scaled by rows; a GPU of compute capability 8.9 or more, bfloat16

    Returns
    -------
    the same UNet, in evaluation mode, its parameters frozen

    Raises
    ------
    BadInput
        It is no UNet of SDXL's family, was prepared before, or can't multiply in 8 bits where that is asked for.
    """
    if not isinstance(unet, UNet2DConditionModel) or any(isinstance(module, Block) for module in unet.modules()):
        raise BadInput(
            f"a {type(unet).__name__}{' that is prepared' if isinstance(unet, UNet2DConditionModel) else ''}",
            "a UNet as UNetConfig builds it",
            "Prepare a UNet once, after its weights are loaded.",
        )
    weight = next(unet.parameters())
    if fp8 and not _multiplies_fp8(weight):
        raise BadInput(
            f"a UNet in {weight.dtype} on {weight.device}",
            "bfloat16 on a GPU of compute capability 8.9 or more",
            "Leave fp8 out.",
        )
    _prepare_layers(unet.eval().requires_grad_(False))
    if fp8:
        from voxelight.models.diffusion.fp8 import use_fp8

        use_fp8(unet)
    unet.forward = Calls(unet, [module for module in unet.modules() if isinstance(module, Block)], graphs)
    prepared: nn.Module = unet
    return prepared


def prepare_autoencoder(autoencoder: nn.Module) -> nn.Module:
    """Make an autoencoder fast, in place, on its device and after its weights are loaded.

    Parameters
    ----------
    autoencoder : what `voxelight.models.diffusion.autoencoder.AutoencoderConfig.build` returns

    Returns
    -------
    the same autoencoder, in evaluation mode, its parameters frozen
    """
    _prepare_layers(autoencoder.eval().requires_grad_(False))
    return autoencoder


def _multiplies_fp8(weight: Tensor) -> bool:
    return (
        weight.is_cuda and weight.dtype == torch.bfloat16 and torch.cuda.get_device_capability(weight.device) >= (8, 9)
    )


def _prepare_layers(module: nn.Module) -> None:
    """Put residual blocks, transformers and what is around them on the fast paths, in place."""
    nn.Module.to(module, memory_format=torch.channels_last)
    parts: list[Any] = list(module.modules())
    for one in parts:
        if isinstance(one, ResnetBlock2D):
            one.__class__ = _Residual
            cast(_Residual, one).settle()
        elif isinstance(one, Transformer2DModel):
            one.__class__ = _Transformer
            cast(_Transformer, one).settle()
        elif isinstance(one, Upsample2D):
            one.__class__ = _Double
        elif isinstance(one, (UpBlock2D, CrossAttnUpBlock2D)):
            one.has_cross_attention = isinstance(one, CrossAttnUpBlock2D)
            one.__class__ = _Up
        if isinstance(getattr(one, "conv_norm_out", None), nn.GroupNorm):
            one.conv_norm_out.__class__ = _NormSilu
            one.conv_act = nn.Identity()


def _ops(x: Tensor) -> Any:
    if x.is_cuda and x.dtype in HALF:
        from voxelight.models.diffusion import kernels

        return kernels
    return plain


def keep_constant(module: nn.Module, name: str, values: Tensor) -> None:
    """Give a module constants that move with it and are no part of its state."""
    module.register_buffer(name, values, persistent=False)


class _NormSilu(nn.GroupNorm):
    def forward(self: Any, x: Tensor) -> Tensor:
        normed: Tensor = _ops(x).group_norm([x], None, self, True)
        return normed


class _Double(Upsample2D):
    def forward(self: Any, hidden_states: Tensor, output_size: int | None = None) -> Tensor:
        if output_size is not None:  # of a latent whose sides do not halve evenly
            fitted: Tensor = super().forward(hidden_states, output_size)
            return fitted
        out: Tensor = self.conv(_ops(hidden_states).double(hidden_states))
        return out


class _Residual(ResnetBlock2D):
    """Biases of the convolutions, and the time, are added where the next pass over memory happens anyway."""

    def settle(self: Any) -> None:
        first, last = self.conv1.bias, self.conv2.bias
        keep_constant(
            self, "first_bias", first.clone() if self.time_emb_proj is None else first + self.time_emb_proj.bias
        )
        keep_constant(self, "last_bias", last.float())

    def forward(self: Any, parts: Tensor | Sequence[Tensor], temb: Tensor | None = None) -> Tensor:
        """Return the block's output of an input that may come in parts, joined along the channels."""
        parts = [parts] if isinstance(parts, Tensor) else parts
        ops = _ops(parts[0])
        y = _convolve(ops.group_norm(parts, None, self.norm1, True), self.conv1)
        if temb is None:
            added = self.first_bias.expand(len(y), -1).contiguous()
        else:
            added = F.linear(F.silu(temb), self.time_emb_proj.weight, self.first_bias)
        y = _convolve(ops.group_norm([y], added, self.norm2, True), self.conv2)
        shortcut = parts[0] if self.conv_shortcut is None else _mix_channels(parts, self.conv_shortcut)
        out: Tensor = ops.add_bias_(y, shortcut, self.last_bias)
        return out


def _convolve(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return F.conv2d(x, conv.weight, None, conv.stride, conv.padding)


def _mix_channels(parts: Sequence[Tensor], conv: nn.Conv2d) -> Tensor:
    """Return the 1x1 convolution of parts joined along the channels, without joining them."""
    b, _, h, w = parts[0].shape
    rows = [part.permute(0, 2, 3, 1).reshape(b * h * w, -1) for part in parts]
    weights = conv.weight.flatten(1).split([row.shape[1] for row in rows], dim=1)
    y = F.linear(rows[0], weights[0], conv.bias)
    for row, weight in zip(rows[1:], weights[1:], strict=True):
        y.addmm_(row, weight.t())
    return y.view(b, h, w, -1).permute(0, 3, 1, 2)


class _Up(UpBlock2D):
    """Gives each residual block the deep and the shallow features as they are, not joined."""

    def forward(
        self: Any,
        hidden_states: Tensor,
        res_hidden_states_tuple: tuple[Tensor, ...],
        temb: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        upsample_size: int | None = None,
        **_kwargs: Any,
    ) -> Tensor:
        x = hidden_states
        for number, shallow in enumerate(reversed(res_hidden_states_tuple)):
            x = self.resnets[number]((x, shallow), temb)
            if self.has_cross_attention:
                (x,) = self.attentions[number](x, encoder_hidden_states)
        for upsampler in self.upsamplers or ():
            x = upsampler(x, upsample_size)
        return x


class _Transformer(Transformer2DModel):
    """Layers add to the residual inside their products, in place; their biases wait.

    The biases that a norm has yet to see are its shift, and what is left at the end goes into the output's bias.
    """

    def settle(self: Any) -> None:
        pending = torch.zeros_like(self.proj_in.bias, dtype=torch.float32)
        for block in self.transformer_blocks:
            block.__class__ = Block
            pending = block.settle(pending)
        weight = self.proj_out.weight.float()
        keep_constant(self, "out_bias", (self.proj_out.bias.float() + weight @ pending).to(self.proj_out.bias.dtype))

    def forward(
        self: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, return_dict: bool = True, **_kwargs: Any
    ) -> tuple[Tensor]:
        b, c, h, w = hidden_states.shape
        normed = _ops(hidden_states).group_norm([hidden_states], None, self.norm, False)
        x = self.proj_in(normed.permute(0, 2, 3, 1).reshape(b, h * w, c))
        for block in self.transformer_blocks:
            x = block(x, encoder_hidden_states)
        x = F.linear(x, self.proj_out.weight, self.out_bias)
        return (hidden_states + x.view(b, h, w, c).permute(0, 3, 1, 2),)


class Block(BasicTransformerBlock):
    """Keys and values of the context may be kept; the feed-forward's value and gate rows alternate."""

    kept: KeyValue | None = None

    def settle(self: Any, pending: Tensor) -> Tensor:
        """Take the biases pending before the block, return those after it."""
        shifts = [pending]
        for bias in (self.attn1.to_out[0].bias, self.attn2.to_out[0].bias, self.ff.net[2].bias):
            shifts.append(shifts[-1] + bias.float())
        keep_constant(self, "shifts", torch.stack(shifts[:3]))
        product = self.ff.net[0].proj
        for parameter in (product.weight, product.bias):
            parameter.data = torch.stack(parameter.data.chunk(2), dim=1).flatten(0, 1)
        layers = (self.attn1.to_q, self.attn1.to_k, self.attn1.to_v)
        keep_constant(self, "query_key_value", torch.cat([layer.weight.data for layer in layers]))
        for layer, rows in zip(layers, self.query_key_value.chunk(3), strict=True):
            layer.weight.data = rows  # one copy in memory
        return shifts[3]

    def find_key_value(self: Any, context: Tensor) -> KeyValue:
        """Return keys and values (b, token, dim) of a context (b, token, context_dim)."""
        return self.attn2.to_k(context), self.attn2.to_v(context)

    def forward(self: Any, hidden_states: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        """Return x (b, token, dim), changed in place."""
        x, ops = hidden_states, _ops(hidden_states)
        y = ops.layer_norm(x, self.shifts[0], self.norm1.weight, self.norm1.bias, self.norm1.eps)
        attention = self.attn1
        query, key, value = F.linear(y, self.query_key_value).chunk(3, dim=-1)
        y = attend(query, key, value, attention.heads)
        _add_product_(x, y, attention.to_out[0].weight)
        y = ops.layer_norm(x, self.shifts[1], self.norm2.weight, self.norm2.bias, self.norm2.eps)
        attention = self.attn2
        key, value = self.find_key_value(encoder_hidden_states) if self.kept is None else self.kept
        _add_product_(x, attend(attention.to_q(y), key, value, attention.heads), attention.to_out[0].weight)
        y = ops.layer_norm(x, self.shifts[2], self.norm3.weight, self.norm3.bias, self.norm3.eps)
        product = self.ff.net[0].proj
        _add_product_(x, ops.geglu_linear(y, product.weight, product.bias), self.ff.net[2].weight)
        return x


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Return the attention (b, token, dim) of queries, keys and values (b, token, dim)."""
    split = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (query, key, value))
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def _add_product_(x: Tensor, y: Tensor, weight: Tensor) -> None:
    """``x += y weight^T``, inside the product."""
    x.view(-1, x.shape[-1]).addmm_(y.reshape(-1, y.shape[-1]), weight.t())

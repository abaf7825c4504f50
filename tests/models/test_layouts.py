"""The published layouts at full size, on the meta device: the names and shapes are written out from their description.

Nothing here asks our own tables for a name: UNet, autoencoder and towers are spelled as sgm, open_clip, transformers
and diffusers spell them, and the decoder as the published training code does.
"""

from collections.abc import Iterator

import pytest
import torch

from voxelight.models.errors import BadInput
from voxelight.models.layouts import LAYOUTS, describe_network, sort_tensors
from voxelight.models.published import PUBLISHED, find_published
from voxelight.models.weights import load_into

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def conv(name: str, out: int, into: int, side: int = 3) -> Shapes:
    return {f"{name}.weight": (out, into, side, side), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def gather(parts: Iterator[Shapes]) -> Shapes:
    found: Shapes = {}
    for part in parts:
        assert not found.keys() & part.keys()
        found |= part
    return found


def sgm_residual(name: str, into: int, out: int, embedding: int) -> Shapes:
    skip = conv(f"{name}.skip_connection", out, into, 1) if into != out else {}
    return {
        **norm(f"{name}.in_layers.0", into),
        **conv(f"{name}.in_layers.2", out, into),
        **linear(f"{name}.emb_layers.1", out, embedding),
        **norm(f"{name}.out_layers.0", out),
        **conv(f"{name}.out_layers.3", out, out),
        **skip,
    }


def sgm_transformer(name: str, width: int, depth: int, context: int) -> Shapes:
    found = norm(f"{name}.norm", width) | linear(f"{name}.proj_in", width, width)
    found |= linear(f"{name}.proj_out", width, width)
    for i in range(depth):
        block = f"{name}.transformer_blocks.{i}"
        for attention, source in (("attn1", width), ("attn2", context)):
            found |= {f"{block}.{attention}.to_q.weight": (width, width)}
            found |= {f"{block}.{attention}.to_{kind}.weight": (width, source) for kind in "kv"}
            found |= linear(f"{block}.{attention}.to_out.0", width, width)
        found |= linear(f"{block}.ff.net.0.proj", 8 * width, width) | linear(f"{block}.ff.net.2", width, 4 * width)
        found |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width) | norm(f"{block}.norm3", width)
    return found


def sgm_unet(context: int, vector: int, base: int = 320) -> Iterator[Shapes]:
    levels, depths, each, embedding = (1, 2, 4), (0, 2, 10), 2, 4 * base
    yield linear("time_embed.0", embedding, base) | linear("time_embed.2", embedding, embedding)
    yield linear("label_emb.0.0", embedding, vector) | linear("label_emb.0.2", embedding, embedding)
    yield conv("input_blocks.0.0", base, 4)
    skips, width, number = [base], base, 1
    for level, depth in zip(levels, depths, strict=True):
        for _ in range(each):
            yield sgm_residual(f"input_blocks.{number}.0", width, level * base, embedding)
            width = level * base
            if depth:
                yield sgm_transformer(f"input_blocks.{number}.1", width, depth, context)
            skips.append(width)
            number += 1
        if level != levels[-1]:
            yield conv(f"input_blocks.{number}.0.op", width, width)
            skips.append(width)
            number += 1
    yield sgm_residual("middle_block.0", width, width, embedding)
    yield sgm_transformer("middle_block.1", width, depths[-1], context)
    yield sgm_residual("middle_block.2", width, width, embedding)
    number = 0
    for level, depth in reversed(list(zip(levels, depths, strict=True))):
        for i in range(each + 1):
            yield sgm_residual(f"output_blocks.{number}.0", width + skips.pop(), level * base, embedding)
            width = level * base
            if depth:
                yield sgm_transformer(f"output_blocks.{number}.1", width, depth, context)
            if level != levels[0] and i == each:
                yield conv(f"output_blocks.{number}.{2 if depth else 1}.conv", width, width)
            number += 1
    yield norm("out.0", width) | conv("out.2", 4, width)


def vae_residual(name: str, into: int, out: int) -> Shapes:
    skip = conv(f"{name}.nin_shortcut", out, into, 1) if into != out else {}
    inner = norm(f"{name}.norm1", into) | conv(f"{name}.conv1", out, into)
    return inner | norm(f"{name}.norm2", out) | conv(f"{name}.conv2", out, out) | skip


def vae_middle(name: str, width: int) -> Iterator[Shapes]:
    yield vae_residual(f"{name}.block_1", width, width)
    yield vae_residual(f"{name}.block_2", width, width)
    yield norm(f"{name}.attn_1.norm", width)
    for projection in ("q", "k", "v", "proj_out"):
        yield conv(f"{name}.attn_1.{projection}", width, width, 1)


def sgm_vae() -> Iterator[Shapes]:
    widths = (128, 256, 512, 512)
    yield conv("encoder.conv_in", 128, 3)
    into = 128
    for level, width in enumerate(widths):
        for i in range(2):
            yield vae_residual(f"encoder.down.{level}.block.{i}", into, width)
            into = width
        if level < 3:
            yield conv(f"encoder.down.{level}.downsample.conv", width, width)
    yield from vae_middle("encoder.mid", 512)
    yield norm("encoder.norm_out", 512) | conv("encoder.conv_out", 8, 512)
    yield conv("quant_conv", 8, 8, 1) | conv("post_quant_conv", 4, 4, 1)
    yield conv("decoder.conv_in", 512, 4)
    yield from vae_middle("decoder.mid", 512)
    for level in (3, 2, 1, 0):
        for i in range(3):
            yield vae_residual(f"decoder.up.{level}.block.{i}", into, widths[level])
            into = widths[level]
        if level:
            yield conv(f"decoder.up.{level}.upsample.conv", into, into)
    yield norm("decoder.norm_out", 128) | conv("decoder.conv_out", 3, 128)


def diffusers_decoder(name: str, into: int, out: int, widths: tuple[int, ...], each: int) -> Iterator[Shapes]:
    """A decoder of diffusers: widths from the finest level up."""

    def _residual(path: str, first: int, second: int) -> Shapes:
        skip = conv(f"{path}.conv_shortcut", second, first, 1) if first != second else {}
        inner = norm(f"{path}.norm1", first) | conv(f"{path}.conv1", second, first)
        return inner | norm(f"{path}.norm2", second) | conv(f"{path}.conv2", second, second) | skip

    width = widths[-1]
    yield conv(f"{name}.conv_in", width, into)
    yield _residual(f"{name}.mid_block.resnets.0", width, width)
    yield _residual(f"{name}.mid_block.resnets.1", width, width)
    yield norm(f"{name}.mid_block.attentions.0.group_norm", width)
    for projection in ("to_q", "to_k", "to_v", "to_out.0"):
        yield linear(f"{name}.mid_block.attentions.0.{projection}", width, width)
    for level, after in enumerate(reversed(widths)):
        for i in range(each):
            yield _residual(f"{name}.up_blocks.{level}.resnets.{i}", width, after)
            width = after
        if level < len(widths) - 1:
            yield conv(f"{name}.up_blocks.{level}.upsamplers.0.conv", width, width)
    yield norm(f"{name}.conv_norm_out", width) | conv(f"{name}.conv_out", out, width)


def open_clip_blocks(name: str, width: int, layers: int, mlp: int) -> Iterator[Shapes]:
    for i in range(layers):
        block = f"{name}.resblocks.{i}"
        yield norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
        yield {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        yield linear(f"{block}.attn.out_proj", width, width)
        yield linear(f"{block}.mlp.c_fc", mlp, width) | linear(f"{block}.mlp.c_proj", width, mlp)


def open_clip_visual() -> Iterator[Shapes]:
    yield {"visual.class_embedding": (1664,), "visual.positional_embedding": (257, 1664), "visual.proj": (1664, 1280)}
    yield {"visual.conv1.weight": (1664, 3, 14, 14)}
    yield norm("visual.ln_pre", 1664) | norm("visual.ln_post", 1664)
    yield from open_clip_blocks("visual.transformer", 1664, 48, 8192)


def open_clip_words() -> Shapes:
    return {
        "positional_embedding": (77, 1280), "text_projection": (1280, 1280), "token_embedding.weight": (49408, 1280),
        **norm("ln_final", 1280),
    }  # fmt: skip


def open_clip_text() -> Iterator[Shapes]:
    yield open_clip_words()
    yield from open_clip_blocks("transformer", 1280, 32, 5120)


def clip_text() -> Iterator[Shapes]:
    yield {
        "text_model.embeddings.token_embedding.weight": (49408, 768),
        "text_model.embeddings.position_embedding.weight": (77, 768),
    }
    for i in range(12):
        layer = f"text_model.encoder.layers.{i}"
        yield norm(f"{layer}.layer_norm1", 768) | norm(f"{layer}.layer_norm2", 768)
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield linear(f"{layer}.self_attn.{projection}", 768, 768)
        yield linear(f"{layer}.mlp.fc1", 3072, 768) | linear(f"{layer}.mlp.fc2", 768, 3072)
    yield norm("text_model.final_layer_norm", 768)


def git() -> Iterator[Shapes]:
    yield {
        "git.embeddings.word_embeddings.weight": (30522, 768),
        "git.embeddings.position_embeddings.weight": (1024, 768),
    }
    yield norm("git.embeddings.LayerNorm", 768)
    for i in range(6):
        layer = f"git.encoder.layer.{i}"
        for projection in ("self.query", "self.key", "self.value", "output.dense"):
            yield linear(f"{layer}.attention.{projection}", 768, 768)
        yield norm(f"{layer}.attention.output.LayerNorm", 768) | norm(f"{layer}.output.LayerNorm", 768)
        yield linear(f"{layer}.intermediate.dense", 3072, 768) | linear(f"{layer}.output.dense", 768, 3072)
    yield linear("git.visual_projection.visual_projection.0", 768, 1024)
    yield norm("git.visual_projection.visual_projection.1", 768)
    yield linear("output", 30522, 768)


def git_vision(width: int, layers: int, mlp: int, tokens: int, patch: int) -> Iterator[Shapes]:
    tower = "git.image_encoder.vision_model"
    yield {
        f"{tower}.embeddings.class_embedding": (width,),
        f"{tower}.embeddings.patch_embedding.weight": (width, 3, patch, patch),
        f"{tower}.embeddings.position_embedding.weight": (tokens, width),
        f"{tower}.embeddings.position_ids": (1, tokens),
    }
    yield norm(f"{tower}.pre_layrnorm", width) | norm(f"{tower}.post_layernorm", width)
    for i in range(layers):
        layer = f"{tower}.encoder.layers.{i}"
        yield norm(f"{layer}.layer_norm1", width) | norm(f"{layer}.layer_norm2", width)
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield linear(f"{layer}.self_attn.{projection}", width, width)
        yield linear(f"{layer}.mlp.fc1", mlp, width) | linear(f"{layer}.mlp.fc2", width, mlp)


def decoder(voxels: tuple[int, ...], h: int = 4096, low_level: bool = True) -> Iterator[Shapes]:
    for subject, count in enumerate(voxels):
        yield linear(f"ridge.linears.{subject}", h, count)
    for i in range(4):
        for kind, width in (("mixer_blocks1", h), ("mixer_blocks2", 1)):
            block = f"backbone.{kind}.{i}"
            yield (
                norm(f"{block}.0", width) | linear(f"{block}.1.0", width, width) | linear(f"{block}.1.3", width, width)
            )
    yield linear("backbone.backbone_linear", 425_984, h)
    for i in (0, 3, 6):
        yield norm(f"backbone.clip_proj.{i}", 1664) | linear(f"backbone.clip_proj.{i + 2}", 1664, 1664)
    if low_level:
        maps = "backbone.b_maps_projector"
        yield linear("backbone.blin1", 3136, h) | norm("backbone.bnorm", 64)
        yield from diffusers_decoder("backbone.bupsampler", 64, 4, (32, 64, 128), 2)
        yield {f"{maps}.0.weight": (512, 64, 1, 1), f"{maps}.3.weight": (512, 512, 1, 1)}
        yield norm(f"{maps}.1", 512) | norm(f"{maps}.4", 512) | conv(f"{maps}.6", 512, 512, 1)
    yield from diffusion_prior()


def diffusion_prior(
    tokens: int = 256, dim: int = 1664, heads: int = 32, width: int = 52, prefix: str = "diffusion_prior."
) -> Iterator[Shapes]:
    schedule = (
        "betas alphas_cumprod alphas_cumprod_prev sqrt_alphas_cumprod sqrt_one_minus_alphas_cumprod "
        "log_one_minus_alphas_cumprod sqrt_recip_alphas_cumprod sqrt_recipm1_alphas_cumprod posterior_variance "
        "posterior_log_variance_clipped posterior_mean_coef1 posterior_mean_coef2 p2_loss_weight"
    )
    yield {f"{prefix}noise_scheduler.{name}": (100,) for name in schedule.split()}
    net = f"{prefix}net"
    yield {f"{net}.{name}": (tokens, dim) for name in ("learned_query", "null_brain_embeds", "null_image_embed")}
    time, twice = f"{net}.to_time_embeds.0.1.net", 2 * dim
    yield linear(f"{time}.0.0", twice, dim) | linear(f"{time}.1.0", twice, twice) | linear(f"{time}.2", dim, twice)
    body = f"{net}.causal_transformer"
    yield {f"{body}.rel_pos_bias.relative_attention_bias.weight": (32, heads)}
    yield {f"{body}.norm.g": (dim,), f"{body}.project_out.weight": (dim, dim)}
    for i in range(6):
        layer = f"{body}.layers.{i}"
        yield {f"{layer}.{name}.g": (dim,) for name in ("0.norm", "0.to_out.1", "1.0")}
        yield {f"{layer}.0.{name}.weight": (dim, dim) for name in ("to_q", "to_out.0")}
        yield {
            f"{layer}.0.to_kv.weight": (2 * width, dim),
            f"{layer}.0.null_kv": (2, width),
            f"{layer}.0.rotary_emb.freqs": (16,),
        }
        yield {f"{layer}.1.1.weight": (8 * dim, dim), f"{layer}.1.5.weight": (dim, 4 * dim)}


def mindeye1(voxels: int, tokens: int = 257) -> Iterator[Shapes]:
    yield linear("voxel2clip.lin0.0", 4096, voxels) | norm("voxel2clip.lin0.1", 4096)
    for i in range(4):
        yield linear(f"voxel2clip.mlp.{i}.0", 4096, 4096) | norm(f"voxel2clip.mlp.{i}.1", 4096)
    yield linear("voxel2clip.lin1", tokens * 768, 4096)
    for i, (into, out) in {0: (768, 2048), 3: (2048, 2048), 6: (2048, 768)}.items():
        yield norm(f"voxel2clip.projector.{i}", into) | linear(f"voxel2clip.projector.{i + 2}", out, into)
    if tokens > 1:
        yield from diffusion_prior(tokens, 768, 12, 64, "")
    else:  # another prior, of which nothing is read
        yield {"net.null_text_embeds": (1, 768), "noise_scheduler.betas": (1000,)}


def mindeye1_low_level(voxels: int) -> Shapes:
    found = {"lin0.0.weight": (4096, voxels), "lin1.weight": (16384, 4096)} | norm("lin0.1", 4096) | norm("norm", 64)
    for i in range(4):
        found |= {f"mlp.{i}.0.weight": (4096, 4096)} | norm(f"mlp.{i}.1", 4096)
    found |= {"maps_projector.0.weight": (512, 64, 1, 1), "maps_projector.3.weight": (512, 512, 1, 1)}
    found |= norm("maps_projector.1", 512) | norm("maps_projector.4", 512) | conv("maps_projector.6", 512, 512, 1)
    return old_spelling(found | gather(diffusers_decoder("upsampler", 64, 4, (64, 128, 256), 2)))


def old_spelling(shapes: Shapes) -> Shapes:
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    found = {}
    for name, shape in shapes.items():
        for new, former in old.items():
            name = name.replace(new, former)
        found[name] = shape
    return found


def diffusers_residual(name: str, into: int, out: int) -> Shapes:
    skip = conv(f"{name}.conv_shortcut", out, into, 1) if into != out else {}
    inner = norm(f"{name}.norm1", into) | conv(f"{name}.conv1", out, into) | linear(f"{name}.time_emb_proj", out, 1280)
    return inner | norm(f"{name}.norm2", out) | conv(f"{name}.conv2", out, out) | skip


def diffusers_attention(name: str, width: int) -> Shapes:
    found = sgm_transformer(name, width, 1, 768)
    return found | conv(f"{name}.proj_in", width, width, 1) | conv(f"{name}.proj_out", width, width, 1)


def diffusers_unet() -> Iterator[Shapes]:
    """The UNet of Stable Diffusion 1 as diffusers writes it: every level but the deepest attends."""
    yield conv("conv_in", 320, 4) | norm("conv_norm_out", 320) | conv("conv_out", 4, 320)
    yield linear("time_embedding.linear_1", 1280, 320) | linear("time_embedding.linear_2", 1280, 1280)
    skips, width = [320], 320
    for level, after in enumerate((320, 640, 1280, 1280)):
        for i in range(2):
            yield diffusers_residual(f"down_blocks.{level}.resnets.{i}", width, after)
            yield diffusers_attention(f"down_blocks.{level}.attentions.{i}", after) if level < 3 else {}
            width = after
            skips.append(width)
        if level < 3:
            yield conv(f"down_blocks.{level}.downsamplers.0.conv", width, width)
            skips.append(width)
    yield diffusers_residual("mid_block.resnets.0", 1280, 1280) | diffusers_residual("mid_block.resnets.1", 1280, 1280)
    yield diffusers_attention("mid_block.attentions.0", 1280)
    for level, after in enumerate((1280, 1280, 640, 320)):
        for i in range(3):
            yield diffusers_residual(f"up_blocks.{level}.resnets.{i}", width + skips.pop(), after)
            yield diffusers_attention(f"up_blocks.{level}.attentions.{i}", after) if level else {}
            width = after
        yield conv(f"up_blocks.{level}.upsamplers.0.conv", width, width) if level < 3 else {}


def clip_vision() -> Iterator[Shapes]:
    yield {
        "vision_model.embeddings.class_embedding": (1024,),
        "vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14),
        "vision_model.embeddings.position_embedding.weight": (257, 1024),
        "vision_model.embeddings.position_ids": (1, 257),
        "visual_projection.weight": (768, 1024),
        "text_projection.weight": (768, 768),
        "logit_scale": (),
    }
    yield norm("vision_model.pre_layrnorm", 1024) | norm("vision_model.post_layernorm", 1024)
    for i in range(24):
        layer = f"vision_model.encoder.layers.{i}"
        yield norm(f"{layer}.layer_norm1", 1024) | norm(f"{layer}.layer_norm2", 1024)
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield linear(f"{layer}.self_attn.{projection}", 1024, 1024)
        yield linear(f"{layer}.mlp.fc1", 4096, 1024) | linear(f"{layer}.mlp.fc2", 1024, 4096)
    yield from clip_text()


def below(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def unclip_file() -> Shapes:
    model = "conditioner.embedders.0.model."
    return {
        **below("model.diffusion_model.", gather(sgm_unet(1664, 1024))),
        **below("first_stage_model.", gather(sgm_vae())),
        **below(model, gather(open_clip_visual())),
        **below(model, open_clip_words()),
        f"{model}logit_scale": (),
        "denoiser.sigmas": (1000,),
    }


def sdxl_file() -> Shapes:
    text = "conditioner.embedders.0.transformer."
    return {
        **below("model.diffusion_model.", gather(sgm_unet(2048, 2816))),
        **below("first_stage_model.", gather(sgm_vae())),
        **below(text, gather(clip_text())),
        f"{text}text_model.embeddings.position_ids": (1, 77),
        **below("conditioner.embedders.1.model.", gather(open_clip_text())),
        "conditioner.embedders.1.model.logit_scale": (),
        "denoiser.sigmas": (1000,),
    }


def old_vae_file() -> Shapes:
    """SD's autoencoder as older diffusers wrote it."""
    with torch.device("meta"):
        from diffusers import AutoencoderKL

        types = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        module = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, **types)
    return old_spelling({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()})


FILES = {
    "final_subj01_pretrained_40sess_24bs": lambda: [gather(decoder((15724,)))],
    "final_multisubject_subj01": lambda: [gather(decoder((14278, 15226, 13153, 13039, 17907, 12682, 14386)))],
    "multisubject_subj01_1024hid_nolow_300ep": lambda: [
        gather(decoder((14278, 15226, 13153, 13039, 17907, 12682, 14386), 1024, False))
    ],
    "unclip6_epoch0_step110000": lambda: [unclip_file()],
    "zavychromaxl_v30": lambda: [sdxl_file()],
    "sd_image_var_autoenc": lambda: [old_vae_file()],
    "prior_257_final_subj01_bimixco_softclip_byol": lambda: [gather(mindeye1(15724))],
    "prior_1x768_final_subj01_bimixco_softclip_byol": lambda: [gather(mindeye1(15724, 1))],
    "autoencoder_subj07_4x_locont_no_reconst": lambda: [mindeye1_low_level(12682)],
    "versatile-diffusion-image-unet": lambda: [gather(diffusers_unet())],
    "versatile-diffusion-vae": lambda: [old_vae_file()],
    "clip-vit-large-patch14-vision": lambda: [gather(clip_vision())],
    "CLIP-ViT-bigG-14-laion2B-39B-b160k": lambda: [
        gather(open_clip_text()) | gather(open_clip_visual()) | {"logit_scale": ()},
        gather(clip_text())
        | {"vision_model.pre_layrnorm.weight": (1024,), "visual_projection.weight": (768, 1024)}
        | {"text_projection.weight": (768, 768), "logit_scale": ()},
    ],
    "bigG_to_L_epoch8": lambda: [linear("linear1", 257, 256) | linear("linear2", 1024, 1664)],
    "git-base-coco-vision": lambda: [gather(git_vision(768, 12, 3072, 197, 16)) | {"output.bias": (30522,)}],
    "git-large-coco-vision": lambda: [gather(git_vision(1024, 24, 4096, 257, 14))],
    "versatile-diffusion-text-encoder": lambda: [gather(clip_text()) | {"text_projection.weight": (768, 768)}],
    "git-large-coco": lambda: [gather(git()) | {"git.image_encoder.vision_model.embeddings.class_embedding": (1024,)}],
}
# Numbers of sections 1.1, 2.1, 2.2 and 3.1 of the description; those of the schedule and of the frequencies that are
# listed six times are added to what it counts as parameters.
COUNTS = {
    ("versatile-diffusion-image-unet", "variation"): (686, 859_520_964),
    ("final_subj01_pretrained_40sess_24bs", "decoder"): (249, 2_227_294_844 + 13 * 100 + 5 * 16),
    ("final_multisubject_subj01", "decoder"): (261, 2_575_262_332 + 13 * 100 + 5 * 16),
    ("multisubject_subj01_1024hid_nolow_300ep", "decoder"): (
        161,
        (412_377_088 - 7 * 4096) // 4 + 7 * 1024 + 453_360_280 + 259_865_216 + 13 * 100 + 5 * 16,
    ),
    ("unclip6_epoch0_step110000", "unclip"): (1680, 2_501_272_324),
    ("unclip6_epoch0_step110000", "autoencoder"): (248, 83_653_863),
    ("unclip6_epoch0_step110000", "image_encoder"): (584, 1_844_907_264),
    ("zavychromaxl_v30", "refiner"): (1680, 2_567_463_684),
    ("zavychromaxl_v30", "refiner_autoencoder"): (248, 83_653_863),
    ("bigG_to_L_epoch8", "converter"): (4, 1_771_009),
    # Section 4: the frequencies of its count stand once, those of the file six times; the schedule is not counted.
    ("prior_257_final_subj01_bimixco_softclip_byol", "decoder"): (
        34 + 85,
        947_579_904 + 56_055_184 + 13 * 100 + 5 * 16,
    ),
    ("prior_1x768_final_subj01_bimixco_softclip_byol", "decoder"): (34, 142_076_928),
    ("autoencoder_subj07_4x_locont_no_reconst", "low_level"): (114, 206_065_604 - (15_724 - 12_682) * 4096),
}


def on_meta(shapes: Shapes) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def networks():
    found = {}

    def _networks(name: str):
        if name not in found:
            row = find_published(name)
            found[name] = {part: describe_network(sizes.network, sizes.config) for part, sizes in row.parts.items()}
        return found[name]

    return _networks


def test_every_layout_is_tried_at_full_size():
    assert {find_published(name).layout for name in FILES} == set(LAYOUTS)
    assert {part for row in PUBLISHED.values() for part in row.parts} == {
        part for name in FILES for part in find_published(name).parts
    }


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_gives_every_tensor_of_its_parts_and_no_other(name, networks):
    from voxelight.models.checkpoints import modern_names

    files = [modern_names(on_meta(shapes)) for shapes in FILES[name]()]
    parts = sort_tensors(find_published(name).layout, files, networks(name))
    for part, tensors in parts.items():
        assert {key: tensor.shape for key, tensor in tensors.items()} == dict(networks(name)[part].shapes)
        if (name, part) in COUNTS:
            assert (len(tensors), sum(tensor.numel() for tensor in tensors.values())) == COUNTS[name, part]


@pytest.mark.parametrize("name", FILES)
def test_the_names_lead_back_to_the_published_ones(name, networks):
    """Every key stands for one published name, and every published name that is used for one key."""
    row = find_published(name)
    for part, sections in LAYOUTS[row.layout].sections.items():
        network = networks(name)[part]
        names = [pair for section in sections for pair in section.find_names(network).items()]
        assert len({theirs for theirs, _ in names}) == len({ours for _, ours in names}) == len(network.shapes)


def test_the_embedder_of_the_unclip_file_sums_up_to_the_printed_count():
    embedder = {n: s for n, s in unclip_file().items() if n.startswith("conditioner.")}
    assert sum(torch.Size(shape).numel() for shape in embedder.values()) == 1_909_889_025
    sections = LAYOUTS["unclip"].sections["image_encoder"]
    assert all(section.prefix.startswith("conditioner.embedders.0.model.visual.") for section in sections)


@pytest.mark.parametrize("name", ["unclip6_epoch0_step110000", "final_subj01_pretrained_40sess_24bs"])
@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
def test_one_tensor_that_differs_is_refused_by_name(name, change, networks):
    (shapes,) = FILES[name]()
    victim = {"unclip6_epoch0_step110000": "first_stage_model.decoder.mid.attn_1.q.weight"}.get(
        name, "backbone.clip_proj.5.weight"
    )
    if change == "missing":
        del shapes[victim]
    elif change == "unexpected":
        victim = f"{victim}.more"
        shapes[victim] = (1,)
    else:
        shapes[victim] = (7, 7)
    with pytest.raises(BadInput) as refusal:
        sort_tensors(find_published(name).layout, [on_meta(shapes)], networks(name))
    assert f"1 {change} ({victim}" in refusal.value.found
    assert find_published(name).layout in refusal.value.expected


def test_the_decoder_of_another_subject_is_refused_with_both_counts_of_voxels(networks):
    name = "final_subj01_pretrained_40sess_24bs"
    with pytest.raises(BadInput, match=r"ridge.linears.0.weight \(4096, 14278\) for \(4096, 15724\)"):
        sort_tensors("mindeye2", [on_meta(gather(decoder((14278,))))], networks(name))


def test_many_differences_are_counted_and_few_are_named():
    network = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(9)))
    with pytest.raises(BadInput, match=r"18 missing \(0.weight, .* and 14 more\); 1 unexpected \(gain\)"):
        load_into(network, {"gain": torch.ones(1)})


@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
def test_loading_is_strict(change):
    network = torch.nn.Linear(2, 3)
    tensors = {"weight": torch.ones(3, 2), "bias": torch.ones(3)}
    changes = {
        "missing": {"weight": tensors["weight"]},
        "unexpected": {**tensors, "gain": torch.ones(1)},
        "of another shape": {**tensors, "bias": torch.ones(4)},
    }
    with pytest.raises(BadInput, match=change):
        load_into(network, changes[change])
    load_into(network, tensors)
    assert torch.equal(network.weight, torch.ones(3, 2))


def test_a_network_without_memory_takes_the_tensors_themselves():
    with torch.device("meta"):
        network = torch.nn.Linear(2, 3)
    tensors = {"weight": torch.ones(3, 2, dtype=torch.bfloat16), "bias": torch.ones(3)}
    load_into(network, tensors)
    assert network.weight.data_ptr() == tensors["weight"].data_ptr()
    assert network.weight.dtype == torch.bfloat16

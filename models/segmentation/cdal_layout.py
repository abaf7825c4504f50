"""The names of cDAL's published files for ours."""

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from voxelight.models.errors import BadInput
from voxelight.models.segmentation.cdal_generator import GeneratorSizes

# Names within a published module -> ours. A `NIN` multiplies from the other side.
_INNER = {
    "Conv_0": "conv1", "Conv_1": "conv2", "Conv_2": "shortcut", "Conv2d_0": "conv", "Dense_0": "time",
    "GroupNorm_0": "norm1", "GroupNorm_1": "norm2",
    "NIN_0": "query", "NIN_1": "key", "NIN_2": "value", "NIN_3": "out",
    "conv1.0": "conv1", "conv2.0": "conv2", "dense_t1": "time", "skip.0": "skip",
    "in_layers.0": "norm1", "in_layers.2": "conv1", "out_layers.0": "norm2", "out_layers.3": "conv2",
}  # fmt: skip
_ENCODED = re.compile(r"all_modules\.(\d+)\.(\d+)\.(in_layers|out_layers)\.")


def generator_names(weights: Mapping[str, Tensor], sizes: GeneratorSizes) -> dict[str, Tensor]:
    """Return the weights of a generator under our names.

    Parameters
    ----------
    weights : published name -> tensor, with or without the ``module.`` of a parallel training
    sizes : of the generator they are of

    Raises
    ------
    BadInput
        The file has another number of modules than a generator of these sizes.
    """
    named = {name.removeprefix("module."): value for name, value in weights.items()}
    blocks = sorted({(int(m[1]), int(m[2])) for name in named if (m := _ENCODED.match(name))})
    encoder = {index: f"encoder.{place}." for place, index in enumerate(blocks)}
    numbered = {
        int(name.split(".")[1]) for name in named if name.startswith("all_modules.") and not _ENCODED.match(name)
    }
    order = list(_in_order(sizes))
    if len(numbered) != len(order) or len(encoder) != sizes.encoder_blocks:
        raise BadInput(
            f"weights of {len(numbered)} modules and {len(encoder)} blocks of an encoder",
            f"{len(order)} and {sizes.encoder_blocks}, as the sizes say",
            "Give the sizes that the weights were trained with.",
        )
    places = dict(zip(sorted(numbered), order, strict=True))
    found = {}
    for name, value in named.items():
        if name.startswith("z_transform."):
            found[name.replace("z_transform", "mapping")] = value
        elif m := _ENCODED.match(name):
            found[encoder[int(m[1]), int(m[2])] + inner_name(name.split(".", 3)[3])] = value
        else:
            _, number, rest = name.split(".", 2)
            ours, value = inner_weight(rest, value)
            found[places[int(number)] + ours] = value
    return found


def _in_order(sizes: GeneratorSizes) -> Iterator[str]:
    """Yield our names of the published list of modules, without the blocks of the encoder."""
    yield from ("time.0.", "time.2.", "look.", "first.")
    levels = range(len(sizes.multipliers))
    for level in levels:
        for block in range(sizes.blocks):
            yield f"downs.{level}.blocks.{block}."
            if level in sizes.attention_levels:
                yield f"downs.{level}.attentions.{block}."
        if level < len(levels) - 1:
            yield from (f"downs.{level}.down.", f"downs.{level}.pyramid.")
    yield from ("middle1.", "middle_attention.", "middle2.")
    for place, level in enumerate(reversed(levels)):
        yield from (f"ups.{place}.blocks.{block}." for block in range(sizes.blocks + 1))
        if level in sizes.attention_levels:
            yield f"ups.{place}.attention."
        if level:
            yield f"ups.{place}.up."
    yield from ("norm.", "last.")


def inner_name(name: str) -> str:
    """Return our name of a part of a published module."""
    for theirs, ours in _INNER.items():
        if name.startswith(f"{theirs}."):
            return f"{ours}.{name[len(theirs) + 1 :]}"
    return name


def inner_weight(name: str, value: Tensor) -> tuple[str, Tensor]:
    """Return our name and form of a weight of a published module."""
    ours = inner_name(name)
    if not name.startswith("NIN_"):
        # The normalisation of an attention block stands alone, so that it has no number with us.
        plain = name.startswith("GroupNorm_0.") and not name.startswith("GroupNorm_0.style")
        return (ours.replace("norm1", "norm") if plain else ours), value
    if name.endswith(".W"):
        return f"{ours[:-1]}weight", value.T[:, :, None, None].contiguous()
    return f"{ours[:-1]}bias", value


def discriminator_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a discriminator under our names."""
    found = {}
    for name, value in weights.items():
        start, _, rest = name.removeprefix("module.").partition(".")
        block = re.fullmatch(r"conv(\d)", start)
        if block:
            found[f"blocks.{int(block[1]) - 1}.{inner_name(rest)}"] = value
        else:
            ours = {"t_embed": "time", "start_conv": "first", "final_conv": "last", "end_linear": "judge"}[start]
            found[f"{ours}.{rest.removeprefix('main.')}"] = value
    return found

"""From the names and shapes in a file to what model it is.

Nothing is guessed in silence: every finding that the file does not settle says so. May import
pvt_spec.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from math import isqrt

from convert.dialects import DIALECTS, Dialect
from convert.errors import ConvertError
from pvt_spec import (
    NUM_STAGES,
    PATCH_STRIDES,
    PVTConfig,
    tensor_specs,
    variant_name,
)

Shapes = Mapping[str, tuple[int, ...]]

PREFIXES = ("module.", "_orig_mod.", "model.", "state_dict.", "backbone.", "network.")
"""What wrappers (DDP, torch.compile, trainers) put before every name."""


def strip_prefixes(names: Iterable[str]) -> str:
    """The known prefixes that all names share, put together; "" where they share none."""
    names = list(names)
    found = ""
    while True:
        shared = [p for p in PREFIXES if all(n.startswith(found + p) for n in names)]
        if not shared or not names:
            return found
        found += shared[0]


def detect_dialect(shapes: Shapes) -> Dialect:
    """The dialect in which most of the names are tensors of a PVT.

    Args:
        shapes: Of the file's weights, by the file's own names.

    Raises:
        ConvertError: In no dialect is this a PVT.
    """

    def known(dialect: Dialect) -> int:
        canonical = canonical_shapes(shapes, dialect)
        try:
            config, _ = infer_config(canonical, None)
        except ConvertError:
            return 0
        fits = config.version in dialect.versions
        return len(canonical.keys() & {s.name for s in tensor_specs(config)}) if fits else 0

    best = max(DIALECTS, key=known)
    if not known(best):
        some = ", ".join(list(shapes)[:4])
        raise ConvertError(
            f"these are not the tensors of a PVT in any known dialect "
            f"({', '.join(dict.fromkeys(d.name for d in DIALECTS))}): {len(shapes)} tensors, {some}"
        )
    return best


def canonical_shapes(shapes: Shapes, dialect: Dialect) -> dict[str, tuple[int, ...]]:
    """The shapes under canonical names; names that are not in the dialect are left out."""
    named = ((dialect.to_canonical(name), shape) for name, shape in shapes.items())
    return {name: shape for name, shape in named if name is not None}


def infer_config(shapes: Shapes, image_size: tuple[int, int] | None) -> tuple[PVTConfig, list[str]]:
    """The configuration that tensors of these shapes belong to.

    Args:
        shapes: By canonical name.
        image_size: (H, W) in pixels where the user gave it. v1's position embeddings are taken
            to be laid out for it where their number fits, else for a square.

    Returns:
        The configuration, and what in it is a guess, in words.

    Raises:
        ConvertError: A shape that decides something is missing, or no PVT has these.
    """
    try:
        return _infer(shapes, image_size)
    except KeyError as error:
        raise ConvertError(
            f"cannot tell which PVT this is: tensor {error.args[0]} is missing, which its size "
            "would be read from; give --model"
        ) from error
    except (IndexError, ZeroDivisionError) as error:
        raise ConvertError(
            "cannot tell which PVT this is: a tensor has another number of dimensions than a PVT's"
        ) from error


def _infer(shapes: Shapes, image_size: tuple[int, int] | None) -> tuple[PVTConfig, list[str]]:
    stages = range(1, NUM_STAGES + 1)
    version = _version(shapes)
    dims = tuple(shapes[f"patch_embed{i}.proj.weight"][0] for i in stages)
    depths = tuple(_depth(shapes, i) for i in stages)
    hidden = tuple(shapes[f"block{i}.0.mlp.fc1.weight"][0] for i in stages)
    kernels = tuple(shapes.get(f"block{i}.0.attn.sr.weight", (0, 0, 0))[2] for i in stages)
    linear = kernels == (1,) * NUM_STAGES
    guesses: list[str] = []
    # Shapes do not show the heads; in every published PVT a head is as wide as the first stage.
    heads = tuple(max(dim // dims[0], 1) for dim in dims)
    config = PVTConfig(
        version,
        dims,
        depths,
        heads,
        tuple(width // dim for width, dim in zip(hidden, dims, strict=True)),
        (8, 4, 2, 1) if linear else tuple(max(kernel, 1) for kernel in kernels),
        linear=linear,
        in_chans=shapes["patch_embed1.proj.weight"][1],
        num_classes=shapes.get("head.weight", shapes.get("head.bias", (0,)))[0],
    )
    if variant_name(config) is None:
        guesses.append(f"num_heads {heads}, as the widths are multiples of the first ({dims[0]})")
    if version == 1 and image_size is not None:
        laid_out = dataclasses.replace(config, image_size=image_size)
        if all(
            shapes.get(s.name) == s.shape for s in tensor_specs(laid_out) if s.kind == "pos_embed"
        ):
            return laid_out, guesses
    if version == 1 or image_size is None:
        image_size, guess = _image_size(shapes, version)
        guesses.append(guess)
    return dataclasses.replace(config, image_size=image_size), guesses


def _version(shapes: Shapes) -> int:
    return 1 if "cls_token" in shapes or "pos_embed1" in shapes else 2


def _depth(shapes: Shapes, stage: int) -> int:
    pattern = re.compile(rf"block{stage}\.(\d+)\.")
    return 1 + max((int(m[1]) for m in map(pattern.match, shapes) if m), default=-1)


def _image_size(shapes: Shapes, version: int) -> tuple[tuple[int, int], str]:
    if version == 2:
        return (224, 224), "image size 224x224: PVT v2's tensors do not show it (--image-size)"
    tokens = shapes["pos_embed1"][1]
    side = isqrt(tokens)
    if side * side != tokens:
        raise ConvertError(
            f"pos_embed1 has {tokens} positions, not a square's: give --image-size HxW"
        )
    pixels = side * PATCH_STRIDES[0]
    return (
        pixels,
        pixels,
    ), f"image size {pixels}x{pixels}, if square: pos_embed1 has {tokens} rows"

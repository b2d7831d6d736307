"""Which model a file holds, told from the names and shapes in it.

Nothing is guessed in silence: every finding that the file does not settle says so.
"""

import dataclasses
import re
from collections.abc import Mapping
from math import isqrt

from convert.names.dialects import DIALECTS, NAMES, Dialect
from convert.names.wrappers import remedy
from pvt_spec import MIN_IMAGE_SIDE, NUM_STAGES, PATCH_STRIDES, ConfigError, PVTConfig, variant_name
from pvt_spec.errors import ConvertError
from pvt_spec.words import counted

Shapes = Mapping[str, tuple[int, ...]]


def detect_dialect(shapes: Shapes, name: str | None = None) -> Dialect:
    """Returns the dialect in which most of the names are tensors of a PVT.

    Args:
        shapes: The shapes of the file's weights, by the file's own names.
        name: A dialect's name, where only the PVT's version is left to tell.

    Raises:
        ConvertError: In no dialect, or not in this one, is this a PVT.
    """
    candidates = [dialect for dialect in DIALECTS if name in (None, dialect.name)]
    likely = [
        d for d in candidates if d.first & shapes.keys() or f"{d.base}{min(d.first)}" in shapes
    ]
    candidates = likely or candidates

    def known(dialect: Dialect) -> int:
        return sum(map(dialect.knows, shapes))

    best = max(candidates, key=known)
    if not known(best):
        where = f"dialect {name}" if name else f"any known dialect ({', '.join(NAMES)})"
        some = ", ".join(list(shapes)[:4])
        raise ConvertError(
            f"these are not the tensors of a PVT in {where}: "
            f"{counted(len(shapes), 'tensor')}, {some}{remedy(shapes)}"
        )
    return best


def canonical_shapes(shapes: Shapes, dialect: Dialect) -> dict[str, tuple[int, ...]]:
    """Returns the shapes under canonical names; names that are not in the dialect are left out.

    Where the dialect has several tensors for one, or one for several, the rows are the file's.
    """
    named = ((dialect.to_canonical(name), shape) for name, shape in shapes.items())
    return {name: shape for name, shape in named if name is not None}


def infer_config(
    shapes: Shapes,
    image_size: tuple[int, int] | None,
    *,
    features_only: bool = False,
    num_heads: tuple[int, ...] = (),
) -> tuple[PVTConfig, dict[str, str]]:
    """Returns the configuration that tensors of these shapes belong to.

    Args:
        shapes: The tensors' shapes by canonical name.
        image_size: The (H, W) in pixels of the images that the model was made for, where the user
            says it; else v1's position embeddings are taken to be laid out for a square.
        features_only: Whether the dialect names backbones alone. A v1 without class token, last
            norm and head is one in any dialect.
        num_heads: The heads of each stage, where the user says them.

    Returns:
        The configuration, and what in it is a guess: its field, and the guess in words.

    Raises:
        ConvertError: A shape that decides something is missing, or no PVT has these.
        ConfigError: No PVT of these has ``num_heads``.
    """
    config, guesses = _architecture(shapes, features_only, num_heads)
    if image_size is None:
        image_size, guess = _image_size(shapes, config.version)
        guesses["image_size"] = guess
    if config.version == 2 and not config.num_classes and not config.features_only:
        guesses["features_only"] = (
            "answers features, the mean of the last stage: without a head, PVT v2's tensors are "
            "those of a backbone too, which answers four maps (--features)"
        )
    return dataclasses.replace(config, image_size=image_size), guesses


def _architecture(
    shapes: Shapes, features_only: bool, num_heads: tuple[int, ...]
) -> tuple[PVTConfig, dict[str, str]]:
    """Returns the configuration but for the image size, and what in it is a guess."""
    try:
        config = _read_sizes(shapes, features_only)
    except KeyError as error:
        raise ConvertError(
            f"cannot tell which PVT this is: tensor {error.args[0]} is missing, which its size "
            f"would be read from; give --model{remedy(shapes)}"
        ) from error
    except (IndexError, ZeroDivisionError, ConfigError) as error:
        raise ConvertError(
            "cannot tell which PVT this is: its tensors have no PVT's shapes "
            f"({error}); give --model"
        ) from error
    if num_heads:
        return dataclasses.replace(config, num_heads=num_heads), {}
    variant, width = variant_name(config), config.embed_dims[0]
    if not variant and any(dim % width for dim in config.embed_dims):
        raise ConvertError(
            f"cannot tell num_heads from the tensors: widths {config.embed_dims} are no multiples "
            "of the first; give --num-heads A,B,C,D, --model, or a config.json or file of ours "
            "that says it"
        )
    heads = ", ".join(map(str, config.num_heads))
    why = f"those of {variant}" if variant else f"every head as wide as the first stage ({width})"
    return config, {
        "num_heads": f"num_heads {heads}: {why}; tensors do not show them (--num-heads)"
    }


def _read_sizes(shapes: Shapes, features_only: bool) -> PVTConfig:
    stages = range(1, NUM_STAGES + 1)
    dims = tuple(shapes[f"patch_embed{i}.proj.weight"][0] for i in stages)
    depths = tuple(_depth(shapes, i) for i in stages)
    hidden = tuple(shapes[f"block{i}.0.mlp.fc1.weight"][0] for i in stages)
    kernels = tuple(shapes.get(f"block{i}.0.attn.sr.weight", (0, 0, 0))[2] for i in stages)
    linear = kernels == (1,) * NUM_STAGES
    # Shapes do not show the heads; in every published PVT a head is as wide as the first stage.
    heads = tuple(max(dim // dims[0], 1) if dim % dims[0] == 0 else 1 for dim in dims)
    version = 1 if {"cls_token", "pos_embed1"} & shapes.keys() else 2
    features_only = features_only or (version == 1 and not _CLASSIFIES & shapes.keys())
    return PVTConfig(
        version,
        dims,
        depths,
        heads,
        tuple(width // dim for width, dim in zip(hidden, dims, strict=True)),
        (8, 4, 2, 1) if linear else tuple(max(kernel, 1) for kernel in kernels),
        linear=linear,
        in_chans=shapes["patch_embed1.proj.weight"][1],
        num_classes=0 if features_only else count_classes(shapes) or 0,
        features_only=features_only,
    )


def count_classes(shapes: Shapes) -> int | None:
    """Outputs of the head that tensors of these shapes have; None without one."""
    head = shapes.get("head.weight", shapes.get("head.bias"))
    return head[0] if head else None


_CLASSIFIES = {"cls_token", "norm.weight", "head.weight"}
"""What v1's classifier has beyond its backbone."""


def _depth(shapes: Shapes, stage: int) -> int:
    """Returns how many blocks a stage has, as far as the tensors are enough for them."""
    pattern = re.compile(rf"block{stage}\.(\d+)\.")
    last = max((int(m[1]) for m in map(pattern.match, shapes) if m), default=-1)
    return min(last, len(shapes) // _FEWEST) + 1


_FEWEST = 8
"""Fewer tensors than any block has."""


def _image_size(shapes: Shapes, version: int) -> tuple[tuple[int, int], str]:
    if version == 2:
        return (224, 224), "image size 224x224: PVT v2's tensors do not show it (--image-size)"
    if len(shapes.get("pos_embed1", ())) != 3:
        raise ConvertError("pos_embed1 (1, N, C) is missing, which the image size is read from")
    tokens = shapes["pos_embed1"][1]
    side = isqrt(tokens)
    if side * side != tokens:
        raise ConvertError(
            f"pos_embed1 has {tokens} positions, not a square's: give --from-image-size HxW"
        )
    pixels = side * PATCH_STRIDES[0]
    if pixels < MIN_IMAGE_SIDE:
        raise ConvertError(f"pos_embed1 has {tokens} positions: too few for a PVT's four stages")
    guess = f"{pixels}x{pixels}, if square: pos_embed1 has {tokens} rows (--from-image-size)"
    return (pixels, pixels), f"image size {guess}"

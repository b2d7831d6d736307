"""How a file names its tensors: the dialect, the model that they are of, what holds what."""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

from convert.names.detect import (
    Shapes,
    canonical_shapes,
    count_classes,
    detect_dialect,
    infer_config,
)
from convert.names.dialects import Dialect, Pairing, find_dialect
from pvt_spec import PVTConfig, make_config
from pvt_spec.errors import ConvertError


@dataclass(frozen=True)
class Naming:
    """How a file names the tensors of its model.

    Attributes:
        dialect: The table of the names.
        config: The model that is asked for, or else :attr:`shown`.
        shown: The model that the file tells or its tensors show.
        pairings: What holds what, every tensor of ``config`` once.
        guesses: The guesses at what the file does not settle, in words, by the field of the
            configuration.
    """

    dialect: Dialect
    config: PVTConfig
    shown: PVTConfig
    pairings: tuple[Pairing, ...]
    guesses: dict[str, str]


def find_naming(
    shapes: Shapes,
    told: PVTConfig | None,
    *,
    model: str | None,
    dialect: str | None,
    image_size: tuple[int, int] | None,
    num_heads: tuple[int, ...],
) -> Naming:
    """Finds how tensors of these names and shapes are named, and what they are a model of.

    Args:
        shapes: The shapes of the file's weights by name, without what wrappers put before it.
        told: The architecture that the file tells, if it does.
        model: The variant that is asked for, if one is.
        dialect: The dialect that is asked for, if one is.
        image_size: The (H, W) in pixels that is asked for, if one is.
        num_heads: The heads of each stage that are asked for, if they are.

    Raises:
        ConvertError: They are not a PVT's, or not in the dialect that is asked for.
        ConfigError: No PVT of these tensors has ``num_heads``.
    """
    table = _find_dialect(shapes, dialect, told)
    if told:
        size = image_size or told.image_size
        heads = num_heads or told.num_heads
        shown = dataclasses.replace(told, image_size=size, num_heads=heads)
        guesses: dict[str, str] = {}
    else:
        canonical = canonical_shapes(shapes, table)
        shown, guesses = _infer(canonical, table, model, image_size, num_heads)
    config = shown
    if model:
        config = _named(model, shown, num_heads)
        guesses.pop("num_heads", None)
    bare = not any(name.startswith(table.base) for name in shapes if table.base)
    return Naming(table, config, shown, _pairings(table, config, bare), guesses)


@lru_cache(8)
def _pairings(table: Dialect, config: PVTConfig, bare: bool) -> tuple[Pairing, ...]:
    """Returns what holds what; of the many places where one model may lie in a file, once."""
    return tuple(table.pairings(config, bare=bare))


def _find_dialect(shapes: Shapes, name: str | None, told: PVTConfig | None) -> Dialect:
    """Returns the names that the file uses, if those that were asked for are not others."""
    detected = detect_dialect(shapes)
    if not name:
        return detected
    asked = find_dialect(name, told.version) if told else detect_dialect(shapes, name)
    if sum(map(asked.knows, shapes)) < sum(map(detected.knows, shapes)):
        raise ConvertError(
            f"its names are those of dialect {detected.name}, not {name}: leave the dialect "
            "of the source to be detected"
        )
    return asked


def _infer(
    shapes: Shapes,
    dialect: Dialect,
    model: str | None,
    image_size: tuple[int, int] | None,
    num_heads: tuple[int, ...],
) -> tuple[PVTConfig, dict[str, str]]:
    """Returns the architecture that the tensors show, and what in it is a guess."""
    try:
        features = dialect.features_only
        return infer_config(shapes, image_size, features_only=features, num_heads=num_heads)
    except ConvertError:
        if not model:
            raise
        classes = count_classes(shapes)
        return make_config(model, num_classes=classes, image_size=image_size), {}


def _named(name: str, shown: PVTConfig, num_heads: tuple[int, ...]) -> PVTConfig:
    """Returns a variant with what is not its own: classes, channels, size, answers, heads given."""
    config = make_config(
        name,
        num_classes=shown.num_classes,
        in_chans=shown.in_chans,
        image_size=shown.image_size,
        features_only=shown.features_only,
    )
    return dataclasses.replace(config, num_heads=num_heads or config.num_heads)

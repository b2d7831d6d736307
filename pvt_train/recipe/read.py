"""A training run's :class:`Recipe` from YAML, options or a saved run, and the model it trains.

Keys are MindCV's YAML keys where MindCV has one.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pvt_spec import (
    ConfigError,
    ModelInfo,
    Preprocessing,
    PVTConfig,
    default_preprocessing,
    make_config,
    profile_numerics,
)
from pvt_spec.errors import ConvertError
from pvt_spec.files.limits import MAX_INTEGER, MAX_NESTING, MAX_RECIPE_BYTES
from pvt_spec.files.models import read_text
from pvt_spec.words import listed, reason, shortened, show
from pvt_train.optim.optimizer import trainable_names
from pvt_train.recipe.checks import list_problems
from pvt_train.recipe.keys import ROWS, Recipe
from pvt_train.recipe.mindcv import FORMER_KEYS, OTHER_KEYS, is_same
from pvt_train.recipe.synonyms import nearest_key

_MERGED = 200
"""Keys of a mapping, with those of others that are merged into it."""

_MOST = 20
"""Problems that are listed: to find what a key was meant to be takes its time."""


def read_values(path: Path | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Reads what a YAML file and, stronger, the options say: key -> value as written.

    A warm-up that the file has for its own number of epochs, and that is longer than the one of the
    options, is left open: a short run would otherwise need another option.

    Args:
        path: A YAML mapping of keys to values; None for none.
        overrides: Key -> value.

    Raises:
        ConfigError: The file cannot be read.
    """
    values = {**(_read(path) if path else {}), **overrides}
    if "epoch_size" in overrides and "warmup_epochs" not in overrides:
        with suppress(ValueError, TypeError):
            warmup = ROWS["warmup_epochs"].read(values.get("warmup_epochs"))
            if warmup > ROWS["epoch_size"].read(values["epoch_size"]):
                values["warmup_epochs"] = None
    return values


def make_recipe(values: Mapping[str, Any], source: str) -> Recipe:
    """Makes the recipe that some values are, or that :func:`to_dict` was given.

    Args:
        values: Key -> value; see :meth:`pvt_train.recipe.rows.Row.read` for what is taken.
        source: What to name in the message.

    Raises:
        ConfigError: Keys or values cannot be; all are listed at once.
    """
    problems: list[str] = []
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if len(problems) >= _MOST:
            problems.append("and more")
            break
        if name not in ROWS:
            problems += _other(name, value)
            continue
        try:
            fields[name] = ROWS[name].read(value)
        except ValueError:
            problems.append(f"{name} is {show(value)}, expected {ROWS[name].expected}")
    if "model" not in values:
        problems.append("model is missing: name a variant there or with --model")
    if not problems:
        recipe = Recipe(**fields)
        problems += [*list_problems(recipe), *_model_problems(recipe)]
    if problems:
        raise ConfigError(f"{source}: " + "; ".join(sorted(problems)))
    return recipe


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Returns a recipe as JSON can carry it; :func:`make_recipe` makes an equal one of it."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(recipe).items()
    }


def model_info(
    recipe: Recipe, classes: Sequence[str], pretrained: ModelInfo | None = None
) -> ModelInfo:
    """Describes the model that a recipe trains on these classes.

    Every weight is trained and kept in float32, MindCV's float16 position embeddings too: their
    squared gradients are below float16's smallest number.

    Args:
        recipe: The recipe.
        classes: Names of the classes of the training images.
        pretrained: The description of the weights to start from; maths and preprocessing that the
            recipe leaves open are theirs.

    Raises:
        ConfigError: The recipe's model cannot be, or has another number of classes.
    """
    if recipe.num_classes not in (None, len(classes)):
        raise ConfigError(
            f"num_classes is {recipe.num_classes}, but the training images have {len(classes)} "
            f"classes: give --num-classes {len(classes)}"
        )
    config = model_config(recipe, len(classes))
    if pretrained is not None and recipe.profile is None:
        numerics = pretrained.numerics
    else:
        numerics = profile_numerics(recipe.profile or "official", config.version)
    return ModelInfo(
        config,
        dataclasses.replace(numerics, pos_embed_dtype="float32"),
        _preprocessing(recipe, config, pretrained),
        labels=tuple(classes),
        provenance={"seed": str(recipe.seed)},
    )


def model_config(recipe: Recipe, num_classes: int) -> PVTConfig:
    """Returns the architecture that a recipe trains.

    Raises:
        ConfigError: It cannot be.
    """
    return make_config(
        recipe.model,
        num_classes=num_classes,
        in_chans=recipe.in_channels,
        image_size=recipe.image_resize,
        drop_path_rate=recipe.drop_path_rate,
    )


def _preprocessing(
    recipe: Recipe, config: PVTConfig, pretrained: ModelInfo | None
) -> Preprocessing:
    """Returns the recipe's where it says so, else the pretrained model's, else the profile's."""
    base = default_preprocessing(config, recipe.profile or "official")
    if pretrained is not None and len(pretrained.preprocessing.mean) == config.in_chans:
        theirs = pretrained.preprocessing
        crop_pct = theirs.crop_pct if recipe.profile is None else base.crop_pct
        base = dataclasses.replace(theirs, image_size=config.image_size, crop_pct=crop_pct)
    changes: dict[str, Any] = {}
    if recipe.crop_pct is not None:
        changes["crop_pct"] = recipe.crop_pct
    if base.crop_mode == "none" and changes.get("crop_pct", base.crop_pct) != 1:
        changes["crop_mode"] = "center_floor"
    for key in ("mean", "std"):
        if (values := getattr(recipe, key)) is not None:
            # They are for pixels of 0 to 255.
            changes[key] = tuple(value / (1 / base.rescale) for value in values)
            changes["normalise"] = True
    return dataclasses.replace(base, **changes)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads as yaml does; what is merged into mappings (<<) cannot grow without end."""

        def flatten_mapping(self, node: Any) -> None:
            """Puts what is merged in its place."""
            own = len(node.value)
            super().flatten_mapping(node)
            if len(node.value) > max(own, _MERGED):
                raise ValueError(f"a mapping with over {_MERGED} keys merged into it")

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            """Returns a mapping; a key that is there twice is an error."""
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := [key for key, times in Counter(keys).items() if times > 1]:
                raise ValueError(f"{listed(twice, 3, show)} is there twice")
            made: dict[Any, Any] = super().construct_mapping(node, deep)
            return made

    try:
        text = read_text(path, MAX_RECIPE_BYTES)
        _check_nesting(text)
        values = yaml.load(text, Loader)
        if not isinstance(values, dict):
            raise ValueError("expected a mapping of keys to values")
        for key, value in values.items():
            _check_integers(key, value)
    except ConvertError as error:
        raise ConfigError(f"{error}: give --config a recipe's") from None
    except (yaml.YAMLError, *_RAISED) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {_why(error)}") from None
    return {str(key): value for key, value in values.items()}


_RAISED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What yaml raises beside its own errors: of a date that is none, say."""


def _why(error: Exception) -> str:
    """Returns in a line what yaml says, and where."""
    if "int_max_str" in str(error):
        return "it has a number of too many digits, no value of a key"
    problem = getattr(error, "problem", None)
    if problem is None:
        known = isinstance(error, ValueError)
        return reason(error) if known else "it has a value that is none of its kind"
    mark = getattr(error, "problem_mark", None)
    return f"{problem}, in line {mark.line + 1}" if mark else str(problem)


def _check_nesting(text: str) -> None:
    """Refuses lists in lists without end: yaml takes the square of their number of steps.

    Raises:
        ValueError: They do, over :data:`MAX_NESTING` times.
    """
    depth = 0
    for sign in re.findall(r"[][{}]", text):
        depth += -1 if sign in "]}" else sign in "[{"
        if depth > MAX_NESTING:
            raise ValueError(f"it is nested over {MAX_NESTING} times")


def _check_integers(*values: Any) -> None:
    """Refuses integers of over 64 bits, which cannot all be written out.

    Raises:
        ValueError: There is one.
    """
    for value in values:
        if isinstance(value, list):
            _check_integers(*(each for each in value if not isinstance(each, list)))
        if isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
            raise ValueError(f"{show(value)}, expected integers of 64 bits")


def _other(key: str, value: Any) -> Iterator[str]:
    """Yields what is wrong with a key that is none of the recipe's."""
    if key in FORMER_KEYS:
        yield f"{key} is of MindCV before 0.3: write {FORMER_KEYS[key]}"
    elif key not in OTHER_KEYS:
        near = nearest_key(key, [*ROWS, *OTHER_KEYS])
        yield f"{shortened(key)} is not a known key (the nearest is {near})"
    elif OTHER_KEYS[key].refused and not is_same(key, value):
        yield f"{key} is {show(value)}, which is not supported: {OTHER_KEYS[key].why}"


def _model_problems(recipe: Recipe) -> Iterator[str]:
    freeze = () if ROWS["freeze"].problem(recipe.freeze) else recipe.freeze
    try:
        trainable_names(model_config(recipe, recipe.num_classes or 1), freeze)
    except ConfigError as error:
        yield str(error)

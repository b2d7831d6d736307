"""Model files, understood: any format and dialect to canonical weights and ModelInfo.

The currency is ``dict[str, Array]`` under canonical names. May import numpy, pvt_spec and
pvt_onnx's graph builder.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from convert.detect import canonical_shapes, detect_dialect, infer_config, strip_prefixes
from convert.dialects import Dialect, find_dialect
from convert.errors import ConvertError
from convert.file_formats import file_format, read_file
from convert.training_state import is_training_state
from convert.weight_file import WeightFile
from pvt_spec import (
    METADATA_KEY,
    ModelInfo,
    PVTConfig,
    default_preprocessing,
    make_config,
    profile_numerics,
    tensor_specs,
    variant_name,
)
from pvt_spec.arrays import Array

WEIGHT_DTYPES = ("float32", "float16", "bfloat16")
"""What weights may be stored as; all widen to float32 without loss."""


@dataclass(frozen=True)
class Given:
    """What the user says about a source, in place of what the file shows.

    Attributes:
        model: A variant's name.
        dialect: A dialect's name.
        profile: A numerics profile's name.
        image_size: (H, W) in pixels of the images that the model is to take.
        labels: Class names, in the order of the logits.
    """

    model: str | None = None
    dialect: str | None = None
    profile: str | None = None
    image_size: tuple[int, int] | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """A model file, understood.

    Attributes:
        weights: Every tensor of ``info.config`` under its canonical name, in canonical order, in
            the dtypes of the file.
        info: What travels with them.
        dialect: The names that the file uses.
        findings: What was detected, set aside or guessed: (what, finding).
        training_state: Names of the entries that were set aside.
        extras: Names of what else the file holds.
    """

    weights: dict[str, Array]
    info: ModelInfo
    dialect: str
    findings: tuple[tuple[str, str], ...]
    training_state: tuple[str, ...]
    extras: tuple[str, ...]


def load_model(path: Path) -> tuple[dict[str, Array], ModelInfo]:
    """Canonical weights and ModelInfo of a model file in any format and dialect.

    Raises:
        ConvertError: The file cannot be read, or is not a whole PVT.
    """
    model = read_model(path)
    return model.weights, model.info


def read_model(path: Path, given: Given = Given()) -> Model:
    """A model file, understood: names translated, completeness checked, maths settled.

    Args:
        path: A file of one of :data:`convert.file_formats.FORMATS`.
        given: What the user says in place of what the file shows.

    Raises:
        ConvertError: The file cannot be read, or is not a whole PVT; all problems at once.
    """
    file = read_file(path)
    findings = [("format", file_format(path))]
    if file.container:
        findings.append(("container", file.container))
    training = [name for name in file.tensors if is_training_state(name)]
    weights = {name: array for name, array in file.tensors.items() if name not in set(training)}
    if training:
        findings.append(("set aside", f"{len(training)} entries of training state"))
    prefix = strip_prefixes(weights)
    if prefix:
        findings.append(("prefix removed", prefix))
        weights = {name.removeprefix(prefix): array for name, array in weights.items()}
    try:
        info, dialect, canonical = _understand(path, file, weights, given, findings)
    except ConvertError as error:
        raise ConvertError(f"{path}: {error}") from error
    return Model(
        canonical, info, dialect.name, tuple(findings), tuple(training), tuple(file.extras)
    )


def _understand(
    path: Path,
    file: WeightFile,
    weights: dict[str, Array],
    given: Given,
    findings: list[tuple[str, str]],
) -> tuple[ModelInfo, Dialect, dict[str, Array]]:
    shapes = {name: array.shape for name, array in weights.items()}
    written = file.metadata.get(METADATA_KEY)
    info = ModelInfo.from_json(written) if written else None
    told = info.profile if info else "nothing of its profile"
    dialect = _dialect(shapes, given, info)
    findings.append(("dialect", dialect.name + _origin(given.dialect)))
    inferred, guesses = _config(canonical_shapes(shapes, dialect), given, info)
    config = _named(given.model, inferred) if given.model else inferred
    canonical = _complete(weights, config, inferred, dialect, given)
    info = _describe(path, info, config, dialect, canonical, given)
    findings += [
        ("variant", (info.variant or _architecture(config)) + _origin(given.model)),
        ("classes", str(config.num_classes)),
        ("profile", info.profile + _origin(given.profile, "metadata" if written else "dialect")),
        *([("file says", told)] if given.profile and told != info.profile else []),
        ("image size", "{}x{}".format(*info.preprocessing.image_size) + _origin(given.image_size)),
    ]
    findings += [("guess", guess) for guess in guesses]
    return info, dialect, canonical


def _architecture(config: PVTConfig) -> str:
    linear = " linear" if config.linear else ""
    return (
        f"none named: v{config.version}{linear}, widths {config.embed_dims}, depths {config.depths}"
    )


def _origin(given: object, otherwise: str = "") -> str:
    origin = "given" if given else otherwise
    return f" ({origin})" if origin else ""


def _dialect(
    shapes: Mapping[str, tuple[int, ...]], given: Given, info: ModelInfo | None
) -> Dialect:
    if not given.dialect:
        return detect_dialect(shapes)
    version = info.config.version if info else 1 if "cls_token" in shapes else 2
    return find_dialect(given.dialect, version)


def _config(
    shapes: Mapping[str, tuple[int, ...]], given: Given, info: ModelInfo | None
) -> tuple[PVTConfig, list[str]]:
    if info is None:
        try:
            return infer_config(shapes, given.image_size)
        except ConvertError:
            if not given.model:
                raise
            return make_config(given.model, image_size=given.image_size), []
    if info.config.version == 2 and given.image_size:
        return dataclasses.replace(info.config, image_size=given.image_size), []
    return info.config, []


def _named(name: str, inferred: PVTConfig) -> PVTConfig:
    return make_config(
        name,
        num_classes=inferred.num_classes,
        in_chans=inferred.in_chans,
        image_size=inferred.image_size,
    )


def _complete(
    weights: dict[str, Array],
    config: PVTConfig,
    inferred: PVTConfig,
    dialect: Dialect,
    given: Given,
) -> dict[str, Array]:
    """The weights under canonical names, if they are exactly the configuration's."""
    specs = {dialect.from_canonical(spec.name): spec for spec in tensor_specs(config)}
    problems = [f"{name} is missing" for name in specs if name not in weights]
    for name, array in weights.items():
        if name not in specs:
            near = get_close_matches(name, specs, n=1)
            problems.append(f"{name} is unknown" + (f" (near {near[0]})" if near else ""))
        elif array.shape != specs[name].shape:
            problems.append(f"{name} is {array.shape}, expected {specs[name].shape}")
        elif array.dtype.name not in WEIGHT_DTYPES:
            expected = ", ".join(WEIGHT_DTYPES)
            problems.append(f"{name} is {array.dtype.name}, expected one of {expected}")
    if problems:
        name = given.model or variant_name(config) or "this architecture"
        looks = variant_name(inferred)
        hint = f"\nIt looks like {looks}: try --model {looks}" if looks and looks != name else ""
        raise ConvertError(
            f"{len(problems)} tensors (dialect {dialect.name}) do not fit {name}:\n  "
            + "\n  ".join(sorted(problems))
            + hint
        )
    return {spec.name: weights[name] for name, spec in specs.items()}


def _describe(
    path: Path,
    info: ModelInfo | None,
    config: PVTConfig,
    dialect: Dialect,
    weights: Mapping[str, Array],
    given: Given,
) -> ModelInfo:
    """The ModelInfo of a file, from its metadata or its dialect, with what the user gives."""
    profile = given.profile or dialect.profile
    if info is None:
        info = ModelInfo(
            config,
            profile_numerics(profile, config.version),
            default_preprocessing(config, profile),
            provenance={"file": path.name, "dialect": dialect.name},
        )
    elif given.profile:
        changed = {**info.provenance, "profile before it was given": info.profile}
        numerics = profile_numerics(profile, config.version)
        info = dataclasses.replace(info, numerics=numerics, provenance=changed)
    numerics, preprocessing = info.numerics, info.preprocessing
    if config.version == 1:
        half = weights["pos_embed1"].dtype == np.float16
        numerics = dataclasses.replace(numerics, pos_embed_dtype="float16" if half else "float32")
    if given.image_size:
        preprocessing = dataclasses.replace(preprocessing, image_size=given.image_size)
    return dataclasses.replace(
        info,
        config=config,
        numerics=numerics,
        preprocessing=preprocessing,
        labels=given.labels or info.labels,
    )

"""Model files, understood: any format and dialect to canonical weights and ModelInfo.

The currency is ``dict[str, Array]`` under canonical names.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from convert.findings import Finding
from convert.formats.table import find_format, read_file
from convert.formats.weight_file import WeightFile
from convert.names.detect import (
    BACKBONE,
    canonical_shapes,
    count_classes,
    detect_dialect,
    infer_config,
    strip_prefixes,
)
from convert.names.dialects import Dialect, find_dialect
from convert.names.training_state import averaged_name, count_leading_parts, is_training_state
from convert.names.translation import Names, names_by_canonical, to_canonical
from convert.options import Given
from pvt_spec import (
    METADATA_KEY,
    ModelInfo,
    Numerics,
    PVTConfig,
    default_preprocessing,
    make_config,
    output_names,
    profile_numerics,
    tensor_specs,
    variant_name,
)
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError

_SHOWN = 40
"""Problems that are listed; of another model than was asked for, every tensor is one."""

WEIGHT_DTYPES = ("float32", "float16", "bfloat16")
"""What weights may be stored as; all widen to float32 without loss."""


@dataclass(frozen=True)
class Model:
    """A model file, understood.

    Attributes:
        weights: Every tensor of ``info.config`` under its canonical name, in canonical order, in
            the dtypes of the file.
        info: What travels with them.
        dialect: The names that the file uses.
        names: By canonical name, the file's tensors that hold its rows, without prefixes.
        findings: What was detected or set aside.
        guesses: What the file does not settle: the configuration's field, and the guess in words.
        files: What was read: the file that was named first, then those beside it.
    """

    weights: dict[str, Array]
    info: ModelInfo
    dialect: str
    names: Names
    findings: tuple[Finding, ...]
    guesses: dict[str, str]
    files: tuple[Path, ...]


def load_model(path: Path | str) -> tuple[dict[str, Array], ModelInfo]:
    """Canonical weights and ModelInfo of a model file in any format and dialect.

    Raises:
        ConvertError: The file cannot be read, or is not a whole PVT.
    """
    model = read_model(path)
    return model.weights, model.info


def read_model(path: Path | str, given: Given = Given()) -> Model:
    """A model file, understood: names translated, completeness checked, maths settled.

    Args:
        path: A file of one of :data:`convert.formats.table.FORMATS`, or a folder of Hugging Face.
        given: What the user says in place of what the file shows.

    Raises:
        ConvertError: The file cannot be read, or is not a whole PVT; all problems at once.
    """
    path = Path(path)
    return understand(path, read_file(path), given)


def understand(path: Path, file: WeightFile, given: Given = Given()) -> Model:
    """What :func:`read_model` makes of a file's contents.

    Raises:
        ConvertError: They are not a whole PVT; all problems at once.
    """
    try:
        findings = [Finding("format", find_format(path).name)]
        weights = _choose_weights(file, given, findings)
        return _Reader(path, file, given, findings).model(weights)
    except ConvertError as error:
        raise ConvertError(f"{path}: {error}") from error


def _choose_weights(file: WeightFile, given: Given, findings: list[Finding]) -> dict[str, Array]:
    """The raw or averaged weights, by the file's names without what wrappers put before them."""
    state = [name for name in file.tensors if is_training_state(name)]
    averaged = {averaged_name(name) or "": file.tensors[name] for name in state}
    averaged.pop("", None)
    averaged = averaged or file.averaged
    if given.weights == "ema":
        if not averaged:
            raise ConvertError("no averaged weights in it (ema.*, model_ema): give --weights raw")
        weights, container = averaged, file.averaged_container
    else:
        hidden = set(state)
        weights = {name: array for name, array in file.tensors.items() if name not in hidden}
        container = file.container
    if container:
        findings.append(Finding("container", container))
    if averaged:
        note = "taken" if weights is averaged else "not taken: give --weights ema"
        findings.append(Finding("averaged_weights", len(averaged), note))
    if state:
        findings.append(Finding("training_state", count_leading_parts(state), "set aside"))
    return _strip(weights, findings)


def _strip(weights: dict[str, Array], findings: list[Finding]) -> dict[str, Array]:
    prefix = strip_prefixes(weights)
    beside = [name for name in weights if not name.startswith(prefix + BACKBONE)]
    if len(beside) < len(weights):
        prefix += BACKBONE
        parts = count_leading_parts(beside)
        findings.append(Finding("beside_backbone", parts, "of a detector, say; not converted"))
    if not prefix:
        return weights
    findings.append(Finding("prefix_removed", prefix))
    return {n.removeprefix(prefix): a for n, a in weights.items() if n.startswith(prefix)}


@dataclass(frozen=True)
class _Reader:
    """What is known of one file while it is being understood."""

    path: Path
    file: WeightFile
    given: Given
    findings: list[Finding]

    def model(self, weights: dict[str, Array]) -> Model:
        """The model of these weights, named as the file names them."""
        given = self.given
        shapes = {name: array.shape for name, array in weights.items()}
        info, origin = self.described()
        dialect = self.dialect(shapes, info)
        self.found("dialect", dialect.name, given.dialect)
        inferred, guesses = self.config(canonical_shapes(shapes, dialect), dialect, info)
        config = _named(given.model, inferred) if given.model else inferred
        bare = not any(name.startswith(dialect.base) for name in weights if dialect.base)
        canonical, names = self.complete(weights, config, inferred, dialect, bare)
        told = info.profile if info else ""
        info = self.describe(info, config, dialect, canonical)
        variant = info.variant
        self.found("variant", variant, given.model, text=variant or _architecture(config))
        self.found("classes", config.num_classes)
        if config.features_only:
            self.found("answers", [*output_names(config)], otherwise="feature maps, no classes")
        self.found("profile", info.profile, given.profile, origin or "dialect")
        if given.profile and told not in ("", info.profile):
            self.found("file_says", told)
        size = info.preprocessing.image_size
        self.found("image_size", [*size], given.image_size, text="{}x{}".format(*size))
        files = self.file.files or (self.path,)
        found = tuple(self.findings)
        return Model(canonical, info, dialect.name, names, found, guesses, files)

    def found(
        self, what: str, value: object, given: object = None, otherwise: str = "", text: str = ""
    ) -> None:
        self.findings.append(Finding(what, value, "given" if given else otherwise, text))

    def described(self) -> tuple[ModelInfo | None, str]:
        """What the file says of its model beside the tensors, and where it says it."""
        written = self.file.metadata.get(METADATA_KEY)
        info = ModelInfo.from_json(written) if written else None
        described = self.file.described
        if described is None:
            return info, "metadata" if info else ""
        # transformers computes what config.json says, so that is what holds.
        said = described.config, described.numerics, described.labels
        if info and (info.config, _as_float32(info), info.labels) == said:
            return info, "metadata"
        if info:
            self.findings.append(
                Finding("warning", f"{METADATA_KEY} and config.json differ: config.json holds")
            )
        return described, "config.json"

    def dialect(self, shapes: Mapping[str, tuple[int, ...]], info: ModelInfo | None) -> Dialect:
        """The names that the file uses, if those that were given are not others."""
        name, detected = self.given.dialect, detect_dialect(shapes)
        if not name:
            return detected
        given = find_dialect(name, info.config.version) if info else detect_dialect(shapes, name)
        if sum(map(given.knows, shapes)) < sum(map(detected.knows, shapes)):
            raise ConvertError(
                f"its names are those of dialect {detected.name}, not {name}: leave the dialect "
                "of the source to be detected"
            )
        return given

    def config(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        dialect: Dialect,
        info: ModelInfo | None,
    ) -> tuple[PVTConfig, dict[str, str]]:
        """The architecture that the file tells or shows, and what in it is a guess."""
        given = self.given
        if info is None:
            try:
                return infer_config(shapes, given.image_size, features_only=dialect.features_only)
            except ConvertError:
                if not given.model:
                    raise
                classes, size = count_classes(shapes), given.image_size
                return make_config(given.model, num_classes=classes, image_size=size), {}
        if given.image_size:
            return dataclasses.replace(info.config, image_size=given.image_size), {}
        return info.config, {}

    def complete(
        self,
        weights: dict[str, Array],
        config: PVTConfig,
        inferred: PVTConfig,
        dialect: Dialect,
        bare: bool,
    ) -> tuple[dict[str, Array], Names]:
        """The weights under canonical names, if they are exactly the configuration's."""
        groups = list(dialect.groups(config, bare=bare))
        specs = {spec.name: spec for group in groups for spec in group.theirs}
        weights = self.without_class_row(weights, config, dialect)
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
            name = self.given.model or variant_name(config) or "this architecture"
            looks = variant_name(inferred)
            hint = (
                f". It looks like {looks}: try --model {looks}" if looks not in (None, name) else ""
            )
            more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise ConvertError(
                f"{len(problems)} tensors (dialect {dialect.name}) do not fit {name}{hint}\n  "
                + "\n  ".join(sorted(problems)[:_SHOWN])
                + more
            )
        canonical = to_canonical(weights, groups)
        ordered = {spec.name: canonical[spec.name] for spec in tensor_specs(config)}
        return ordered, names_by_canonical(groups)

    def without_class_row(
        self, weights: dict[str, Array], config: PVTConfig, dialect: Dialect
    ) -> dict[str, Array]:
        """The weights, less the row that whai362/PVT's detectors keep and never use.

        Their ``pos_embed4`` has the class token's row although they have no class token.
        """
        if config.version == 2 or not config.features_only:
            return weights
        H, W = config.pos_embed_grid(3)
        (name,) = dialect.from_canonical("pos_embed4")
        held = weights.get(name)
        if held is None or held.shape != (1, H * W + 1, config.embed_dims[3]):
            return weights
        self.findings.append(Finding("lost", f"{name}: the class token's row, which is not used"))
        return {**weights, name: held[:, 1:]}

    def describe(
        self,
        info: ModelInfo | None,
        config: PVTConfig,
        dialect: Dialect,
        weights: Mapping[str, Array],
    ) -> ModelInfo:
        """The ModelInfo of a file, from what it says or its dialect, with what the user gives."""
        given = self.given
        profile = given.profile or dialect.profile
        if info is None:
            info = ModelInfo(
                config,
                profile_numerics(profile, config.version),
                default_preprocessing(config, profile),
                provenance={"file": self.path.name, "dialect": dialect.name},
            )
        elif given.profile:
            changed = {**info.provenance, "profile before it was given": info.profile}
            numerics = profile_numerics(profile, config.version)
            info = dataclasses.replace(info, numerics=numerics, provenance=changed)
        preprocessing = info.preprocessing
        if given.image_size:
            preprocessing = dataclasses.replace(preprocessing, image_size=given.image_size)
        if given.weights == "ema":
            info = dataclasses.replace(info, provenance={**info.provenance, "weights": "averaged"})
        return dataclasses.replace(
            info,
            config=config,
            numerics=stored_numerics(info, weights),
            preprocessing=preprocessing,
            labels=given.labels or info.labels,
        )


def _as_float32(info: ModelInfo) -> Numerics:
    return dataclasses.replace(info.numerics, pos_embed_dtype="float32")


def stored_numerics(info: ModelInfo, weights: Mapping[str, Array]) -> Numerics:
    """A model's maths, with the dtype that v1's position embeddings are really kept in."""
    if info.config.version == 2:
        return info.numerics
    half = weights["pos_embed1"].dtype == np.float16
    return dataclasses.replace(info.numerics, pos_embed_dtype="float16" if half else "float32")


def _architecture(config: PVTConfig) -> str:
    linear = " linear" if config.linear else ""
    return (
        f"none named: v{config.version}{linear}, widths {config.embed_dims}, depths {config.depths}"
    )


def _named(name: str, inferred: PVTConfig) -> PVTConfig:
    return make_config(
        name,
        num_classes=inferred.num_classes,
        in_chans=inferred.in_chans,
        image_size=inferred.image_size,
        features_only=inferred.features_only,
    )

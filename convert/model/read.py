"""Model files, understood: any format and dialect to canonical weights and ModelInfo.

The currency is ``dict[str, Array]`` under canonical names.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from convert.findings import Finding, printable
from convert.formats.huggingface.images import GUESSED
from convert.formats.table import find_source, read_file
from convert.formats.weight_file import WeightFile
from convert.model.answers import agree, describe_answers, guess_of_images, with_given
from convert.model.choose import choose
from convert.model.take import take
from convert.names.detect import Shapes
from convert.names.dialects import Dialect
from convert.names.naming import Naming, find_naming
from convert.names.training_state import AVERAGED
from convert.names.translation import Holders, names_by_canonical, to_canonical
from convert.options import WEIGHT_DTYPES, Given
from pvt_spec import (
    METADATA_KEY,
    NUM_STAGES,
    PROFILES,
    ModelInfo,
    Numerics,
    PVTConfig,
    default_preprocessing,
    describe_numerics,
    output_names,
    profile_numerics,
    tensor_specs,
    variant_name,
)
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.hashes import GRAPH_KEY, changed_weights, describe_changes, hash_weights
from pvt_spec.model_files import find_model
from pvt_spec.unseen import UNSEEN_KEY, Unseen
from pvt_spec.words import counted

_SHOWN = 40
"""Problems that are listed; of another model than was asked for, every tensor is one."""


@dataclass(frozen=True)
class Model:
    """A model file, understood.

    Attributes:
        weights: Every tensor of ``info.config`` under its canonical name, in canonical order, in
            the dtypes of the file.
        info: The ModelInfo that travels with them.
        dialect: The names that the file uses.
        names: The file's tensors that hold a canonical one's rows, without prefixes, by its name.
        findings: The facts that were detected, and what was set aside.
        guesses: The guesses at what the file does not settle, in words, by the configuration's
            field.
        files: The files that were read: first the one that was named, then those beside it.
        changed: What is not as it was written, by the file's own hashes: weights by name, and
            what an ``.onnx`` computes, in words.
        hashes: The hashes of weights, where they are known.
    """

    weights: dict[str, Array]
    info: ModelInfo
    dialect: str
    names: Holders
    findings: tuple[Finding, ...]
    guesses: dict[str, str]
    files: tuple[Path, ...]
    changed: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    def remarks(self) -> list[str]:
        """Returns what a user of its answers should know: what was changed, guessed, replaced."""
        told = [describe_changes(self.changed)] if self.changed else []
        told += [f"guess: {guess}" for guess in self.guesses.values()]
        told += [finding.text for finding in self.findings if finding.what == "replaced"]
        return [f"{self.files[0]}: {text}" for text in told]

    def __repr__(self) -> str:
        """Says in one line what it is: not the weights."""
        kind = self.info.variant or f"PVT v{self.info.config.version}"
        tensors = counted(len(self.weights), "tensor")
        return f"<Model {kind} ({self.info.profile}), {tensors} of {self.files[0]}>"


def load_model(path: Path | str) -> tuple[dict[str, Array], ModelInfo]:
    """Reads canonical weights and ModelInfo of a model file in any format and dialect.

    Raises:
        ConvertError: The file cannot be read, or is not a whole PVT.
    """
    model = read_model(path)
    return model.weights, model.info


def read_model(path: Path | str, given: Given = Given(), *, keep_head: bool = True) -> Model:
    """Reads a model file and understands it: translates names, checks that it is whole.

    Args:
        path: A file of one of :data:`convert.formats.table.FORMATS`, or a folder of Hugging Face.
        given: What the user says in place of what the file shows.
        keep_head: Whether a head that is no PVT's is an error; else it is left out.

    Raises:
        ConvertError: The file cannot be read, or is not a whole PVT; all problems at once.
    """
    path, taken = find_model(Path(path))
    model = understand(path, read_file(path), given, keep_head=keep_head)
    chosen = [Finding("taken", str(path), text=taken)] if taken else []
    return dataclasses.replace(model, findings=(*chosen, *model.findings))


def understand(
    path: Path, file: WeightFile, given: Given = Given(), *, keep_head: bool = True
) -> Model:
    """Returns what :func:`read_model` makes of a file's contents.

    Raises:
        ConvertError: They are not a whole PVT; all problems at once.
    """
    try:
        return _understand(path, file, given, keep_head)
    except ConvertError as error:
        beside = "".join(f"\n  {finding}" for finding in left_unread(file))
        said = printable(f"{error}{beside}", keep="\n")
        raise ConvertError(f"{path}: {said}") from error


def _understand(path: Path, file: WeightFile, given: Given, keep_head: bool) -> Model:
    written = file.metadata.get(METADATA_KEY)
    own = ModelInfo.from_json(written) if written else None
    said, origin, warnings = _said(file, own)
    unseen = None if said else _unseen(file)

    def find(shapes: Shapes) -> Naming:
        return find_naming(
            shapes,
            said.config if said else None,
            model=given.model,
            dialect=given.dialect,
            image_size=given.image_size,
            num_heads=given.num_heads or (unseen.num_heads if unseen else ()),
        )

    choice = choose(file, given, find)
    averaged = choice.taken.averaged
    weights, naming, chosen = take(choice, find, keep_head=keep_head)
    config, dialect = naming.config, naming.dialect
    weights, lost = _without_class_row(weights, config, dialect)
    _check_tensors(weights, naming, given.model)
    canonical = to_canonical(weights, naming.pairings)
    canonical = {spec.name: canonical[spec.name] for spec in tensor_specs(config)}
    info = _describe(path, given, said, unseen, config, dialect, canonical)
    hashes, changed = _find_changes(path, file, own, averaged, canonical)
    if averaged:
        info = dataclasses.replace(info, provenance={**info.provenance, "weights": "averaged"})
    guesses = {**naming.guesses}
    configured = said is not None and said is file.described
    unsaid = said is None or (configured and GUESSED in said.provenance)
    if unsaid and (guess := guess_of_images(info, given)):
        guesses["preprocessing"] = guess
    if not said and not unseen and not given.profile:
        guesses["profile"] = (
            f"profile {info.profile}: what code with {dialect.name}'s names computes; weights do "
            f"not show it (--profile {'|'.join(PROFILES)})"
        )
    findings = (
        format_of(path),
        *chosen,
        *left_unread(file),
        *warnings,
        Finding("dialect", dialect.name, "given" if given.dialect else ""),
        *lost,
        *_described(info, given, origin or ("state_dict" if unseen else "dialect"), said, guesses),
        *([Finding("changed", changed, "since it was written")] if changed else []),
    )
    return Model(
        canonical,
        info,
        dialect.name,
        names_by_canonical(naming.pairings),
        findings,
        guesses,
        file.files or (path,),
        tuple(changed),
        hashes,
    )


def format_of(path: Path) -> Finding:
    """Returns what is said of a file's format."""
    row = find_source(path)
    named = not row.suffixes or path.suffix.lower() in row.suffixes
    return Finding("format", row.name, "" if named else "by what is in it, whatever its name says")


def left_unread(file: WeightFile) -> list[Finding]:
    """Returns what is said of the objects in a file that are no tensors."""
    note = "no plain tensors or values; nothing of them was run"
    return [Finding("left_unread", [*file.unread], note)] if file.unread else []


def _said(file: WeightFile, info: ModelInfo | None) -> tuple[ModelInfo | None, str, list[Finding]]:
    """Returns what the file says of its model, where it says it, and perhaps a warning."""
    described = file.described
    if described is None:
        return info, "metadata" if info else "", []
    # transformers does what its JSON files say, so that is what holds.
    if info and agree(info, described):
        return info, "metadata", []
    warning = Finding("warning", f"{METADATA_KEY} and config.json differ: config.json holds")
    return described, "config.json", [warning] if info else []


def _unseen(file: WeightFile) -> Unseen | None:
    """Returns what a twin's own state says of itself, where the file has that."""
    text = file.metadata.get(UNSEEN_KEY)
    return Unseen.from_json(text) if text else None


def _find_changes(
    path: Path,
    file: WeightFile,
    own: ModelInfo | None,
    averaged: bool,
    weights: Mapping[str, Array],
) -> tuple[dict[str, str], list[str]]:
    """Returns the weights' hashes, where the file has them, and what is not as it was written.

    Args:
        path: The file.
        file: Its contents.
        own: The description that it carries.
        averaged: Whether they are the averaged ones of the file.
        weights: The weights under canonical names.
    """
    if own is None:
        return {}, []
    leading = AVERAGED if averaged else ""
    expected = {name: own.hashes.get(leading + name, "") for name in weights}
    hashes = hash_weights(weights) if any(expected.values()) else {}
    known = {name: digest for name, digest in expected.items() if digest}
    changed = changed_weights(known, hashes)
    if file.graph_hash and file.metadata.get(GRAPH_KEY) != file.graph_hash:
        from pvt_onnx.changes import graph_changes
        from pvt_onnx.files import load_proto

        changed += graph_changes(load_proto(path), own)
    return hashes, changed


def _without_class_row(
    weights: dict[str, Array], config: PVTConfig, dialect: Dialect
) -> tuple[dict[str, Array], list[Finding]]:
    """Returns the weights, less the row that whai362/PVT's detectors keep and never use.

    Their ``pos_embed4`` has the class token's row although they have no class token.
    """
    if config.version == 2 or not config.features_only:
        return weights, []
    (name,) = dialect.from_canonical(pos_embeds(config)[-1])
    held, (H, W) = weights.get(name), config.pos_embed_grid(NUM_STAGES - 1)
    if held is None or held.shape != (1, H * W + 1, config.embed_dims[-1]):
        return weights, []
    lost = Finding("lost", f"{name}: the class token's row, which is not used")
    return {**weights, name: held[:, 1:]}, [lost]


def _check_tensors(weights: Mapping[str, Array], naming: Naming, asked: str | None) -> None:
    """Refuses tensors that are not exactly the configuration's.

    Raises:
        ConvertError: They are not; the problems, and which variant they look like.
    """
    specs = {spec.name: spec for pairing in naming.pairings for spec in pairing.theirs}
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
        unknown = sorted(weights.keys() - specs.keys())
        name = asked or variant_name(naming.config) or "this architecture"
        looks = variant_name(naming.shown)
        hint = f". It looks like {looks}: try --model {looks}" if looks not in (None, name) else ""
        shown = sorted(problems)[:_SHOWN]
        if len(problems) > _SHOWN:
            shown.append(f"and {len(problems) - _SHOWN} more")
        if unknown:
            first = unknown[0].partition(".")
            other = not any(name.startswith(first[0] + first[1]) for name in specs)
            pattern = f"{first[0]}.*" if other and first[1] else unknown[0]
            hint += f". What is no part of the model is left out with --ignore {pattern!r}, say"
        raise ConvertError(
            f"{len(problems)} tensors (dialect {naming.dialect.name}) do not fit {name}{hint}\n  "
            + "\n  ".join(shown)
        )


def _describe(
    path: Path,
    given: Given,
    said: ModelInfo | None,
    unseen: Unseen | None,
    config: PVTConfig,
    dialect: Dialect,
    weights: Mapping[str, Array],
) -> ModelInfo:
    """Returns a file's ModelInfo, from what it says or its dialect, with what the user gives."""
    profile = given.profile or dialect.profile
    numerics = profile_numerics(profile, config.version)
    if unseen and not given.profile:
        numerics = unseen.numerics
        profile = describe_numerics(numerics, config.version).partition(" ")[0]
    if said is None:
        preprocessing = default_preprocessing(config, profile)
        provenance = {"file": path.name, "dialect": dialect.name}
        info = ModelInfo(config, numerics, preprocessing, provenance=provenance)
    else:
        info, provenance = said, dict(said.provenance)
        if given.profile:
            provenance["profile before it was given"] = said.profile
            info = dataclasses.replace(said, numerics=numerics)
    info = with_given(info, given)
    preprocessing = info.preprocessing
    if given.image_size:
        preprocessing = dataclasses.replace(preprocessing, image_size=given.image_size)
    return dataclasses.replace(
        info,
        config=config,
        numerics=stored_numerics(info, weights),
        preprocessing=preprocessing,
        labels=given.labels or info.labels,
        provenance=provenance,
    )


def _described(
    info: ModelInfo,
    given: Given,
    origin: str,
    said: ModelInfo | None,
    guesses: Mapping[str, str],
) -> Iterator[Finding]:
    """Yields what a model is, and where each fact comes from."""
    config, variant = info.config, info.variant
    linear = " linear" if config.linear else ""
    sizes = f"widths {config.embed_dims}, depths {config.depths}"
    shown = variant or f"none named: v{config.version}{linear}, {sizes}"
    note = "its num_heads are a guess" if "num_heads" in guesses else ""
    yield Finding("variant", variant, "given" if given.model else note, shown)
    if given.num_heads:
        other = said.config.num_heads if said else config.num_heads
        note = "given" if other == config.num_heads else f"given; the file says {other}"
        yield Finding("num_heads", [*config.num_heads], note)
    yield Finding("classes", config.num_classes)
    if config.features_only:
        yield Finding("answers", [*output_names(config)], "feature maps, no classes")
    yield Finding("profile", info.profile, "given" if given.profile else origin)
    if said and given.profile and said.profile != info.profile:
        yield Finding("file_says", said.profile)
    H, W = info.preprocessing.image_size
    yield Finding("image_size", [H, W], "given" if given.image_size else "", f"{H}x{W}")
    yield from describe_answers(info, given, origin == "config.json")


def pos_embeds(config: PVTConfig) -> list[str]:
    """Returns the names of v1's position embeddings, by stage; v2 has none."""
    return [spec.name for spec in tensor_specs(config) if spec.kind == "pos_embed"]


def stored_numerics(info: ModelInfo, weights: Mapping[str, Array]) -> Numerics:
    """Returns a model's maths, with the dtype that v1's position embeddings are really kept in."""
    first = next(iter(pos_embeds(info.config)), None)
    if first is None:
        return info.numerics
    half = weights[first].dtype == np.float16
    return dataclasses.replace(info.numerics, pos_embed_dtype="float16" if half else "float32")

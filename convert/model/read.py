"""Model files, understood: any format and dialect to canonical weights and ModelInfo.

The currency is ``dict[str, Array]`` under canonical names.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from convert.findings import Finding
from convert.formats.table import find_source, read_file
from convert.formats.weight_file import WeightFile
from convert.hub.find import Found, find
from convert.model.choose import choose
from convert.model.describe import describe, described, guesses_of, pos_embeds
from convert.model.said import Said, find_changes, read_said
from convert.model.take import STATE_STAYS, take
from convert.names.detect import Shapes
from convert.names.dialects import Dialect
from convert.names.naming import Naming, find_naming
from convert.names.translation import Holders, names_by_canonical, to_canonical
from convert.names.wrappers import remedy
from convert.options import WEIGHT_DTYPES, Given
from pvt_spec import (
    METADATA_KEY,
    NUM_STAGES,
    ModelInfo,
    PVTConfig,
    tensor_specs,
    variant_name,
    without_kernel_axes,
)
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError, PvtError
from pvt_spec.files.models import reaching
from pvt_spec.files.replacing import AnyPath
from pvt_spec.files.stamps import Stamps, check_unchanged, stamp_files
from pvt_spec.hashes import PRECISION_KEY, changed_weights, describe_changes, stamp_of
from pvt_spec.precisions import FLOAT32
from pvt_spec.unseen import UNSEEN_KEY
from pvt_spec.words import counted, nearest

_SHOWN = 40
"""Problems that are listed; of another model than was asked for, every tensor is one."""

_COMPARED = 10
"""Unknown names to which the nearest known one is said."""


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
        rounded: The words for how an ``.onnx`` computes and who made it so, where its weights were
            rounded for that since they were written.
        stamps: What the system said of the files before they were read.
        graph: The hash of what an ``.onnx`` computes; "" of a file without a graph.
        certificate: The hash of the certificate that the file says it has; "" without one.
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
    rounded: str = ""
    stamps: Stamps = field(default_factory=dict, compare=False)
    graph: str = ""
    certificate: str = ""

    def check_unchanged(self) -> None:
        """Refuses a file that was written to since it was read, before its weights were used.

        Raises:
            ConvertError: It was.
        """
        check_unchanged(self.stamps)

    def remarks(self) -> list[str]:
        """Returns what a user of its answers should know: what was changed, guessed, replaced."""
        told = [describe_changes(self.changed)] if self.changed else []
        told += [self.rounded] if self.rounded else []
        # Who asks a model has not the options of convert, which the guesses name.
        told += [f"guess: {guess.replace('(--', '(convert --')}" for guess in self.guesses.values()]
        told += [finding.text for finding in self.findings if finding.what == "replaced"]
        return [f"{self.files[0]}: {text}" for text in told]

    def __repr__(self) -> str:
        """Says in one line what it is: not the weights."""
        kind = self.info.variant or f"PVT v{self.info.config.version}"
        tensors = counted(len(self.weights), "tensor")
        return f"<Model {kind} ({self.info.profile}), {tensors} of {self.files[0]}>"


@checked
def load_model(path: AnyPath) -> tuple[dict[str, Array], ModelInfo]:
    """Reads canonical weights and ModelInfo of a model file in any format and dialect.

    Returns:
        Arrays of their own, which may be written to as the file may; what travels with them.

    Raises:
        ConvertError: The file cannot be read, or is not a whole PVT.
    """
    model = read_model(path)
    weights = {name: np.array(array) for name, array in model.weights.items()}
    model.check_unchanged()
    return weights, model.info


@checked
def read_model(path: AnyPath, given: Given = Given(), *, keep_head: bool = True) -> Model:
    """Reads a model file and understands it: translates names, checks that it is whole.

    Its weights are views of the file, which is not to be written to while they are in use.

    Args:
        path: A file of one of :data:`convert.formats.table.FORMATS`, a folder of Hugging Face, or
            the name of published weights.
        given: What the user says in place of what the file shows.
        keep_head: Whether a head that is no PVT's is an error; else it is left out.

    Raises:
        ConvertError: The file cannot be read, or is not a whole PVT; all problems at once.
    """
    found = find(path)
    path = found.path
    file, stamps = read_stamped(path)
    model = understand(path, file, given, keep_head=keep_head)
    model = with_origin(model, found)
    findings = (*found.findings(), *model.findings)
    return dataclasses.replace(model, findings=findings, stamps=stamps)


def read_stamped(path: Path) -> tuple[WeightFile, Stamps]:
    """Reads a file, whose weights are read as they are used; see :func:`check_unchanged`.

    Returns:
        What it holds, and what the system said of all files that it was read from.

    Raises:
        ConvertError: It cannot be read.
    """
    with reaching(path):
        stamps = stamp_files(path)
    file = read_file(path)
    with reaching(path):
        # What is read beside it is known only now, before its weights are used.
        for each in file.files:
            stamps = {**stamp_files(each), **stamps}
    return file, stamps


def with_origin(model: Model, found: Found) -> Model:
    """Returns a model whose description says where it was published, if it was.

    That it is of another variant than is known of the name is a finding.
    """
    if not found.fetched:
        return model
    known, info = found.fetched.row.variant, model.info
    provenance = {**info.provenance, **found.fetched.provenance()}
    other = f"holds {info.variant or 'no named variant'}, and {known} is known of this name"
    doubts = [] if known in (None, info.variant) else [Finding("warning", other)]
    return dataclasses.replace(
        model,
        info=dataclasses.replace(info, provenance=provenance),
        findings=(*model.findings, *doubts),
    )


def understand(
    path: Path, file: WeightFile, given: Given = Given(), *, keep_head: bool = True
) -> Model:
    """Returns what :func:`read_model` makes of a file's contents.

    Raises:
        ConvertError: They are not a whole PVT; all problems at once.
    """
    try:
        return _understand(path, file, given, keep_head)
    except PvtError as error:
        beside = "".join(f"\n  {finding}" for finding in left_unread(file))
        raise ConvertError(f"{path}: {error}{beside}") from error


def _understand(path: Path, file: WeightFile, given: Given, keep_head: bool) -> Model:
    said = read_said(file)
    if file.unlike & {UNSEEN_KEY, METADATA_KEY} and not said.info and not given.profile:
        raise ConvertError(
            "its models say different maths, and which is whose is not read: save the one alone, "
            "torch.save(model.state_dict(), 'weights.pth'), or give --profile and --num-heads"
        )

    def find(shapes: Shapes) -> Naming:
        return find_naming(
            shapes,
            said.info.config if said.info else None,
            model=given.model,
            dialect=given.dialect,
            image_size=given.image_size,
            num_heads=given.num_heads or said.num_heads,
        )

    choice = choose(file, given, find)
    weights, naming, chosen = take(choice, find, keep_head=keep_head)
    weights, lost = _without_class_row(weights, naming.config, naming.dialect)
    specs = [spec for pairing in naming.pairings for spec in pairing.theirs]
    weights, narrowed = _without_spare_digits(without_kernel_axes(weights, specs))
    _check_tensors(weights, naming, given.model)
    canonical = to_canonical(weights, naming.pairings)
    canonical = {spec.name: canonical[spec.name] for spec in tensor_specs(naming.config)}
    averaged = choice.taken.averaged
    rounded = file.precision != FLOAT32
    info = describe(path, given, said, naming, canonical, averaged=averaged, rounded=rounded)
    hashes, changed = find_changes(path, file, said, canonical, averaged=averaged)
    guesses = {**naming.guesses, **guesses_of(info, given, said, naming.dialect)}
    findings = (
        format_of(path),
        *chosen,
        *left_unread(file),
        *_optimizer(file),
        *said.warnings,
        Finding("dialect", naming.dialect.name, "given" if given.dialect else ""),
        *lost,
        *narrowed,
        *described(info, given, said, guesses),
        *([Finding("changed", changed, "since it was written")] if changed else []),
        *([Finding("precision", file.precision, file.made)] if file.made else []),
    )
    return Model(
        weights=canonical,
        info=info,
        dialect=naming.dialect.name,
        names=names_by_canonical(naming.pairings),
        findings=findings,
        guesses=guesses,
        files=file.files or (path,),
        changed=tuple(changed),
        hashes=hashes,
        rounded=file.made if _rounded_since(file, said, hashes) else "",
        graph=file.graph_hash,
        certificate=stamp_of(file.metadata),
    )


def _rounded_since(file: WeightFile, said: Said, hashes: Mapping[str, str]) -> bool:
    """Returns whether weights that were rounded are other numbers than were written."""
    if PRECISION_KEY not in file.metadata:  # convert writes no such graph
        return bool(file.rounded)
    written = said.own.hashes if said.own else {}
    return not file.rounded.keys().isdisjoint(changed_weights(written, hashes))


def format_of(path: Path) -> Finding:
    """Returns what is said of a file's format."""
    row = find_source(path)
    named = not row.suffixes or path.suffix.lower() in row.suffixes
    return Finding("format", row.name, "" if named else "by what is in it, whatever its name says")


def left_unread(file: WeightFile) -> list[Finding]:
    """Returns what is said of the objects in a file that are no tensors."""
    note = "no plain tensors or values; nothing of them was run"
    return [Finding("left_unread", [*file.unread], note)] if file.unread else []


def _optimizer(file: WeightFile) -> list[Finding]:
    """Returns what is said of an optimizer's state beside a model, whose tensors have no names."""
    found = [key for key in ("optimizer", "scaler", "amp_scaler") if key in file.extras]
    return [Finding("training_state", found, STATE_STAYS)] if "optimizer" in found else []


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


def _without_spare_digits(
    weights: Mapping[str, Array],
) -> tuple[dict[str, Array], list[Finding]]:
    """Returns the weights, float64 ones whose numbers are all float32's as such."""
    narrowed = {}
    for name, array in weights.items():
        if array.dtype == np.float64:
            with np.errstate(over="ignore"):
                single = array.astype(np.float32)
            if np.array_equal(single.astype(np.float64), array, equal_nan=True):
                narrowed[name] = single
    note = "float64 whose numbers are all float32's: taken as such"
    found = [Finding("narrowed", [*narrowed], note)] if narrowed else []
    return {name: narrowed.get(name, array) for name, array in weights.items()}, found


def _check_tensors(weights: Mapping[str, Array], naming: Naming, asked: str | None) -> None:
    """Refuses tensors that are not exactly the configuration's.

    Raises:
        ConvertError: They are not; the problems, and which variant they look like.
    """
    specs = {spec.name: spec for pairing in naming.pairings for spec in pairing.theirs}
    problems = {name: "is missing" for name in specs if name not in weights}
    for name, array in weights.items():
        if name not in specs:
            problems[name] = "is unknown"
        elif array.shape != specs[name].shape:
            problems[name] = f"is {array.shape}, expected {specs[name].shape}"
        elif array.dtype.name not in WEIGHT_DTYPES:
            problems[name] = f"is {array.dtype.name}, expected one of {', '.join(WEIGHT_DTYPES)}"
            if array.dtype == np.float64:
                problems[name] += " (it has digits that float32 has not: save it as float32)"
    if not problems:
        return
    unknown = sorted(weights.keys() - specs.keys())
    model = asked or variant_name(naming.config) or "this architecture"
    looks = variant_name(naming.shown)
    hint = f". It looks like {looks}: try --model {looks}" if looks not in (None, model) else ""
    if unknown:
        hint += remedy(unknown) or f". {_left_out_with(unknown[0], specs)}"
    shown = [f"{name} {problems[name]}" for name in sorted(problems)[:_SHOWN]]
    # Comparing names takes long: only what is shown is worth it, and the first of that.
    lines = {line: name for name in unknown if (line := f"{name} is unknown") in shown}
    for line, name in islice(lines.items(), _COMPARED):
        if near := nearest(name, specs):
            shown[shown.index(line)] += f" (near {near})"
    if len(problems) > _SHOWN:
        shown.append(f"and {len(problems) - _SHOWN} more")
    raise ConvertError(
        f"{counted(len(problems), 'tensor')} of dialect {naming.dialect.name} "
        f"{'does' if len(problems) == 1 else 'do'} not fit {model}{hint}\n  " + "\n  ".join(shown)
    )


def _left_out_with(name: str, known: Iterable[str]) -> str:
    """Returns how a tensor that is no part of a model is left out."""
    first, dot, _ = name.partition(".")
    alone = bool(dot) and not any(each.startswith(f"{first}.") for each in known)
    pattern = f"{first}.*" if alone else name
    return f"What is no part of the model is left out by convert with --ignore {pattern!r}, say"

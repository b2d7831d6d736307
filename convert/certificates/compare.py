"""Whether a model is a certified one: by bytes, or by weights and description in another file."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.certificates.record import (
    Certificate,
    CertifiedFile,
    CertifiedModel,
    Part,
)
from convert.formats.table import find_source
from convert.model.read import Model
from pvt_spec.files.models import CONFIG
from pvt_spec.files.stamps import describe_file
from pvt_spec.hashes import Hashes, changed_weights, hash_weights
from pvt_spec.words import listed, printable, show

_BESIDE = ("averaged_weights", "left_out", "training_state")
"""What findings of a model are called that are of tensors beside its own."""

_SHOWN = 10
"""Names and labels that are listed of many that differ."""


def all_hashes(model: Model) -> dict[str, str]:
    """Returns the hash of every weight of a model, those that are known and the others."""
    rest = {name: array for name, array in model.weights.items() if name not in model.hashes}
    made = hash_weights(rest)
    return {name: model.hashes.get(name) or made[name] for name in model.weights}


def certified_model(model: Model, hashes: Hashes) -> CertifiedModel:
    """Returns what decides a model's answers.

    Args:
        model: The model.
        hashes: Those of all its weights.
    """
    info = model.info
    return CertifiedModel(
        info.config, info.numerics, info.preprocessing, info.labels, info.task, dict(hashes)
    )


def certified_parts(files: Sequence[Path]) -> tuple[Part, ...]:
    """Returns the names, sizes and hashes of files.

    Raises:
        OSError: One cannot be read.
    """
    facts = [(path, describe_file(path)) for path in files]
    return tuple(Part(printable(p.name), each["bytes"], each["sha256"]) for p, each in facts)


def certified_file(path: Path, model: Model, number: int) -> CertifiedFile:
    """Returns what is said of a model's file.

    Args:
        path: The file or folder.
        model: What is in it.
        number: Which of a claim's models that is.
    """
    name = printable(path.resolve().name)
    parts = certified_parts(model.files)
    return CertifiedFile(name, find_source(path).name, parts, number, model.graph)


@dataclass(frozen=True)
class Standing:
    """How a file stands to a certificate.

    Attributes:
        path: The file or folder.
        file: Which certified file has the same bytes; None where none has.
        model: Which certified model it holds; None where none.
        changes: What is not as it was certified, in words; of the certified model that is nearest.
        remarks: What else to know of it, in words.
    """

    path: Path
    file: int | None
    model: int | None
    changes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it is what was certified."""
        return self.model is not None and not self.changes


def compare_model(certificate: Certificate, sha256: str, path: Path, model: Model) -> Standing:
    """Returns how a model's file stands to a certificate.

    Args:
        certificate: The certificate.
        sha256: The hash of its file.
        path: The file or folder.
        model: What is in it.
    """
    claim = certificate.claim
    digests = sorted(part.sha256 for part in certified_parts(model.files))
    for number, certified in enumerate(claim.files):
        if certified.digests == digests and certified.model is not None:
            return Standing(path, number, certified.model)
    number, found = _nearest(certificate, model)
    changes = [*found, *_graph_changes(claim.files, path, model), *_folder_changes(model)]
    remarks = [] if changes else _remarks(model, sha256)
    return Standing(path, None, None if changes else number, tuple(changes), tuple(remarks))


def model_changes(certificate: Certificate, model: Model) -> list[str]:
    """Returns what of a model is not as in the nearest one that was certified, in words."""
    return _nearest(certificate, model)[1]


def _nearest(certificate: Certificate, model: Model) -> tuple[int, list[str]]:
    """Returns which certified model is nearest to one, and how that differs, in words."""
    hashes = all_hashes(model)
    found = [[*_changes(each, model, hashes)] for each in certificate.claim.models]
    number = min(range(len(found)), key=lambda each: len(found[each]))
    return number, found[number]


def _remarks(model: Model, sha256: str) -> list[str]:
    said = []
    if any(finding.what in _BESIDE for finding in model.findings):
        said.append(
            "it holds more tensors beside these, which were not compared, and which other code may "
            "take in their place: convert inspect names them"
        )
    if model.certificate == sha256:
        said.append(
            "stamped with this certificate since: what it holds beside the stamp was compared"
        )
    elif model.certificate:
        said.append(
            f"stamped with another certificate ({model.certificate[:16]}…): see that one too"
        )
    return said


def _changes(certified: CertifiedModel, model: Model, hashes: Hashes) -> Iterator[str]:
    """Yields what of a model is not as it was certified, in words."""
    info = model.info
    for word, ours, theirs in (
        ("config", certified.config, info.config),
        ("maths", certified.numerics, info.numerics),
        ("preprocessing", certified.preprocessing, info.preprocessing),
    ):
        for field, value in dataclasses.asdict(ours).items():
            if value != (found := getattr(theirs, field)):
                yield _other(f"{word}: {field}", found, value)
    if certified.task != info.task:
        yield _other("task", info.task, certified.task)
    yield from _label_changes(certified.labels, info.labels)
    for word, names in (
        ("changed", changed_weights(certified.weights, hashes)),
        ("missing", [name for name in certified.weights if name not in hashes]),
        ("not certified", [name for name in hashes if name not in certified.weights]),
    ):
        if names:
            yield f"{len(names)} of {len(hashes)} weights {word}: {listed(names, _SHOWN, show)}"


def _label_changes(certified: Sequence[str], found: Sequence[str]) -> Iterator[str]:
    if len(certified) != len(found):
        yield _other("labels", f"{len(found)}", f"{len(certified)}")
        return
    pairs = [*enumerate(zip(certified, found, strict=True))]
    changed = [f"label {i} is {show(b)}, certified {show(a)}" for i, (a, b) in pairs if a != b]
    if changed:
        yield listed(changed, _SHOWN, separator="; ")


def _other(what: str, found: Any, certified: Any) -> str:
    return f"{what} is {show(found)}, certified {show(certified)}"


def _folder_changes(model: Model) -> list[str]:
    """Returns what the files of a folder of Hugging Face say beside what was compared."""
    from convert.formats.huggingface.folder import more_than_described

    folders = [path.parent for path in model.files if path.name == CONFIG]
    dtypes = {array.dtype.name for array in model.weights.values()}
    return [text for each in folders for text in more_than_described(each, model.info, dtypes)]


def _graph_changes(files: Sequence[CertifiedFile], path: Path, model: Model) -> list[str]:
    """Returns what is to be said of a graph that nobody certified, and that we do not write."""
    if not model.graph or model.graph in [each.graph for each in files]:
        return []
    from pvt_onnx.reading.changes import is_ours
    from pvt_onnx.reading.files import load_proto

    if is_ours(load_proto(path), model.info):
        return []
    return [
        *(change for change in model.changed if change not in model.weights),
        "its graph is none that was certified, nor the one that convert writes for this model: "
        "certify this file itself",
    ]

"""Model files, written: canonical weights and ModelInfo to any format, whole or not at all."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from convert.certificates.record import CertificateFile
from convert.formats.huggingface.card import HUB, Known, Reported
from convert.formats.table import FORMATS, find_format
from convert.hub.places import find_places
from convert.hub.registry import read_registry
from convert.model.changes import CHANGED
from convert.model.maths import computes
from convert.names.dialects import Dialect, find_dialect
from convert.names.translation import from_canonical
from convert.options import WEIGHT_DTYPES, OnnxOptions
from pvt_spec import METADATA_KEY, ConfigError, ModelInfo, check_shapes
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array, as_arrays
from pvt_spec.errors import ConvertError
from pvt_spec.files.replacing import AnyPath
from pvt_spec.hashes import CERTIFICATE_KEY, hash_weights
from pvt_spec.precisions import FLOAT16


def target_dialect(path: Path, asked: str | None, version: int) -> Dialect:
    """Returns the names that a file is to be written with.

    Args:
        path: The target.
        asked: A dialect's name, or None for the format's own.
        version: The PVT's version.

    Raises:
        ConvertError: There is no such dialect for this PVT, or the format leaves no choice.
    """
    row = find_format(path)
    if row.fixed and asked not in (None, row.dialect):
        *others, last = (f".{other.name}" for other in FORMATS if not other.fixed)
        raise ConvertError(
            f"{path}: {row.fixed} is written in dialect {row.dialect} alone; for {asked}, "
            f"name a {', '.join(others)} or {last}"
        )
    return find_dialect(asked or row.dialect, version)


@checked
def save_model(
    path: AnyPath,
    weights: Mapping[str, Array],
    info: ModelInfo,
    *,
    force: bool = False,
    dialect: str | None = None,
    onnx: OnnxOptions = OnnxOptions(),
    hashes: Mapping[str, str] = MappingProxyType({}),
    certificate: CertificateFile | None = None,
) -> list[Path]:
    """Writes a model file whole or not at all.

    Args:
        path: The target; its ending chooses the format, and a folder is one of Hugging Face.
        weights: Every tensor of ``info.config`` by canonical name; bytes and dtypes are kept.
        info: The ModelInfo, which travels in the file's metadata.
        force: Whether an existing file is replaced.
        dialect: Names to write, for the code that uses them, which then has to compute
            ``info.numerics``; None for the format's own, with which any maths travels.
        onnx: How an ``.onnx`` is written.
        hashes: Hashes of these weights, as far as they are known; the others are computed.
        certificate: A certificate of this model, whose hash the file is to carry.

    Returns:
        The files that were written, the one to name first.

    Raises:
        ConfigError: The weights are not those of ``info.config``.
        ConvertError: The target's ending or the dialect does not fit, the code behind the dialect
            computes other maths, or it cannot be written.
        FileExists: The target exists and ``force`` is not given.
    """
    path = Path(path)
    row = find_format(path)
    weights = as_arrays(weights)
    _check_weights(weights, info)
    names = target_dialect(path, dialect, info.config.version)
    if dialect or not row.carries_maths:
        _check_maths(path, names, info)
    if onnx.precision == FLOAT16 and "precision" in row.options:
        from pvt_onnx.graph.build import as_halves

        halves = as_halves(info.config, weights)
        # Those of what is rounded only now are of other numbers.
        hashes = {n: h for n, h in hashes.items() if halves[n].dtype == weights[n].dtype}
        weights = halves
    tensors = from_canonical(weights, names.pairings(info.config, bare=not info.config.num_classes))
    metadata = {"format": names.framework} if row.says_framework else {}
    missing = hash_weights({name: a for name, a in weights.items() if name not in hashes})
    known = {name: hashes.get(name) or missing[name] for name in weights}
    metadata[METADATA_KEY] = dataclasses.replace(info, hashes=known).to_json()
    if certificate:
        metadata[CERTIFICATE_KEY] = certificate.sha256
    told = Known(certificate, find_reported(info)) if row.has_card else None
    return row.write(path, tensors, metadata, force, onnx, dialect is None, told)


def find_reported(info: ModelInfo) -> Reported | None:
    """Returns the accuracy that is reported of published weights; None of what was made of them."""
    said = info.provenance
    if HUB not in said or CHANGED in said or info.preprocessing.image_size != (224, 224):
        return None
    row = read_registry(find_places().registry).get(said[HUB])
    same = row and row.variant == info.variant and info.config.num_classes
    return Reported(row.top1, row.reported or "") if row and same and row.top1 else None


def _check_weights(weights: Mapping[str, Array], info: ModelInfo) -> None:
    """Refuses weights that are not exactly the model's, which could not be read back.

    Raises:
        ConfigError: They are not.
    """
    check_shapes(info.config, {name: array.shape for name, array in weights.items()})
    kinds = sorted({a.dtype.name for a in weights.values()} - {*WEIGHT_DTYPES, "float64"})
    if kinds:
        raise ConfigError(f"weights are {', '.join(kinds)}, expected {', '.join(WEIGHT_DTYPES)}")


def _check_maths(path: Path, names: Dialect, info: ModelInfo) -> None:
    if not computes(names.numerics(info.numerics, info.config), info.numerics):
        raise ConvertError(
            f"{path}: the code behind dialect {names.name} would compute another function of "
            f"these weights, as their profile is {info.profile}; without a dialect the maths "
            "travels in the file, for our own twins"
        )
    if names.features_only and not info.config.features_only:
        raise ConvertError(
            f"{path}: dialect {names.name} names backbones alone, without a head: give --features"
        )

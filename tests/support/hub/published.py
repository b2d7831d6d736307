"""Random weights in the place of published ones: their names, tensors' names, formats, shapes."""

import hashlib
import io
import json
from dataclasses import replace

from convert.formats import ckpt, safetensors
from convert.formats.huggingface.config import make_config as hub_config
from convert.formats.pth import file as pth
from convert.hub.registry import DETECTION, Row, read_registry, record
from convert.names.dialects import find_dialect
from convert.names.translation import from_canonical
from pvt_spec import PVTConfig, make_config, profile_numerics
from tests.support.hub.hosts import LocalHub, Repository, Served
from tests.support.models import info_of, weights_for

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def publish(hub: LocalHub, name: str, config: PVTConfig | None = None, seed: int = 0) -> bytes:
    """Has a hub hand out random weights under a row's name; returns the bytes of their file.

    The digits that the row's name carries are not theirs: the hub's registry has others.

    Args:
        hub: The hub.
        name: The row's.
        config: The model; that of the row's variant by default.
        seed: Of the weights.
    """
    row = read_registry(hub.registry)[name]
    assert row.variant and row.profile
    config = config or make_config(row.variant)
    data = weights_file(row, config, seed)
    if row.repository:
        config_json = json.dumps(_described(row, config)).encode()
        files = {"config.json": config_json, "model.safetensors": data, "README.md": b"# A PVT"}
        commit = COMMIT if not seed else hashlib.sha1(data).hexdigest()
        found = hub.repositories.setdefault(row.repository, Repository({}, {}))
        found.commits[commit], found.branches["main"] = files, commit
        return data
    assert row.address
    hub.files[row.address.partition("://")[2]] = Served(data)
    if row.digits:
        digits = hashlib.sha256(data).hexdigest()[: len(row.digits)]
        record(hub.registry, name, {"digits": digits})
    return data


def weights_file(row: Row, config: PVTConfig, seed: int = 0) -> bytes:
    """A row's file as those who published it would have written it: without a word of ours."""
    if row.task == DETECTION:
        config = replace(config, num_classes=0, features_only=True)
    assert row.dialect and row.profile
    numerics = profile_numerics(row.profile, config.version)
    names = find_dialect(row.dialect, config.version).pairings(config, bare=not config.num_classes)
    tensors = from_canonical(weights_for(config, numerics, seed), names)
    if row.task == DETECTION:
        tensors = {f"backbone.{name}": array for name, array in tensors.items()}
    stream = io.BytesIO()
    if row.repository:
        safetensors.write(stream, tensors, {"format": "pt"})
    elif row.file.endswith(".ckpt"):
        ckpt.write(stream, tensors, {})
    else:
        pth.write(stream, tensors, {}, wrapped=False)
    return stream.getvalue()


def _described(row: Row, config: PVTConfig) -> dict[str, object]:
    if row.dialect == "timm":
        return {"architecture": row.variant, "num_classes": config.num_classes}
    assert row.profile
    return hub_config(info_of(config, row.profile))

"""What a file is, as facts to print."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from convert.model_file import read_model
from pvt_spec import tensor_specs


def inspect_file(path: Path) -> dict[str, Any]:
    """The facts of a model file, in the order in which they are read.

    Raises:
        ConvertError: The file cannot be read, or is not a whole PVT.
    """
    model = read_model(path)
    facts: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size}
    for what, finding in model.findings:
        facts[what] = f"{facts[what]}; {finding}" if what in facts else finding
    config = model.info.config
    dtypes = Counter(array.dtype.name for array in model.weights.values())
    facts |= {
        "tensors": len(model.weights),
        "parameters": sum(spec.size for spec in tensor_specs(config)),
        "dtypes": ", ".join(f"{name} x{count}" for name, count in dtypes.items()),
        "training state": ", ".join(_leading_parts(model.training_state)) or "none",
        "other entries": ", ".join(sorted(model.extras)) or "none",
        "labels": ", ".join(model.info.labels[:10]) or "not known",
        "crop": f"{model.info.preprocessing.crop_pct:.1%} of the resized image",
        "provenance": ", ".join(f"{k} {v}" for k, v in model.info.provenance.items()) or "none",
    }
    return facts


def _leading_parts(names: Iterable[str]) -> list[str]:
    """Names with the tensor's part left out and counted: ``adam_m.* x131``."""
    counts = Counter(f"{n.partition('.')[0]}.*" if "." in n else n for n in names)
    return [f"{name} x{count}" if count > 1 else name for name, count in counts.items()]

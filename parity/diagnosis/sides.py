"""The two sides of a diagnosis: a trusted model file, and what the other side computed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from convert.formats.table import find_source
from convert.model.read import Model, read_model
from convert.options import Given
from parity.bundles.bundle import Bundle
from parity.diagnosis.diagnose import diagnose
from parity.diagnosis.diagnosis import Diagnosis
from parity.diagnosis.trials import Observed
from parity.inputs.samples import Inputs, load_batch
from parity.measure.structure import Difference, structure_differences
from parity.runtimes.table import open_runner
from parity.selection import HOME, check_same_layers, choose_runtimes
from pvt_spec import ModelInfo, Preprocessing, tap_names
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.hashes import hash_weights
from pvt_spec.kernels import Kernels, find_kernels
from pvt_spec.model_info import CROP_PCT
from pvt_spec.runtime import Taps, Task


@dataclass(frozen=True)
class Trusted:
    """The side that is run under hypotheses.

    Attributes:
        path: Its file.
        model: What is in it.
        inputs: What both sides are given.
    """

    path: Path
    model: Model
    inputs: Inputs

    def load(self, preprocessing: Preprocessing) -> Array:
        """Returns all inputs, as a model's preprocessing makes them."""
        return load_batch(self.inputs.samples, self.inputs.resized(preprocessing))

    def observed(self, taps: Taps, info: ModelInfo, kernels: Kernels) -> Observed:
        """Returns what the other side, of this ModelInfo, computed, and from what.

        With it is what another ``crop_pct`` would make of the images: those that are usual, and
        the other side's. A bundle's inputs are what they are: then there is none.
        """
        own = self.model.info.preprocessing
        images, crops = self.load(own), {}
        shares = {*CROP_PCT.values(), 1.0, info.preprocessing.crop_pct}
        for share in sorted(shares) if own.crop_mode != "none" else ():
            cropped = self.load(replace(own, crop_pct=share))
            if not np.array_equal(cropped, images):
                crops[share] = cropped
        groups = [sample.group for sample in self.inputs.samples]
        return Observed(taps, images, groups, kernels, crops)

    @property
    def averaged(self) -> dict[str, Model]:
        """The averaged weights of the same file, if it has any."""
        try:
            return {"averaged weights": read_model(self.path, Given(weights="ema"))}
        except ConvertError:  # it has none
            return {}


@dataclass(frozen=True)
class Other:
    """The side that is explained.

    Attributes:
        name: What to call it.
        observed: What it computed.
        precision: The tolerance class that it says it ran in.
        differences: What it says of itself that the trusted side's file does not.
        weights: The trusted side with the other's own weights where they differ, under a name that
            says which; nothing of a bundle, which has hashes only.
    """

    name: str
    observed: Observed
    precision: str
    differences: Sequence[Difference]
    weights: Mapping[str, Model]


def observe_bundle(trusted: Trusted, bundle: Bundle) -> Other:
    """Returns what a bundle recorded.

    Raises:
        ParityError: It is of a model of other layers, or of other inputs.
    """
    record, info = bundle.record, trusted.model.info
    differences: list[Difference] = []
    if record.info:
        check_same_layers(record.info.config, str(bundle.path), info.config, str(trusted.path))
        hashes = hash_weights(trusted.model.weights, record.hashes)
        differences = structure_differences(info, hashes, record.info, record)
    theirs = record.info or info
    names = [name for name in tap_names(info.config) if name in record.names]
    taps = bundle.in_order(names)(trusted.load(theirs.preprocessing))
    name = f"{record.runtime} {bundle.path.name}"
    kernels = find_kernels(record.kind, record.facts.get("device", ""))
    return Other(name, trusted.observed(taps, theirs, kernels), record.precision, differences, {})


def observe_file(trusted: Trusted, path: Path, model: Model, wanted: str | None) -> Other:
    """Returns what another file computes in a runtime.

    Args:
        trusted: The other side.
        path: The file.
        model: What is in it.
        wanted: The runtime; None for the usual one of such a file.

    Raises:
        PvtError: It is a model of other layers, or the runtime cannot be used.
    """
    info, inputs = trusted.model.info, trusted.inputs
    check_same_layers(model.info.config, str(path), info.config, str(trusted.path))
    (runtime,) = choose_runtimes([wanted or HOME[find_source(path).name]])
    names = tap_names(info.config)
    runner = open_runner(runtime, Task(model, path, names, inputs.image_size))
    images, size = trusted.load(model.info.preprocessing), inputs.batch_size
    parts = [runner.taps(images[i : i + size]) for i in range(0, len(images), size)]
    taps = {name: np.concatenate([part[name] for part in parts]) for name in names}
    hashes = hash_weights(trusted.model.weights)
    own = [name for name in hashes if hashes[name] != runner.hashes.get(name)]
    shown = ", ".join(own[:3]) + (f" and {len(own) - 3} more" if len(own) > 3 else "")
    kernels = find_kernels(runner.kind, runner.facts.get("device", ""))
    return Other(
        name=f"{runtime} {path.name}",
        observed=trusted.observed(taps, model.info, kernels),
        precision=runner.facts["precision"],
        differences=structure_differences(info, hashes, model.info, runner),
        weights={f"{path.name}'s own ({shown})": model} if own else {},
    )


def explain(
    trusted: Trusted, other: Other, precision: str, progress: Callable[[int], None]
) -> Diagnosis:
    """Returns what makes the other side differ.

    The other side's own weights are a cause only where nothing else is.

    Args:
        trusted: The side that is run under hypotheses.
        other: What is explained.
        precision: The tolerance class of what it ran in.
        progress: What is told how many forward passes there were, after each.
    """
    averaged = trusted.averaged
    found = diagnose(trusted.model, other.observed, precision, averaged, progress)
    if found.closed or not other.weights:
        return found
    others = {**averaged, **other.weights}
    return diagnose(trusted.model, other.observed, precision, others, progress)

"""The two sides of a diagnosis: a trusted model file, and what the other side computed."""

from collections.abc import Callable, Mapping
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
from parity.measure.compare import Comparison
from parity.measure.structure import rounded_differences
from parity.report.text import verdict
from parity.run import run
from parity.runtimes.table import open_runner
from parity.selection import HOME, Terms, check_same_layers, choose_runtimes
from pvt_spec import ModelInfo, Preprocessing, tap_names
from pvt_spec.arrays import Array
from pvt_spec.attributes import Attributes, expected_attributes, within_a_step
from pvt_spec.errors import ConvertError
from pvt_spec.hashes import hash_weights
from pvt_spec.kernels import Kernels
from pvt_spec.model_info import CROP_PCT
from pvt_spec.runtime import Taps, Task
from pvt_spec.words import listed


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
        observed: What it computed.
        comparison: What ``parity run`` finds of it.
        attributes: What its layers have of :data:`pvt_torch.reference.SETTABLE` and the trusted
            side's have not.
        weights: The trusted side with the other's own weights where they differ, under a name that
            says which; nothing of a bundle, which has hashes only.
    """

    observed: Observed
    comparison: Comparison
    attributes: Attributes
    weights: Mapping[str, Model]


def observe_bundle(trusted: Trusted, bundle: Bundle, precision: str | None) -> Other:
    """Returns what a bundle recorded.

    Args:
        trusted: The other side.
        bundle: What it recorded, with its inputs.
        precision: The tolerance class; None for what it says it ran in.

    Raises:
        ParityError: It is of a model of other layers, or of other inputs.
    """
    record, info = bundle.record, trusted.model.info
    models = {trusted.path: trusted.model}
    result = run([], models, trusted.inputs, Terms(precision=precision), bundles=[bundle])
    theirs = record.info or info
    names = [name for name in tap_names(info.config) if name in record.names]
    taps = bundle.in_order(names)(trusted.load(theirs.preprocessing))
    (comparison,) = result.comparisons
    observed = trusted.observed(taps, theirs, comparison.kernels)
    return Other(observed, comparison, own_attributes(info, record.attributes, record.steps), {})


def observe_file(
    trusted: Trusted, path: Path, model: Model, wanted: str | None, precision: str | None
) -> Other:
    """Returns what another file computes in a runtime.

    Args:
        trusted: The other side.
        path: The file.
        model: What is in it.
        wanted: The runtime; None for the usual one of such a file.
        precision: The tolerance class; None for what it says it ran in.

    Raises:
        PvtError: It is a model of other layers, or the runtime cannot be used.
    """
    info, inputs = trusted.model.info, trusted.inputs
    check_same_layers(model.info.config, str(path), info.config, str(trusted.path))
    (runtime,) = choose_runtimes([wanted or HOME[find_source(path).name]])
    models = {trusted.path: trusted.model, path: model}
    result = run([(path, runtime)], models, inputs, Terms(precision=precision))
    names = tap_names(info.config)
    runner = open_runner(runtime, Task(model, path, names, inputs.image_size))
    images, size = trusted.load(model.info.preprocessing), inputs.batch_size
    parts = [runner.taps(images[i : i + size]) for i in range(0, len(images), size)]
    shown = names if runner.names is None else runner.names
    taps = {name: np.concatenate([part[name] for part in parts]) for name in shown}
    weights = trusted.model.weights
    hashes = hash_weights(weights)
    # What was rounded is another's where rounding does not explain it.
    rounded = rounded_differences(weights, runner, info.config)
    own = [n for n in hashes if n not in runner.coarse and hashes[n] != runner.hashes.get(n)]
    own += [difference.subject for difference in rounded]
    (comparison,) = result.comparisons
    return Other(
        observed=trusted.observed(taps, model.info, comparison.kernels),
        comparison=comparison,
        attributes=own_attributes(info, runner.attributes, runner.steps),
        weights={f"{path.name}'s own ({listed(own, 3)})": model} if own else {},
    )


def own_attributes(
    info: ModelInfo, attributes: Attributes, steps: Mapping[str, Array | float]
) -> Attributes:
    """Returns those of the attributes that the reference can be given and does not have.

    What was rounded to a step is what it was.
    """
    from pvt_torch.reference import SETTABLE

    return {
        name: attributes[name]
        for name, value in expected_attributes(info.config, info.numerics).items()
        if name.rpartition(".")[2] in SETTABLE
        and attributes.get(name, value) != value
        and not within_a_step(value, attributes[name], steps.get(name))
    }


def explain(trusted: Trusted, other: Other, progress: Callable[[int], None]) -> Diagnosis:
    """Returns what makes the other side differ.

    What the other side says of itself, its own weights and attributes of layers, is a cause only
    where nothing else is.

    Args:
        trusted: The side that is run under hypotheses.
        other: What is explained.
        progress: What is told how many forward passes there were, after each.
    """
    averaged, comparison = trusted.averaged, other.comparison
    given = trusted.model, other.observed, comparison.precision
    says, different = bool(other.weights or other.attributes), not comparison.same
    found = diagnose(*given, averaged, coarser=not says, progress=progress)
    if says and (not found.closed or (different and found.found_nothing)):
        others = {**averaged, **other.weights}
        found = diagnose(*given, others, other.attributes, progress=progress)
    return replace(found, verdict=verdict(comparison) if different else None)

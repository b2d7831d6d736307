"""The two sides of a diagnosis: a trusted model file, and what the other side computed."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.formats.table import find_format
from convert.model.read import Model, read_model
from convert.options import Given
from parity.bundles.bundle import Bundle
from parity.diagnosis.diagnose import Diagnosis, diagnose
from parity.diagnosis.trials import Observed
from parity.inputs.samples import Sample, load_batch
from parity.measure.structure import Difference, hash_weights, structure_differences
from parity.runtimes.table import open_runner
from parity.selection import HOME, choose_runtimes, require_same_layers
from pvt_spec import ModelInfo, tap_names
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.model_info import CROP_PCT
from pvt_spec.runtime import Task


@dataclass(frozen=True)
class Trusted:
    """The side that is run under hypotheses.

    Attributes:
        path: Its file.
        model: What is in it.
        samples: What both sides are given.
        image_size: (H, W) in pixels.
        batch_size: Images per forward pass.
    """

    path: Path
    model: Model
    samples: Sequence[Sample]
    image_size: tuple[int, int]
    batch_size: int

    def load(self, model: Model) -> Array:
        """All inputs, as a model's own preprocessing makes them."""
        preprocessing = dataclasses.replace(model.info.preprocessing, image_size=self.image_size)
        return load_batch(self.samples, preprocessing)

    def crops(self, usual: Array, also: float) -> dict[float, Array]:
        """``crop_pct`` -> the inputs that it would make; those that are usual, and another.

        A bundle's inputs are what they are: then there is none.

        Args:
            usual: What the model's own makes; not given again.
            also: Another ``crop_pct``.
        """
        found = {}
        for share in sorted({*CROP_PCT.values(), 1.0, also}):
            preprocessing = dataclasses.replace(self.model.info.preprocessing, crop_pct=share)
            info = dataclasses.replace(self.model.info, preprocessing=preprocessing)
            images = self.load(dataclasses.replace(self.model, info=info))
            if not np.array_equal(images, usual):
                found[share] = images
        return found

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
    """What a bundle recorded.

    Raises:
        ParityError: It is of a model of other layers, or of other inputs.
    """
    record, info = bundle.record, trusted.model.info
    differences: list[Difference] = []
    given = trusted.model
    if record.info:
        require_same_layers(record.info.config, str(bundle.path), info.config, str(trusted.path))
        hashes = hash_weights(trusted.model.weights)
        differences = structure_differences(info, hashes, record.info, record)
        given = dataclasses.replace(trusted.model, info=record.info)
    names = [name for name in tap_names(info.config) if name in record.names]
    taps = bundle.in_order(names)(trusted.load(given))
    observed = _observed(trusted, taps, given.info)
    return Other(
        f"{record.runtime} {bundle.path.name}", observed, record.precision, differences, {}
    )


def observe_file(trusted: Trusted, path: Path, model: Model, wanted: str | None) -> Other:
    """What another file computes in a runtime.

    Args:
        trusted: The other side.
        path: The file.
        model: What is in it.
        wanted: The runtime; None for the usual one of such a file.

    Raises:
        PvtError: It is a model of other layers, or the runtime cannot be used.
    """
    info = trusted.model.info
    require_same_layers(model.info.config, str(path), info.config, str(trusted.path))
    (runtime,) = choose_runtimes([wanted or HOME[find_format(path).name]])
    names = tap_names(info.config)
    runner = open_runner(runtime, Task(model, path, names, trusted.image_size))
    images, size = trusted.load(model), trusted.batch_size
    parts = [runner.taps(images[i : i + size]) for i in range(0, len(images), size)]
    taps = {name: np.concatenate([part[name] for part in parts]) for name in names}
    observed = _observed(trusted, taps, model.info)
    hashes = hash_weights(trusted.model.weights)
    return Other(
        name=f"{runtime} {path.name}",
        observed=observed,
        precision=runner.facts["precision"],
        differences=structure_differences(info, hashes, model.info, runner),
        weights=_own_weights(path, model, [n for n in hashes if hashes[n] != runner.hashes.get(n)]),
    )


def _own_weights(path: Path, model: Model, names: Sequence[str]) -> dict[str, Model]:
    if not names:
        return {}
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return {f"{path.name}'s own ({shown})": model}


def _observed(trusted: Trusted, taps: Mapping[str, Array], info: ModelInfo) -> Observed:
    images = trusted.load(trusted.model)
    crops = trusted.crops(images, info.preprocessing.crop_pct)
    return Observed(taps, images, [sample.group for sample in trusted.samples], crops)


def explain(
    trusted: Trusted, other: Other, precision: str, progress: Callable[[int], None]
) -> Diagnosis:
    """What makes the other side differ; its own weights are a cause only where nothing else is.

    Args:
        trusted: The side that is run under hypotheses.
        other: What is explained.
        precision: The tolerance class of what it ran in.
        progress: Told how many forward passes there were, after each.
    """
    averaged = trusted.averaged
    found = diagnose(trusted.model, other.observed, precision, averaged, progress)
    if found.closed or not other.weights:
        return found
    others = {**averaged, **other.weights}
    return diagnose(trusted.model, other.observed, precision, others, progress)

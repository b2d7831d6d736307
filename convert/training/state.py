"""A whole training state, whoever wrote it: ours, MindCV's, or an optimizer's of PyTorch beside a
model."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.findings import Finding
from convert.formats.table import find_source
from convert.formats.weight_file import WeightFile
from convert.model.read import Model, left_unread, understand
from convert.names.training_state import AVERAGED, is_training_state
from convert.options import Given
from convert.training.checkpoint import is_ours, state_in
from convert.training.mindcv import find_in_mindcv
from convert.training.pytorch import find_in_torch
from convert.training.theirs import NO_STATE
from pvt_spec import PROFILES, ModelInfo, Numerics, profile_numerics
from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError, PvtError
from pvt_spec.words import listed

EPOCHS = "epochs"
"""What a run of another program says of where it stands: the epochs that it has behind it."""

_OURS = {"training_state", "averaged_weights"}
"""Findings about a model that are not true of its whole state."""


_SHOWN = 8


@dataclass(frozen=True)
class TrainingState:
    """A whole training state.

    Attributes:
        tensors: Weights, moments, averages and counters by the names of
            :meth:`pvt_train.twin.Twin.state`.
        info: The weights' ModelInfo.
        facts: What the run says of itself: its ``recipe`` and where the ``run`` stands. Of another
            program's the recipe has no more than what the file shows, and ``run`` is
            :data:`EPOCHS` alone.
        findings: What was found out about the file.
    """

    tensors: dict[str, Array]
    info: ModelInfo
    facts: dict[str, Any]
    findings: tuple[Finding, ...] = ()

    @property
    def handed_over(self) -> bool:
        """Whether it is of a run of another program."""
        run = self.facts.get("run")
        return isinstance(run, Mapping) and EPOCHS in run


def read_training(path: Path) -> TrainingState:
    """Reads a training state: one of ours, of MindCV's trainer, or of a script with torch's AdamW.

    Raises:
        ConvertError: The file cannot be read, is damaged, or holds none that can be gone on from.
    """
    row = find_source(path)
    file = row.read(path)
    if is_ours(file):
        state, info, facts = state_in(path, file, row.dialect)
        found = Finding("training_state", _counted(state), "as pvt-ms and pvt-torch train go on")
        return TrainingState(state, info, facts, (Finding("format", row.name), found))
    try:
        return _take_over(path, file)
    except PvtError as error:
        beside = "".join(f"\n  {finding}" for finding in left_unread(file))
        shown = str(error).removeprefix(f"{path}: ")
        raise ConvertError(f"{path}: {shown}{beside}") from error


def _counted(state: Mapping[str, Array]) -> dict[str, int]:
    """Counts weights, and what is beside them by its leading part."""
    counts: dict[str, int] = {}
    for name in state:
        part = name.partition(".")[0] if is_training_state(name) else "weights"
        counts[part] = counts.get(part, 0) + 1
    return counts


def _take_over(path: Path, file: WeightFile) -> TrainingState:
    if not any(map(is_training_state, file.tensors)) and "optimizer" not in file.extras:
        raise ConvertError(NO_STATE)
    model = understand(path, file)
    found = find_in_mindcv(path, file) or find_in_torch(file, _container(model))
    if found is None:
        raise ConvertError(NO_STATE)
    _check_pairs(found.moments)
    state = dict(model.weights)
    for part, moments in found.moments.items():
        state |= _translated(path, model, part, moments, found.of)
    known = dict(found.known)
    if any(finding.what == "averaged_weights" for finding in model.findings):
        averaged = understand(path, file, _as(model, weights="ema")).weights
        state |= {f"{AVERAGED}{name}": array for name, array in averaged.items()}
    known["ema"] = any(name.startswith(AVERAGED) for name in state)
    wide = {name: np.asarray(array, np.float32) for name, array in state.items()}
    widened = [name for name, array in state.items() if array.dtype != np.float32]
    numerics = dataclasses.replace(model.info.numerics, pos_embed_dtype="float32")
    info = dataclasses.replace(model.info, numerics=numerics, hashes={})
    known = {**_known(info, numerics), **known}
    findings = [each for each in model.findings if each.what not in _OURS]
    counts = {**_counted(state), **{name: int(array) for name, array in found.counts.items()}}
    findings.append(Finding("training_state", counts, found.said))
    findings.append(Finding(EPOCHS, found.epochs, found.said_epochs))
    if widened:
        note = "to float32, which training goes on in: later steps are not rounded as theirs were"
        findings.append(Finding("widened", widened, note))
    if found.left:
        findings.append(Finding("left_behind", [*found.left], "the recipe says it in a run here"))
    facts = {"recipe": known, "run": {EPOCHS: found.epochs}}
    return TrainingState({**wide, **found.counts}, info, facts, tuple(findings))


def _check_pairs(moments: Mapping[str, Mapping[str, Array]]) -> None:
    """Refuses moments of which one of two is missing.

    Raises:
        ConvertError: One is; all are named.
    """
    every = {name for held in moments.values() for name in held}
    missing = sorted(f"{p}{name}" for p, held in moments.items() for name in every - held.keys())
    if missing:
        raise ConvertError(f"its moments are not all there: {listed(missing, _SHOWN)} missing")


def _container(model: Model) -> str:
    """Returns the keys that lead to the dict in which a model's tensors lie."""
    return next((each.value for each in model.findings if each.what == "container"), "")


def _as(model: Model, **given: Any) -> Given:
    """Returns what is given of a file of tensors that are named as a model's."""
    config = model.info.config
    size = config.image_size if config.version == 1 else None
    heads = config.num_heads
    return Given(dialect=model.dialect, num_heads=heads, image_size=size, **given)


def _translated(
    path: Path, model: Model, part: str, moments: Mapping[str, Array], names: Mapping[str, Array]
) -> dict[str, Array]:
    """Returns moments under canonical names with their leading part; frozen tensors have none.

    Raises:
        ConvertError: They are not those of the model's tensors.
    """
    # A tensor without is not a number throughout on the way, so that halves of one are seen too.
    held = {
        name: moments.get(name, np.full(weight.shape, np.nan, np.float32))
        for name, weight in names.items()
    }
    try:
        found = understand(path, WeightFile({"": held}), _as(model)).weights
    except PvtError as error:
        shown = str(error).removeprefix(f"{path}: ")
        raise ConvertError(
            f"its moments ({part}*) are not those of its weights: {shown}"
        ) from error
    return {
        part + name: array
        for name, array in found.items()
        if not np.isnan(np.asarray(array, np.float32)).all()
    }


def _known(info: ModelInfo, numerics: Numerics) -> dict[str, Any]:
    """Returns what the weights themselves show of the recipe."""
    known: dict[str, Any] = {}
    if info.variant:
        known["model"] = info.variant
    for name in PROFILES:
        theirs = profile_numerics(name, info.config.version)
        if dataclasses.replace(theirs, pos_embed_dtype="float32") == numerics:
            known["profile"] = name
            break
    return known

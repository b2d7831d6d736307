"""What a bundle says of the run that is in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.measure.envelope import Envelope
from pvt_spec import ConfigError, ModelInfo
from pvt_spec.attributes import UNSEEN, Attributes
from pvt_spec.config import MIN_IMAGE_SIDE
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.limits import MAX_IMAGE_SIDE
from pvt_spec.files.records import read_values
from pvt_spec.precisions import PRECISIONS
from pvt_spec.words import listed, printable, shortened, show

FORMAT = 1
"""The description's version; a change that a reader must know of counts it up."""

REFERENCE = "reference"
"""The runtime of a bundle that others are judged by: PyTorch in float64, and what rounding does."""

PLAIN = "plain arrays"
"""The runtime of a file without a description."""


@dataclass(frozen=True)
class Seen:
    """One input of a run.

    Attributes:
        name: What a reader is shown.
        group: Inputs of one group are judged together.
        hash: Its hash, by :func:`parity.inputs.samples.hash_input`.
    """

    name: str
    group: str
    hash: str


@dataclass(frozen=True)
class Record:
    """What ran.

    Attributes:
        runtime: Its name; :data:`REFERENCE`; :data:`PLAIN` where nothing is known.
        file: The name of the model's file.
        kind: ``"torch"``, ``"mindspore"`` or ``"onnx"``: what its attributes were read from.
        info: What travels with the model; None of plain arrays.
        image_size: (H, W) in pixels of the inputs.
        attributes: What was read from the runtime's own objects; see :mod:`pvt_spec.attributes`.
        steps: How far apart the numbers are that an attribute can be, of those that were rounded.
        hashes: The hash of every weight in them.
        facts: The device, versions, precision (a tolerance class) and switches.
        envelopes: Emulation -> what rounding does here; of a reference only.
        batches: How many images each batch has.
        seen: The inputs, in order.
        names: Taps, in forward order.
        inputs_kept: Whether the inputs themselves are in the file.
    """

    runtime: str
    file: str
    kind: str
    info: ModelInfo | None
    image_size: tuple[int, int]
    attributes: Attributes = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    envelopes: Mapping[str, Envelope] = field(default_factory=dict)
    batches: tuple[int, ...] = ()
    seen: tuple[Seen, ...] = ()
    names: tuple[str, ...] = ()
    inputs_kept: bool = True
    steps: Mapping[str, float] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """The tolerance class; what is not known is judged as float32, the strictest."""
        return "fp32" if self.runtime == REFERENCE else self.facts.get("precision", "fp32")

    def to_json(self) -> str:
        """Returns what :meth:`from_json` reads; of names that are no Unicode, their escapes."""
        described = {
            "format": FORMAT,
            **vars(self),
            "attributes": {name: _kept(value) for name, value in self.attributes.items()},
            "info": self.info and parse_json(self.info.to_json()),
            "file": printable(self.file),
            "seen": [{**vars(each), "name": printable(each.name)} for each in self.seen],
            "envelopes": {name: e.to_dict() for name, e in self.envelopes.items()},
        }
        if not self.steps:  # which earlier versions do not know
            del described["steps"]
        return encode_json(described, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Returns what :meth:`to_json` was of.

        Raises:
            ConfigError: It is damaged, or a later version wrote it.
        """
        try:
            data = parse_json(text, nulls=True)
        except ValueError as error:
            raise ConfigError(f"no JSON of ours ({error})") from error
        version = data.get("format", FORMAT) if isinstance(data, dict) else None
        if type(version) is not int or version != FORMAT:
            raise ConfigError(
                "it is of a format that this version does not know: use the version that wrote it, "
                "or a later one"
            )
        expected = {"format", "info", *_KINDS}
        if more := sorted(data.keys() - expected):
            raise ConfigError(f"it has what is not known: {listed(more, 4, show)}")
        data.setdefault("steps", {})
        if less := sorted(expected - data.keys()):
            raise ConfigError(f"it lacks {listed(less, 4, show)}")
        info = ModelInfo.from_json(encode_json(data["info"]))
        said = read_values(_KINDS, _printable({**data, "info": None}), "")
        said["runtime"] = shortened(said["runtime"], _SHOWN)
        said["facts"] = {name: shortened(fact, _SHOWN) for name, fact in said["facts"].items()}
        said["attributes"] = {n: _as_held(n, v) for n, v in said["attributes"].items()}
        said["envelopes"] = {name: Envelope.from_dict(e) for name, e in said["envelopes"].items()}
        found = cls(info=info, **said)
        found.check()
        return found

    def check(self) -> None:
        """Refuses what contradicts itself.

        Raises:
            ConfigError: Something does.
        """
        if not 0 < sum(self.batches) == len(self.seen) or min(self.batches) < 1:
            raise ConfigError(f"{sum(self.batches)} images in batches, {len(self.seen)} inputs")
        if not MIN_IMAGE_SIDE <= min(self.image_size) <= max(self.image_size) <= MAX_IMAGE_SIDE:
            raise ConfigError(
                f"image_size is {self.image_size}, expected (H, W), each from {MIN_IMAGE_SIDE} to "
                f"{MAX_IMAGE_SIDE} pixels"
            )
        if self.kind not in UNSEEN:
            raise ConfigError(f"kind is {show(self.kind)}, expected one of {', '.join(UNSEEN)}")
        if len({*self.names}) < len(self.names) or not self.names:
            raise ConfigError("names of taps that are there twice, or none")
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise ConfigError(f"precision is {self.precision!r:.60}, expected one of {known}")
        groups = {each.group for each in self.seen}
        for emulation, envelope in self.envelopes.items():
            for name in self.names:
                if missing := groups - {*envelope.spreads.get(name, ())}:
                    raise ConfigError(
                        f"what {emulation} rounding does at {name} is missing for {min(missing)}"
                    )


_SHOWN = 300
"""Letters of a text that is only shown; each line of a table is as long as the longest."""

_KINDS: dict[str, Any] = {
    "runtime": str,
    "file": str,
    "kind": str,
    "image_size": tuple[int, int],
    "attributes": dict[str, float | str | tuple[float, ...] | None],
    "hashes": dict[str, str],
    "facts": dict[str, str],
    "envelopes": dict[str, dict[str, dict[str, tuple[(float | None,) * 5]]]],  # type: ignore[misc]
    "batches": tuple[int, ...],
    "seen": tuple[Seen, ...],
    "names": tuple[str, ...],
    "inputs_kept": bool,
    "steps": dict[str, float],
}
"""What a description of format 1 holds, beside a model's."""


def _kept(value: Any) -> Any:
    """Returns an attribute as JSON has it; what a strange graph has in its place as words."""
    if isinstance(value, np.float32):  # an epsilon or a scale
        return float(value)
    numbers = isinstance(value, list) and all(isinstance(each, int) for each in value)
    return (
        value if value is None or numbers or isinstance(value, int | float | str) else show(value)
    )


def _as_held(name: str, value: Any) -> Any:
    """Returns an attribute as a runtime holds it, of what was read as JSON."""
    if name.endswith((".epsilon", ".scale")) and not isinstance(value, float | int):
        raise ConfigError(f"attributes: {show(name)} is {show(value)}, expected a number")
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            return np.float32(value)
    return list(value) if isinstance(value, tuple) else value


def _printable(value: Any) -> Any:
    """Returns a value whose texts may be shown on a terminal."""
    if isinstance(value, dict):
        return {_printable(key): _printable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    return printable(value) if isinstance(value, str) else value

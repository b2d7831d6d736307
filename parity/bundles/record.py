"""What a bundle says of the run that is in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.bundles.schema import FORMAT, RecordError, is_attribute, parse_description
from parity.measure.envelope import Envelope
from pvt_spec import ModelInfo
from pvt_spec.attributes import Attributes
from pvt_spec.precisions import PRECISIONS
from pvt_spec.words import shortened

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

    @property
    def precision(self) -> str:
        """The tolerance class; what is not known is judged as float32, the strictest."""
        return "fp32" if self.runtime == REFERENCE else self.facts.get("precision", "fp32")

    def to_json(self) -> str:
        """Returns what :meth:`from_json` reads."""
        described = {
            "format": FORMAT,
            **vars(self),
            "attributes": {name: _kept(value) for name, value in self.attributes.items()},
            "info": self.info and json.loads(self.info.to_json()),
            "seen": [vars(each) for each in self.seen],
            "envelopes": {name: e.to_dict() for name, e in self.envelopes.items()},
        }
        return json.dumps(described, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Returns what :meth:`to_json` was of.

        Raises:
            ParityError: A later version wrote it.
            ConfigError, RecordError: It is damaged.
        """
        data = parse_description(text)
        attributes = {
            name: np.float32(value) if isinstance(value, float) else value
            for name, value in data["attributes"].items()
        }
        found = cls(
            runtime=data["runtime"],
            file=data["file"],
            kind=data["kind"],
            info=ModelInfo.from_json(json.dumps(data["info"])),
            image_size=tuple(data["image_size"]),
            attributes=attributes,
            hashes=data["hashes"],
            facts=data["facts"],
            envelopes={name: Envelope.from_dict(e) for name, e in data["envelopes"].items()},
            batches=tuple(data["batches"]),
            seen=tuple(Seen(**each) for each in data["seen"]),
            names=tuple(data["names"]),
            inputs_kept=data["inputs_kept"],
        )
        found.check()
        return found

    def check(self) -> None:
        """Refuses what contradicts itself.

        Raises:
            RecordError: Something does.
        """
        if not 0 < sum(self.batches) == len(self.seen):
            raise RecordError(f"{sum(self.batches)} images in batches, {len(self.seen)} inputs")
        if len({*self.names}) < len(self.names) or not self.names:
            raise RecordError("names of taps that are there twice, or none")
        if self.precision not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise RecordError(f"precision is {self.precision!r:.60}, expected one of {known}")
        groups = {each.group for each in self.seen}
        for emulation, envelope in self.envelopes.items():
            for name in self.names:
                if missing := groups - {*envelope.spreads.get(name, ())}:
                    raise RecordError(
                        f"what {emulation} rounding does at {name} is missing for {min(missing)}"
                    )


def _kept(value: Any) -> Any:
    """Returns an attribute as JSON has it; what a strange graph has in its place as words."""
    if isinstance(value, np.float32):  # an epsilon or a scale
        value = float(value)
    return value if is_attribute(value) else shortened(str(value))

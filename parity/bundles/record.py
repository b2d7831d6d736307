"""What a bundle says of the run that is in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from parity.errors import ParityError
from parity.measure.envelope import Envelope
from pvt_spec import ModelInfo
from pvt_spec.attributes import Attributes

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
            "info": self.info and json.loads(self.info.to_json()),
            "seen": [vars(each) for each in self.seen],
            "envelopes": {name: e.to_dict() for name, e in self.envelopes.items()},
        }
        # Numbers of numpy are epsilons and scales, float32.
        return json.dumps(described, indent=1, default=float)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Returns what :meth:`to_json` was of.

        Raises:
            ParityError: A later version wrote it.
            ConfigError, ValueError, TypeError, KeyError: It is damaged.
        """
        data = json.loads(text)
        if data.pop("format") != FORMAT:
            raise ParityError(
                "it is of a format that this version does not know: use the version that wrote it, "
                "or a later one"
            )
        attributes = {
            name: np.float32(value) if isinstance(value, float) else value
            for name, value in data.pop("attributes").items()
        }
        envelopes = {name: Envelope.from_dict(e) for name, e in data.pop("envelopes").items()}
        H, W = data.pop("image_size")
        return cls(
            info=ModelInfo.from_json(json.dumps(data.pop("info"))),
            image_size=(H, W),
            attributes=attributes,
            envelopes=envelopes,
            batches=tuple(data.pop("batches")),
            seen=tuple(Seen(**each) for each in data.pop("seen")),
            names=tuple(data.pop("names")),
            **data,
        )

"""What the Open Inference Protocol, version 2, is about: tensors, requests, answers, errors.

Sources: kserve/open-inference-protocol ``specification/protocol/inference_rest.md`` and, of
triton-inference-server/server ``docs/protocol``, the extensions of :data:`EXTENSIONS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pvt_spec.arrays import Array
from pvt_spec.errors import PvtError
from pvt_spec.words import show

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository")
"""What is done beyond the protocol, in the words of whoever defined it."""

HEADER_LENGTH = "inference-header-content-length"
"""The header that says how many bytes of a body are JSON; tensors follow them."""

BYTES = "BYTES"
"""The datatype of what is no number: each element has its length, uint32, before it."""

DATATYPES: Mapping[str, "np.dtype[Any]"] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
"""Datatype -> what an element is in memory and, little-endian, in a binary tensor."""

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def datatype_of(dtype: "np.dtype[Any]") -> str:
    """Returns the protocol's name of a dtype."""
    return _NAMES[dtype.newbyteorder("<")]


class ProtocolError(PvtError):
    """A request that is not answered as asked: what was got, what was expected."""

    def __init__(self, status: int, message: object, retry_after: int | None = None):
        """Says so.

        Args:
            status: HTTP's status code.
            message: The words for it.
            retry_after: In how many seconds the same request may be answered; None where it is the
                request that has to change.
        """
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


def refused(message: object) -> ProtocolError:
    """Returns the error of a request that is not as the protocol has it."""
    return ProtocolError(400, message)


Values = Array | Sequence[bytes] | Sequence[str]
"""What a tensor holds: an array, or of :data:`BYTES` an object for each element."""


@dataclass(frozen=True)
class Tensor:
    """Values that go in or out.

    Attributes:
        name: What it is called.
        datatype: :data:`BYTES`, or a key of :data:`DATATYPES`.
        shape: Its dimensions.
        data: An array of that shape; of BYTES an object for each element, in row-major order:
            bytes, or a text where it came in or goes out as JSON.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Values

    @classmethod
    def of(cls, name: str, array: Array) -> "Tensor":
        """Returns an array of numbers as a tensor."""
        return cls(name, datatype_of(array.dtype), array.shape, array)


@dataclass(frozen=True)
class Wanted:
    """An output that is asked for.

    Attributes:
        name: What it is called.
        binary: Whether it is to be a binary tensor; None for what the request says of all.
        classes: How many of the largest values are wanted, with their labels, in place of all
            values; 0 for the values.
    """

    name: str
    binary: bool | None = None
    classes: int = 0


@dataclass(frozen=True)
class InferRequest:
    """A request for answers.

    Attributes:
        inputs: What is given.
        outputs: What is wanted; of none, all there is.
        id: What the answer is called too; "" for nothing.
        binary: Whether outputs that say nothing of it are to be binary tensors.
        timeout: Microseconds after which nobody waits for an answer; None for ever.
        raw: The whole body, of one that is nothing but a tensor.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...] = ()
    id: str = ""
    binary: bool = False
    timeout: int | None = None
    raw: bytes | None = None


@dataclass(frozen=True)
class InferAnswer:
    """What is answered.

    Attributes:
        model: The model's name.
        version: Its version.
        outputs: The tensors, each with whether it goes out as a binary tensor.
        id: The request's.
    """

    model: str
    version: str
    outputs: Sequence[tuple[Tensor, bool]]
    id: str = ""


@dataclass(frozen=True)
class TensorSpec:
    """What a model takes or answers.

    Attributes:
        name: What it is called.
        datatype: As of :class:`Tensor`.
        shape: Its dimensions; None for any number.
    """

    name: str
    datatype: str
    shape: tuple[int | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns it as the protocol has it, where -1 is any number."""
        shape = [-1 if side is None else side for side in self.shape]
        return {"name": self.name, "datatype": self.datatype, "shape": shape}

    def check(self, given: Tensor) -> None:
        """Refuses a tensor that is something else.

        Raises:
            ProtocolError: It is of another datatype or shape.
        """
        if given.datatype != self.datatype:
            raise refused(f"input {show(self.name)} is {self.datatype}, got {given.datatype}")
        if len(given.shape) != len(self.shape) or any(
            side not in (None, there) for side, there in zip(self.shape, given.shape, strict=True)
        ):
            expected = [-1 if side is None else side for side in self.shape]
            raise refused(
                f"input {show(self.name)} has shape {expected}, -1 for any number; got "
                f"{show([*given.shape])}"
            )


@dataclass(frozen=True)
class ModelMetadata:
    """What is said of a model.

    Attributes:
        name: What it is called in a request.
        versions: All that are served.
        platform: What runs it.
        inputs: What it takes.
        outputs: What it answers.
    """

    name: str
    versions: Sequence[str]
    platform: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]

    def to_dict(self) -> dict[str, Any]:
        """Returns it as the protocol has it."""
        return {
            "name": self.name,
            "versions": [*self.versions],
            "platform": self.platform,
            "inputs": [each.to_dict() for each in self.inputs],
            "outputs": [each.to_dict() for each in self.outputs],
        }

"""What decides a model's answers and its tensors do not show, as a twin's own state says it."""

import dataclasses
from dataclasses import dataclass

from pvt_spec.errors import ConfigError
from pvt_spec.files.json_text import encode_json, parse_json
from pvt_spec.files.records import read_record
from pvt_spec.numerics import Numerics

UNSEEN_KEY = "pvt_unseen"
"""The key under which the PyTorch twin keeps it beside the tensors of its ``state_dict()``."""


@dataclass(frozen=True)
class Unseen:
    """The maths and the heads, which belong to the weights like their shapes.

    Attributes:
        numerics: The maths.
        num_heads: The attention heads of each stage.
    """

    numerics: Numerics
    num_heads: tuple[int, ...]

    def to_json(self) -> str:
        """Returns one line of JSON that :meth:`from_json` reads."""
        return encode_json(dataclasses.asdict(self), compact=True)

    @classmethod
    def from_json(cls, text: str) -> "Unseen":
        """Reads what :meth:`to_json` wrote.

        Raises:
            ConfigError: The text is something else.
        """
        where = f"the file's {UNSEEN_KEY}"
        try:
            return read_record(cls, parse_json(text), where)
        except ValueError as error:
            raise ConfigError(f"{where} cannot be read: {error}") from None

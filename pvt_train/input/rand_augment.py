"""RandAugment (Cubuk et al., 2020), as strings like ``rand-m9-mstd0.5-inc1`` ask for it.

The syntax is timm's (``timm/data/auto_augment.py``) and MindCV's (``mindcv/data/auto_augment.py``);
the first word says whose operations are meant, see :mod:`pvt_train.input.image_operations`. Not
followed: MindCV's magnitudes deviate by 0.5 whatever the string says, and both read ``inc0`` as
``inc1``.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf

import numpy as np
from PIL import Image

from pvt_spec import ConfigError
from pvt_train.input.image_operations import OPERATIONS, Canvas, Operation

NO_WEIGHTS = -1.0
"""``w`` where a string leaves it out."""

DEFAULTS: dict[str, dict[str, float]] = {
    "rand": {"m": 10, "n": 2, "p": 0.5, "mstd": 0, "mmax": 10, "inc": 0},
    "randaug": {"m": 10, "n": 2, "p": 0.5, "mstd": 0.5, "mmax": 10, "inc": 0, "w": NO_WEIGHTS},
}
"""First word of a policy -> its parts, with what they are where the string leaves them out.

``p`` is timm's alone and understood in MindCV's strings too; ``w`` is MindCV's alone.
"""

EXPECTED = {
    "m": "0 to mmax: the magnitude",
    "n": "a whole number, 1 to 99: operations per image; with w0 at most 13",
    "p": "0 to 1: the probability that each is applied",
    "mstd": "at least 0, or inf: the standard deviation of the magnitude",
    "mmax": "more than 0, up to 1000: the largest magnitude",
    "inc": "0, or 1: operations that are the stronger the higher the magnitude",
    "w": "0: operations are chosen by weights, each at most once",
}
"""Part of a policy -> what it has to be."""

UNIFORM_ABOVE = 100.0
"""A deviation above it makes the magnitude uniform from 0 to ``m``, as in timm."""

WEIGHTS = {
    "Rotate": 0.3,
    "ShearX": 0.2,
    "ShearY": 0.2,
    "TranslateX": 0.1,
    "TranslateY": 0.1,
    "Color": 0.025,
    "Sharpness": 0.025,
    "AutoContrast": 0.025,
    "Solarize": 0.005,
    "Contrast": 0.005,
    "Brightness": 0.005,
    "Equalize": 0.005,
    "Posterize": 0.005,
    "Invert": 0.0,
}
"""Operation -> its share of the choices under ``w0``, once divided by their sum (MindCV's)."""


@dataclass(frozen=True)
class Policy:
    """A policy's string, read.

    Attributes:
        word: ``rand`` or ``randaug``.
        increasing: Whether its operations are the stronger the higher the magnitude.
        weighted: Whether operations are chosen by :data:`WEIGHTS`, each at most once; otherwise
            all are as likely, and may be chosen again.
        layers: How many are chosen for an image.
        probability: The probability with which each is applied.
        magnitude: The mean level.
        deviation: The levels' standard deviation; inf makes them uniform from 0 to the magnitude.
        largest: Upper end of the levels; the lower is 0.
    """

    word: str
    increasing: bool
    weighted: bool
    layers: int
    probability: float
    magnitude: float
    deviation: float
    largest: float

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What is chosen from."""
        return OPERATIONS[self.word, self.increasing]

    def draw(self, rng: np.random.Generator) -> list[tuple[str, float]]:
        """Draws the operations to apply to an image, in order, and the argument of each."""
        names = list(self.operations)
        weights = np.array([WEIGHTS[name] for name in names]) if self.weighted else None
        chosen = rng.choice(
            len(names),
            self.layers,
            replace=not self.weighted,
            p=None if weights is None else weights / weights.sum(),
        )
        return [
            (names[number], self._argument(names[number], rng))
            for number in chosen
            if rng.random() < self.probability
        ]

    def _argument(self, name: str, rng: np.random.Generator) -> float:
        operation, level = self.operations[name], self.magnitude
        if self.deviation == inf:
            level = rng.uniform(0, level)
        elif self.deviation > 0:
            level = rng.normal(level, self.deviation)
        level = min(max(level, 0.0), self.largest)
        if operation.signed and rng.random() < 0.5:
            level = -level
        return operation.argument(level)


def rand_augment(
    image: Image.Image, policy: Policy, canvas: Canvas, rng: np.random.Generator
) -> Image.Image:
    """Applies operations drawn from a policy to an image of mode L or RGB; mode and size stay."""
    for name, argument in policy.draw(rng):
        image = policy.operations[name].apply(image, argument, canvas)
    return image


def parse_policy(text: str) -> Policy:
    """Reads ``rand`` or ``randaug`` and parts like ``-m9-mstd0.5-inc1``, in any order.

    Raises:
        ConfigError: The first word or parts are not known, or values are out of range; all are
            named.
    """
    word, *parts = text.split("-")
    if word not in DEFAULTS:
        raise ConfigError(
            f"auto_augment is {text!r}, expected {' or '.join(DEFAULTS)} as its first word, "
            f"as in rand-m9-mstd0.5-inc1, or null"
        )
    keys = "|".join(DEFAULTS[word])
    matches = [re.fullmatch(rf"({keys})(inf|\d*\.?\d+)", part) for part in parts]
    given = [(match[1], float(match[2])) for match in matches if match]
    values = DEFAULTS[word] | dict(given)
    problems = [
        f"{part!r} is none of its parts {', '.join(DEFAULTS[word])}"
        for part, match in zip(parts, matches, strict=True)
        if not match
    ]
    times = Counter(key for key, _ in given)
    problems += [f"{key} is given {n} times" for key, n in times.items() if n > 1]
    problems += _out_of_range(values)
    if problems:
        raise ConfigError(f"auto_augment is {text!r}: {'; '.join(problems)}")
    return Policy(
        word=word,
        increasing=values["inc"] == 1,
        weighted=values.get("w") == 0,
        layers=int(values["n"]),
        probability=values["p"],
        magnitude=values["m"],
        deviation=inf if values["mstd"] > UNIFORM_ABOVE else values["mstd"],
        largest=values["mmax"],
    )


def _out_of_range(values: Mapping[str, float]) -> Iterator[str]:
    weighted = values.get("w", NO_WEIGHTS) != NO_WEIGHTS
    choices = sum(weight > 0 for weight in WEIGHTS.values()) if weighted else inf
    expected = {
        "m": 0 <= values["m"] <= values["mmax"],
        "n": values["n"] in range(1, 100) and values["n"] <= choices,
        "p": 0 <= values["p"] <= 1,
        "mstd": values["mstd"] >= 0,
        "mmax": 0 < values["mmax"] <= 1000,
        "inc": values["inc"] in (0, 1),
        "w": not weighted or values["w"] == 0,
    }
    for key, holds in expected.items():
        if not holds:
            yield f"{key} is {values[key]:g}, expected {EXPECTED[key]}"

"""A run in one file, to be judged on another machine: ``.npz`` that numpy alone reads and writes.

A bundle is a zip file with the entry ``bundle.json``, which describes the run, and arrays in
numpy's format: ``0/input.npy``, ``0/block1.0.attn.npy``, …, ``1/input.npy``, …, a number per batch.
Inputs may be left out; their hashes are in the description. A plain ``.npz`` of ``input`` and taps
(``logits`` will do), as ``numpy.savez`` writes it in any framework, is read too: nothing is known
of its model then.
"""

import zipfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np

from parity.bundles.arrays import Entries
from parity.bundles.record import PLAIN, Record, Seen
from parity.errors import ParityError
from parity.inputs.samples import Sample, hash_input
from pvt_spec import ConfigError, Preprocessing, PVTConfig, tap_names
from pvt_spec.arrays import Array
from pvt_spec.config import MIN_IMAGE_SIDE
from pvt_spec.files.replacing import AnyPath
from pvt_spec.files.stamps import stamp
from pvt_spec.runtime import Taps
from pvt_spec.words import listed, show

SUFFIX = ".npz"

_DESCRIPTION, _INPUT = "bundle.json", "input"


def write_bundle(
    stream: BinaryIO, record: Record, answers: Iterable[tuple[Sequence[Sample], Array, Taps]]
) -> None:
    """Writes a bundle a batch at a time.

    Args:
        stream: A new file.
        record: What ran; its batches and inputs are not known yet.
        answers: Samples, what was given of them and what came out, batch by batch.
    """
    batches: list[int] = []
    seen: list[Seen] = []
    # Results of floating-point operations hardly get smaller by compression. Entries are of 1980:
    # what the clock says may be no date of a zip.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as file:
        for number, (samples, images, taps) in enumerate(answers):
            given = {_INPUT: images} if record.inputs_kept else {}
            for name, array in {**given, **taps}.items():
                info = zipfile.ZipInfo(f"{number}/{name}.npy")
                with file.open(info, "w", force_zip64=True) as entry:
                    np.save(entry, array, allow_pickle=False)
            batches.append(len(images))
            for sample, image in zip(samples, images, strict=True):
                seen.append(Seen(sample.name, sample.group, hash_input(image)))
        whole = replace(record, batches=tuple(batches), seen=tuple(seen))
        file.writestr(zipfile.ZipInfo(_DESCRIPTION), whole.to_json())


class Bundle:
    """A bundle, read a batch at a time.

    Args:
        path: The file.

    Attributes:
        path: The file.
        stamp: What the system says of it as it is opened.
        record: What ran.

    Raises:
        ParityError: It is no bundle, or a damaged one.
    """

    def __init__(self, path: AnyPath):
        self.path = Path(path)
        self.stamp = stamp(self.path)
        self._entries = Entries(self.path)
        self._held: tuple[int, dict[str, Array]] = (0, {})
        self._plain = _DESCRIPTION not in self._entries
        self.record = self._read_record()
        self._ends = [*accumulate(self.record.batches)]

    def _read_record(self) -> Record:
        if self._plain:
            return self._describe(self._entries.names)
        try:
            record = Record.from_json(self._entries.text(_DESCRIPTION))
            self._check_entries(record)
            return record
        except ConfigError as error:
            raise ParityError(f"{self.path}: {_DESCRIPTION}: {error}") from error

    def _check_entries(self, record: Record) -> None:
        """Refuses a description of arrays that are not there."""
        names = (*record.names, *((_INPUT,) if record.inputs_kept else ()))
        # Before they are looked for: a short text can name any number of them.
        if len(record.batches) * len(names) > len(self._entries.names):
            raise ConfigError(
                f"{len(record.batches)} batches of {len(names)} arrays, and "
                f"{len(self._entries.names)} in the file"
            )
        for number in range(len(record.batches)):
            for name in names:
                if not self._entries.has(f"{number}/{name}"):
                    raise ConfigError(f"array {number}/{name} is missing")

    def _describe(self, entries: Sequence[str]) -> Record:
        """Returns what can be said of plain arrays."""
        if _INPUT not in entries or len(entries) < 2:
            raise ParityError(
                f"{self.path}: neither a bundle of parity capture nor a plain .npz with 'input' "
                f"and results of taps ('logits', say); it holds {_shown(entries)}"
            )
        images = self._read(0, _INPUT)
        plausible = images.ndim == 4 and images.size and min(images.shape[2:]) >= MIN_IMAGE_SIDE
        if not plausible:
            raise ParityError(
                f"{self.path}: its input is {images.dtype} {images.shape}, expected float32 "
                f"(B, C, H, W) of an image or more, normalised, H and W at least {MIN_IMAGE_SIDE}"
            )
        return Record(
            runtime=PLAIN,
            file=self.path.name,
            kind="",
            info=None,
            image_size=(images.shape[2], images.shape[3]),
            batches=(len(images),),
            seen=tuple(
                Seen(f"input {i + 1}", "input", hash_input(image)) for i, image in enumerate(images)
            ),
            names=tuple(name for name in entries if name != _INPUT),
        )

    def samples(self) -> list[Sample]:
        """Returns the inputs as the model was given them, whatever the preprocessing asks for."""
        return [
            Sample(seen.name, seen.group, partial(self._load_input, index))
            for index, seen in enumerate(self.record.seen)
        ]

    def _load_input(self, index: int, preprocessing: Preprocessing) -> Array:
        if not self.record.inputs_kept:
            raise ParityError(
                f"{self.path}: holds no inputs, only their hashes: give the same images again "
                "(--images, or --random and --seed)"
            )
        image: Array = self.rows((_INPUT,), index, 1)[_INPUT][0].astype(np.float32)
        expected = (len(preprocessing.mean), *preprocessing.image_size)
        if image.shape != expected:
            raise ParityError(
                f"{self.path}: its inputs are (C, H, W) = {image.shape}, the model takes {expected}"
            )
        return image

    @property
    def shown(self) -> str:
        """The first names of its taps, fit for a terminal."""
        return _shown(self.record.names)

    def unknown_to(self, config: PVTConfig) -> str:
        """Returns the arrays that are no taps of a model: names of plain arrays are anyone's."""
        known = {*tap_names(config)}
        unknown = [name for name in self.record.names if name not in known]
        return _shown(unknown) if unknown else ""

    def check_size(self, wanted: tuple[int, int] | None) -> tuple[int, int]:
        """Refuses another size than that of the inputs, (H, W) in pixels, which it returns.

        Raises:
            ParityError: Another one is wanted.
        """
        size = self.record.image_size
        if wanted not in (None, size):
            raise ParityError(
                f"{self.path}: its inputs are {size[0]}x{size[1]} pixels: leave --image-size out"
            )
        return size

    def rows(self, names: Sequence[str], start: int, count: int) -> dict[str, Array]:
        """Returns the results of consecutive inputs.

        Args:
            names: The names of taps that are in the bundle.
            start: The first input.
            count: How many.

        Raises:
            ParityError: There are not as many, or the file is damaged.
        """
        if start + count > len(self.record.seen):
            raise ParityError(
                f"{self.path}: holds results of {len(self.record.seen)} images, asked for "
                f"{start + count}"
            )
        parts: dict[str, list[Array]] = {name: [] for name in names}
        for number in range(bisect_right(self._ends, start), len(self._ends)):
            size = self.record.batches[number]
            first = self._ends[number] - size
            if first >= start + count:
                break
            part = slice(max(0, start - first), min(size, start + count - first))
            for name in names:
                parts[name].append(self._read(number, name, size)[part])
        return {name: self._joined(name, found) for name, found in parts.items()}

    def _joined(self, name: str, parts: Sequence[Array]) -> Array:
        """Returns the rows that lie in some batches."""
        if len(parts) == 1:
            return parts[0]
        shapes = dict.fromkeys(part.shape[1:] for part in parts)
        if len(shapes) > 1:
            each = " and ".join(map(str, shapes))
            raise ParityError(
                f"{self.path}: {name!r:.60} of one image is {each}, expected one shape: it is "
                "damaged; make it again with parity capture"
            )
        return np.concatenate(parts)

    def _read(self, batch: int, name: str, size: int | None = None) -> Array:
        """Returns an array of a batch, which has a row for each of ``size`` inputs.

        Those of the batch that was asked for last are held: it is asked for part by part.
        """
        if self._held[0] != batch:
            self._held = batch, {}
        held = self._held[1]
        if name not in held:
            array = self._entries.array(name if self._plain else f"{batch}/{name}")
            if size is not None and (array.shape[:1] != (size,) or not array.size):
                raise ParityError(
                    f"{self.path}: {name!r:.60} is {array.shape}, expected a row for each of "
                    f"{size} inputs"
                )
            held[name] = array
        return held[name]

    @property
    def _hint(self) -> str:
        """What to do where it is of other images, in words."""
        if self.record.inputs_kept:
            return (
                "leave --images out to take its own, or give those it was made of, in the same "
                "size and order; of its own, they or their hashes were changed since"
            )
        return (
            "it holds hashes alone: parity run MODEL BUNDLE --images takes those that it was made "
            "of, in the same size and order"
        )

    def in_order(self, names: Sequence[str]) -> Callable[[Array], dict[str, Array]]:
        """Returns a forward pass that answers what was recorded: the first images first.

        Each batch of images must be the next ones of the run.

        Raises:
            ParityError: When called with other images than the run's.
        """
        taken = 0

        def run(images: Array) -> dict[str, Array]:
            nonlocal taken
            for image, seen in zip(images, self.record.seen[taken:], strict=False):
                if hash_input(image) != seen.hash:
                    raise ParityError(
                        f"{self.path}: was made of other images: {seen.name!r} there has hash "
                        f"{seen.hash[:8]}, here {hash_input(image)[:8]}; {self._hint}"
                    )
            taken += len(images)
            return self.rows(names, taken - len(images), len(images))

        return run


def _shown(names: Sequence[str]) -> str:
    return listed(names, 5, lambda name: show(name)) or "nothing"


def open_bundles(paths: Sequence[Path]) -> tuple[list[Path], list[Bundle]]:
    """Returns the model files, and the bundles that stand among them.

    Raises:
        ParityError: There is no model file, or a bundle cannot be read.
    """
    bundles = [path for path in paths if path.suffix.lower() == SUFFIX]
    files = [path for path in paths if path not in bundles]
    if not files:
        raise ParityError(
            f"{', '.join(map(str, bundles))}: bundles alone have no model to run: name its file "
            "too, or use parity compare, which needs none"
        )
    return files, [Bundle(path) for path in bundles]

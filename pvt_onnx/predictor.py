"""A model to keep and to ask: ``pvt_onnx.load("m.onnx").predict("cat.jpg")``."""

import os
from collections.abc import Iterable, Mapping, Sequence
from ctypes import py_object, pythonapi
from io import IOBase
from pathlib import Path
from threading import Lock
from typing import Any, cast, overload

import numpy as np

from pvt_data.answers.accuracy import Opened
from pvt_data.answers.predict import Picture, Record, is_picture, predict
from pvt_data.description import Description
from pvt_data.images.ahead import MOST_IMAGES
from pvt_data.images.preprocessing import prepare
from pvt_data.sources.labels import Tell, check_classes, ignore
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.session import open_model
from pvt_onnx.engines.table import find_engine
from pvt_onnx.reading.files import OnnxFileError
from pvt_spec import ConfigError, ImageError, ModelInfo
from pvt_spec.arguments import checked
from pvt_spec.arrays import Array
from pvt_spec.errors import RuntimeUnusable
from pvt_spec.files.replacing import AnyPath
from pvt_spec.published import check_on_disk
from pvt_spec.words import show

_NO_COLUMNS = (bytearray, memoryview, IOBase, Mapping)
"""What can be gone through and is not several images; a table has ``columns``, and is none."""


@checked
def load(
    path: AnyPath,
    *,
    engine: str = "onnxruntime",
    provider: str = "cpu",
    threads: int | None = None,
    precision: str | None = None,
    optimization: str = "all",
    image_size: tuple[int, int] | None = None,
    model: str | None = None,
    profile: str | None = None,
    preprocessing: Mapping[str, Any] = {},
    labels: Sequence[str] = (),
    task: str | None = None,
    tell: Tell = ignore,
) -> "Predictor":
    """Returns a model that answers images; the file is read when it is first asked.

    Args:
        path: An ``.onnx`` file written by ``convert``, or by another tool from one.
        engine: What runs it; this and the next four are those of
            :class:`pvt_onnx.EngineOptions`.
        provider: What the engine runs on.
        threads: Threads that share the work of one operator; None for the engine's own choice.
        precision: What floats are computed in; None for what the graph says.
        optimization: What onnxruntime may do to the graph.
        image_size: (H, W) in pixels that images are brought to, in place of the model's own.
        model: The variant, of a file that does not say what it is; this and the next four are
            those of :class:`pvt_data.description.Description`.
        profile: The profile of its maths, whose preprocessing is meant.
        preprocessing: Fields of :class:`pvt_spec.Preprocessing` that are otherwise.
        labels: Class names in the order of the logits.
        task: What the logits mean.
        tell: The function that is told what is guessed, and what was changed in the file.

    Raises:
        OnnxFileError: There is no such file.
        RuntimeUnusable: The engine cannot do what is asked, here or at all.
        LibraryMissing: The engine is not installed.
    """
    options = EngineOptions(engine, provider, threads, precision, optimization)
    said = Description(
        model=model,
        profile=profile,
        preprocessing=tuple(preprocessing.items()),
        labels=tuple(labels),
        task=task,
    )
    return Predictor(path, options, image_size, tell, said)


class Predictor:
    """A model that answers images, whatever runs it; see :func:`load`.

    Threads may share it. It can be pickled: what it becomes elsewhere, or in a forked process,
    opens the file again. ``with`` closes it, for good.
    """

    @checked
    def __init__(
        self,
        path: AnyPath,
        options: EngineOptions = EngineOptions(),
        image_size: tuple[int, int] | None = None,
        tell: Tell = ignore,
        said: Description = Description(),
    ):
        """Checks that there are the file and the engine; see :func:`load`."""
        check_on_disk(path)
        self.path, self.options, self.image_size = Path(path), options, image_size
        self.said = said
        self._tell = tell
        find_engine(options)
        if not os.path.isfile(self.path):
            what = "a folder, expected a file" if os.path.isdir(self.path) else "no such file"
            raise OnnxFileError(f"{self.path}: {what}")
        self._begin()

    def _begin(self, closed: bool = False) -> None:
        self._lock, self._process = Lock(), os.getpid()
        self._opened: Opened | None = None
        self._closed = closed

    def __getstate__(self) -> dict[str, Any]:
        path = Path(os.path.abspath(self.path))
        kept = ("options", "image_size", "said")
        return {"path": path, **{name: getattr(self, name) for name in kept}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _tell=ignore)
        self._begin()

    def __repr__(self) -> str:
        return f"Predictor({str(self.path)!r}, {self.options})"

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees what runs the model, and answers no more."""
        with self._here():
            self._opened, self._closed = None, True

    def _here(self) -> Lock:
        """Returns the lock of this process; in a forked one there are no threads of an engine."""
        if self._process != os.getpid():
            if self._opened is not None:
                # Whoever frees an engine waits for its threads: here for ever.
                pythonapi.Py_IncRef(py_object(self._opened))
            self._begin(self._closed)
        return self._lock

    def _open(self) -> Opened:
        with self._here():
            if self._closed:
                raise RuntimeUnusable(f"{self.path}: the model was closed: load it again")
            if self._opened is None:
                self._opened = open_model(
                    self.path, self._tell, self.options, self.image_size, self.said
                )
            return self._opened

    @property
    def info(self) -> ModelInfo:
        """What travels with the weights: architecture, maths, preprocessing, classes, task."""
        return self._open().info

    @property
    def facts(self) -> dict[str, str]:
        """What really runs the model: ``framework``, ``device``, ``precision`` and others."""
        return {**self._open().facts}

    def prepare(self, image: Picture) -> Array:
        """Returns an image as the model takes it: float32 (C, H, W), resized and normalised.

        Args:
            image: As of :meth:`predict`.

        Raises:
            ImageError: It cannot be used.
        """
        return prepare(image, self.info.preprocessing)

    @checked
    def logits(self, images: Array) -> Array:
        """Returns the model's answers, float32 (B, num_classes).

        Args:
            images: float32 (B, C, H, W), as :meth:`prepare` returns each of them.

        Raises:
            ArgumentError: They are no array.
            ConfigError: The model has no classes.
            OnnxFileError: The images are no such array, or the graph cannot be run.
            RuntimeUnusable: The graph takes no images of that size.
        """
        opened = self._open()
        check_classes(opened.info)
        return opened.forward(np.ascontiguousarray(images))["logits"]

    @overload  # though a text is a sequence of texts
    def predict(  # type: ignore[overload-overlap]
        self, images: Picture, top_k: int = 5, batch_size: int = 16
    ) -> Record: ...
    @overload
    def predict(
        self, images: Iterable[Picture], top_k: int = 5, batch_size: int = 16
    ) -> list[Record]: ...
    @checked
    def predict(
        self, images: Picture | Iterable[Picture], top_k: int = 5, batch_size: int = 16
    ) -> Record | list[Record]:
        """Returns the most probable classes of an image, or of each of several, as ``predict``.

        Args:
            images: A file's path or its bytes, uint8 pixels (H, W, C) or grey ones (H, W) or
                (H, W, 1), or an image of Pillow's; or several, also as a column of a table.
            top_k: How many classes.
            batch_size: Images per call of the model.

        Returns:
            ``{"image", "classes": [{"index", "label", "probability"}, …]}``, most probable first;
            of several a list. Of one of several that cannot be used ``{"image", "error"}``.

        Raises:
            ConfigError: The model has no classes, or a number is below 1.
            ImageError: What is given is no image, the only image cannot be used, or the model takes
                images that no file holds.
            RuntimeUnusable: It was closed.
            PvtError: An answer is not finite.
        """
        if top_k < 1 or not 1 <= batch_size <= MOST_IMAGES:
            raise ConfigError(
                f"top_k {show(top_k)}, batch_size {show(batch_size)}: expected 1 or more, and a "
                f"batch of up to {MOST_IMAGES} images"
            )
        opened = self._open()
        if not is_picture(images):
            columns = getattr(images, "to_pylist", None)  # of pyarrow's
            images = columns() if columns else images
            whole = isinstance(images, _NO_COLUMNS) or hasattr(images, "columns")
            if whole or not isinstance(images, Iterable):
                raise ImageError(
                    f"{type(images).__name__}: expected a path, a file's bytes, an array or an "
                    "image of Pillow's, or several"
                )
            several = cast(Iterable[Picture], images)
            return [*predict(opened, several, batch_size, top_k, self._tell)]
        (record,) = predict(opened, [images], 1, top_k, self._tell, workers=1)
        if "error" in record:
            raise ImageError(f"{record['image']}: {record['error']}")
        return record

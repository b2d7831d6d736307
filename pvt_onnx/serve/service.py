"""The models of a server: opened one after another, found by name, asked by requests."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from pvt_data.images.ahead import MOST_WORKERS, usable_cores
from pvt_data.sources.labels import Tell
from pvt_onnx.serve.batching import Answers, Batcher
from pvt_onnx.serve.metrics import Metrics
from pvt_onnx.serve.models import Images, ServedModel
from pvt_onnx.serve.options import ServeOptions
from pvt_onnx.serve.protocol.answers import check_wanted, choose_outputs
from pvt_onnx.serve.protocol.messages import InferAnswer, InferRequest, ProtocolError
from pvt_onnx.serve.repository import ModelFile
from pvt_spec.words import listed, show

Open = Callable[[ModelFile], ServedModel]
"""A function that opens a file."""


@dataclass
class Entry:
    """A model of a server.

    Attributes:
        file: Its file.
        model: What was opened; None before.
        batcher: What answers its requests.
        waiting: The images that it has to answer.
    """

    file: ModelFile
    model: ServedModel | None = None
    batcher: Batcher | None = None
    waiting: int = 0

    @property
    def ready(self) -> bool:
        """Whether it can be asked."""
        return self.batcher is not None


class Service:
    """What a server does, without HTTP; all of it in one event loop.

    Args:
        files: The models, each version above those before it of the same name.
        open_: What opens one.
        options: How they are served.

    Attributes:
        metrics: What is counted.
        closing: Whether it takes no more requests.
    """

    def __init__(self, files: Sequence[ModelFile], open_: Open, options: ServeOptions):
        self._open, self._options = open_, options
        self._models: dict[str, dict[str, Entry]] = {}
        for file in files:
            self._models.setdefault(file.name, {})[file.version] = Entry(file)
        self.metrics, self.closing, self._closed = Metrics(), False, False
        self._opening = ThreadPoolExecutor(1, "open")
        self._decoding = ThreadPoolExecutor(min(usable_cores(), MOST_WORKERS), "decode")

    async def load(self, tell: Tell) -> None:
        """Opens all models, and runs each once.

        Raises:
            PvtError: One cannot be opened, or run.
        """
        loop = asyncio.get_running_loop()
        for entry in self.entries():
            entry.model = await loop.run_in_executor(self._opening, self._opened, entry.file)
            entry.batcher = self._batcher(entry.model)
            tell(f"{entry.file.name}, version {entry.file.version}: ready")

    def _opened(self, file: ModelFile) -> ServedModel:
        model = self._open(file)
        model.warm_up(self._options.max_batch)
        return model

    def _batcher(self, model: ServedModel) -> Batcher:
        labels = (model.name, model.version)
        self.metrics.waiting.labels(*labels).set(0)
        return Batcher(
            model.run,
            partial(model.most_images, most=self._options.max_batch),
            self._options.max_delay / 1000,
            not model.alone,
            self.metrics.batches.labels(*labels).observe,
        )

    async def close(self) -> None:
        """Ends what runs the models; what still waits is cancelled."""
        self._closed = True
        self._opening.shutdown(cancel_futures=True)
        self._decoding.shutdown(cancel_futures=True)
        for entry in self.entries():
            if entry.batcher:
                await entry.batcher.close()

    def entries(self) -> list[Entry]:
        """Returns all models."""
        return [each for versions in self._models.values() for each in versions.values()]

    def versions(self, name: str) -> list[str]:
        """Returns the versions of a model, smallest first."""
        return [*self._models[name]]

    @property
    def ready(self) -> bool:
        """Whether every model can be asked."""
        return not self.closing and all(each.ready for each in self.entries())

    def find(self, name: str, version: str = "") -> Entry:
        """Returns a model by name and version, by itself the highest.

        Raises:
            ProtocolError: 404: there is none.
        """
        versions = self._models.get(name)
        if versions is None:
            raise ProtocolError(404, f"no model {show(name)}, expected {_named(self._models)}")
        found = versions.get(version) if version else [*versions.values()][-1]
        if found is None:
            known = f"of {show(name)}, expected {_named(versions)}"
            raise ProtocolError(404, f"no version {show(version)} {known}")
        return found

    def open_model(self, entry: Entry) -> ServedModel:
        """Returns a model that can be asked.

        Raises:
            ProtocolError: 503: it cannot yet.
        """
        if entry.model is None or entry.batcher is None:
            raise ProtocolError(503, f"model {show(entry.file.name)} is still being opened", 1)
        return entry.model

    async def infer(self, entry: Entry, request: InferRequest, said: dict[str, Any]) -> InferAnswer:
        """Returns what a model answers.

        Args:
            entry: The model.
            request: What it is asked.
            said: What is logged of it.

        Raises:
            ProtocolError: 400: it cannot be answered; 413: it has too many images; 503: there are
                too many that wait, or it took too long.
            PvtError: The model cannot be run.
        """
        model = self.open_model(entry)
        check_wanted(request.outputs, model.outputs, model.has_classes)
        images = model.read(request)
        said["images"] = images.count
        room = images.count
        self._check_room(entry, room)
        if images.room:
            room = images.room()
            self._check_room(entry, room)
        seconds = self._options.timeout
        if request.timeout is not None:
            seconds = min(seconds, request.timeout / 1e6)
        entry.waiting += room
        waiting = self.metrics.waiting.labels(model.name, model.version)
        waiting.set(entry.waiting)
        try:
            answers = await asyncio.wait_for(self._answer(entry, images), seconds)
        except asyncio.TimeoutError:
            raise ProtocolError(503, f"no answer within {seconds:g} s", 1) from None
        finally:
            entry.waiting -= room
            waiting.set(entry.waiting)
        label = model.info.label if model.has_classes else None
        outputs = choose_outputs(answers, request.outputs, request.binary, label)
        return InferAnswer(model.name, model.version, outputs, request.id)

    def _check_room(self, entry: Entry, images: int) -> None:
        most = self._options.queue
        if images > most:
            raise ProtocolError(413, f"{images} images, expected at most {most} in a request")
        if entry.waiting + images > most:
            raise ProtocolError(503, f"{entry.waiting} images wait already, of {most} at most", 1)

    async def _answer(self, entry: Entry, images: Images) -> Answers:
        assert entry.batcher
        if self._closed:
            raise asyncio.CancelledError
        if images.quick:
            return await entry.batcher.answer([part() for part in images.parts])
        loop = asyncio.get_running_loop()
        begun = [loop.run_in_executor(self._decoding, part) for part in images.parts]
        try:
            return await entry.batcher.answer(await asyncio.gather(*begun))
        finally:
            for each in begun:
                each.cancel()


def _named(known: Mapping[str, Any]) -> str:
    return listed([*known], 20, show)

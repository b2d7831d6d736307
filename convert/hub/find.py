"""What a path to a model, or a name of published weights, stands for on this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pvt_spec.files import models
from pvt_spec.files.replacing import AnyPath
from pvt_spec.published import published_name

if TYPE_CHECKING:
    from convert.findings import Finding
    from convert.hub.fetched import Fetched


@dataclass(frozen=True)
class Found:
    """A model on this machine.

    Attributes:
        path: Its file or folder.
        words: The words for how it was chosen; "" where it is what was named.
        fetched: Where it is from, if it was published under the name.
    """

    path: Path
    words: str = ""
    fetched: "Fetched | None" = None

    def findings(self) -> "Iterator[Finding]":
        """Yields what is to be said of how it was chosen."""
        from convert.findings import Finding

        if self.fetched:
            yield from self.fetched.findings()
        elif self.words:
            yield Finding("taken", str(self.path), text=self.words)


def find(path: AnyPath) -> Found:
    """Returns what a path to a model, or a name of published weights, stands for.

    Published weights are downloaded if they are not here; see :func:`convert.hub.fetching.fetch`.
    A path is :func:`pvt_spec.files.models.find_model`'s.

    Raises:
        ConvertError: It cannot be told what it stands for, or that cannot be had.
        LibraryMissing: What downloads it is not installed.
    """
    name = published_name(path)
    if name is None:
        return Found(*models.find_model(path))
    from convert.hub.fetching import fetch

    fetched = fetch(name)
    return Found(fetched.path, str(fetched), fetched)


def find_model(path: AnyPath) -> tuple[Path, str]:
    """Returns the model's file or folder and how it was chosen; see :func:`find`."""
    found = find(path)
    return found.path, found.words

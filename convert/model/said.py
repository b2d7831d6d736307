"""What a file says of its model, and whether it still is what was written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from convert.findings import Finding
from convert.formats.weight_file import WeightFile
from convert.model.answers import agree
from convert.names.training_state import AVERAGED
from pvt_spec import METADATA_KEY, ModelInfo
from pvt_spec.arrays import Array
from pvt_spec.files.models import CONFIG
from pvt_spec.hashes import GRAPH_KEY, changed_weights, hash_weights
from pvt_spec.unseen import UNSEEN_KEY, Unseen


@dataclass(frozen=True)
class Said:
    """What a file says of its model.

    Attributes:
        own: The description in its metadata, None without one.
        described: That of the configuration beside it, None without one.
        info: The one of both that holds.
        unseen: What a twin's own state says, where there is no description.
        warnings: Perhaps a word on two descriptions that differ.
    """

    own: ModelInfo | None
    described: ModelInfo | None
    info: ModelInfo | None
    unseen: Unseen | None
    warnings: tuple[Finding, ...]

    @property
    def configured(self) -> bool:
        """Whether the configuration beside the file is what holds."""
        return self.info is not None and self.info is self.described

    @property
    def origin(self) -> str:
        """The words for where the maths is said."""
        if self.info:
            return CONFIG if self.configured else "metadata"
        return "state_dict" if self.unseen else "dialect"

    @property
    def num_heads(self) -> tuple[int, ...]:
        """The attention heads that a twin's own state says, () where it does not."""
        return self.unseen.num_heads if self.unseen else ()


def read_said(file: WeightFile) -> Said:
    """Returns what a file says of its model.

    Raises:
        ConfigError: Its description is damaged, or of a later format.
    """
    written, described = file.metadata.get(METADATA_KEY), file.described
    own = ModelInfo.from_json(written) if written else None
    if own and described and not agree(own, described):
        # transformers does what its JSON files say, so that is what holds.
        warning = Finding("warning", f"{METADATA_KEY} and config.json differ: config.json holds")
        return Said(own, described, described, None, (warning,))
    info = own or described
    state = file.metadata.get(UNSEEN_KEY)
    unseen = Unseen.from_json(state) if state and not info else None
    return Said(own, described, info, unseen, ())


def find_changes(
    path: Path, file: WeightFile, said: Said, weights: Mapping[str, Array], *, averaged: bool
) -> tuple[dict[str, str], list[str]]:
    """Returns the weights' hashes, where the file has them, and what is not as it was written.

    Args:
        path: The file.
        file: Its contents.
        said: What it says.
        weights: The weights under canonical names.
        averaged: Whether they are the averaged ones of the file.
    """
    own = said.own
    if own is None:
        return {}, []
    leading = AVERAGED if averaged else ""
    expected = {name: digest for name in weights if (digest := own.hashes.get(leading + name, ""))}
    hashes = hash_weights(weights) if expected else {}
    changed = [n for n in changed_weights(expected, hashes) if n not in file.rounded]
    if file.graph_hash and file.metadata.get(GRAPH_KEY) != file.graph_hash:
        from pvt_onnx.reading.changes import graph_changes
        from pvt_onnx.reading.files import load_proto

        changed += graph_changes(load_proto(path), own)
    return hashes, changed

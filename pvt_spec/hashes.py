"""Hashes of weights and graphs, by which a file is known to hold what was written."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b, sha256
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np

from pvt_spec.arrays import Array
from pvt_spec.errors import ConvertError
from pvt_spec.files.json_text import parse_json
from pvt_spec.words import listed

GRAPH_KEY = "pvt_graph_hash"
"""The key under which an ``.onnx`` carries the hash of its graph, of :data:`GRAPH_PARTS`."""

PAIR_KEY = "pvt_pair"
"""The key under which an ``.onnx`` carries the last bytes of the file that has its weights.

They are a hash of the model, by which the two are known to belong together.
"""

QUANTIZATION_KEY = "pvt_quantization"
"""The key under which an ``.onnx`` carries how ``pvt-onnx quantize`` made it."""

PRECISION_KEY = "pvt_precision"
"""The key under which an ``.onnx`` says what it was written to compute in, if not float32."""

CERTIFICATE_KEY = "pvt_certificate"
"""The key under which a file carries the SHA-256 of its certificate, if it was written with one."""

GRAPH_PARTS = ("constant", "description", "function", "input", "node", "opset", "output")
"""What decides what a graph computes, beside the weights, and what it is said to compute.

Constants are ordered by name; the description is that of :func:`encode_maths`.
"""

_DIGITS, _DIGITS_BEFORE = 40, 32
"""Hexadecimal digits that are kept of SHA-256, and those of BLAKE2b, which old bundles have."""

SHOWN = 5
"""How many changes are named."""

Hashes = Mapping[str, str]
"""The hash of each weight, by its name."""


def stamp_of(metadata: Mapping[str, str]) -> str:
    """Returns the SHA-256, in hex, of the certificate that a file says it has; "" without one."""
    said = metadata.get(CERTIFICATE_KEY, "")
    return said if re.fullmatch("[0-9a-f]{64}", said) else ""


def pair_mark(model: bytes) -> bytes:
    """Returns the last bytes of the file that has the weights of this model, written without."""
    return sha256(model).hexdigest().encode()


def check_pair(name: str, metadata: Mapping[str, str], beside: str, end: bytes) -> None:
    """Refuses weights that are another model's, by the mark of theirs.

    Files from before there were marks pass, and those that another tool has saved again, which have
    none at their end: what is in them is known by the hashes of weights.

    Args:
        name: The model's file.
        metadata: Its metadata.
        beside: The file that has its weights.
        end: The last bytes of that file, as many as a mark has.

    Raises:
        ConvertError: They are.
    """
    mark = metadata.get(PAIR_KEY)
    marked = re.fullmatch(rb"[0-9a-f]{64}", end)
    if mark is not None and marked and end != mark.encode(errors="replace"):
        raise ConvertError(
            f"{name}: {beside} has the weights of another model than this graph, or was replaced "
            "while it was read: copy both files again, from one conversion"
        )


PAIR_BYTES = len(pair_mark(b""))


def hash_weights(
    weights: Mapping[str, Array], like: Hashes = MappingProxyType({})
) -> dict[str, str]:
    """Returns a hash of every tensor's shape and values.

    float16 and bfloat16 are widened first, without loss: however a number is kept, it is the same.

    Args:
        weights: The tensors by name.
        like: Hashes that they are to be compared with: theirs are of the same kind.
    """
    new = partial(blake2b, digest_size=_DIGITS_BEFORE // 2) if _are_old(like) else sha256
    # Where tensors are large, the hash lets other threads run.
    items, workers = list(weights.items()), min(4, os.cpu_count() or 1)
    shares = [items[first::workers] for first in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        hashes = dict(chain.from_iterable(pool.map(partial(_hash_each, new), shares)))
    return {name: hashes[name] for name in weights}


def can_compare(hashes: Hashes, others: Hashes) -> bool:
    """Returns whether two models' hashes are of one kind."""
    return _are_old(hashes) == _are_old(others)


def _are_old(hashes: Hashes) -> bool:
    return bool(hashes) and all(len(digest) == _DIGITS_BEFORE for digest in hashes.values())


_New = Callable[[bytes], Any]
"""A function that starts a hash."""


def _hash_each(new: _New, items: Sequence[tuple[str, Array]]) -> list[tuple[str, str]]:
    return [(name, _hash(new, array)) for name, array in items]


def _hash(new: _New, array: Array) -> str:
    dtype = "<f8" if array.dtype == np.float64 else "<f4"
    digest = new(repr((dtype, array.shape)).encode())
    digest.update(np.ascontiguousarray(array, dtype).data)
    return str(digest.hexdigest())[:_DIGITS]


class PartsHash:
    """A hash of the parts that something has, by kind and in their order; none of them is kept."""

    def __init__(self, kinds: Iterable[str]):
        self._digests = {kind: sha256() for kind in sorted(kinds)}

    def add(self, kind: str, part: bytes | memoryview) -> None:
        """Adds the next part of a kind."""
        self._digests[kind].update(len(part).to_bytes(8, "little"))
        self._digests[kind].update(part)

    def hexdigest(self) -> str:
        """Returns the hash of all parts so far."""
        whole = sha256()
        for kind, digest in self._digests.items():
            whole.update(kind.encode() + digest.digest())
        return whole.hexdigest()[:_DIGITS]


def encode_maths(written: str) -> bytes:
    """Returns what a :meth:`pvt_spec.ModelInfo.to_json` says of architecture and maths.

    Another text says nothing of them.
    """
    try:
        said = parse_json(written)
        return json.dumps([said["config"], said["numerics"]], sort_keys=True).encode()
    except (ValueError, LookupError, TypeError):
        return b""


def changed_weights(expected: Hashes, found: Hashes) -> list[str]:
    """Returns the tensors whose hash is not the one that was written, where one was."""
    return [name for name, digest in found.items() if expected.get(name, digest) != digest]


def describe_changes(changes: Sequence[str]) -> str:
    """Returns the words for what is not as it was written."""
    return f"changed since it was written: {listed(changes, SHOWN)}"

"""What holds of every format of single files: one row for each, and one body for each law."""

import os
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from convert.formats import ckpt, safetensors as safetensors_file
from convert.formats.onnx.layout import DTYPES
from convert.formats.pth import file as pth_file
from convert.formats.pth.tensors import DTYPES as PTH_DTYPES
from convert.formats.table import START, recognise
from pvt_spec import METADATA_KEY
from pvt_spec.errors import ConvertError
from tests.support.formats import FORMATS, read_bytes, sample, write_stream, written
from tests.support.messages import naming
from tests.support.models import assert_same

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@dataclass(frozen=True)
class Law:
    """What a format can hold.

    Attributes:
        dtypes: The dtypes of its tensors.
        names: Names that its tensors may have.
        keys: Names that its texts may have.
        texts: Texts that it may keep.
        empty: Whether a tensor may be without elements.
        container: What its tensors are found in.
        ends: Whether it may end after any tensor, so that a file cut there is a whole one.
        kept: Texts that every file has.
    """

    dtypes: Sequence[Any]
    names: st.SearchStrategy[str] = TEXTS
    keys: st.SearchStrategy[str] = TEXTS
    texts: st.SearchStrategy[str] = TEXTS
    empty: bool = True
    container: str = ""
    ends: bool = False
    kept: dict[str, str] = field(default_factory=dict)


LAWS = {
    "ckpt": Law(
        [*ckpt.DTYPES.values()],
        texts=TEXTS.filter(lambda text: not text.endswith("\0")),
        empty=False,
        ends=True,
    ),
    "pth": Law(
        [*PTH_DTYPES.values()],
        keys=TEXTS.filter(lambda name: name != pth_file.CONTAINER),
        container="state_dict",
    ),
    "safetensors": Law([*safetensors_file.DTYPES.values()]),
    "onnx": Law(
        [*DTYPES.values()],
        names=TEXTS.filter(lambda name: name and "/" not in name),  # those of constants have one
        kept={METADATA_KEY: "{}"},
    ),
}

kinds = pytest.mark.parametrize("kind", FORMATS)


def tensors_of(law: Law) -> st.SearchStrategy[dict[str, np.ndarray]]:
    """Tensors that a format can hold; none at all only where it has texts for that."""
    smallest = 0 if law.empty else 1
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=smallest, max_side=5)
    arrays = st.sampled_from(law.dtypes).flatmap(
        lambda dtype: hnp.arrays(np.uint8, shapes).map(
            lambda bits: np.asarray(bits & 1 if dtype == np.bool_ else bits).astype(dtype)
        )
    )
    return st.dictionaries(law.names, arrays, min_size=1, max_size=8)


def test_every_format_is_under_the_contract() -> None:
    assert LAWS.keys() == FORMATS.keys()


@pytest.mark.sampled
@kinds
@given(data=st.data())
def test_read_inverts_write(kind: str, data: st.DataObject) -> None:
    law = LAWS[kind]
    tensors = data.draw(tensors_of(law))
    texts = data.draw(st.dictionaries(law.keys, law.texts, max_size=4))
    texts = {name: text for name, text in texts.items() if name not in tensors}
    file = read_bytes(kind, written(kind, tensors, texts))
    assert_same(dict(sorted(file.tensors.items())), dict(sorted(tensors.items())))
    assert file.metadata == {**law.kept, **texts}
    assert ([*file.places], file.extras) == ([law.container], {})
    assert not any(array.flags.writeable for array in file.tensors.values())


@kinds
def test_the_same_is_written_of_any_layout_and_byte_order(kind: str) -> None:
    array = np.arange(24, dtype="<f4").reshape(2, 3, 4)
    turned = array.transpose(2, 0, 1)
    plain = written(kind, {"a": turned.copy()})
    layouts = [turned, np.asfortranarray(turned)]
    if FORMATS[kind].single:  # a graph is built for the dtypes of its weights
        layouts.append(array.astype(">f4").transpose(2, 0, 1))
    for other in layouts:
        assert written(kind, {"a": other}) == plain


@kinds
def test_the_callers_order_is_kept(kind: str) -> None:
    tensors = {"z": sample("f4"), "pos_embed1": sample("f4", (1, 4, 8)), "a": sample("f4", (5,))}
    assert_same(read_bytes(kind, written(kind, tensors)).tensors, tensors)


def peak_of(act: Any) -> int:
    """The most bytes that were allocated meanwhile."""
    tracemalloc.start()
    act()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@kinds
def test_arrays_are_read_only_views_of_the_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"big.{kind}"
    ones = np.ones((512, 512), np.float32)
    path.write_bytes(written(kind, {str(i): ones for i in range(16)}))
    files = [FORMATS[kind].read(path)]  # what a reader imports counts no more
    assert peak_of(lambda: files.append(FORMATS[kind].read(path))) < 1 << 18
    for file in files:
        assert len(file.tensors) == 16
        assert not any(array.flags.writeable for array in file.tensors.values())


@pytest.mark.parametrize(("turned", "most"), [(False, 1 << 18), (True, 3 << 20)])
@kinds
def test_no_more_than_a_tensor_is_in_memory_twice(
    kind: str, turned: bool, most: int, tmp_path: Path
) -> None:
    array = np.ones((512, 512), np.float32)  # 1 MiB
    tensors = {str(i): array.T if turned else array for i in range(16)}
    written(kind, {"a": array})
    with (tmp_path / "file").open("wb") as stream:
        assert peak_of(lambda: write_stream(kind, stream, tensors, {})) < most


@pytest.mark.sampled
@kinds
def test_a_file_cut_off_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    """Or it holds the tensors before the cut, where the format has no end of its own."""
    tensors = {"a": sample("f4"), "b": sample("i4", (4,)), "c": sample("f2")}
    data = written(kind, tensors)
    path = tmp_path / f"file.{kind}"
    wholes = 0
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            part = FORMATS[kind].read(path).tensors
        except ConvertError as error:
            assert path.name in str(error)
            continue
        wholes += 1
        assert_same(part, {name: tensors[name] for name in [*tensors][: len(part)]})
    assert wholes == (len(tensors) - 1 if LAWS[kind].ends else 0)


@kinds
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"just a text, and no newline at its start",
        b"\nanother text\n",
        bytes(100),
        b"PK\x03\x04" + bytes(50),
        b"\x80\x02}q\x00.",
        b"\x08\x08\x12\x08pvt_onnx",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
    ],
)
def test_other_contents_are_refused_by_name(kind: str, data: bytes) -> None:
    with pytest.raises(ConvertError, match=naming(f"file.{kind}")):
        read_bytes(kind, data)


@pytest.mark.parametrize("other", FORMATS)
@kinds
def test_a_file_of_another_format_is_recognised_and_refused(kind: str, other: str) -> None:
    data = written(other, {"a": np.ones(3, np.float32)})
    assert recognise(data[:START]) == FORMATS[other]
    if kind != other:
        with pytest.raises(ConvertError, match=naming(f"file.{kind}")):
            read_bytes(kind, data)


@kinds
def test_what_is_no_file_is_refused_by_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"folder.{kind}").mkdir()
    os.mkfifo(tmp_path / f"pipe.{kind}")
    for name in ("missing", "folder", "pipe"):
        with pytest.raises(ConvertError, match=naming(f"{name}.{kind}")):
            FORMATS[kind].read(tmp_path / f"{name}.{kind}")
    with pytest.raises(ConvertError):
        FORMATS[kind].read(Path(f"nul\0.{kind}"))

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / f"mine.{kind}"
    path.write_bytes(written(kind, {"a": np.ones(1)}))
    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(ConvertError, match=naming(path.name, "permission")):
        FORMATS[kind].read(path)


ONES = {"a": np.ones(1)}
EVERY: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({"a": np.array(["x"])}, {}, "<U1"),
    ({"a": np.array([None])}, {}, "object"),
    ({"\ud800": np.ones(1)}, {}, "surrogate"),
    ({}, {"a": "\ud800"}, "surrogate"),
]
UNWRITABLE = {
    "ckpt": [
        *EVERY,
        ({"a": np.ones(2, np.complex64)}, {}, "complex64"),
        ({"a": np.ones(2, ml_dtypes.float8_e5m2)}, {}, "float8_e5m2"),
        ({"a": np.ones((2, 0))}, {}, "0"),
        (ONES, {"a": "x"}, "a"),
        ({}, {"a": "x\0"}, "NUL"),
    ],
    "pth": [
        *EVERY,
        ({"a": np.ones(1, ml_dtypes.int4)}, {}, "int4"),
        ({}, {"state_dict": "x"}, "state_dict"),
        ({}, {"state_dict": "x"}, "state_dict"),
    ],
    "safetensors": [
        *EVERY,
        ({"a": np.ones(2, np.complex128)}, {}, "complex128"),
        ({"a": np.empty(2, "V0")}, {}, "V0"),
        ({"a": np.ones(2, ml_dtypes.int4)}, {}, "int4"),
        (ONES, {"a": "x"}, "a"),
        ({"__metadata__": np.ones(1)}, {}, "__metadata__"),
    ],
}
"""Tensors and texts that a format of any tensors does not hold, and what its error names."""


@pytest.mark.parametrize(
    ("kind", "tensors", "metadata", "fact"),
    [(kind, *row) for kind, rows in UNWRITABLE.items() for row in rows],
)
def test_what_a_format_cannot_hold_is_not_written(
    kind: str, tensors: dict[str, Any], metadata: dict[str, str], fact: str
) -> None:
    with pytest.raises(ConvertError, match=naming(fact)):
        written(kind, tensors, metadata)

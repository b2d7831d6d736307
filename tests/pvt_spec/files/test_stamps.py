"""Whether files that are read are others than before."""

from pathlib import Path

import pytest

from pvt_spec.files.stamps import changed_since, hash_files, stamp_files


@pytest.mark.parametrize("more", [".data", "_data"])
def test_weights_that_a_model_keeps_beside_it_are_part_of_it(more: str, tmp_path: Path) -> None:
    model, beside = tmp_path / "a.onnx", tmp_path / f"a.onnx{more}"
    model.write_bytes(b"graph")
    beside.write_bytes(b"weights")
    stamps, before = stamp_files(model), hash_files(model)
    beside.write_bytes(b"others!!")
    assert changed_since(stamps) == beside
    assert hash_files(model) != before


def test_a_model_may_have_the_longest_name_there_is(tmp_path: Path) -> None:
    model = tmp_path / f"{'a' * 250}.onnx"
    model.write_bytes(b"graph")
    assert [*stamp_files(model)] == [model]

"""Files of class names."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from pvt_data.sources.label_files import read_labels
from pvt_spec.errors import ConvertError
from tests.support.messages import Facts, naming


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nbird",
        "cat\ndog\nbird\n\n \n",
        "\ufeffcat\r\ndog\r\nbird\r\n",
        '["cat", "dog", "bird"]',
        '{"0": "cat", "1": "dog", "2": "bird"}',
        '{"2": "bird", "0": "cat", "1": "dog"}',
        '{"0": ["n01", "cat"], "1": ["n02", "dog"], "2": ["n03", "bird"]}',
        '{"bird": 2, "cat": 0, "dog": 1}',
    ],
)
def test_names_are_read_in_the_order_of_the_logits(text: str, tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text(text, newline="")
    assert read_labels(path) == ("cat", "dog", "bird")


def test_a_name_may_begin_as_json_does(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("[unknown]\n{other}\n")
    assert read_labels(path) == ("[unknown]", "{other}")


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (b"", ("empty",)),
        (b"\n\n", ("empty",)),
        (b"cat\n\ndog\n \nbird\n", ("2, 4",)),
        (b"\xff\xfe\n", ("UTF-8",)),
        (b'{"0": "cat", "2": "dog"}', ("JSON",)),
        (b'{"cat": 1, "dog": 2}', ("JSON",)),
        (b'{"cat": 0, "dog": 0}', ("JSON",)),
        (b'["cat", ""]', ("JSON",)),
        (b'["cat", 1]', ("JSON",)),
        (b"{}", ("JSON",)),
        (b"[]", ("JSON",)),
        (b'["cat",', ("JSON",)),
    ],
)
def test_files_of_other_content_are_refused(text: bytes, facts: Facts, tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_bytes(text)
    with pytest.raises(ConvertError, match=naming(*facts)) as refusal:
        read_labels(path)
    assert str(path) in str(refusal.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(ConvertError, match=naming(str(path))):
            read_labels(path)


def test_an_index_as_large_as_imagenets(tmp_path: Path) -> None:
    index: dict[str, Any] = {str(i): [f"n{i:08}", f"class {i}"] for i in range(1000)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    assert read_labels(tmp_path / "index.json")[999] == "class 999"


HOSTILE = {
    "nested": "[" * 100_000,
    "numbers": "[1, 2]",
    "an object of lists": '{"0": [1, 2, 3]}',
    "an object of objects": '{"0": {"a": 1}}',
    "a fraction": '{"cat": 0.5, "dog": 1}',
    "infinity": '{"cat": Infinity}',
    "a long number": '{"cat": ' + "9" * 400 + "}",
    "a surrogate": r'["\ud800"]',
    "a name twice": '{"cat": 0, "cat": 1}',
    "a number twice": '{"cat": 0, "dog": 0}',
    "control characters": '["\\u001b[2J", 3]',
    "a crowd": "[" + "[]," * 300_000 + "1]",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_labels_of_other_kinds_are_one_error(text, tmp_path):
    path = tmp_path / "names.json"
    path.write_text(text)
    with pytest.raises(ConvertError, match=r"names\.json") as refusal:
        read_labels(path)
    assert len(str(refusal.value)) < 700 and str(refusal.value).isprintable()


@pytest.mark.parametrize("end", ["\n", "\r", "\u2028", "\x0b"])
def test_a_text_of_countless_lines_is_refused_before_it_is_split(end, tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("a" + end * 3_000_000 + "b", encoding="utf-8")
    tracemalloc.start()
    with pytest.raises(ConvertError, match="lines"):
        read_labels(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * path.stat().st_size + 50_000_000

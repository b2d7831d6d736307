"""What a path to a model stands for, and what is said of files that are none."""

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest

from pvt_spec.errors import ConvertError
from pvt_spec.files.models import check_model_file, find_model
from tests.support.messages import naming

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 14636\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Virus scan warning</title></head></html>"


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights/model.pth"))
    return stream.getvalue()


OTHERS = {
    "lfs": (POINTER, "Git LFS", "git lfs pull"),
    "page": (PAGE, "web page", "Virus scan warning"),
    "page without title": (b"<html><body>404</body></html>", "web page"),
    "gzip": (gzip.compress(b"PK\3\4"), "gzip", "gunzip"),
    "tar.gz": (gzip.compress(tarred()), "gzip", "tar xzf"),
    "bzip2": (bz2.compress(b"PK\3\4"), "bzip2", "bunzip2"),
    "xz": (lzma.compress(b"PK\3\4"), "xz", "unxz"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(9), "Zstandard", "unzstd"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(9), "7z"),
    "rar": (b"Rar!\x1a\x07" + bytes(9), "RAR"),
    "tar": (tarred(), "weights/model.pth", "tar xf"),
    "mindir": (b"\x0a\x031.1\x12\x09MindSpore*\x062.10.0:", "MindIR", ".ckpt"),
    "onnxtxt": (b"<\n   ir_version: 9,", "ONNX", "text", "onnx.save"),
    "onnx textproto": (b'ir_version: 9\nproducer_name: "a"', "ONNX", "text", "onnx.save"),
    "onnx json": (b'{\n  "irVersion": "9",', "ONNX", "text", "onnx.save"),
    "ort": (b"\x18\0\0\0ORTM" + bytes(9), "onnxruntime", ".onnx"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(9), "TensorFlow Lite", ".onnx"),
    "tensorrt": (b"ptrt" + bytes(9), "TensorRT", ".onnx"),
    "openvino": (b'<?xml version="1.0"?>\n<net name="pvt" version="11">', "OpenVINO", ".onnx"),
    "om": (b"IMOD" + bytes(9), "Ascend"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "HDF5"),
    "gguf": (b"GGUF" + bytes(9), "GGUF"),
    "npy": (b"\x93NUMPY\x01\0" + bytes(9), "numpy"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(9), "image"),
    "pdf": (b"%PDF-1.4" + bytes(9), "PDF"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML", "server"),
    "json": (b'{"error": "Repository not found"}', "JSON", "Repository not found"),
    "json list": (b'[{"message": "no"}]', "JSON"),
    "text": (b"404: Not Found\n", "text", "404: Not Found"),
    "text that is no ASCII": ("Zugriff verweigert für Gäste".encode(), "text"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("ending", [".pth", ".ckpt", ".safetensors", ".onnx", ".bin", ".gz", ""])
def test_what_is_no_model_is_named_under_any_ending(name, ending, tmp_path):
    data, *facts = OTHERS[name]
    path = tmp_path / f"model{ending}"
    path.write_bytes(data)
    with pytest.raises(ConvertError, match=naming(path.name, *facts)) as caught:
        check_model_file(path)
    assert str(caught.value).isprintable()


def test_of_settings_the_folder_is_named(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(b'{\n "weight_map": {}}')
    with pytest.raises(ConvertError, match=naming("JSON", tmp_path)):
        check_model_file(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\3\4", b"\x80\x02}.", b"\x0a\x10\x0a\x04norm\x12", b"\x08\x08\x12\x04", bytes(9)],
)
def test_of_anything_else_nothing_is_said(data, tmp_path):
    path = tmp_path / "model"
    check_model_file(path)
    path.write_bytes(data)
    check_model_file(path)
    check_model_file(tmp_path)


# Folders


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("main\n")
    return folder


def test_other_paths_stand_for_themselves(tmp_path):
    plain = make(tmp_path / "plain", "config.json", "best.ckpt")
    for path in (plain, plain / "best.ckpt", tmp_path / "missing", make(tmp_path, "a/b")):
        assert find_model(path) == (path, "")


@pytest.mark.parametrize("ending", [".ckpt", ".pth"])
def test_a_runs_folder_stands_for_its_best_model(tmp_path, ending):
    last, best = f"last{ending}", f"best{ending}"
    run = make(tmp_path / "run", last, "log.jsonl")
    with pytest.raises(ConvertError, match=naming(run / last, best)):
        find_model(run)
    path, said = find_model(make(run, best))
    assert path == run / best
    assert best in said


def test_a_cache_stands_for_its_main_revision(tmp_path):
    cache = make(tmp_path / "models--org--pvt", "snapshots/abc/config.json")
    for path in (cache, cache / "snapshots"):
        assert find_model(path)[0] == cache / "snapshots" / "abc"
    make(cache, "snapshots/def/config.json")
    with pytest.raises(ConvertError, match=naming("'abc', 'def'", "snapshots")):
        find_model(cache)
    make(cache, "refs/main")
    (cache / "refs" / "main").write_text("def\n")
    path, said = find_model(cache)
    assert path == cache / "snapshots" / "def"
    assert "def" in said
    with pytest.raises(ConvertError, match=naming(f"{cache.name!r}")):
        find_model(tmp_path)


def test_a_cache_without_its_revision_is_refused(tmp_path):
    cache = make(tmp_path / "models--org--pvt", "refs/main", "snapshots/abc/a", "snapshots/def/a")
    with pytest.raises(ConvertError, match=naming("'abc', 'def'")):
        find_model(cache)
    empty = tmp_path / "models--org--other"
    (empty / "snapshots").mkdir(parents=True)
    with pytest.raises(ConvertError, match=naming("nothing")):
        find_model(empty)

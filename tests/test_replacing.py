"""``convert.replacing``: files that appear whole or not at all."""

import contextlib
import errno
import os
import resource
import stat
from pathlib import Path

import pytest

from convert.errors import ConvertError
from convert.replacing import refuse_existing, replacing
from pvt_spec import FileExists


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def umask(mask: int):
    previous = os.umask(mask)
    try:
        yield
    finally:
        os.umask(previous)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("there", [False, True])
def test_writes_file_with_the_mode_of_a_new_one(tmp_path, mask, there):
    target = tmp_path / "a.onnx"
    if there:
        target.write_bytes(b"before")
        target.chmod(0o400)  # as MindSpore leaves its files
    with umask(mask), replacing(target, force=there) as stream:
        stream.write(b"after")
    assert target.read_bytes() == b"after"
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask
    assert names(tmp_path) == ["a.onnx"]


def test_stream_seeks(tmp_path):
    with replacing(tmp_path / "a", force=False) as stream:
        stream.write(b"....after")
        assert stream.tell() == 9
        stream.seek(0)
        stream.write(memoryview(b"and "))
    assert (tmp_path / "a").read_bytes() == b"and after"


def test_target_is_untouched_until_the_end(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(b"before")
    with replacing(target, force=True) as stream:
        stream.write(b"after")
        stream.flush()
        assert target.read_bytes() == b"before"
    assert target.read_bytes() == b"after"


def test_refuses_existing_target(tmp_path):
    target = tmp_path / "a"
    refuse_existing(target, force=False)
    target.write_bytes(b"before")
    refuse_existing(target, force=True)
    with pytest.raises(FileExists, match="--force"):
        refuse_existing(target, force=False)
    with pytest.raises(FileExists, match="--force"), replacing(target, force=False):
        pytest.fail("the block ran")
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["a"]


def test_refuses_target_that_appears_meanwhile(tmp_path):
    target = tmp_path / "a"
    with pytest.raises(FileExists), replacing(target, force=False) as stream:
        stream.write(b"ours")
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_leaves_nothing_behind(tmp_path, error):
    target = tmp_path / "a"
    target.write_bytes(b"before")
    with pytest.raises(error), replacing(target, force=True) as stream:
        stream.write(b"half")
        raise error
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["a"]


def test_passes_on_errors_of_other_files(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a", force=False):
        (tmp_path / "source").open("rb")
    assert names(tmp_path) == []


@contextlib.contextmanager
def file_size_limit(limit: int):
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, previous[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)


@pytest.mark.parametrize("size", [1001, 100_000], ids=["when flushed", "when written"])
def test_says_that_the_disk_takes_no_more(tmp_path, size):
    target = tmp_path / "a"
    target.write_bytes(b"before")
    with (
        pytest.raises(ConvertError, match=r"a: cannot be written \(File too large\), and is as it"),
        file_size_limit(1000),
        replacing(target, force=True) as stream,
    ):
        stream.write(bytes(size))
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("function", "code", "advice"),
    [
        ("fsync", errno.ENOSPC, r"No space left on device.*make space"),
        ("fsync", errno.EDQUOT, r"quota.*make space within your quota"),
        ("replace", errno.EPERM, r"not permitted.*a folder that you may write to"),
        ("replace", errno.EIO, r"Input/output error.*name another target"),
    ],
)
def test_says_what_to_do(tmp_path, monkeypatch, function, code, advice):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, fail)
    with (
        pytest.raises(ConvertError, match=advice),
        replacing(tmp_path / "a", force=False) as stream,
    ):
        stream.write(b"x")
    assert names(tmp_path) == []


def test_refuses_targets_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    for target, advice in [
        (tmp_path / "missing" / "a", "make the folder first"),
        (tmp_path / "file" / "a", "what should be its folder is a file"),
        (tmp_path, "a folder or a device"),
        (Path("/dev/null"), "a folder or a device"),
        (tmp_path / "nul\0", "embedded null"),
    ]:
        with pytest.raises(ConvertError, match=advice), replacing(target, force=True):
            pytest.fail("the block ran")

    def deny(*_):
        raise PermissionError(errno.EACCES, "Permission denied", "a")

    monkeypatch.setattr(Path, "open", deny)
    with (
        pytest.raises(ConvertError, match="a folder that you may write to"),
        replacing(tmp_path / "a", force=True),
    ):
        pytest.fail("the block ran")
    assert names(tmp_path) == ["file"]


def test_long_names_fit(tmp_path):
    target = tmp_path / ("a" * 255)
    with replacing(target, force=False) as stream:
        stream.write(b"x")
    with (
        pytest.raises(ConvertError, match="File name too long"),
        replacing(tmp_path / ("a" * 256), force=False) as stream,
    ):
        stream.write(b"x")
    assert names(tmp_path) == [target.name]


@pytest.mark.parametrize("there", [False, True])
def test_follows_links(tmp_path, there):
    (tmp_path / "disk").mkdir()
    real = tmp_path / "disk" / "real"
    if there:
        real.write_bytes(b"before")
    link = tmp_path / "link"
    link.symlink_to(real)
    with replacing(link, force=there) as stream:
        stream.write(b"after")
    assert link.is_symlink()
    assert real.read_bytes() == b"after"
    assert names(tmp_path / "disk") == ["real"]


def test_mode_may_be_read_by_others_only_as_the_umask_says(tmp_path):
    """Also while it is written: the temporary file is not more open than the target will be."""
    with umask(0o077), replacing(tmp_path / "a", force=False) as stream:
        assert stat.S_IMODE(os.fstat(stream.fileno()).st_mode) == 0o600

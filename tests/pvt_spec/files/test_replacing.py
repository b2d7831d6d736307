"""``pvt_spec.files.replacing``: files that appear whole or not at all."""

import contextlib
import errno
import itertools
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convert.formats import ckpt
from convert.formats.pth import file as pth
from pvt_spec import FileExists, make_config
from pvt_spec.errors import ConvertError
from pvt_spec.files import replacing as files
from pvt_spec.files.growing import growing, part_of
from pvt_spec.files.replacing import check_folder, check_target, replacing, replacing_all
from tests.support.messages import naming
from tests.support.models import random_weights


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
    check_target(target, force=False)
    target.write_bytes(b"before")
    check_target(target, force=True)
    with pytest.raises(FileExists, match="--force"):
        check_target(target, force=False)
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
        pytest.raises(ConvertError, match=naming("written")),
        file_size_limit(1000),
        replacing(target, force=True) as stream,
    ):
        stream.write(bytes(size))
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("function", "code", "facts"),
    [
        ("fsync", errno.ENOSPC, ("device",)),
        ("fsync", errno.EDQUOT, ("quota",)),
        ("replace", errno.EPERM, ("permitted",)),
        ("replace", errno.EIO, ("Input/output",)),
    ],
)
def test_says_what_to_do(tmp_path, monkeypatch, function, code, facts):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, fail)
    with (
        pytest.raises(ConvertError, match=naming(*facts)),
        replacing(tmp_path / "a", force=True) as stream,
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
        pytest.raises(ConvertError, match=naming("folder")),
        replacing(tmp_path / "a", force=True),
    ):
        pytest.fail("the block ran")
    assert names(tmp_path) == ["file"]


def test_a_name_that_no_system_has_is_refused():
    with pytest.raises(ConvertError, match="surrogates"):
        check_folder(Path("\ud800"))


def test_long_names_fit(tmp_path):
    target = tmp_path / ("a" * 255)
    with replacing(target, force=False) as stream:
        stream.write(b"x")
    with (
        pytest.raises(ConvertError, match=naming("long")),
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


# Sets of files


def write_set(targets, contents: bytes, force: bool = True) -> None:
    with replacing_all(targets, force) as streams:
        for stream in streams:
            stream.write(contents)


@pytest.fixture(params=[(), (0,), (1,), (2,), (0, 1, 2)], ids=str)
def targets(request, tmp_path):
    """A main file and two others, of which some are there."""
    paths = [tmp_path / "model.onnx", tmp_path / "model.onnx.data", tmp_path / "config.json"]
    for index in request.param:
        paths[index].write_bytes(b"before")
    return paths


def test_writes_a_set(targets, tmp_path):
    write_set(targets, b"after")
    assert [path.read_bytes() for path in targets] == [b"after"] * 3
    assert names(tmp_path) == sorted(path.name for path in targets)


def test_refuses_any_existing_target(targets, tmp_path):
    there = names(tmp_path)
    if not there:
        write_set(targets, b"after", force=False)
        return
    with pytest.raises(FileExists, match=r"--force"):
        write_set(targets, b"after", force=False)
    assert names(tmp_path) == there
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"before"}


def test_refuses_any_target_that_appears_meanwhile(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        with pytest.raises(FileExists), replacing_all(paths, force=False) as streams:
            streams[0].write(b"ours")
            path.write_bytes(b"theirs")
        assert names(tmp_path) == [path.name]
        path.unlink()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_leaves_nothing_behind_of_a_set(targets, tmp_path, error):
    there = names(tmp_path)
    with pytest.raises(error), replacing_all(targets, force=True) as streams:
        streams[0].write(b"half")
        raise error
    assert names(tmp_path) == there
    assert {path.read_bytes() for path in tmp_path.iterdir()} <= {b"before"}


@pytest.mark.parametrize("full", [0, 1], ids=["the main file", "the other"])
@pytest.mark.parametrize("size", [1001, 100_000], ids=["when flushed", "when written"])
def test_says_that_the_disk_takes_no_more_of_a_set(tmp_path, full, size):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"before")
    with (
        pytest.raises(ConvertError, match=naming("b", "File too large")),
        file_size_limit(1000),
        replacing_all(paths, force=True) as streams,
    ):
        streams[full].write(bytes(size))
    assert [path.read_bytes() for path in paths] == [b"before"] * 2
    assert names(tmp_path) == ["a", "b"]


def test_refuses_sets_that_cannot_be(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("missing/b")
    for other, advice in [
        (tmp_path / "folder", "folder: a folder or a device"),
        (tmp_path / "missing" / "b", r"missing/b: cannot be written .*make the folder first"),
        (tmp_path / "link", r"link: cannot be written .*make the folder first"),
    ]:
        for paths in ([tmp_path / "a", other], [other, tmp_path / "a"]):
            with pytest.raises(ConvertError, match=advice):
                write_set(paths, b"x")
    assert names(tmp_path) == ["folder", "link"]


def state(paths) -> list[str]:
    return [path.read_text() if path.exists() else "" for path in paths]


def is_whole(found: list[str]) -> bool:
    """The main file has its own set beside it, or is not there."""
    main, *others = found
    return not main or all(other == main for other in others)


def test_main_file_has_its_own_set_beside_it_at_every_step(tmp_path, monkeypatch):
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    write_set(paths, b"before")
    states = []
    for name in ("replace", "unlink"):
        original = getattr(os, name)

        def watched(*arguments, original=original):
            states.append(state(paths))
            original(*arguments)
            states.append(state(paths))

        monkeypatch.setattr(os, name, watched)
    write_set(paths, b"after")
    assert states[0] == ["before"] * 3
    assert states[-1] == ["after"] * 3
    assert ["", "after", "before"] in states
    assert all(map(is_whole, states))


@pytest.mark.parametrize("step", range(4))
def test_steps_that_fail_leave_no_mixed_set(tmp_path, monkeypatch, step):
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    write_set(paths, b"before")
    steps = itertools.count()
    for name in ("replace", "unlink"):
        original = getattr(os, name)

        def failing(*arguments, name=name, original=original):
            discards = name == "unlink" and str(arguments[0]).endswith(".tmp")
            if not discards and next(steps) == step:
                raise OSError(errno.EPERM, "", str(arguments[0]))
            original(*arguments)

        monkeypatch.setattr(os, name, failing)
    fate = "all are as they were" if step == 0 else f"{paths[0]} was removed"
    with pytest.raises(ConvertError, match=naming(fate)):
        write_set(paths, b"after")
    assert (
        state(paths)
        == [
            ["before", "before", "before"],
            ["", "before", "before"],
            ["", "after", "before"],
            ["", "after", "after"],
        ][step]
    )
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_follows_links_of_a_set(tmp_path):
    (tmp_path / "disk").mkdir()
    real = [tmp_path / "disk" / "a", tmp_path / "disk" / "b"]
    links = [tmp_path / "a", tmp_path / "b"]
    write_set(real, b"before")
    for link, path in zip(links, real, strict=True):
        link.symlink_to(path)
    write_set(links, b"after")
    assert all(link.is_symlink() for link in links)
    assert state(real) == ["after"] * 2
    assert names(tmp_path / "disk") == ["a", "b"]


# Killed


KILLS = 8


def kill_at(command: list[str], folder: Path, moment: int, whole: float) -> None:
    """Kills a process some time after it starts or, every other time, after it starts to write."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if moment % 2:
            while process.poll() is None and not any(folder.glob(".*")):
                time.sleep(0.001)
            time.sleep(moment // 2 * 0.01)
        else:
            time.sleep(whole * (moment + 1) / KILLS)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def clear_temporary(folder: Path, most: int) -> int:
    """Removes the hidden files that a killed process leaves, and counts them."""
    left = [path for path in folder.iterdir() if path.name.startswith(".")]
    assert len(left) <= most
    assert all(path.name.endswith(".tmp") for path in left)
    for path in left:
        path.unlink()
    return len(left)


@pytest.mark.long
def test_a_killed_conversion_leaves_the_old_file_or_the_new(tmp_path):
    source, folder = tmp_path / "a.ckpt", tmp_path / "out"
    folder.mkdir()
    weights = random_weights(make_config("pvt_v2_b0"))  # 15 MB
    with source.open("wb") as stream:
        ckpt.write(stream, weights, {})
    target = folder / "a.pth"
    command = [sys.executable, "-m", "convert", "ckpt-to-pth", str(source), str(target), "--force"]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.perf_counter() - started
    new = target.read_bytes()
    assert pth.read(target).tensors.keys()
    killed_writing = 0
    for moment in range(KILLS):
        before = b"before" if moment % 3 else None
        target.unlink(missing_ok=True)
        if before:
            target.write_bytes(before)
        kill_at(command, folder, moment, whole)
        killed_writing += clear_temporary(folder, most=1)
        found = target.read_bytes() if target.exists() else None
        assert found in (before, new)
        assert names(folder) == ([target.name] if found else [])
    assert killed_writing


TWO_FILES = """
import os, sys
from pathlib import Path
from pvt_spec.files.replacing import replacing_all
with replacing_all([Path(name) for name in sys.argv[1:]], force=True) as streams:
    for stream in streams:
        stream.write(b"new" * 7_000_000)
"""


def test_a_killed_process_leaves_no_mixed_set(tmp_path):
    paths = [tmp_path / "a.onnx", tmp_path / "a.onnx.data"]
    command = [sys.executable, "-c", TWO_FILES, *map(str, paths)]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    whole = time.perf_counter() - started
    new = paths[0].read_bytes()
    assert len(new) == 21_000_000
    killed_writing = 0
    for moment in range(KILLS):
        for path in paths:
            path.write_bytes(b"before")
        kill_at(command, tmp_path, moment, whole)
        killed_writing += clear_temporary(tmp_path, most=3)  # of each file, and the lock
        main, other = (path.read_bytes() if path.exists() else None for path in paths)
        assert (main, other) in (
            (b"before", b"before"),
            (None, b"before"),
            (None, new),
            (new, new),
        )
    assert killed_writing


def test_with_a_bridge_there_is_a_whole_pair_at_every_step(tmp_path, monkeypatch):
    main, side = tmp_path / "a", tmp_path / "b"

    def write(content: str) -> None:
        def bridge(name: str) -> bytes:
            return f"{name} {content}".encode()

        with replacing_all([main, side], True, bridge) as streams:
            streams[0].write(bridge("b"))
            streams[1].write(content.encode())

    found = []

    def look() -> None:
        name, content = main.read_text().split()
        assert (tmp_path / name).read_text() == content
        found.append(content)

    write("before")
    for name in ("replace", "link", "unlink"):
        original = getattr(os, name)

        def watched(*arguments, original=original):
            look()
            original(*arguments)
            look()

        monkeypatch.setattr(os, name, watched)
    write("after")
    assert found[0] == "before" and found[-1] == "after" and names(tmp_path) == ["a", "b"]
    monkeypatch.setattr(os, "link", lambda *_: os.open(tmp_path, os.O_WRONLY))  # one name a file
    write("last")
    look()
    assert found[-1] == "last" and names(tmp_path) == ["a", "b"]


def test_a_bridge_without_space_leaves_nothing_beside_the_old_pair(tmp_path):
    def bridge(name: str) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pair = [tmp_path / "a", tmp_path / "b"]
    for path in pair:
        path.write_bytes(b"old")
    with pytest.raises(ConvertError), replacing_all(pair, True, bridge) as streams:
        for stream in streams:
            stream.write(b"new")
    assert names(tmp_path) == ["a", "b"] and {path.read_bytes() for path in pair} == {b"old"}


@pytest.mark.parametrize("links", [True, False])
def test_what_appears_at_the_last_moment_is_kept(tmp_path, monkeypatch, links):
    """Between the last look and the step that puts a file in its place."""
    paths = [tmp_path / "a", tmp_path / "b"]
    if not links:
        monkeypatch.delattr(os, "link")
    for path in paths:
        with (
            monkeypatch.context() as patch,
            pytest.raises(FileExists),
            replacing_all(paths, force=False) as streams,
        ):
            for stream in streams:
                stream.write(b"ours")
            path.write_bytes(b"theirs")
            patch.setattr(files, "check_targets", lambda *_: None)
        assert names(tmp_path) == [path.name] and path.read_bytes() == b"theirs"
        path.unlink()


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path):
    left = tmp_path / ".pvt-0123456789abcdef.tmp"
    others = [tmp_path / name for name in (".mine.tmp", ".pvt-0123.tmp", "0123456789abcdef.tmp")]
    for path in (left, *others):
        path.write_bytes(b"half")
    with replacing(tmp_path / "a", force=False), replacing(tmp_path / "b", force=False):
        assert not left.exists() and all(path.exists() for path in others)
        assert len(names(tmp_path)) == 3 + 2
    assert names(tmp_path) == sorted(["a", "b", *(path.name for path in others)])


RACE = """
import sys
from pathlib import Path
from pvt_spec.errors import PvtError
from pvt_spec.files.replacing import replacing_all
folder, rounds, content, force = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
for number in range(rounds):
    sys.stdin.readline()
    try:
        paths = [folder / f"{number}.{each}" for each in "ab"]
        with replacing_all(paths, bool(force)) as streams:
            for stream in streams:
                stream.write(content.encode() * 9)
        print("wrote", flush=True)
    except PvtError:
        print("refused", flush=True)
"""


@pytest.mark.parametrize("force", ["", "force"])
def test_two_writers_of_one_set_do_not_mix_it(tmp_path, force):
    rounds = 20
    race(tmp_path, rounds, force)
    assert len(names(tmp_path)) == 2 * rounds


def race(folder: Path, rounds: int, force: str) -> None:
    words = [sys.executable, "-c", RACE, str(folder), str(rounds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:
        two = [
            stack.enter_context(subprocess.Popen([*words, content, force], **pipes))
            for content in "xy"
        ]
        for number in range(rounds):
            for process in two:
                process.stdin.write("\n")
                process.stdin.flush()
            said = [process.stdout.readline().strip() for process in two]
            assert said == ["wrote"] * 2 if force else sorted(said) == ["refused", "wrote"]
            found = {(folder / f"{number}.{each}").read_text() for each in "ab"}
            assert len(found) == 1 and found <= {"x" * 9, "y" * 9}
            if not force:
                assert found == {"xy"[said.index("wrote")] * 9}


def test_what_has_grown_and_cannot_be_put_in_place_is_told(tmp_path):
    target = tmp_path / "a.csv"
    with (
        pytest.raises(ConvertError, match=naming(str(target), f"{target}.part")),
        growing(target, force=True, resume=False) as stream,
    ):
        stream.write(b"rows")
        target.mkdir()
    assert part_of(target).read_bytes() == b"rows"

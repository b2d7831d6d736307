"""What is decoded, and what is not: formats, sizes, and files of strangers."""

import errno
import io
import struct
import tarfile
import tracemalloc
import zlib
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from convert import save_model
from parity.command_line import main as parity
from pvt_data.images import cost, decoding
from pvt_data.images.cost import count_scans
from pvt_data.images.decoding import MAY_RAISE, open_image
from pvt_data.images.preprocessing import load_image, prepare
from pvt_data.sources.folders import count_sideways, open_source
from pvt_data.sources.listing import FORMATS, SUFFIXES
from pvt_onnx.command_line import main as pvt_onnx
from pvt_spec import ImageError, Preprocessing, make_config
from pvt_spec.files.limits import MAX_PACKED_TEXTS
from pvt_train.input.decoding import decode_crop
from tests.support.commands import invoke
from tests.support.messages import naming, tells
from tests.support.models import info_of, random_weights

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


def encoded(kind: str, mode: str = "RGB", **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def crop(data: bytes, channels: int = 3) -> Image.Image:
    """As training does it."""
    whole = Image.Resampling.BICUBIC
    return decode_crop(data, "a.png", lambda w, h: (0, 0, w, h), (32, 32), channels, whole)


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A file that is there once Ghostscript was started."""
    bin, mark = tmp_path / "bin", tmp_path / "started"
    bin.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (bin / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:/usr/bin:/bin")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return mark


def test_what_the_others_show_would_be_seen(started):
    with pytest.raises(OSError), Image.open(io.BytesIO(encoded("EPS"))) as image:
        image.load()
    assert started.exists()


@pytest.fixture
def folder(tmp_path):
    """Two classes of a good image and an EPS under every ending."""
    for name in ("ant", "bee"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "good.png").write_bytes(encoded("PNG"))
        for suffix in SUFFIXES:
            (tmp_path / "val" / name / f"eps{suffix}").write_bytes(encoded("EPS"))
    return tmp_path / "val"


@pytest.fixture
def tars(tmp_path, folder):
    (tmp_path / "tars").mkdir()
    for name in ("ant", "bee"):
        with tarfile.open(tmp_path / "tars" / f"{name}.tar", "w") as tar:
            tar.add(folder / name, name)
    return tmp_path / "tars"


def test_nothing_is_started_by_an_image(started, folder, tars, tmp_path):
    model, config = tmp_path / "m.onnx", make_config("pvt_nano", num_classes=2)
    save_model(model, random_weights(config), info_of(config, "official", "ant", "bee"))
    for suffix in SUFFIXES:
        path = folder / "ant" / f"eps{suffix}"
        for read in (
            lambda path=path: load_image(path, Preprocessing((32, 32))),
            lambda path=path: crop(path.read_bytes()),
        ):
            with pytest.raises(ImageError, match=naming("PNG", "JPEG")):
                read()
        assert invoke(pvt_onnx, "predict", model, path).exit_code == 1
    for source in (folder, tars):
        count_sideways(open_source(source), 100)
        assert invoke(pvt_onnx, "validate", model, "--data-dir", source).exit_code == 1
    assert invoke(pvt_onnx, "predict", model, folder).exit_code == 1
    done = invoke(parity, "run", model, "--runtime", "onnxruntime", "--images", folder)
    assert done.exit_code == 1 and tells(done.stderr, "PNG", "JPEG")
    assert not started.exists()


@pytest.mark.parametrize("kind", sorted({*FORMATS.values()}))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_format_is_read_under_each_ending(tmp_path, kind, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(kind))
    assert np.asarray(open_image(path, 3)).shape == PIXELS.shape
    assert crop(path.read_bytes()).size == (32, 32)


def test_no_other_format_of_pillows_is_opened(monkeypatch):
    Image.init()
    others = {*Image.OPEN} - {*FORMATS.values()}
    assert {"EPS", "GIF", "AVIF", "PSD"} < others
    opened = []
    for name in others:
        spy = partial(lambda name, *given: opened.append(name), name)
        monkeypatch.setitem(Image.OPEN, name, (spy, Image.OPEN[name][1]))
    for kind in others & {*Image.SAVE}:
        try:
            data = encoded(kind)
        except MAY_RAISE:
            continue
        with pytest.raises(ImageError, match=naming("a.png")):
            open_image(io.BytesIO(data), 3, "a.png")
        with pytest.raises(ImageError, match=naming("a.png")):
            crop(data)
    assert not opened


class Own(Exception):
    """A class that nobody knows of."""


@pytest.mark.parametrize("error", [*MAY_RAISE, Own, RuntimeError, MemoryError, OverflowError])
def test_whatever_a_reader_raises_is_an_error_that_names_the_image(monkeypatch, error):
    def fail(*given, **named):
        raise error("no")

    data = encoded("PNG")
    monkeypatch.setattr(Image.Image, "crop", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    for read in (lambda: open_image(io.BytesIO(data), 3, "a.png"), lambda: crop(data)):
        with pytest.raises(ImageError, match=naming("a.png", "no")):
            read()


def test_faults_of_simplejpeg_leave_a_jpeg_to_pillow(monkeypatch):
    def fail(*given, **named):
        raise RuntimeError("no")

    monkeypatch.setattr("pvt_train.input.decoding.simplejpeg.decode_jpeg", fail)
    assert crop(encoded("JPEG")).size == (32, 32)


def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(cost, "MAX_PIXELS", 40 * 50 - 1)
    for read in (open_image, None):
        with pytest.raises(ImageError, match=naming("a.png", "50 x 40")):
            read(io.BytesIO(encoded("PNG")), 3, "a.png") if read else crop(encoded("PNG"))


def test_jpegs_of_countless_scans_are_refused():
    """Some kilobytes that each decoder would go through all pixels for a thousand times."""
    data = encoded("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    many = data[:last] + data[last:-2] * 1000 + data[-2:]
    for read in (lambda: open_image(io.BytesIO(many), 3, "a.png"), lambda: crop(many)):
        with pytest.raises(ImageError, match=naming("a.png", "scans")):
            read()
    assert open_image(io.BytesIO(data), 3).size == (50, 40)


@pytest.mark.parametrize(
    "hidden",
    [b"\xff", b"\xff" * 9, b"\0", b"\xff\0", b"\xff\xd0\x10\0", b"\xff\xe5\0\0"],
)
def test_what_decoders_pass_over_in_a_jpeg_hides_no_scans(hidden):
    data = encoded("JPEG", progressive=True, subsampling=0)
    frame = data.index(b"\xff\xc2")
    odd = data[:frame] + hidden + data[frame:]
    assert crop(odd).size == (32, 32)
    assert count_scans(io.BytesIO(odd)) == 10
    large = odd.replace(data[frame + 5 : frame + 9], struct.pack(">HH", 9000, 9000))
    for read in (lambda: open_image(io.BytesIO(large), 3, "a.png"), lambda: crop(large)):
        with pytest.raises(ImageError, match=naming("a.png", "baseline")):
            read()


def test_jpegs_of_countless_parts_are_refused():
    """Pillow copies the EXIF data that it has for each part that it finds."""
    data = encoded("JPEG", progressive=True)
    part = b"\xff\xe1\0\x0eExif\0\0" + bytes(6)
    frame = data.index(b"\xff\xc2")
    end = frame + 2 + int.from_bytes(data[frame + 2 : frame + 4], "big")
    again = data[frame:end]
    for more, word in (
        (part * 1900, None), (part * 2001, "parts"), (bytes(2 << 20), "parts"), (again, "frames")
    ):  # fmt: skip
        for at in (2, end):
            odd = data[:at] + more + data[at:]
            for read in (lambda: open_image(io.BytesIO(odd), 3, "a.png"), lambda: crop(odd)):  # noqa: B023
                with pytest.raises(ImageError, match=naming(word)) if word else nullcontext():
                    read()


def chunk(kind: bytes, body: bytes) -> bytes:
    """As a PNG has it."""
    total = zlib.crc32(kind + body)
    return len(body).to_bytes(4, "big") + kind + body + total.to_bytes(4, "big")


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
@pytest.mark.parametrize("before", [b"", chunk(b"a1_b", b"")])
def test_pngs_of_countless_packed_texts_are_refused(kind, before):
    """A kilobyte each that becomes a megabyte."""
    data, body = encoded("PNG"), b"a\0\1\0\0\0"[: 6 if kind == b"iTXt" else 2]
    body += b"\0" * (kind != b"iTXt") + zlib.compress(bytes((1 << 20) - 1))
    for count, fine in ((MAX_PACKED_TEXTS, True), (MAX_PACKED_TEXTS + 1, False)):
        many = data[:33] + before + chunk(kind, body) * count + data[33:]
        for read in (lambda d=many: open_image(io.BytesIO(d), 3, "a.png"), lambda d=many: crop(d)):
            if fine:
                read()
                continue
            with pytest.raises(ImageError, match=naming("a.png", count)):
                read()


@pytest.mark.parametrize(
    ("limit", "most"), [("MAX_SIDE", 49), ("MAX_SCANS", 9), ("MAX_SCANNED", 40 * 50 * 9)]
)
def test_each_limit_holds(monkeypatch, limit, most):
    data = encoded("JPEG", progressive=True)  # of ten scans
    for more, fine in ((1, True), (0, False)):
        monkeypatch.setattr(cost, limit, most + more * (most if limit == "MAX_SCANNED" else 1))
        for read in (lambda: open_image(io.BytesIO(data), 3, "a.png"), lambda: crop(data)):
            if fine:
                read()
                continue
            with pytest.raises(ImageError, match=naming("a.png")):
                read()


def test_a_webp_of_few_bytes_and_many_pixels_is_refused():
    """Its decoder takes twice the memory of others."""
    for size, fine in (((2000, 2000), True), ((4000, 2000), False)):
        Image.new("RGB", size).save(stream := io.BytesIO(), "WEBP", lossless=True)
        with nullcontext() if fine else pytest.raises(ImageError, match=naming("PNG")):
            open_image(stream, 3, "a.webp")
        with nullcontext() if fine else pytest.raises(ImageError, match=naming("PNG")):
            crop(stream.getvalue())
    noise = np.random.default_rng(0).integers(0, 256, (1250, 2000, 3), np.uint8)
    photo = Image.fromarray(noise).resize((4000, 2500))
    photo.save(stream := io.BytesIO(), "WEBP", quality=1, method=0)
    assert open_image(stream, 3).size == (4000, 2500)


def tiff(width: int, height: int, tile: int, rows: int) -> bytes:
    """Grey, packed, of tiles of this size, all of which are at the same place."""
    packed = zlib.compress(bytes(tile * rows))
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: rows}
    count, start = -(-width // tile) * -(-height // rows), 8 + 2 + 12 * 10 + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    if count == 1:
        numbers, places = b"", (start, len(packed))
    else:
        numbers = struct.pack("<I", start + 8 * count) * count
        numbers += struct.pack("<I", len(packed)) * count
        places = start, start + 4 * count
    for tag, place in zip((324, 325), places, strict=True):
        entries += struct.pack("<HHII", tag, 4, count, place)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 10) + entries + bytes(4) + numbers + packed


def test_a_tile_is_not_much_larger_than_its_image():
    """Which is decoded whole: kilobytes that become gigabytes."""
    for width, tile, fine in ((8, 16, True), (8, 2000, True), (8, 3008, False), (3008, 3008, True)):
        data = tiff(width, width, tile, tile)
        for read in (lambda d=data: open_image(io.BytesIO(d), 3, "a.tif"), lambda d=data: crop(d)):
            with nullcontext() if fine else pytest.raises(ImageError, match=naming("tiles")):
                read()


def strips(side: int, rows: int, count: int) -> bytes:
    """Black and white, of strips of these rows, all of which are at the same place."""
    tags = {256: side, 257: side, 258: 1, 259: 1, 262: 1, 277: 1, 278: rows}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    entries += struct.pack("<HHII", 273, 3, count, 8 + 2 + 12 * 8 + 4)
    places = struct.pack("<H", 8) * count
    data = bytes(side * rows // 8)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 8) + entries + bytes(4) + places + data


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (strips(64, 8, 8), None),
        (strips(64, 8, 8 * 8), None),
        (strips(64, 8, 8 * 9), "strips"),
        (strips(64, 8, 100_000), "numbers"),
        (tiff(16 * 1000, 1, 16, 250_000), "tiles"),
        (tiff(16 * 40, 1, 16, 250_000), None),
    ],
)
def test_a_tiff_is_gone_through_once(data, word):
    """Each strip and tile is decoded, however many a file says that there are."""
    for read in (lambda: open_image(io.BytesIO(data), 3, "a.tif"), lambda: crop(data)):
        with pytest.raises(ImageError, match=naming(word)) if word else nullcontext():
            read()


def test_a_tiff_of_jpeg_is_not_of_countless_scans():
    image = Image.new("L", (5000, 5000))
    image.save(stream := io.BytesIO(), "TIFF", compression="jpeg")
    for data, fine in ((stream.getvalue() + bytes(500_000), True), (stream.getvalue(), False)):
        with nullcontext() if fine else pytest.raises(ImageError, match=naming("PNG")):
            open_image(io.BytesIO(data), 3, "a.tif")


def test_a_bmp_in_runs_that_takes_long_is_not_decoded():
    """Pillow fills up each line in a loop of Python's."""
    colours = b"".join(bytes([n, 0, 255 - n, 0]) for n in range(256))
    for width, fine in ((2000, True), (2001, False)):
        runs = b"\1\5\0\0" * 1000 + b"\0\1"
        head = struct.pack("<IiiHHIIiiII", 40, width, 1000, 1, 8, 1, len(runs), 0, 0, 256, 0)
        start = 14 + len(head) + len(colours)
        data = b"BM" + struct.pack("<III", start + len(runs), 0, start) + head + colours + runs
        with nullcontext() if fine else pytest.raises(ImageError, match=naming("runs")):
            open_image(io.BytesIO(data), 3, "a.bmp")


def test_a_want_of_the_system_is_no_fault_of_an_image(tmp_path, monkeypatch):
    """It was left out, and the accuracy given without it."""

    def none(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr("pvt_data.images.decoding.open_regular", none)
    with pytest.raises(OSError, match="Too many"):
        open_image(tmp_path / "a.png", 3)


def test_exif_data_that_are_one_orientation_without_an_end_say_nothing():
    """Each number of two bytes is many times that in memory."""
    entry = struct.pack("<HHII", 0x0112, 3, 2_000_000, 26)
    exif = b"II*\0\x08\0\0\0\1\0" + entry + bytes(4) + b"\7\7" * 2_000_000
    data = encoded("PNG")
    data = data[:33] + chunk(b"eXIf", exif) + data[33:]
    tracemalloc.start()
    open_image(io.BytesIO(data), 3)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * len(exif)


def with_directories(directories: list[list[tuple[int, int, int, int]]], behind: bytes) -> bytes:
    """One of 8 x 8 grey pixels; entries are (tag, type, count, place), directories places too.

    A place below 0 is that of a directory, the last but one, say; what is ``behind`` lies at 8.
    """
    data, places = b"II*\0    " + behind, []
    tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)]
    first = [*tags, (278, 3, 1, 8), (279, 4, 1, 64)]
    for entries in (*directories[1:], [*first, *directories[0]]):
        placed = [(*rest, place if place >= 0 else places[place]) for *rest, place in entries]
        places.append(len(data))
        data += struct.pack("<H", len(placed))
        data += b"".join(struct.pack("<HHII", *entry) for entry in sorted(placed)) + bytes(4)
    return data[:4] + struct.pack("<I", places[-1]) + data[8:]


EXIF, PLACES = 34665, 34853
MANY = bytes(range(256)) * 4000


@pytest.mark.parametrize(
    ("directories", "word"),
    [
        ([[(EXIF, 4, 1, -1)], [(2, 3, 5000, 8)]], None),
        ([[(EXIF, 4, 1, -1)], [(2, 3, 100_001, 8)]], "numbers"),
        ([[(PLACES, 13, 1, -1)], [(2, 5, 100_001, 8)]], "numbers"),
        (
            [[(EXIF, 4, 1, -2), (PLACES, 4, 1, -1)], [(2, 3, 60_000, 8)], [(2, 6, 60_000, 8)]],
            "numbers",
        ),
        ([[(EXIF, 4, 1, -1)], [(EXIF, 4, 1, 8)]], None),
        ([[(40000 + i, 7, len(MANY), 8) for i in range(5)]], None),
        ([[(40000 + i, 7, len(MANY), 8) for i in range(20)]], "bytes"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # Pillow's, of which commands say nothing
def test_all_directories_of_a_tiff_count(directories, word):
    """Pillow reads those of EXIF and places whole, each number as an object."""
    data = with_directories(directories, MANY)
    for read in (lambda: open_image(io.BytesIO(data), 3, "a.tif"), lambda: crop(data)):
        with pytest.raises(ImageError, match=naming(word)) if word else nullcontext():
            read()


def test_directories_that_lead_to_one_another_have_an_end():
    leading = struct.pack("<H", 1) + struct.pack("<HHII", EXIF, 4, 1, 8) + bytes(4)
    data = with_directories([[(EXIF, 4, 1, 8)]], leading + bytes(64))
    with pytest.raises(ImageError, match=naming("directories")):
        open_image(io.BytesIO(data), 3, "a.tif")


@pytest.mark.parametrize(
    ("marker", "start", "entries", "word"),
    [
        (b"\xff\xe1", b"Exif\0\0", 2500, "bytes"),
        (b"\xff\xe2", b"MPF\0", 2500, "numbers"),
        (b"\xff\xe1", b"Exif\0\0", 100, None),
        (b"\xff\xe2", b"MPF\0", 2, None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_directories_in_a_jpeg_count_too(marker, start, entries, word):
    """Pillow reads them when it opens one, whose texts and numbers may all be at one place."""
    kind = 3 if start == b"MPF\0" else 7
    listed = b"".join(struct.pack("<HHII", 40000 + i, kind, 15000, 8) for i in range(entries))
    body = start + b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + listed + bytes(34000)
    data = encoded("JPEG")
    data = data[:2] + marker + struct.pack(">H", len(body) + 2) + body + data[20:]
    for read in (lambda: open_image(io.BytesIO(data), 3, "a.jpg"), lambda: crop(data)):
        with pytest.raises(ImageError, match=naming(word)) if word else nullcontext():
            read()


def test_exif_data_of_many_parts_are_refused():
    """Pillow copies what it has with each: 130 MB took it four minutes."""
    part, data = b"\xff\xe1\xff\xffExif\0\0" + bytes(65527), encoded("JPEG")
    for count, fine in ((60, True), (70, False)):
        with nullcontext() if fine else pytest.raises(ImageError, match=naming("EXIF")):
            open_image(io.BytesIO(data[:2] + part * count + data[2:]), 3)


def test_pngs_of_countless_parts_are_refused():
    """Pillow keeps each, and goes over them in Python: a million took nine seconds."""
    data = encoded("PNG")
    for kind, body in ((b"prVt", b""), (b"tEXt", b"a\0"), (b"IDAT", b"")):
        for at in (33, len(data) - 12):
            for count, fine in ((1900, True), (2100, False)):
                odd = data[:at] + chunk(kind, body) * count + data[at:]
                with nullcontext() if fine else pytest.raises(ImageError, match=naming("parts")):
                    open_image(io.BytesIO(odd), 3)


def test_bytes_in_memory_may_be_read_again():
    stream = io.BytesIO(encoded("PNG"))
    first, second = (np.asarray(open_image(stream, 3)) for _ in range(2))
    assert np.array_equal(first, second) and np.array_equal(first, PIXELS)


def test_a_path_is_closed(tmp_path):
    path: Path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    open_image(path, 1)  # a ResourceWarning is an error here


def scans_of(**options) -> int:
    return count_scans(io.BytesIO(encoded("JPEG", **options)))


def test_scans_of_a_jpeg_are_counted(monkeypatch):
    assert scans_of() == scans_of(restart_marker_rows=1) == scans_of(quality=1) == 1
    assert scans_of(progressive=True) == 10
    # Those of most JPEGs need no look at their data.
    data = encoded("JPEG")
    start = data.index(b"\xff\xda")
    assert count_scans(io.BytesIO(data[: start + 10] + b"\xff\xda" * 1000)) == 1
    # One component of three: the other two follow.
    assert count_scans(io.BytesIO(data[: start + 4] + b"\1" + b"\xff\xda" * 7)) == 8
    assert count_scans(io.BytesIO(data[:start])) == 0


@pytest.mark.parametrize("size", range(0, 700, 13))
def test_scans_of_a_jpeg_that_is_cut_off_are_counted_too(size):
    assert count_scans(io.BytesIO(encoded("JPEG")[:size])) in (0, 1)


@pytest.mark.parametrize(
    ("start", "values"),
    [(b"P6 {} 1000 65535\n", 6), (b"P5 {} 1000 100\n", 1), (b"P3 {} 1000 255\n", 6)],
)
def test_a_ppm_that_takes_long_is_not_decoded(start, values):
    """Pillow reads numbers that are not bytes in a loop of Python's: millions a second."""
    for width, fine in ((2, True), (2001, False)):
        data = start.replace(b"{}", str(width).encode()) + b"0 " * (width * 1000 * values // 2)
        with nullcontext() if fine else pytest.raises(ImageError, match=naming("8 bits")):
            open_image(io.BytesIO(data), 3, "a.ppm")


@pytest.mark.parametrize(
    ("start", "count", "end", "fine"),
    [
        (b"P2 2 2 255\n", 900, b"1 2 3 4", True),
        (b"P2 2 2 255\n", 1100, b"1 2 3 4", False),
        (b"P1 2 2\n", 100_000, b"0 1 1 0", False),
        (b"P5\n", 10_000, b"2 2 255\n####", True),
        (b"P5\n", 40_000, b"2 2 255\n####", False),
        (b"P4\n2", 40_000, b"2\n##", False),
    ],
)
def test_a_ppm_of_countless_comments_is_refused(start, count, end, fine):
    """Ten megabytes of them took minutes."""
    data = start + b"#\n" * count + end
    for read in (lambda: open_image(io.BytesIO(data), 3, "a.ppm"), lambda: crop(data)):
        with nullcontext() if fine else pytest.raises(ImageError, match=r"comments|before"):
            read()


@pytest.mark.parametrize(
    ("options", "mode", "side", "fine"),
    [
        ({"subsampling": 0}, "RGB", 4999, True),
        ({"subsampling": 0}, "RGB", 5010, False),
        ({"subsampling": 2}, "RGB", 12000, True),
        ({}, "L", 12000, True),
        ({}, "CMYK", 3500, True),
        ({}, "CMYK", 3600, False),
    ],
)
def test_a_jpeg_of_many_coefficients_is_not_decoded(options, mode, side, fine):
    """Of several scans all are in memory, two bytes for each pixel and colour."""
    data = encoded("JPEG", mode, progressive=True, **options)
    frame = data.index(b"\xff\xc2") + 5
    large = data[:frame] + struct.pack(">HH", side, side) + data[frame + 4 :]
    with nullcontext() if fine else pytest.raises(ImageError, match=naming("baseline")):
        assert count_scans(io.BytesIO(large)) > 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_one_that_is_turned_is_not_in_memory_three_times(mode, monkeypatch):
    seen, turn = [], decoding.turn
    monkeypatch.setattr(decoding, "turn", lambda image: seen.append(image) or turn(image))
    open_image(io.BytesIO(encoded("PNG", mode)), 3)
    with pytest.raises(ValueError, match="closed"):
        seen[0].getpixel((0, 0))


@pytest.mark.parametrize("mode", ["P", "RGBA", "I;16"])
def test_an_image_of_the_callers_stays_open(mode):
    image = Image.fromarray(PIXELS[..., 0].astype(np.uint16)) if mode == "I;16" else None
    image = image or Image.fromarray(PIXELS).convert(mode)
    first, second = (prepare(image, Preprocessing((32, 32))) for _ in range(2))
    assert np.array_equal(first, second)

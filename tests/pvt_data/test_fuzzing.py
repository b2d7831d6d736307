"""Some hundred hostile images and tar files, and the judge of them judged."""

import io
import tempfile
from dataclasses import replace

import pytest
from PIL import Image

from pvt_data.images import decoding
from pvt_data.sources import folders
from pvt_data.sources.listing import FORMATS
from tests.support.fuzzing import fuzz
from tests.support.fuzzing.fuzz import Failure
from tests.support.fuzzing.images import IMAGES, PIXEL, allowance, image_seeds
from tests.support.fuzzing.tars import TARS, tar_seeds

MANY = 3000


@pytest.fixture(autouse=True)
def _keep_here(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "KEPT", tmp_path / "kept")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("count", [250, pytest.param(MANY, marks=pytest.mark.long)])
def test_every_hostile_image_is_an_answer_or_one_error(count, tmp_path):
    ends = IMAGES.run(count, 20_240, tmp_path / "files")
    assert ends.inputs >= count and len(ends.distinct) > count * 0.6
    assert min(ends.codes[0], ends.codes[1]) > count * 0.1
    assert ends.codes[0] + ends.codes[1] == ends.inputs
    # Which formats Pillow writes, and so which of a few seeds are PNGs, other libraries decide too.
    kinds = {"number", "bytes"} if count < MANY else {"number", "bytes", "chunks"}
    assert len(ends.messages) >= 8 and kinds < {*ends.damage}


@pytest.mark.long
@pytest.mark.parametrize("count", [250, pytest.param(MANY, marks=pytest.mark.long)])
def test_every_hostile_tar_is_read_or_one_error(count, tmp_path):
    ends = TARS.run(count, 20_240, tmp_path / "files")
    assert ends.inputs >= count and len(ends.distinct) > count * 0.6
    assert min(ends.codes[0], ends.codes[1]) > count * 0.1
    assert len(ends.messages) >= 4 and len(ends.damage) >= 10


def test_there_is_an_image_of_every_format():
    Image.init()
    named = {seed.name.split()[0] for seed in image_seeds()}
    assert {*FORMATS.values()} <= named
    assert len(named & {*Image.OPEN}) > 30
    assert len(tar_seeds()) == 6


def test_an_image_may_take_memory_by_its_pixels():
    stream = io.BytesIO()
    Image.new("L", (3000, 2000)).save(stream, "PNG")
    data = stream.getvalue()
    assert allowance(data) == 10 * len(data) + PIXEL * 6_000_000
    assert allowance(b"none") == 40


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
def test_what_goes_wrong_is_seen(tmp_path, monkeypatch):
    """A list of what decoding may raise that lacks something, and memory out of proportion."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where reports of faults go
    with monkeypatch.context() as broken:
        broken.setattr(decoding, "MAY_RAISE", (OSError, ValueError, SyntaxError))
        broken.setattr(decoding, "opened", lambda source: 1 / 0)
        with pytest.raises(Failure, match="ZeroDivisionError"):
            IMAGES.run(50, 1, tmp_path / "images")
    monkeypatch.setattr(folders.TarFiles, "_read", lambda *given: b"x" * (80 << 20))
    with pytest.raises(Failure, match="memory"):
        replace(TARS, commands=TARS.commands[:1]).run(50, 1, tmp_path / "tars")

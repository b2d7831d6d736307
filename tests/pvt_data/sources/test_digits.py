"""The digits as an image folder."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pvt_data.sources.digits import write_digits
from tests.support.processes import run_python


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("digits")
    write_digits(target)
    return target


def test_every_scan_is_there_once_as_it_was_scanned(folder):
    scans = load_digits()
    paths = sorted(folder.glob("*/*/*.png"), key=lambda path: path.stem)
    assert [int(path.stem) for path in paths] == list(range(1797))
    assert [int(path.parent.name) for path in paths] == scans.target.tolist()
    for path, scan in zip(paths[::50], scans.images[::50], strict=True):
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((8, 8), "L")
            assert np.array_equal(np.rint(np.asarray(image) / 255 * 16), scan)


def test_a_fifth_of_every_digit_is_for_validation(folder):
    counts = Counter((path.parts[-3], path.parts[-2]) for path in folder.glob("*/*/*.png"))
    assert len(counts) == 20
    for digit in map(str, range(10)):
        val, train = counts["val", digit], counts["train", digit]
        assert val == (val + train) // 5


@pytest.mark.long
def test_the_command_writes_the_same_bytes(folder, tmp_path):
    run_python("-m", "pvt_data.sources.digits", tmp_path / "again")
    names = sorted(path.relative_to(folder) for path in folder.glob("*/*/*.png"))
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["a", "b"]])
def test_anything_but_one_folder_is_answered_with_the_usage(arguments):
    done = run_python("-m", "pvt_data.sources.digits", *arguments, check=False)
    assert (done.returncode, done.stderr) == (1, "usage: python -m pvt_data.sources.digits DIR\n")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    done = run_python("-m", "pvt_data.sources.digits", tmp_path / "file", check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "file" in done.stderr

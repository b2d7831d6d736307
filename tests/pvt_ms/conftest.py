"""The digits that the commands train on."""

from pathlib import Path

import pytest

from pvt_data.digits import write_digits


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory) -> Path:
    """Sixty digits to train on and twenty to validate with."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    for split, count in (("train", 6), ("val", 2)):
        for digit in range(10):
            for path in sorted((folder / split / str(digit)).iterdir())[count:]:
                path.unlink()
    return folder

"""Real images for the demo and the tests: ``python -m pvt_data.sources.digits DIR``.

scikit-learn ships two photos of 427x640 pixels, and 1797 scanned handwritten digits, 8x8 pixels of
17 grey levels (from the "Optical Recognition of Handwritten Digits" data set of the UCI
repository).
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pvt_data.edge import edge
from pvt_spec.arrays import Array
from pvt_spec.files.replacing import AnyPath

VAL_EVERY = 5
"""Every fifth scan of each digit is kept for validation."""


def write_digits(folder: AnyPath) -> None:
    """Writes the scans as ``train/0…9/NNNN.png`` and ``val/0…9/NNNN.png``, 8-bit grey.

    NNNN is the scan's number in the data set. The split is the same each time: 1442 images to
    train on and 355 to validate with, with the same share of every digit.
    """
    from sklearn.datasets import load_digits

    scans = load_digits()
    seen = [0] * 10
    for number, (scan, digit) in enumerate(zip(scans.images, scans.target, strict=True)):
        split = "val" if seen[digit] % VAL_EVERY == VAL_EVERY - 1 else "train"
        seen[digit] += 1
        target = Path(folder) / split / str(digit) / f"{number:04}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        # Black to white is 0 to 16 in the data set.
        Image.fromarray(np.rint(scan * (255 / 16)).astype(np.uint8)).save(target)


def load_photos() -> list[Array]:
    """Returns two photos, uint8 (height, width, 3)."""
    from sklearn.datasets import load_sample_images

    return [np.asarray(photo) for photo in load_sample_images().images]


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m pvt_data.sources.digits DIR")
    with edge():
        write_digits(Path(sys.argv[1]))
    print(f"{sys.argv[1]}: train and val, one folder per digit")

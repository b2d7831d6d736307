"""Where inputs come from is what a certificate says of them, so that they can be had again."""

import pytest
from PIL import Image

from convert import load_model
from parity.options import Chosen, choose_inputs
from tests.parity.bundles.test_bundle import OFFICIAL_V2, shot, write


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("generated", 7)),
        ({"random": 3}, ("noise", 7)),
        ({"images": "x.png"}, ("files", 0)),
        ({"images": "a.npz"}, ("bundle", 0)),
    ],
)
def test_where_inputs_come_from(options, expected, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    write(tmp_path / "a.npz", what=shot(seed=3))
    if "images" in options:
        options = {"images": (str(tmp_path / options["images"]),)}
    _, info = load_model(OFFICIAL_V2)
    inputs = choose_inputs(Chosen(**options, seed=7), info)
    assert (inputs.source, inputs.seed) == expected


def test_inputs_of_a_bundle_that_is_compared_are_its_own(tmp_path):
    """Noise that was kept with another seed is not what ``--seed`` would make again."""
    bundle = write(tmp_path / "a.npz", what=shot(seed=3))
    _, info = load_model(OFFICIAL_V2)
    inputs = choose_inputs(Chosen(), info, [bundle])
    assert (inputs.source, inputs.seed) == ("bundle", 0)

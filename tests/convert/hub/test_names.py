"""Which weights a name stands for."""

from pathlib import Path

import pytest

from convert.hub.names import choose_row
from convert.hub.registry import read_registry
from pvt_spec.errors import ConvertError
from pvt_spec.published import published_name
from tests.support.messages import tells

ROWS = read_registry(Path("no registry of a user's"))


@pytest.mark.parametrize(
    "name, row, others",
    [
        ("pvt_tiny", "official/pvt_tiny", ("mindcv/pvt_tiny", "Zetatech/pvt-tiny-224")),
        ("pvt_v2_b0", "official/pvt_v2_b0", ("timm/pvt_v2_b0.in1k", "OpenGVLab/pvt_v2_b0")),
        ("pvt_v2_b2_li", "official/pvt_v2_b2_li", ("OpenGVLab/pvt_v2_b2_linear",)),
        ("mindcv/pvt_tiny", "mindcv/pvt_tiny", ()),
        ("mindcv/pvt_tiny-910v2", "mindcv/pvt_tiny-910v2", ()),
        ("pvt_tiny-910v2", "mindcv/pvt_tiny-910v2", ()),
        ("official/pvt_v2_b2_li", "official/pvt_v2_b2_li", ()),
        ("Zetatech/pvt-tiny-224", "Zetatech/pvt-tiny-224", ()),
        ("OpenGVLab/pvt_v2_b0", "OpenGVLab/pvt_v2_b0", ()),
        ("pvt_v2_b0.in1k", "timm/pvt_v2_b0.in1k", ()),
        ("retinanet_pvt-t_fpn_1x_coco", "mmdet/retinanet_pvt-t_fpn_1x_coco", ()),
    ],
)
def test_names_stand_for_rows(name, row, others):
    choice = choose_row(name, ROWS)
    assert choice.row.name == row and {*others} <= {*choice.others}
    assert bool(others) == bool(choice.others)


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/1", "0123456789abcdef"])
def test_revisions_are_of_repositories(revision):
    assert choose_row(f"timm/pvt_v2_b0.in1k@{revision}", ROWS).revision == revision
    with pytest.raises(ConvertError) as error:
        choose_row(f"official/pvt_tiny@{revision}", ROWS)
    assert tells(error.value, f"@{revision}", "official/pvt_tiny")


@pytest.mark.parametrize(
    "name, near",
    [
        ("pvt_tinny", "hub:pvt_tiny"),
        ("PVT_TINY", "hub:pvt_tiny"),
        ("zetatech/pvt-tiny-224", "hub:Zetatech/pvt-tiny-224"),
        ("timm/pvt_v2_b0", "hub:timm/pvt_v2_b0.in1k"),
        ("mindcv/resnet", "mindcv/pvt_small"),
        ("", "convert hub"),
        ("../../etc/passwd", "convert hub"),
        ("mindcv/../official/pvt_tiny", "convert hub"),
        ("/etc/passwd", "convert hub"),
        ("x" * 5000, "convert hub"),
        ("official/pvt_tiny\x00", "convert hub"),
    ],
)
def test_unknown_names_are_told_what_is_near(name, near):
    with pytest.raises(ConvertError) as error:
        choose_row(name, ROWS)
    assert near in str(error.value)


@pytest.mark.parametrize("revision", ["", "..", "a/../b", "/main", "-x", "a b", "x" * 300, "a//b"])
def test_revisions_lead_nowhere_else(revision):
    with pytest.raises(ConvertError, match="revision"):
        choose_row(f"timm/pvt_v2_b0.in1k@{revision}", ROWS)


def test_paths_are_no_names():
    assert published_name("hub:a/b@c") == published_name(Path("hub:a/b@c")) == "a/b@c"
    assert published_name("./x/hub:a") is None and published_name(Path("/x/hub:a")) is None
    assert published_name(b"hub:a".decode()) == "a"

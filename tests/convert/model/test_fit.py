"""A file's weights in a model with another head, channels, image size or answer."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import Changes, ConvertError, Given, read_model, save_model
from convert.model.changes import apply
from convert.model.fit import load_fitting
from pvt_spec import PVTConfig, profile_numerics, tensor_specs
from pvt_spec.initial import initial_weights
from tests.support.converting import refused, same_bits, save, save_plain, succeed
from tests.support.messages import naming, tells
from tests.support.models import SMALL, Weights, info_of, random_images, random_weights

FIRST = "patch_embed1.proj.weight"

# timm 1.0.31, adapt_input_conv(channels, torch.arange(12.0).reshape(2, 3, 1, 2) ** 2 / 8)
TIMM: dict[tuple[int, int], list[float]] = {
    (3, 1): [2.5, 4.375, 25.0, 31.375],
    (2, 1): [0.5, 1.25, 12.5, 16.25],
    (3, 2): [0.0, 0.1875, 0.75, 1.6875, 6.75, 9.1875, 12.0, 15.1875],
    (3, 4): [
        *(0.0, 0.09375, 0.375, 0.84375, 1.5, 2.34375, 0.0, 0.09375),
        *(3.375, 4.59375, 6.0, 7.59375, 9.375, 11.34375, 3.375, 4.59375),
    ],
    (3, 7): [
        *(0.0, 0.0535714291036129, 0.2142857164144516, 0.4821428656578064, 0.8571428656578064),
        *(1.3392857313156128, 0.0, 0.0535714291036129, 0.2142857164144516, 0.4821428656578064),
        *(0.8571428656578064, 1.3392857313156128, 0.0, 0.0535714291036129, 1.9285714626312256),
        *(2.625, 3.4285714626312256, 4.339285850524902, 5.357142925262451, 6.482142925262451),
        *(1.9285714626312256, 2.625, 3.4285714626312256, 4.339285850524902, 5.357142925262451),
        *(6.482142925262451, 1.9285714626312256, 2.625),
    ],
}


@pytest.mark.parametrize(("before", "after"), TIMM)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_channels_are_adapted_as_by_timm(
    before: int, after: int, dtype: str, tmp_path: Path
) -> None:
    filters = (np.arange(12, dtype=np.float32).reshape(2, 3, 1, 2) ** 2 / 8)[:, :before]
    config = dataclasses.replace(SMALL["v2"], in_chans=before)
    weights = random_weights(config)
    weights[FIRST][:2, :, :1, :2] = filters
    if dtype == "float16":
        weights[FIRST] = weights[FIRST].astype(dtype)
    path = save_plain(tmp_path / "a.pth", weights)
    model = apply(read_model(path), Changes(in_chans=after))
    made = model.weights[FIRST]
    assert made.shape == (8, after, 7, 7) and made.dtype == dtype
    expected = np.array(TIMM[before, after], np.float32).astype(dtype)
    assert made[:2, :, :1, :2].reshape(-1).tolist() == expected.tolist()
    assert model.info.config.in_chans == after == len(model.info.preprocessing.mean)
    assert model.info.preprocessing.std == (0.229, 0.224, 0.225, 0.229, 0.224, 0.225, 0.229)[:after]
    assert tells(model.findings[-1], FIRST, before, after)


def test_a_grey_image_is_answered_as_in_colour(tmp_path: Path) -> None:
    from tests.support.converting import answer_onnx

    path = save(tmp_path / "a.pth", SMALL["v1"], "official")
    said = succeed(path, tmp_path / "grey.onnx", "--in-chans", 1)
    assert "channels  3 to 1: " in said
    succeed(path, tmp_path / "rgb.onnx")
    grey = random_images(SMALL["v1"])[:, :1]
    answers = answer_onnx(tmp_path / "grey.onnx", grey)["logits"]
    coloured = answer_onnx(tmp_path / "rgb.onnx", grey.repeat(3, axis=1))["logits"]
    np.testing.assert_allclose(answers, coloured, atol=2e-5)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (4, 1), (4, 3), (3, 0), (2, 3)])
def test_other_channels_have_no_rule(before: int, after: int, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL["v2"], in_chans=before)
    path = save_plain(tmp_path / "a.pth", random_weights(config))
    assert tells(refused(tmp_path, path, tmp_path / "b.onnx", "--in-chans", after), before, after)


# --- in the twins

NUMERICS = {version: profile_numerics("official", version) for version in (1, 2)}


def twin(framework: str, config: PVTConfig, weights: Weights) -> tuple[Any, Any]:
    """A twin's package, and its model."""
    if framework == "mindspore":
        import pvt_ms as package
    else:
        import pvt_torch as package  # type: ignore[no-redef]
    return package, package.model_from_weights(config, NUMERICS[config.version], weights)


@pytest.mark.parametrize("framework", ["torch", "mindspore"])
@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_classes": 3, "in_chans": 1},
        {"num_classes": 0, "image_size": (96, 64)},
        {"num_classes": 0, "features_only": True, "in_chans": 4},
    ],
    ids=["same", "grey with 3 classes", "features of wide images", "maps of 4 channels"],
)
def test_a_model_takes_what_fits(
    framework: str, kind: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    config = dataclasses.replace(SMALL[kind], **changes)
    held = random_weights(SMALL[kind])
    fresh = random_weights(config, seed=1)
    package, model = twin(framework, config, fresh)
    notes = package.load_weights(model, save_plain(tmp_path / "a.pth", held))
    found = package.get_weights(model)
    wanted = apply(
        read_model(tmp_path / "a.pth"),
        Changes(
            features_only=config.features_only,
            in_chans=config.in_chans,
            image_size=config.image_size,
            num_classes=0,
        ),
    ).weights
    head = {name: (fresh if changes else held)[name] for name in found if name.startswith("head.")}
    assert same_bits(found, {**wanted, **head})
    assert tells(notes, str(tmp_path / "a.pth"))
    assert tells(notes, "3 to 1") == (config.in_chans == 1)
    assert tells(notes, "head", 7, 3) == (config.num_classes == 3)


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_a_backbone_is_taken_without_its_other_head(kind: str, tmp_path: Path) -> None:
    weights, config = random_weights(SMALL[kind]), SMALL[kind]
    bare = {name: array for name, array in weights.items() if not name.startswith("head.")}
    mlp = {f"head.{i}.weight": np.ones((9, 32), np.float32) for i in range(2)}
    path = save_plain(tmp_path / "a.pth", {f"net.{n}": a for n, a in (bare | mlp).items()})
    fresh = initial_weights(config, 1)
    fitted, notes = load_fitting(path, config, NUMERICS[config.version], fresh)
    assert same_bits(fitted, {name: bare.get(name, fresh[name]) for name in fitted})
    assert tells(notes, "net.head.0.weight") and tells(notes, "head", 7)


def test_a_classifier_of_a_detectors_backbone_has_a_fresh_class_token(tmp_path: Path) -> None:
    config = SMALL["v1"]
    maps = dataclasses.replace(config, num_classes=0, features_only=True)
    held, fresh = random_weights(maps), initial_weights(config, 1)
    path = save_plain(tmp_path / "a.pth", held)
    fitted, notes = load_fitting(path, config, NUMERICS[1], fresh)
    assert [*fitted] == [spec.name for spec in tensor_specs(config)]
    for name, array in fitted.items():
        if name == "pos_embed4":
            assert np.array_equal(array, np.concatenate([fresh[name][:, :1], held[name]], axis=1))
        else:
            assert np.array_equal(array, held.get(name, fresh[name])), name
    assert tells(notes, "class token")


def test_heads_that_a_file_does_not_show_are_the_models(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL["v2"], num_heads=(2, 2, 3, 4))
    path = save_plain(tmp_path / "a.pth", random_weights(config))
    fresh = initial_weights(config, 1)
    assert same_bits(load_fitting(path, config, NUMERICS[2], fresh)[0], random_weights(config))
    save_model(tmp_path / "b.pth", random_weights(config), info_of(config))
    other = dataclasses.replace(config, num_heads=(1, 2, 3, 4))
    with pytest.raises(ConvertError, match=naming("num_heads")):
        load_fitting(tmp_path / "b.pth", other, NUMERICS[2], fresh)


def test_averaged_weights_are_loaded_where_they_are_asked_for(tmp_path: Path) -> None:
    import torch

    config, average = SMALL["v2"], random_weights(SMALL["v2"], seed=1)
    held = {
        key: {name: torch.from_numpy(array) for name, array in weights.items()}
        for key, weights in (("model", random_weights(config)), ("model_ema", average))
    }
    torch.save(held, tmp_path / "a.pth")
    fresh = initial_weights(config, 1)
    given = Given(weights="ema")
    fitted, notes = load_fitting(tmp_path / "a.pth", config, NUMERICS[2], fresh, given)
    assert same_bits(fitted, average) and tells(notes, "averaged weights")

"""Files in other people's names, loaded the way that their documentation says.

transformers itself loads its own in ``tests/test_peers.py``.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import ConvertError, read_model
from convert.formats.table import read_file
from convert.names.dialects import find_dialect
from pvt_spec import ConfigError, PVTConfig, profile_numerics
from pvt_spec.unseen import UNSEEN_KEY, Unseen
from tests.support.converting import refused, save, succeed
from tests.support.messages import naming, tells
from tests.support.models import MAPS, SMALL, weights_for
from tests.support.runtimes import import_mindspore

PTH = [
    (dialect, kind)
    for dialect, kinds in {
        "official": ("v1", "v2", "linear", "v1 maps", "v2 maps"),
        "timm": ("v2", "linear", "v2 maps"),
        "mmdet": ("v1 maps", "v2 maps"),
    }.items()
    for kind in kinds
]


def theirs(dialect: str, config: PVTConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a peer's own model."""
    pairings = find_dialect(dialect, config.version).pairings(config, bare=not config.num_classes)
    return {spec.name: spec.shape for pairing in pairings for spec in pairing.theirs}


def torch_module(shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """A module of torch with parameters of these names."""
    import torch

    root = torch.nn.Module()
    for name, shape in shapes.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        module.register_parameter(last, torch.nn.Parameter(torch.zeros(shape)))
    return root


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize(("dialect", "kind"), PTH)
def test_pytorch_loads_what_its_code_names(
    dialect: str, kind: str, ending: str, tmp_path: Path
) -> None:
    """``model.load_state_dict(torch.load(path))``, as whai362/PVT, timm and mmengine do it.

    Each takes a dict of tensors alone; what else they look for are keys of wrappers, which are
    others in each.
    """
    import torch
    from safetensors.torch import load_file

    config, path = {**SMALL, **MAPS}[kind], tmp_path / f"a{ending}"
    profile = "hf" if dialect == "mmdet" else "official"
    source = save(tmp_path / "a.ckpt", config, profile)
    succeed(source, path, "--to-dialect", dialect)
    state = torch.load(path, weights_only=True) if ending == ".pth" else load_file(path)
    shapes = theirs(dialect, config)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == shapes
    assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
    module = torch_module(shapes)
    module.load_state_dict(state, strict=True)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name])
    assert read_model(path).info == read_model(source).info


def test_a_file_of_other_names_is_still_ours_after_torch_saved_it_again(tmp_path: Path) -> None:
    """What torch keeps beside the tensors goes along, within a training checkpoint too."""
    import torch

    source = save(tmp_path / "a.ckpt", SMALL["v1"], "official")
    succeed(source, tmp_path / "a.pth", "--to-dialect", "official")
    state = torch.load(tmp_path / "a.pth", weights_only=True)
    torch.save({"model": state, "epoch": 3}, tmp_path / "b.pth")
    model = read_model(tmp_path / "b.pth")
    assert model.info == read_model(source).info and model.changed == ()
    state["head.bias"][0] += 1
    torch.save(state, tmp_path / "c.pth")
    assert read_model(tmp_path / "c.pth").changed == ("head.bias",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_what_transformers_needs_beside_a_file_is_said(name: str, tmp_path: Path) -> None:
    source = save(tmp_path / "a.ckpt", SMALL["v2"], "hf")
    said = succeed(source, tmp_path / name, "--to-dialect", "hf")
    assert tells(said, "warning", "config.json", "from_pretrained")
    (tmp_path / "config.json").write_text("{}")
    assert "warning" not in succeed(source, tmp_path / name, "--to-dialect", "hf", "--force")


@pytest.mark.parametrize("ending", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("kind", SMALL)
def test_mindspore_loads_what_mindcv_names(kind: str, ending: str, tmp_path: Path) -> None:
    """``load_param_into_net(net, load_checkpoint(path))``, as MindCV does it."""
    mindspore = import_mindspore()

    config, path = SMALL[kind], tmp_path / f"a{ending}"
    source = save(tmp_path / "a.pth", config, "mindcv")
    succeed(source, path, "--to-dialect", "mindcv")
    net = mindspore.nn.Cell()
    for number, (name, shape) in enumerate(theirs("mindcv", config).items()):
        kept = mindspore.float16 if name.startswith("pos_embed") else mindspore.float32
        values = mindspore.Tensor(np.zeros(shape), kept)
        net.insert_param_to_cell(f"p{number}", mindspore.Parameter(values, name=name))
    loaded = mindspore.load_checkpoint(str(path), format=ending[1:])
    missing, unused = mindspore.load_param_into_net(net, loaded, strict_load=True)
    assert missing == [] and {*unused} <= {"pvt_model_info"}
    for name, parameter in net.parameters_dict().items():
        assert parameter.asnumpy().tobytes() == loaded[name].asnumpy().tobytes()
        assert np.any(parameter.asnumpy())


# --- our own twins, saved by their frameworks


def twin_of(kind: str, profile: str = "mindcv", **changes: Any) -> Any:
    """A PyTorch twin of other maths and heads than any dialect's."""
    import pvt_torch

    config = replace(SMALL[kind], **changes)
    numerics = profile_numerics(profile, config.version)
    return pvt_torch.model_from_weights(config, numerics, weights_for(config, numerics))


@pytest.mark.parametrize("kind", SMALL)
def test_a_state_dict_of_our_twin_says_its_maths_and_heads(kind: str, tmp_path: Path) -> None:
    import torch

    twin = twin_of(kind, num_heads=(2, 4, 6, 8))
    torch.save(twin.state_dict(), tmp_path / "a.pth")
    wrapped = torch.nn.Sequential(torch.nn.Identity(), torch.nn.DataParallel(twin))
    torch.save({"state_dict": wrapped[1].state_dict(), "epoch": 3}, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        said = succeed(tmp_path / name, tmp_path / "c.onnx", "--force")
        assert "guess  profile" not in said and "guess  num_heads" not in said
        assert "profile  mindcv (state_dict)\n" in said
        info = read_model(tmp_path / "c.onnx").info
        assert info.numerics == twin.numerics and info.config.num_heads == (2, 4, 6, 8)
    said = succeed(tmp_path / "a.pth", tmp_path / "d.onnx", "--profile", "hf")
    assert "profile  hf" in said and tells(said, "given")
    said = succeed(tmp_path / "a.pth", tmp_path / "e.onnx", "--num-heads", "1,2,3,4")
    assert read_model(tmp_path / "e.onnx").info.config.num_heads == (1, 2, 3, 4)


def test_what_a_state_dict_says_changes_nothing_of_it(tmp_path: Path) -> None:
    """Names, strict loading anywhere, copies and a head of another size."""
    import copy

    import torch

    import pvt_torch

    twin = twin_of("v2")
    state = twin.state_dict()
    assert state.keys() == pvt_torch.get_weights(twin).keys()
    torch_module({name: tuple(tensor.shape) for name, tensor in state.items()}).load_state_dict(
        state, strict=True
    )
    with pytest.warns(UserWarning, match="other maths or heads"):
        twin_of("v2", "official").load_state_dict(state, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twin_of("v2").load_state_dict(state, strict=True)
    assert copy.deepcopy(twin).state_dict().keys() == state.keys()
    twin.head = torch.nn.Linear(32, 3)
    torch.save(twin.state_dict(), tmp_path / "a.pth")
    info = read_model(tmp_path / "a.pth").info
    assert info.config.num_classes == 3 and info.numerics == twin.numerics


def test_a_file_of_ours_within_another_dict_says_what_it_is(tmp_path: Path) -> None:
    """What lay beside its weights there was not used, and the maths called a guess."""
    import torch

    for name, profile in (("a.pth", "mindcv"), ("b.pth", "official")):
        save(tmp_path / name, SMALL["v2"], profile)
    ours, other = (torch.load(tmp_path / name, weights_only=True) for name in ("a.pth", "b.pth"))
    torch.save({"teacher": ours, "epoch": 3}, tmp_path / "c.pth")
    found, exact = read_model(tmp_path / "c.pth"), read_model(tmp_path / "a.pth")
    assert found.info.numerics == exact.info.numerics == profile_numerics("mindcv", 2)
    assert "profile" not in found.guesses and not found.changed
    torch.save({"teacher": ours, "student": other}, tmp_path / "d.pth")
    said = refused(tmp_path, tmp_path / "d.pth", tmp_path / "d.onnx", "--container", "teacher")
    assert tells(said, "d.pth", "different maths")


def test_weights_that_are_computed_of_others_are_refused() -> None:
    from torch.nn.utils import prune

    import pvt_torch

    twin = twin_of("v2")
    prune.l1_unstructured(twin.head, "weight", 0.5)
    with pytest.raises(ConvertError, match=naming("computed of others", "prune.remove")):
        pvt_torch.get_weights(twin)
    prune.remove(twin.head, "weight")
    exact = pvt_torch.get_weights(twin.bfloat16())
    assert (exact["head.weight"] == 0).mean() > 0.4 and exact["head.weight"].dtype == np.float32


def test_what_mindspore_saves_of_our_twin_is_called_a_guess(tmp_path: Path) -> None:
    """Its checkpoints hold parameters alone."""
    mindspore = import_mindspore()

    import pvt_ms

    config, numerics = SMALL["v2"], profile_numerics("mindcv", 2)
    cell = pvt_ms.model_from_weights(config, numerics, weights_for(config, numerics))
    mindspore.save_checkpoint(cell, str(tmp_path / "a.ckpt"))
    said = succeed(tmp_path / "a.ckpt", tmp_path / "a.onnx")
    assert tells(said, "guess  profile official", "--profile")
    said = succeed(tmp_path / "a.ckpt", tmp_path / "b.onnx", "--profile", "mindcv")
    assert "guess  profile" not in said
    assert read_model(tmp_path / "b.onnx").info.numerics == numerics


def test_two_models_that_say_different_maths_are_not_told_apart(tmp_path: Path) -> None:
    """The maths that is official's in place of either was called a guess."""
    import torch

    teacher = torch.nn.ModuleDict({"a": twin_of("v2"), "b": twin_of("v2", "official")})
    state = teacher.state_dict()
    for name in [name for name in state if name.startswith("b.")]:
        del state[name]
    torch.save(state, tmp_path / "a.pth")
    assert UNSEEN_KEY not in read_file(tmp_path / "a.pth").metadata
    said = refused(tmp_path, tmp_path / "a.pth", tmp_path / "b.onnx")
    assert tells(said, "a.pth", "different maths", "state_dict", "--profile")
    succeed(tmp_path / "a.pth", tmp_path / "b.onnx", "--profile", "mindcv")
    assert read_model(tmp_path / "b.onnx").info.numerics == twin_of("v2").numerics


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"numerics": {"gelu": 1}, "num_heads": [1]}'])
def test_what_is_no_such_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Unseen.from_json(text)

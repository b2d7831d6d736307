"""Files in other people's names, loaded the way that their documentation says.

transformers itself loads its own in ``tests/test_peers.py``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import read_model
from convert.names.dialects import find_dialect
from pvt_spec import PVTConfig
from tests.support.converting import save, succeed
from tests.support.models import MAPS, SMALL
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

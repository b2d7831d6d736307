"""Training as other programs do it, and the checkpoints that they leave of it.

:class:`OfficialRun` is whai362/PVT's ``main.py`` with timm's groups and torch's AdamW;
:class:`MindCVRun` MindCV's trainer, with an AdamW of MindSpore's own.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from convert.names.dialects import find_dialect
from convert.names.translation import from_canonical
from pvt_spec import ModelInfo
from pvt_train.twin import Batch
from tests.support.models import Weights
from tests.support.training import prepared

DECAY = 0.5


class OfficialRun:
    """A model that torch's AdamW trains, what does not decay first."""

    def __init__(self, info: ModelInfo, weights: Weights, *, one_group: bool = False):
        import torch

        import pvt_torch

        self.info = info
        self.model = pvt_torch.model_from_weights(info.config, info.numerics, weights)
        groups: dict[bool, list[Any]] = {False: [], True: []}
        for name, parameter in self.model.named_parameters():
            groups[parameter.ndim > 1 and name != "cls_token"].append(parameter)
        both = [{"params": groups[d], "weight_decay": DECAY * d} for d in (False, True)]
        one = [{"params": list(self.model.parameters()), "weight_decay": DECAY}]
        self.optimizer = torch.optim.AdamW(one if one_group else both, lr=1e-3, eps=1e-8)

    def step(self, batch: Batch, rate: float) -> float:
        import torch
        from torch.nn import functional as F

        images = prepared("torch", self.info.preprocessing, batch.pixels, batch.mixing)
        logits = self.model(torch.from_numpy(images), torch.from_numpy(batch.drop_path))
        loss = F.cross_entropy(logits, torch.from_numpy(batch.targets))
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return float(loss.detach())

    def weights(self) -> Weights:
        return {n: p.detach().numpy().copy() for n, p in self.model.named_parameters()}

    def saved(self, **more: Any) -> dict[str, Any]:
        """What the script saves after its first epoch."""
        names = dict(self.model.named_parameters())
        return {
            "model": {n: t for n, t in self.model.state_dict().items() if n in names},
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": {"base_values": [5e-4, 5e-4]},
            "epoch": 0,
            "scaler": {},
            "args": argparse.Namespace(opt="adamw", lr=5e-4),
            **more,
        }


class MindCVRun:
    """A model that MindSpore's AdamW trains, all of whose tensors decay."""

    def __init__(self, info: ModelInfo, weights: Weights):
        import mindspore as ms
        from mindspore.experimental import optim

        from pvt_ms.model import PyramidVisionTransformer
        from pvt_ms.weights import canonical_parameters, set_weights

        self.info, self.count = info, 0
        self.model = PyramidVisionTransformer(info.config, info.numerics)
        set_weights(self.model, dict(weights))
        self.own = canonical_parameters(self.model)
        parameters = list(self.own.values())
        self.optimizer = optim.AdamW(parameters, lr=1e-3, eps=1e-8, weight_decay=DECAY)
        self.averages = self.weights()
        self.gradients = ms.value_and_grad(self.loss, None, ms.ParameterTuple(parameters))

    def loss(self, images: Any, targets: Any, drop_path: Any) -> Any:
        from mindspore import ops

        logarithms = ops.log_softmax(self.model(images, drop_path), axis=-1)
        return -(targets * logarithms).sum(axis=-1).mean()

    def step(self, batch: Batch, rate: float) -> float:
        import mindspore as ms

        images = prepared("mindspore", self.info.preprocessing, batch.pixels, batch.mixing)
        given = (ms.Tensor(array) for array in (images, batch.targets, batch.drop_path))
        loss, gradients = self.gradients(*given)
        ms.ops.assign(self.optimizer.param_groups[0]["lr"], ms.Tensor(rate, ms.float32))
        self.optimizer(gradients)
        self.count += 1
        stays = np.float32(0.9999 * (1 - np.exp(-self.count / 2000)))
        for name, array in self.weights().items():
            self.averages[name] = self.averages[name] * stays + array * (1 - stays)
        return float(loss.asnumpy())

    def weights(self) -> Weights:
        return {name: parameter.asnumpy().copy() for name, parameter in self.own.items()}

    def save(self, path: Path, **more: Any) -> None:
        """Writes what MindCV's callback does, under its names and with its counters."""
        import mindspore as ms

        first, second = (
            {name: moment.asnumpy() for name, moment in zip(self.own, moments, strict=True)}
            for moments in (self.optimizer.exp_avg, self.optimizer.exp_avg_sq)
        )
        dialect = find_dialect("mindcv", self.info.config.version)
        names = [*dialect.pairings(self.info.config, bare=False)]
        parts = {"": self.weights(), "adam_m.": first, "adam_v.": second, "ema.": self.averages}
        held = {
            part + name: array
            for part, arrays in parts.items()
            for name, array in from_canonical(arrays, names).items()
        }
        for name, beta in (("beta1_power", 0.9), ("beta2_power", 0.999)):
            power = np.ones(1, np.float32)
            for _ in range(self.count):
                power = power * np.float32(beta)
            held[name] = power
        held["global_step"] = np.array([self.count], np.int32)
        held["learning_rate"] = np.linspace(0, 1e-3, 8, dtype=np.float32)
        held["updates"] = np.float32(self.count)
        held["scale_sense"] = np.float32(1024)
        held |= more
        ms.save_checkpoint(
            [{"name": name, "data": ms.Tensor(array)} for name, array in held.items()], str(path)
        )

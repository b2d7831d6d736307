"""What float32 does to a whole training step: sums in random orders in the backward pass too.

A gradient sums over what the forward pass does not: over tokens for a weight, over outputs for an
input. So whatever an operation goes over is put in a random order before it, and back behind it;
autograd then sums in that order as well.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pvt_spec.kernels import UNIT
from pvt_torch.emulation import Emulation, exponential, softmax

_AXES = {"linear": (-2, 0, -2, -1), "matmul": (-2, -1, -2, -1), "conv2d": (0, 0, 0, 1)}
"""Function -> the axis of the first operand and that of the second that it does not sum over, and
where they are in the result."""


class TrainingEmulation(Emulation):
    """An :class:`pvt_torch.emulation.Emulation` that autograd can go back through."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls a torch function and rounds."""
        own = {"softmax": _Softmax, "log_softmax": _LogSoftmax}.get(function.__name__)
        if own and self.rounding.exp:
            given = *args, *(kwargs or {}).values()
            return own.apply(self, *given)  # type: ignore[no-untyped-call]
        if function.__name__ == "log_softmax":
            return function(*args, **(kwargs or {}))
        if function.__name__ == "layer_norm":
            return self._in_order(args[0], [-2], lambda x: function(x, *args[1:], **(kwargs or {})))
        return super().__torch_function__(function, types, args, kwargs)

    @property
    def kernel(self) -> Any:
        """The :class:`pvt_spec.kernels.Exponential` that is emulated."""
        return self.rounding.exp

    def contract(self, function: Any, kind: str, x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        """Sums many products and adds a bias, forward and backward in random orders."""
        name, bias = function.__name__, rest[0] if rest else None
        if bias is not None and self.kernel and self.kernel.serial:
            y = self.contract(function, kind, x, weight, None, *rest[1:])
            return _Bias.apply(self, y, bias, -1 if name == "linear" else 1)  # type: ignore[no-untyped-call]
        if name == "conv2d" and x.shape[1] != weight.shape[1]:  # depthwise
            return self._flipped(function, x, weight, *rest)
        first, second, row, column = _AXES[name]
        rows, columns = self._order(x.shape[first]), self._order(weight.shape[second])
        if bias is not None:
            rest = (bias.index_select(0, columns), *rest[1:])
        x, weight = x.index_select(first, rows), weight.index_select(second, columns)
        y = super().contract(function, kind, x, weight, *rest)
        return y.index_select(row, rows.argsort()).index_select(column, columns.argsort())

    def _flipped(self, function: Any, x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        """Convolves what is turned around, as its kernel is."""
        axes = [axis for axis in (2, 3) if self._order(2)[0]]
        y: Tensor = function(x.flip(axes), weight.flip(axes), *rest)
        return y.flip(axes)

    def _in_order(self, x: Tensor, axes: Sequence[int], compute: Any) -> Tensor:
        for axis in axes:
            order = self._order(x.shape[axis])
            x = compute(x.index_select(axis, order)).index_select(axis, order.argsort())
        return x

    def _order(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self.shuffle)


class _Softmax(torch.autograd.Function):
    """A softmax whose exp is a kernel's, and whose gradient is made of what it answers."""

    @staticmethod
    def forward(ctx: Any, mode: TrainingEmulation, x: Tensor, dim: int) -> Tensor:
        """Returns the shares."""
        shares = softmax(mode.kernel, x, dim)
        ctx.save_for_backward(shares)
        ctx.dim = dim
        return shares

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Returns the gradient of ``x``."""
        (shares,), (gradient,) = ctx.saved_tensors, gradients
        mean = (gradient * shares).sum(ctx.dim, keepdim=True)
        return None, shares * (gradient - mean), None


class _Bias(torch.autograd.Function):
    """A bias whose gradient is summed term by term."""

    @staticmethod
    def forward(ctx: Any, mode: TrainingEmulation, x: Tensor, bias: Tensor, axis: int) -> Tensor:
        """Returns the sum; the bias is along an axis."""
        ctx.mode, ctx.axis = mode, axis
        return (x.movedim(axis, -1) + bias).movedim(-1, axis)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Returns the gradients of ``x`` and the bias.

        Each term's sum is rounded: by so much at random, and together by the root of the squares.
        """
        (gradient,) = gradients
        terms = gradient.movedim(ctx.axis, 0).flatten(1)  # (C, N)
        order = torch.randperm(terms.shape[1], generator=ctx.mode.shuffle)
        sums = terms[:, order].double().cumsum(1)
        size = UNIT / 3**0.5 * sums.square().sum(1).sqrt()
        off = size * torch.randn(size.shape, generator=ctx.mode.shuffle)
        return None, gradient, (sums[:, -1] + off).to(gradient.dtype), None


class _LogSoftmax(torch.autograd.Function):
    """The logarithm of a softmax whose exp is a kernel's, forward and backward."""

    @staticmethod
    def forward(ctx: Any, mode: TrainingEmulation, x: Tensor, dim: int) -> Tensor:
        """Returns the logarithms."""
        kernel = mode.kernel
        x = x - x.amax(dim, keepdim=True)
        sums = exponential(x, kernel).sum(dim, keepdim=True).log()
        # It is off alike for like sums, as those of one batch are; by what is not known.
        sums += kernel.log * (1 if mode._order(2)[0] else -1)
        logarithms = x - sums
        ctx.save_for_backward(logarithms)
        ctx.dim, ctx.kernel = dim, kernel
        return logarithms

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Returns the gradient of ``x``."""
        (logarithms,), (gradient,) = ctx.saved_tensors, gradients
        shares = exponential(logarithms, ctx.kernel)
        total = gradient.sum(ctx.dim, keepdim=True)
        if ctx.kernel.serial:
            # Equal terms, as smoothing makes them, are all rounded the same way.
            sums = np.add.accumulate(gradient.numpy(), axis=ctx.dim, dtype=np.float32)
            total = torch.from_numpy(sums).narrow(ctx.dim, -1, 1)
        return None, gradient - shares * total, None

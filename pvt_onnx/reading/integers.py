"""What integers of a quantised graph stand for: tensors with their scales and zero points."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx.numpy_helper import to_array

from pvt_spec.arrays import Array


def _along(values: Array, dims: Sequence[int], axis: int) -> Array:
    """Returns one number for all, or one for each place along an axis, to broadcast."""
    if values.size == 1:
        return values.reshape(())
    shape = [1] * len(dims)
    shape[axis] = dims[axis]
    return values.reshape(shape)


def _widened(values: Array, dims: Sequence[int], axis: int, block: int) -> Array:
    """Returns what is one for each block along an axis as one for each place."""
    length = dims[axis]
    if not 0 < block <= length or values.shape[axis] != -(-length // block):
        raise ValueError(f"blocks of {block} along {length}: {values.shape}")
    wide = np.repeat(values, block, axis)
    return np.asarray(np.take(wide, range(length), axis))


def _spread(values: Array, dims: Sequence[int], axis: int, block: int) -> Array:
    if block:
        return _widened(values, dims, axis, block)
    return _along(values, dims, axis)


def steps_of(
    dims: Sequence[int], scales: Sequence[onnx.TensorProto], axis: int, block: int
) -> Array:
    """Returns how far apart the numbers of a tensor are, float64 that broadcasts with it.

    Args:
        dims: The tensor's shape.
        scales: Its scales, whose product counts: one for all, or along an axis.
        axis: That axis.
        block: How many places along it share a scale; 0 where each has its own.
    """
    product = np.asarray(1.0)
    for scale in scales:
        product = product * _spread(to_array(scale).astype(np.float64), dims, axis, block)
    return product


def dequantised(
    tensor: onnx.TensorProto,
    zero: onnx.TensorProto | None,
    step: Callable[[], Array],
    axis: int,
    block: int,
) -> Array:
    """Returns the floats that integers stand for, float32.

    Args:
        tensor: The integers.
        zero: What stands for 0; None for 0.
        step: What answers :func:`steps_of` it.
        axis: As in that.
        block: As in that.
    """
    whole = to_array(tensor).astype(np.float64)  # which is the largest by far
    if zero is not None:
        whole -= _spread(to_array(zero).astype(np.float64), tensor.dims, axis, block)
    whole *= step()
    return whole.astype(np.float32)


def unpacked(
    dims: Sequence[int],
    form: tuple[int, int],
    packed: onnx.TensorProto,
    scales: onnx.TensorProto,
    zeros: Sequence[onnx.TensorProto],
) -> tuple[Array, Array]:
    """Returns (out, in) of a weight packed from the lowest bits on, each block for itself.

    And its steps: two where it is as large as can be, as what was larger became that.
    """
    bits, block = form[0], min(form[1], dims[1])
    if bits not in (2, 4, 8):
        raise ValueError(f"weights of {bits} bits")
    expected = dims[0] * -(-dims[1] // form[1]) * (form[1] * bits // 8)
    if (held := math.prod(packed.dims)) != expected:  # of which each byte becomes many
        raise ValueError(f"{held} bytes of {bits} bits for {dims}, expected {expected}")
    wholes = _bits(to_array(packed), bits).reshape(dims[0], -1)[:, : dims[1]]
    middle: Array = np.asarray(float(1 << (bits - 1)))
    for tensor in zeros:
        held = to_array(tensor)
        if held.dtype == np.uint8:
            held = _bits(held.reshape(dims[0], -1), bits)[:, : -(-dims[1] // block)]
        middle = _widened(held.astype(np.float64).reshape(dims[0], -1), dims, 1, block)
    step = _widened(to_array(scales).astype(np.float64).reshape(dims[0], -1), dims, 1, block)
    most = wholes == (1 << bits) - 1
    return np.asarray((wholes - middle) * step, np.float32), np.abs(step) * np.where(most, 2, 1)


def _bits(packed: Array, bits: int) -> Array:
    """Returns the numbers of some bits that bytes (…, n) hold, (…, n * 8 / bits)."""
    parts = [(packed >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    whole = np.stack(parts, -1).reshape(*packed.shape[:-1], -1)
    return np.asarray(whole, np.float64)

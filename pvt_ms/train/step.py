"""The two halves of a step as functions that can be compiled: gradients, and the update from them.

Between them the host sees the loss and the gradient's norm, and decides.
"""

from collections.abc import Callable, Sequence

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, ops

from pvt_data.images.pixels import pixel_mean, pixel_std
from pvt_ms.model import PyramidVisionTransformer
from pvt_ms.train.optimizer import Average, Optimizer, for_each
from pvt_ms.train.parallel import Workers
from pvt_spec import Preprocessing
from pvt_train.input.mixing import partners

Sums = tuple[Tensor, ...]
"""A loss, and the gradients of what is trained, of one batch or summed over several."""

Given = tuple[Tensor, ...] | None
"""The gradient that the optimizer was given, where it is asked for."""


def preparation(preprocessing: Preprocessing) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns what becomes of pixels on the device: normalised, to the bit as
    :func:`pvt_data.images.preprocessing.normalise` does, and then mixed.

    Returns:
        (pixels uint8 (B, H, W, C), mixing float32 (B,)) -> images float32 (B, C, H, W).
    """
    mean, std = Tensor(pixel_mean(preprocessing)), Tensor(pixel_std(preprocessing))

    def prepare(pixels: Tensor, mixing: Tensor) -> Tensor:
        images = ((pixels.astype(ms.float32) - mean) / std).transpose(0, 3, 1, 2)
        share = mixing.reshape(-1, 1, 1, 1)
        others = ops.gather(images, Tensor(partners(images.shape[0]), ms.int32), 0)
        return images * share + others * (1 - share)

    return prepare


def evaluation_step(model: PyramidVisionTransformer) -> Callable[[Tensor], Tensor]:
    """Returns the forward pass as a function of the images alone; float32 (B, num_classes)."""

    def forward(images: Tensor) -> Tensor:
        return model(images).astype(ms.float32)

    return forward


def gradient_step(
    model: PyramidVisionTransformer, weights: Sequence[Parameter], preprocessing: Preprocessing
) -> Callable[..., Sums]:
    """Returns what computes the loss of a batch, and its gradients.

    Returns:
        (pixels, targets, mixing, drop_path, loss_scale) -> the mean cross-entropy, and gradients
        of ``loss_scale`` times it in the order of ``weights``; all float32. The first four are
        those of :class:`pvt_train.twin.Batch`, the last a float32 scalar.
    """
    prepare = preparation(preprocessing)

    def scaled_loss(
        images: Tensor, targets: Tensor, drop_path: Tensor, loss_scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits = model(images, drop_path).astype(ms.float32)
        loss = -(targets * ops.log_softmax(logits, axis=-1)).sum(axis=-1).mean()
        return loss * loss_scale, loss

    differentiate = ms.value_and_grad(
        scaled_loss, grad_position=None, weights=ParameterTuple(weights), has_aux=True
    )

    def gradients(
        pixels: Tensor, targets: Tensor, mixing: Tensor, drop_path: Tensor, loss_scale: Tensor
    ) -> Sums:
        images = prepare(pixels, mixing)
        (_, loss), found = differentiate(images, targets, drop_path, loss_scale)
        return (loss, *found)

    return gradients


def adding_step(gradients: Callable[..., Sums], tensors: int) -> Callable[..., Sums]:
    """Returns what adds a batch's loss and gradients to those of an update's batches before it.

    Args:
        gradients: The function that returns those of a batch.
        tensors: The number of tensors that a batch is.

    Returns:
        (*batch, *sums) -> sums. Where there is nothing before it, no sums are given. (A graph takes
        tensors one by one: a tuple of them would be compiled into it.)
    """

    def add(*batch_and_sums: Tensor) -> Sums:
        found, sums = gradients(*batch_and_sums[:tensors]), batch_and_sums[tensors:]
        if not sums:
            return found
        return for_each(ops.add, sums, found)

    return add


def last_step(add: Callable[..., Sums], workers: Workers) -> Callable[..., tuple[Tensor, Sums]]:
    """Returns what adds the last batch of an update, and then sums over all workers.

    Returns:
        (*batch, *sums) -> the L2 norm of all gradients together, and the sums.
    """

    def square(gradient: Tensor) -> Tensor:
        # Not by ops.L2Loss: on a CPU it is 0.3 % off for a tensor of 4 million numbers.
        return ops.reduce_sum(ops.square(gradient))

    def last(*batch_and_sums: Tensor) -> tuple[Tensor, Sums]:
        total = workers.sum_all(add(*batch_and_sums))
        return ops.sqrt(ops.addn(for_each(square, total[1:]))), total

    return last


def update_step(
    optimizer: Optimizer, average: Average | None, numbers: int, watched: bool = False
) -> Callable[..., Given]:
    """Returns what updates weights, moments and average.

    Args:
        optimizer: The optimizer of the weights.
        average: The moving average of the weights, or None.
        numbers: The count of :meth:`pvt_ms.train.optimizer.Optimizer.numbers`.
        watched: Whether the gradient is returned, which costs memory.

    Returns:
        (factor, stays, *numbers, *sums) -> what the optimizer was given, or None. ``factor``
        makes the gradient of the sums, ``stays`` is the share of the average that stays; both are
        float32 scalars.
    """
    optimize = optimizer.update_step()
    move = average.update_step() if average else None

    def update(factor: Tensor, stays: Tensor, *numbers_and_sums: Tensor) -> Given:
        sums = numbers_and_sums[numbers + 1 :]
        gradient = for_each(ops.partial(ops.mul, factor), sums)
        optimize(gradient, numbers_and_sums[:numbers])
        if move is not None:
            move(stays)
        # Not an empty tuple, with which a graph does nothing at all.
        return gradient if watched else None

    return update

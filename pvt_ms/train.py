"""One step of training in MindSpore: gradients and AdamW, compiled into one graph.

May import mindspore, pvt_spec and pvt_train.
"""

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, ops

from pvt_ms.model import PyramidVisionTransformer
from pvt_ms.weights import canonical_parameters, get_weights, set_weights
from pvt_spec import ModelInfo
from pvt_spec.evaluation import require_classes
from pvt_train.initialisation import initial_weights
from pvt_train.optimizer import BETAS, adamw_update, parameter_groups
from pvt_train.recipe import Recipe


class MindSporeTwin:
    """A model under training; a :class:`pvt_train.loop.Twin`.

    Attributes:
        framework: MindSpore's name and version.
        model: Its parameters are what the steps update.
    """

    framework = f"mindspore {ms.__version__}"

    def __init__(self, info: ModelInfo, recipe: Recipe, compiled: bool):
        """A freshly initialised model.

        Args:
            info: What is trained.
            recipe: ``weight_decay``, and the ``seed`` of the initial weights.
            compiled: Whether the whole step runs as one graph, or op by op (pynative).

        Raises:
            ConfigError: The model has no classes.
        """
        require_classes(info)
        self.model = PyramidVisionTransformer(info.config, info.numerics)
        set_weights(self.model, initial_weights(info.config, recipe.seed))
        self._weight_decay = recipe.weight_decay
        self._updates = 0
        self._batch = 0
        step, forward = training_step(self.model), evaluation_step(self.model)
        self._step = ms.jit(step) if compiled else step
        self._forward = ms.jit(forward) if compiled else forward

    def step(
        self, images: np.ndarray, targets: np.ndarray, learning_rate: float, drop_path: np.ndarray
    ) -> float:
        """One update of the weights; see :meth:`pvt_train.loop.Twin.step`."""
        self._updates += 1
        update = adamw_update(self._updates, learning_rate, self._weight_decay)
        # Tensors, because a Python number would be compiled into the graph.
        numbers = [Tensor(n, ms.float32) for n in (update.rate, update.eps, update.decay)]
        loss = self._step(Tensor(images), Tensor(targets), Tensor(drop_path), *numbers)
        return float(loss.asnumpy())

    def forward(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 (B, num_classes); see :meth:`pvt_train.loop.Twin.forward`."""
        # A smaller last batch is filled up: another B would be compiled anew.
        self._batch = max(self._batch, len(images))
        missing = np.zeros((self._batch - len(images), *images.shape[1:]), images.dtype)
        logits: np.ndarray = self._forward(Tensor(np.concatenate((images, missing)))).asnumpy()
        return logits[: len(images)]

    def weights(self) -> dict[str, np.ndarray]:
        """Copies of all weights under canonical names."""
        return get_weights(self.model)


def evaluation_step(model: PyramidVisionTransformer) -> Callable[[Tensor], Tensor]:
    """The forward pass as a function of the images alone."""

    def forward(images: Tensor) -> Tensor:
        return model(images)

    return forward


def training_step(model: PyramidVisionTransformer) -> Callable[..., Tensor]:
    """The function that one step is, with AdamW's moments inside, at 0.

    MindSpore's one kernel for AdamW corrects no bias; :class:`pvt_train.optimizer.Update` has the
    numbers with which it does. (``mindspore.experimental.optim.AdamW`` gives the same weights, but
    as a dozen kernels per tensor: twice the compilation, and up to five times the step where other
    processes want the CPU. ``mint.optim.AdamW`` exists on Ascend only.)

    Returns:
        (images, targets, drop_path, rate, eps, decay) -> loss, where the last three are float32
        scalars; see :meth:`pvt_train.loop.Twin.step` for the others.
    """
    decaying, others = parameter_groups(model.config)
    named = canonical_parameters(model)
    parameters = ParameterTuple([named[name] for name in decaying + others])
    first = parameters.clone(prefix="moment1", init="zeros")
    second = parameters.clone(prefix="moment2", init="zeros")
    beta1, beta2, zero = (Tensor(number, ms.float32) for number in (*BETAS, 0.0))
    adamw = ops.AdamWeightDecay(use_locking=False)

    def cross_entropy(images: Tensor, targets: Tensor, drop_path: Tensor) -> Tensor:
        logits = model(images, drop_path)
        return -(targets * ops.log_softmax(logits, axis=-1)).sum(axis=-1).mean()

    loss_and_gradients = ms.value_and_grad(
        cross_entropy, grad_position=None, weights=parameters, has_aux=False
    )

    def step(
        images: Tensor, targets: Tensor, drop_path: Tensor, rate: Tensor, eps: Tensor, decay: Tensor
    ) -> Tensor:
        loss, gradients = loss_and_gradients(images, targets, drop_path)
        for i in range(len(parameters)):
            adamw(
                parameters[i],
                first[i],
                second[i],
                rate,
                beta1,
                beta2,
                eps,
                decay if i < len(decaying) else zero,
                gradients[i],
            )
        return loss

    return step

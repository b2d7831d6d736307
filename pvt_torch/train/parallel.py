"""Data parallel workers: who they are, what each computes on, and what they tell one another.

On GPUs they speak NCCL, on CPUs gloo. Gradients are averaged by DistributedDataParallel while they
are computed.
"""

import atexit
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, distributed, nn

from pvt_spec.arrays import Array
from pvt_train.twin import TrainingError

WORKER_COUNT, LOCAL_RANK = "WORLD_SIZE", "LOCAL_RANK"
"""Where torchrun says how many workers it has started, and which of this machine's each is."""


class Workers:
    """All workers of a run, of which this process is one; here it is the only one.

    Attributes:
        rank: This worker's number, from 0.
        ranks: Number of workers.
    """

    rank = 0
    ranks = 1

    def shared(self, step: nn.Module) -> nn.Module:
        """Returns a module whose backward pass gives the mean gradient of all workers."""
        return step

    def alone(self, step: nn.Module) -> AbstractContextManager[object]:
        """Keeps what :meth:`shared` gave from waiting for the others in the block."""
        return nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """Returns the mean of a scalar over all workers, the same bits on each."""
        return value

    def total(self, values: Array) -> Array:
        """Sums float64 (N,) over all workers, in the order of ranks, so that each has the same."""
        return np.array(values, np.float64)

    def copy_from_first(self, parameters: Sequence[Tensor]) -> None:
        """Gives every worker the first one's parameters."""

    def check_same(self, tensors: Mapping[str, Array], what: str) -> None:
        """Refuses tensors that are not the same on every worker, by their hashes.

        Args:
            tensors: Name -> array, of the same names on every worker.
            what: The word for them in the message.

        Raises:
            TrainingError: A worker's are not the first one's; all that differ are named.
        """

    def told(self) -> AbstractContextManager[object]:
        """Turns what a library says in the block of a worker that has ended into one line.

        Raises:
            TrainingError: One has.
        """
        return nullcontext()


class Several(Workers):
    """Workers that torchrun started, and that have been joined."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.ranks = distributed.get_rank(), distributed.get_world_size()
        self._device = device

    def shared(self, step: nn.Module) -> nn.Module:
        """Returns the module in DistributedDataParallel, whose gradients lie in its messages."""
        devices = None if self._device.type == "cpu" else [self._device]
        return nn.parallel.DistributedDataParallel(
            step, device_ids=devices, gradient_as_bucket_view=True
        )

    def alone(self, step: nn.Module) -> AbstractContextManager[object]:
        """Keeps the module from sending gradients in the block; see :meth:`Workers.alone`."""
        return step.no_sync()  # type: ignore[operator]

    def mean(self, value: Tensor) -> Tensor:
        """Returns the mean of a scalar over all workers; see :meth:`Workers.mean`."""
        distributed.all_reduce(value)
        return value / self.ranks

    def total(self, values: Array) -> Array:
        """Gathers and sums; see :meth:`Workers.total`."""
        return self._gather(np.array(values, np.float64)).sum(axis=0)

    def _gather(self, values: Array) -> Array:
        """Returns every worker's values (N,) by rank: (ranks, N)."""
        with self.told():
            own = torch.from_numpy(values.copy()).to(self._device)
            everyones = [torch.empty_like(own) for _ in range(self.ranks)]
            distributed.all_gather(everyones, own)
            return torch.stack(everyones).cpu().numpy()

    def copy_from_first(self, parameters: Sequence[Tensor]) -> None:
        """Gives every worker the first one's parameters."""
        with self.told(), torch.no_grad():
            for parameter in parameters:
                distributed.broadcast(parameter, 0)

    def check_same(self, tensors: Mapping[str, Array], what: str) -> None:
        """Refuses tensors that are not the same; see :meth:`Workers.check_same`."""
        digests = [
            hashlib.sha256(np.ascontiguousarray(a).data).digest()[:8] for a in tensors.values()
        ]
        everyones = self._gather(np.frombuffer(b"".join(digests), np.int64))
        differ = everyones != everyones[0]
        if differ.any():
            names = [name for name, d in zip(tensors, differ.any(axis=0), strict=True) if d]
            ranks = ", ".join(str(rank) for rank in np.flatnonzero(differ.any(axis=1)))
            raise TrainingError(
                f"{what} of worker {ranks} differ from worker 0's in {', '.join(sorted(names))}: "
                "all workers need the same program, recipe and files"
            )

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tells of a worker that has ended; see :meth:`Workers.told`."""
        try:
            yield
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0]
            if not isinstance(error, distributed.DistError) and "gloo" not in first:
                raise
            raise TrainingError(
                f"a worker has ended before its time, and the run with it: {first} (what it said "
                "itself tells why; --resume goes on from the last saved state)"
            ) from error


def choose_device(target: str | None) -> torch.device:
    """Returns what a worker computes on: by default a GPU where there is one.

    Args:
        target: ``"GPU"``, ``"CPU"`` or None.

    Raises:
        TrainingError: There is none.
    """
    if target == "CPU" or (target is None and not torch.cuda.is_available()):
        return torch.device("cpu")
    local = int(os.environ.get(LOCAL_RANK, "0"))
    if local >= torch.cuda.device_count():
        raise TrainingError(
            f"--device-target {target or 'GPU'}: torch sees {torch.cuda.device_count()} CUDA "
            f"devices here, and this is worker {local} of this machine: start as many workers as "
            "there are devices, or give --device-target CPU"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _leave() -> None:
    """Leaves the group, and gives its threads the time to let go of what they sent last.

    They need Python for that, and where it is ending the process aborts. They cannot be waited
    for: DistributedDataParallel keeps the group as long as there is the process.
    """
    distributed.destroy_process_group()
    time.sleep(0.1)


def open_workers(distribute: bool, device: torch.device) -> Workers:
    """Joins the other workers of a run.

    Args:
        distribute: Whether there are any; else this process is alone.
        device: What this one computes on.

    Raises:
        TrainingError: There are none, they cannot be joined, or they were started and are not
            wanted.
    """
    count = os.environ.get(WORKER_COUNT, "")
    if not distribute:
        if count.isdecimal() and int(count) > 1:
            raise TrainingError(
                f"{count} workers were started, but distribute is False: each would train the "
                "same by itself; give --distribute True, or start one"
            )
        return Workers()
    try:
        distributed.init_process_group("gloo" if device.type == "cpu" else "nccl")
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"distribute is True, but the workers cannot be joined: {first} (start all of them "
            "with torchrun --nproc_per_node=N -m pvt_torch train …; for one alone give "
            "--distribute False)"
        ) from error
    atexit.register(_leave)
    return Several(device)

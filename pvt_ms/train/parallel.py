"""Data parallel workers: who they are, and what they tell one another.

On Ascend they speak HCCL, on a CPU MindSpore's own MCCL, which adds up float16 and float32 alone.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np
from mindspore import Parameter, Tensor, get_context, ops
from mindspore.communication import get_group_size, get_rank, init
from mindspore.ops.auto_generate import SplitWithSize

from pvt_ms.train.optimizer import for_each
from pvt_spec.arrays import Array
from pvt_train.twin import TrainingError

WORKER_COUNTS = ("MS_WORKER_NUM", "OMPI_COMM_WORLD_SIZE")
"""Where msrun and Open MPI's mpirun say how many workers they have started."""


class Workers:
    """All workers of a run, of which this process is one; here it is the only one.

    Attributes:
        rank: This worker's number, from 0.
        ranks: Number of workers.
    """

    rank = 0
    ranks = 1

    def sum_all(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Sums float32 tensors over all workers, to the same bits on each; in a graph too."""
        return tensors

    def total(self, values: Array) -> Array:
        """Sums float64 (N,) over all workers, in the order of ranks, so that each has the same."""
        return np.array(values, np.float64)

    def copy_from_first(self, parameters: Sequence[Parameter]) -> None:
        """Gives every worker the first one's parameters."""

    def check_same(self, tensors: Mapping[str, Array], what: str) -> None:
        """Refuses tensors that are not the same on every worker, by their hashes.

        Args:
            tensors: Name -> array, of the same names on every worker.
            what: The word for them in the message.

        Raises:
            TrainingError: A worker's are not the first one's; all that differ are named.
        """


class Several(Workers):
    """Workers that msrun or mpirun started, and that have been joined."""

    def __init__(self) -> None:
        self.rank, self.ranks = get_rank(), get_group_size()
        self._add = ops.AllReduce(ops.ReduceOp.SUM)
        self._collect = ops.AllGather()
        self._copy = ops.Broadcast(0)
        # ops.split is a loop around it.
        self._split = SplitWithSize()

    def sum_all(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Sends one message, the tensors end to end, so that nobody waits for each by itself."""
        flat = self._add(ops.cat(for_each(_flat, tensors)))
        return for_each(_shaped, self._split(flat, for_each(_size, tensors), 0), tensors)

    def total(self, values: Array) -> Array:
        """Gathers the bits as integers, as nothing wider than float32 is added up, and sums."""
        return self._gather(np.array(values, np.float64)).sum(axis=0)

    def _gather(self, values: Array) -> Array:
        """Returns every worker's values (N,), of 8 bytes each, by rank: (ranks, N)."""
        bits: Array = self._collect(Tensor(values.view(np.int32))).asnumpy()
        return np.ascontiguousarray(bits.reshape(self.ranks, -1)).view(values.dtype)

    def copy_from_first(self, parameters: Sequence[Parameter]) -> None:
        """Gives every worker the first one's parameters."""
        for parameter in parameters:
            ops.assign(parameter, self._copy((parameter.value(),))[0])

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


def _flat(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1)


def _size(tensor: Tensor) -> int:
    return tensor.size


def _shaped(flat: Tensor, like: Tensor) -> Tensor:
    return flat.reshape(like.shape)


def open_workers(distribute: bool) -> Workers:
    """Joins the other workers of a run.

    Args:
        distribute: Whether there are any; else this process is alone.

    Raises:
        TrainingError: There are none, they cannot be joined, or they were started and are not
            wanted.
    """
    counts = (os.environ.get(name, "1") for name in WORKER_COUNTS)
    started = max(int(count) if count.isdecimal() else 1 for count in counts)
    if not distribute:
        if started > 1:
            raise TrainingError(
                f"{started} workers were started, but distribute is False: each would train the "
                "same by itself; give --distribute True, or start one"
            )
        return Workers()
    try:
        init()
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        if os.environ.get("MS_ROLE") == "MS_SCHED":
            # msrun's scheduler stays in init() for as long as the run lasts.
            raise TrainingError(
                f"a worker has ended before its time, and the run with it: {first} (its log says "
                "why; --resume goes on from the last saved state)"
            ) from error
        raise TrainingError(
            f"distribute is True, but the workers cannot be joined on "
            f"{get_context('device_target')}: {first} (start all of them with msrun "
            "--worker_num=N --local_worker_num=N …; for one alone give --distribute False)"
        ) from error
    return Several()

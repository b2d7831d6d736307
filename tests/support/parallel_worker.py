"""One worker of tests/pvt_train/test_parallel.py: five steps, and what it ended with.

Started by msrun or torchrun as ``parallel_worker.py FRAMEWORK FOLDER``, or alone with ``alone``.
"""

import sys
from pathlib import Path

import numpy as np

from pvt_spec.initial import initial_weights
from pvt_train.twin import TrainingError
from tests.support.training import LR, batch, described, open_twin, part, recipe


def main(framework: str, folder: Path, alone: bool) -> None:
    info = described("v2")
    accumulated = {"gradient_accumulation_steps": 2, "freeze": ("block1.*",)}
    how = recipe(distribute=not alone, ema=True, clip_grad=True, clip_value=0.3, **accumulated)
    # Each begins with other weights: the first one's count.
    twin = open_twin(info, how, initial_weights(info.config, _seed(alone)), framework)
    share = 4 // twin.ranks
    start = twin.rank * share
    results = []
    for step, rate in enumerate(LR):
        whole = [batch(info, 2 * step + i) for i in range(2)]
        result = twin.step([part(one, start, start + share) for one in whole], rate)
        results.append((result.loss, result.gradient_norm))
    state, total = twin.state(), twin.total(np.array([(1e16, 2.0)[twin.rank], twin.rank + 1.0]))
    np.savez(folder / f"{twin.ranks}_{twin.rank}.npz", results=results, total=total, **state)
    if twin.rank == 1:
        state["head.bias"][0] += 1
    refused = ""
    try:
        twin.load_state(state)
    except TrainingError as error:
        refused = str(error)
    (folder / f"{twin.ranks}_{twin.rank}.txt").write_text(refused)


def _seed(alone: bool) -> int:
    import os

    return 0 if alone else int(os.environ.get("RANK_ID") or os.environ["RANK"])


if __name__ == "__main__":
    if sys.argv[1] == "mindspore":
        from pvt_ms.environment import prepare_environment

        prepare_environment()
    main(sys.argv[1], Path(sys.argv[2]), "alone" in sys.argv[3:])

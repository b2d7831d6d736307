"""Our training step in PyTorch beside transformers' models with the same optimizer.

    python -m benchmarks.train_torch --variant pvt_tiny --batch 8 --rounds 5
    python -m benchmarks.train_torch --variant pvt_v2_b0 --batch 8 --rounds 5

*ours* is the whole step of ``pvt-torch train``: pixels normalised and mixed, drop path, forward,
cross-entropy, backward, gradient norm, AdamW. *theirs* is ``Pvt(V2)ForImageClassification``:
forward with drop path, the same loss, backward, ``torch.optim.AdamW(fused=True)``. Both eager,
compiled, and with bf16 autocast. Each lives in a process of its own and steps when told to, in
turn: A B C, C B A, …; *takes* is their time over ours, the median of the rounds' own ratios with
quartiles. *peak GB* is that of the process, or of the GPU's memory. ``--cpu-time --threads 1``
tells more where other programs run too.

``--profile`` prints where a step's time goes, the share of matrix products (of linear layers and
attention) and of convolutions, and the bytes that its operations take and answer. With
``--tflops``,
the peak of the device, MFU is printed too. ``--device cuda`` says so where there is no such device.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from benchmarks.processes import Worker, add_json_option, in_turn, quartiles, report

CLASSES, SIDE, RATE, DROP = 1000, 224, 1e-3, 0.1

Step = Callable[[], float]


@dataclass(frozen=True)
class Contestant:
    """Who steps, and how.

    Attributes:
        ours: Whether it is our twin.
        compiled: Whether ``torch.compile`` compiles it.
        bf16: Whether autocast computes in bfloat16.
        changes: More of our recipe.
    """

    ours: bool
    compiled: bool = False
    bf16: bool = False
    changes: tuple[tuple[str, Any], ...] = ()

    def opens(self, variant: str, batch: int, device: str) -> Step:
        """Returns a step that answers its loss."""
        return (open_ours if self.ours else open_theirs)(self, variant, batch, device)


LAST = (("channels_last", True),)
FAST = (("fused_attention", True), *LAST)
CONTESTANTS = {
    "ours": Contestant(True),
    "theirs": Contestant(False),
    "ours, sdpa and channels last": Contestant(True, changes=FAST),
    "ours compiled": Contestant(True, True),
    "ours compiled, channels last": Contestant(True, True, changes=LAST),
    "theirs compiled": Contestant(False, True),
    "ours bf16": Contestant(True, False, True),
    "theirs bf16": Contestant(False, False, True),
    "ours bf16 compiled, sdpa and channels last": Contestant(True, True, True, FAST),
    "theirs bf16 compiled": Contestant(False, True, True),
}


def open_ours(how: Contestant, variant: str, batch: int, device: str) -> Step:
    """Opens our twin, as ``pvt-torch train`` does."""
    import numpy as np

    from pvt_spec.initial import initial_weights
    from pvt_torch.train.twin import TorchTwin
    from pvt_train.input.randomness import drop_path_scales
    from pvt_train.recipe.keys import Recipe
    from pvt_train.recipe.read import model_info
    from pvt_train.twin import Batch

    changes = {"compile": how.compiled, "amp_level": "bf16" if how.bf16 else "O0"}
    changes |= {"device_target": "GPU" if device == "cuda" else "CPU", **dict(how.changes)}
    recipe = Recipe(variant, drop_path_rate=DROP, **changes)
    info = model_info(recipe, [str(i) for i in range(CLASSES)])
    twin = TorchTwin(info, recipe, initial_weights(info.config, recipe.seed))
    pixels, targets = _images(batch)
    drop_path = drop_path_scales(info.config, recipe.seed, 0, batch)
    given = Batch(pixels, targets, np.ones(batch, np.float32), drop_path)
    return lambda: twin.step([given], RATE).loss


def open_theirs(how: Contestant, variant: str, batch: int, device: str) -> Step:
    """Opens transformers' model of the same size, and trains it as its users do."""
    import torch
    import transformers
    from torch.nn import functional as F

    from pvt_data.images.preprocessing import normalise
    from pvt_spec import default_preprocessing, make_config

    config = make_config(variant, num_classes=CLASSES)
    kind = "Pvt" if config.version == 1 else "PvtV2"
    settings = getattr(transformers, f"{kind}Config")(
        image_size=SIDE, num_labels=CLASSES, drop_path_rate=DROP, depths=list(config.depths),
        hidden_sizes=list(config.embed_dims), num_attention_heads=list(config.num_heads),
        mlp_ratios=list(config.mlp_ratios),
        **{("sr_ratios" if config.version == 2 else "sequence_reduction_ratios"):
           list(config.sr_ratios)},
    )  # fmt: skip
    model = getattr(transformers, f"{kind}ForImageClassification")(settings).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.05, fused=True)
    images, given = _images(batch)
    preprocessing = default_preprocessing(config, "official")
    pixels = torch.stack([torch.from_numpy(normalise(each, preprocessing)) for each in images])
    pixels, targets = pixels.to(device), torch.from_numpy(given).to(device)

    def losses(pixels: Any, targets: Any) -> Any:
        with torch.autocast(device, torch.bfloat16) if how.bf16 else nullcontext():
            logits = model(pixels).logits
        return F.cross_entropy(logits.float(), targets)

    compute = torch.compile(losses, dynamic=False) if how.compiled else losses

    def step() -> float:
        optimizer.zero_grad()
        loss = compute(pixels, targets)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def _images(batch: int) -> tuple[Any, Any]:
    import numpy as np

    from pvt_train.input.mixing import smooth_labels

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, SIDE, SIDE, 3), np.uint8)
    return pixels, smooth_labels(rng.integers(0, CLASSES, batch), CLASSES, 0.1)


def serve(requests: Connection, name: str, options: argparse.Namespace) -> None:
    """Answers, as a worker, a number of steps with their median seconds, "profile" with kernels,
    "traffic" and "peak" with bytes."""
    import torch

    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    step = CONTESTANTS[name].opens(options.variant, options.batch, options.device)
    step()
    requests.send(time.perf_counter() - start)
    step()
    while (request := requests.recv()) is not None:
        if request == "peak":
            requests.send(_peak(options.device))
        elif isinstance(request, str):
            requests.send({"profile": profile, "traffic": traffic}[request](step))
        else:
            requests.send(_time(step, request, options.cpu_time))


def _time(step: Step, count: int, of_processor: bool) -> float:
    clock = time.process_time if of_processor else time.perf_counter
    times = []
    for _ in range(count):
        start = clock()
        step()
        times.append(clock() - start)
    return median(times)


def _peak(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def profile(step: Step) -> dict[str, float]:
    """Returns the milliseconds of each operation of a step, by itself."""
    import torch
    from torch.profiler import ProfilerActivity

    activities = [ProfilerActivity.CPU]
    if cuda := torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as running:
        step()
    kind = "self_device_time_total" if cuda else "self_cpu_time_total"
    found = {each.key: getattr(each, kind) / 1e3 for each in running.key_averages()}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def shares(kernels: dict[str, float]) -> dict[str, float]:
    """Returns the shares of matrix products and of convolutions in a step's operations."""
    total = sum(kernels.values())
    products = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "mkldnn::_linear")
    convolutions = ("aten::mkldnn_convolution", "aten::convolution_backward",
                    "aten::_slow_conv2d_forward", "aten::cudnn_convolution")  # fmt: skip
    return {
        "matrix products": sum(ms for name, ms in kernels.items() if name in products) / total,
        "convolutions": sum(ms for name, ms in kernels.items() if name in convolutions) / total,
    }


def traffic(step: Step) -> int:
    """Returns the bytes of the tensors that a step's operations take and answer, views left out."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Counting(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            found = function(*args, **(kwargs or {}))
            if not function.is_view:
                every = tree_leaves((args, kwargs, found))
                self.total += sum(t.nbytes for t in every if isinstance(t, Tensor))
            return found

    with Counting() as counting:
        step()
    return counting.total


def peer_of(name: str) -> str:
    """Returns whose step stands beside one of ours: compiled and rounded alike."""
    return name.partition(",")[0].replace("ours", "theirs")


def compare(names: Sequence[str], options: argparse.Namespace) -> None:
    """Prints a row for each contestant: theirs over ours, so that above 1 ours is quicker."""
    workers, firsts = {}, {}
    for name in names:  # one by one: they compile with all cores
        workers[name] = Worker(serve, name, options)
        firsts[name] = workers[name].requests.recv()
    times: dict[str, list[float]] = {name: [] for name in names}
    stop = time.monotonic() + options.seconds
    for number, name in enumerate(in_turn(names, options.rounds)):
        # Two whole rounds at least: a ratio has quartiles.
        if number % len(names) == 0 and number >= 2 * len(names) and time.monotonic() > stop:
            break
        times[name].append(workers[name].call(options.steps))
    peaks = {name: workers[name].call("peak") for name in names}
    rows = []
    for name in names:
        rate = options.batch / median(times[name])
        row = {
            "step": name,
            "first step s": firsts[name],
            "step ms": 1e3 * median(times[name]),
            "images/s": rate,
            "peak GB": peaks[name] / 1e9,
        }
        for column, other in (("its peer", peer_of(name)), ("theirs eager", "theirs")):
            row[f"{column} takes"] = ""
            if name.startswith("ours") and other in times:
                row[f"{column} takes"] = "{:.2f} ({})".format(*quartiles(times[other], times[name]))
        if options.tflops:
            row["MFU %"] = 100 * rate * flops(options.variant) / (options.tflops * 1e12)
        rows.append(row)
    report(rows, options.json)
    if options.profile:
        tell_costs(names[0], workers[names[0]], options.kernels, median(times[names[0]]))
    for worker in workers.values():
        worker.__exit__()


def flops(variant: str) -> float:
    """Returns the operations of one image's forward and backward pass, two a multiplication."""
    from pvt_spec import make_config, profile_numerics
    from pvt_spec.macs import list_products

    config = make_config(variant, num_classes=CLASSES)
    products = list_products(config, profile_numerics("official", config.version), (SIDE, SIDE))
    return 3 * 2 * sum(each.macs for each in products)


def tell_costs(name: str, worker: Worker, most: int, seconds: float) -> None:
    """Prints where a step's time goes, and what it moves."""
    kernels, moved = worker.call("profile"), worker.call("traffic")
    said = ", ".join(f"{what} {share:.0%}" for what, share in shares(kernels).items())
    print(f"\n{name}: {said}; {moved / 1e9:.1f} GB moved, {moved / seconds / 1e9:.0f} GB/s")
    total = sum(kernels.values())
    for kernel, ms in list(kernels.items())[:most]:
        print(f"  {ms:8.1f} ms {ms / total:5.1%}  {kernel}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="pvt_tiny")
    parser.add_argument("--only", action="append", choices=CONTESTANTS, help="these, in this order")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="per turn")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no round after so many")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cpu-time", action="store_true", help="the processor's, not the clock's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--profile", action="store_true", help="of the first, too")
    parser.add_argument("--kernels", type=int, default=12, help="of a profile, the longest first")
    parser.add_argument("--tflops", type=float, default=0.0, help="peak of the GPU, for MFU")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            print("no CUDA device is here: what needs one was not measured")
            return
    names = options.only or list(CONTESTANTS)
    print(
        f"{options.variant}, {options.batch} images of {SIDE} pixels, {options.threads} threads\n"
    )
    compare(names, options)


if __name__ == "__main__":
    main()

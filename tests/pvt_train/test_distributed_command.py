"""``train --distribute True`` on two workers that msrun or torchrun starts, one of them killed."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from convert.training.checkpoint import load_training
from pvt_train.run.log import read_log
from tests.support.messages import tells
from tests.support.processes import free_port, launch_environment
from tests.support.train_command import OP_BY_OP, TORCH, TRAINERS, Trainer, arguments

MANY = ("--epoch-size", "500", "--log-interval", "1", "--scheduler", "constant")


def workers_of(launcher: psutil.Process) -> dict[str, psutil.Process]:
    """A launcher's workers by rank, once they are there."""
    found = {}
    for process in launcher.children(recursive=True):
        environment = process.environ()
        # What shows a worker's log has its environment too.
        ours = environment.get("MS_ROLE") == "MS_WORKER" or "LOCAL_RANK" in environment
        if ours and "python" in process.name() and process.parent() == launcher:
            found[environment.get("RANK_ID") or environment["RANK"]] = process
    return found


def launched(trainer: Trainer, folder: Path) -> list[str]:
    """What a user types before the command's own options."""
    binaries = Path(sys.executable).parent
    if trainer is TORCH:
        port = f"--master_port={free_port()}"
        return [str(binaries / "torchrun"), "--nproc_per_node=2", port, "-m", "pvt_torch"]
    return [
        str(binaries / "msrun"), "--worker_num=2", "--local_worker_num=2",
        f"--master_port={free_port()}",
        "--join=True", f"--log_dir={folder}/logs", str(binaries / "pvt-ms"),
    ]  # fmt: skip


def ended(trainer: Trainer, folder: Path, data: Path, end: Callable[..., None]) -> tuple[int, str]:
    """The exit code and the words of two workers' run that something ends in its third epoch."""
    ours = (*arguments(data, folder / "run", *MANY, *OP_BY_OP), "--batch-size", "10")
    command = [*launched(trainer, folder), *ours, "--distribute", "True"]
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(command, env=launch_environment(), stdout=said, stderr=said)
        try:
            log, deadline = folder / "run/log.jsonl", time.monotonic() + 120
            while not log.exists() or log.read_text().count("\n") < 9:
                assert process.poll() is None and time.monotonic() < deadline, (
                    folder / "said.txt"
                ).read_text()[-3000:]
                time.sleep(0.1)
            end(psutil.Process(process.pid))
            code = process.wait(timeout=120)
        finally:
            if process.poll() is None:
                # With all that it started, each in a group of its own.
                for started in psutil.Process(process.pid).children(recursive=True):
                    started.kill()
                process.kill()
                process.wait()
    return code, (folder / "said.txt").read_text()


@pytest.fixture(scope="module", params=TRAINERS)
def trainer(request) -> Trainer:
    """The command of each framework in turn."""
    return TRAINERS[request.param]


@pytest.fixture(scope="module")
def killed(trainer, few_digits, tmp_path_factory) -> tuple[Path, int, str]:
    """A run of two workers, the second of which was killed in the third epoch."""
    folder = tmp_path_factory.mktemp("two")

    def kill(launcher: psutil.Process) -> None:
        workers_of(launcher)["1"].send_signal(signal.SIGKILL)

    return folder / "run", *ended(trainer, folder, few_digits, kill)


@pytest.mark.long
def test_a_dead_worker_ends_the_job_and_is_named(trainer, killed):
    _, code, said = killed
    assert code != 0
    assert tells(said, "-9", "worker", "--resume")
    assert "fault of ours" not in said


@pytest.mark.long
def test_a_launcher_that_is_asked_to_stop_has_the_state_saved(few_digits, tmp_path):
    code, said = ended(TORCH, tmp_path, few_digits, psutil.Process.terminate)
    assert code != 0
    assert said.count(f"stopped by SIGTERM; to go on: --resume {tmp_path}/run") == 2
    step = load_training(tmp_path / "run/last.pth")[2]["run"]["step"]
    steps = [one["step"] for one in read_log(tmp_path / "run") if one["kind"] == "step"]
    assert step == steps[-1]


@pytest.mark.sampled
def test_two_workers_are_one_with_all_their_images(trainer, killed, few_digits, tmp_path):
    done = trainer.run_here(
        few_digits, tmp_path / "run", "--epoch-size", "2", "--log-interval", "1",
        "--scheduler", "constant",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    alone, both = (
        [record for record in read_log(run) if record["kind"] == "step"][:6]
        for run in (tmp_path / "run", killed[0])
    )
    for one, two in zip(alone, both, strict=True):
        for name in ("lr", "loss", "gradient_norm"):
            assert two[name] == pytest.approx(one[name], rel=1e-5), name


@pytest.mark.sampled
def test_the_run_goes_on_with_one_worker(trainer, killed):
    run = killed[0]
    step = load_training(trainer.file(run, "last"))[2]["run"]["step"]
    assert step >= 6 and step % 3 == 0
    more = ("--distribute", "False", "--batch-size", "20", "--epoch-size", str(step // 3 + 1))
    done = CliRunner().invoke(trainer.main, ["train", "--resume", str(run), *more])
    assert done.exit_code == 0, done.output
    assert tells(done.stderr, step // 3)
    assert load_training(trainer.file(run, "last"))[2]["run"]["step"] == step + 3

"""``msrun … pvt-ms train --distribute True`` on two workers, one of which is killed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from convert.model.training_checkpoint import load_training
from pvt_ms.command_line import main
from pvt_train.run.log import read_log
from tests.support.messages import tells
from tests.support.processes import free_port, launch_environment
from tests.support.train_command import MINDSPORE, OP_BY_OP, arguments

MANY = ("--epoch-size", "500", "--log-interval", "1", "--scheduler", "constant")


def workers_of(launcher: psutil.Process) -> dict[str, psutil.Process]:
    """msrun's workers by rank, once they are there."""
    found = {}
    for process in launcher.children(recursive=True):
        environment = process.environ()
        # What shows a worker's log has its environment too.
        if environment.get("MS_ROLE") == "MS_WORKER" and "python" in process.name():
            found[environment["RANK_ID"]] = process
    return found


@pytest.fixture(scope="module")
def killed(few_digits, tmp_path_factory) -> tuple[Path, int, str]:
    """A run of two workers, the second of which was killed in the third epoch."""
    folder = tmp_path_factory.mktemp("two")
    binaries = Path(sys.executable).parent
    ours = (*arguments(few_digits, folder / "run", *MANY, *OP_BY_OP), "--batch-size", "10")
    command = [
        binaries / "msrun", "--worker_num=2", "--local_worker_num=2",
        f"--master_port={free_port()}",
        "--join=True", f"--log_dir={folder}/logs", binaries / "pvt-ms", *ours,
        "--distribute", "True",
    ]  # fmt: skip
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            [str(word) for word in command], env=launch_environment(), stdout=said, stderr=said
        )
        try:
            log, deadline = folder / "run/log.jsonl", time.monotonic() + 120
            while not log.exists() or log.read_text().count("\n") < 9:
                assert process.poll() is None and time.monotonic() < deadline, (
                    folder / "said.txt"
                ).read_text()[-3000:]
                time.sleep(0.1)
            workers_of(psutil.Process(process.pid))["1"].send_signal(signal.SIGKILL)
            code = process.wait(timeout=120)
        finally:
            if process.poll() is None:
                # With all that it started, each in a group of its own.
                for started in psutil.Process(process.pid).children(recursive=True):
                    started.kill()
                process.kill()
                process.wait()
    return folder / "run", code, (folder / "said.txt").read_text()


def test_a_dead_worker_ends_the_job_and_is_named(killed):
    _, code, said = killed
    assert code != 0
    assert tells(said, "exception", "-9", "worker", "--resume")


def test_two_workers_are_one_with_all_their_images(killed, few_digits, tmp_path):
    done = MINDSPORE.run_here(
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


def test_the_run_goes_on_with_one_worker(killed):
    run = killed[0]
    step = load_training(run / "last.ckpt")[2]["run"]["step"]
    assert step >= 6 and step % 3 == 0
    more = ("--distribute", "False", "--batch-size", "20", "--epoch-size", str(step // 3 + 1))
    done = CliRunner().invoke(main, ["train", "--resume", str(run), *more])
    assert done.exit_code == 0, done.output
    assert tells(done.stderr, step // 3)
    assert load_training(run / "last.ckpt")[2]["run"]["step"] == step + 3

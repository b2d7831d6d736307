"""Contestants in turn: what is made of their times, and what becomes of those that fail."""

import sys

import pytest

from pvt_data.benchmark import contestants
from pvt_data.benchmark.command import _names_of
from pvt_data.benchmark.contestants import CONTESTANTS, GEMM, Setting, command, own
from pvt_data.benchmark.measure import Plan, Row, in_turn, measure, paired_ratios
from pvt_data.benchmark.report import Benchmark
from pvt_data.benchmark.turns import ContestantFailed, Hello, Worker, time_calls
from tests.support.messages import naming, tells

PLAN = Plan(rounds=2, seconds=0, pause=0)


class Scripted:
    """What a worker is to whoever times it, with its answers written down."""

    def __init__(self, *turns, macs=10**9, fails_at=None):
        self.turns, self.macs, self.fails_at, self.taken = list(turns), macs, fails_at, 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def hello(self):
        if self.fails_at == "hello":
            raise ContestantFailed("it is not installed")
        return Hello({"framework": "scripted"}, 0.5, "pvt_nano", (32, 32), self.macs)

    def turn(self, seconds):
        if self.fails_at == self.taken:
            raise ContestantFailed("ended by SIGKILL")
        self.taken += 1
        return self.turns[self.taken - 1]


def measured(workers, settings=(Setting(1, 2),), plan=PLAN):
    shown = []
    rows, hellos = measure(
        [*workers], settings, plan, lambda name, _: workers[name], lambda *done: shown.append(done)
    )
    return {row.contestant: row for row in rows}, hellos, shown


def test_figures():
    workers = {
        "onnxruntime": Scripted([0.01, 0.02, 0.03], [0.01, 0.01, 0.01]),
        "torch": Scripted([0.04, 0.04, 0.04], [0.03, 0.03, 0.03]),
        GEMM: Scripted([0.005] * 3, [0.005] * 3, macs=5 * 10**8),
    }
    rows, hellos, shown = measured(workers)
    ours, torch, gemm = (rows[name] for name in workers)
    assert (ours.threads, ours.batch, ours.calls) == (1, 2, 6)
    assert (ours.p50_ms, ours.p90_ms) == pytest.approx((10, 25))
    assert ours.p99_ms == pytest.approx(29.5)
    assert ours.images_per_second == pytest.approx(2 * 6 / 0.09)
    assert ours.gmacs_per_second == pytest.approx(2 / 0.01)
    assert (gemm.gmacs_per_second, gemm.of_gemm) == pytest.approx((200, 1))
    assert ours.of_gemm == pytest.approx(1)
    assert (ours.ratio, ours.ratio_quartiles) == (1, (1, 1))
    # Round by round: 0.04 / 0.02 and 0.03 / 0.01.
    assert torch.ratio == pytest.approx(2.5)
    assert torch.ratio_quartiles == pytest.approx((2.25, 2.75))
    assert [*hellos] == [*workers] and shown[-1] == (2, 2)


def test_the_order_turns_each_round():
    assert [*in_turn("abc", 3)] == [*"abc", *"cba", *"abc"]


def test_ratios_are_of_pairs():
    # The machine was twice as slow in the second round, for both.
    assert paired_ratios([[3, 3, 3], [6, 6, 6]], [[2, 2, 2], [4, 4, 4]]) == [1.5, 1.5]


@pytest.mark.parametrize("fails_at", ["hello", 1])
def test_one_that_fails_is_a_row_with_the_reason(fails_at):
    workers = {
        "onnxruntime": Scripted([0.01], [0.01], fails_at=fails_at),
        "torch": Scripted([0.02], [0.02]),
        "openvino": Scripted([0.01], [0.01]),
    }
    rows, _, _ = measured(workers)
    assert tells(rows["onnxruntime"].error, "installed" if fails_at == "hello" else "SIGKILL")
    assert rows["onnxruntime"].p50_ms is None
    # What it would have been compared to is the next one.
    assert (rows["torch"].ratio, rows["openvino"].ratio) == (1, 0.5)


def test_without_any_there_is_no_benchmark():
    workers = {name: Scripted(fails_at="hello") for name in ("torch", GEMM)}
    with pytest.raises(ContestantFailed, match=naming("installed")):
        measured(workers)


def test_the_table_and_the_document():
    rows, hellos, _ = measured(
        {"onnxruntime": Scripted([0.01], [0.01]), "torch": Scripted(fails_at="hello")}
    )
    found = Benchmark("m.onnx", PLAN, [*rows.values()], hellos)
    table = "\n".join(found.lines())
    assert tells(table, "pvt_nano", "32x32", "1 GMAC", "onnxruntime", "10.00", "200.0")
    assert tells(table, "torch: it is not installed")
    assert found.failed == {"torch": "it is not installed"}
    document = found.to_dict()
    assert document["gmacs"] == 1
    assert document["contestants"]["onnxruntime"]["facts"] == {"framework": "scripted"}
    assert [row["contestant"] for row in document["rows"]] == ["onnxruntime", "torch"]
    assert set(document["rows"][0]) == set(Row.__dataclass_fields__)


def test_three_calls_are_timed_however_long_they_take():
    calls = []
    assert len(time_calls(lambda: calls.append(1), 0)) == 3
    assert len(calls) == 4  # one before that is not timed


class TestWorker:
    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("import sys; sys.exit('warning: x\\nError: torch is not installed')", "torch"),
            ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
            ("raise SystemExit(7)", "7"),
            ("import os; os.kill(os.getpid(), 40)", "signal 40"),
            ("print('{\"seconds\": [0.', end='')", "exit code 0"),
        ],
    )
    def test_one_that_ends_says_why(self, code, said):
        with (
            Worker([sys.executable, "-c", code]) as worker,
            pytest.raises(ContestantFailed, match=naming(said)),
        ):
            worker.hello()

    def test_one_that_ends_between_turns(self):
        code = "print('{\"seconds\": [0.5]}', flush=True); input()"
        with Worker([sys.executable, "-c", code]) as worker:
            assert worker.turn(0.1) == [0.5]
            with pytest.raises(ContestantFailed, match=naming("exit code 0")):
                worker.turn(0.1)

    def test_it_is_understood_whatever_streams_are_to_be(self, monkeypatch):
        monkeypatch.setenv("PYTHONIOENCODING", "utf-16")
        code = "input(); print('{\"seconds\": [0.5]}')"
        with Worker([sys.executable, "-c", code]) as worker:
            assert worker.turn(0.1) == [0.5]

    def test_it_is_ended_with_its_block(self):
        with Worker([sys.executable, "-c", "input()"]) as worker:
            process = worker._process
        assert process.returncode is not None


def test_a_contestant_is_what_its_package_can_run():
    from pvt_ms.engines import ENGINES as MINDSPORE
    from pvt_onnx.engines.table import ENGINES as ONNX
    from pvt_torch.engines import ENGINES as TORCH

    choices = {"pvt_onnx": ONNX, "pvt_torch": TORCH, "pvt_ms": MINDSPORE}
    for name, row in CONTESTANTS.items():
        if name == GEMM:
            continue
        providers = choices[row.package][row.chosen["engine"]]
        precisions = providers[row.chosen.get("provider", next(iter(providers)))]
        assert row.chosen.get("precision", next(iter(precisions))) in precisions
    for package, engines in choices.items():
        known = {CONTESTANTS[name].chosen["engine"] for name in own(package)}
        assert known - {GEMM} == set(engines)


def test_the_command_of_a_contestant(tmp_path):
    given = command("torch", tmp_path / "m.pth", Setting(2, 8, (64, 96)))
    assert given[:4] == [sys.executable, "-m", "pvt_torch", "benchmark"]
    assert {"--threads=2", "--batch-size=8", "--image-size=64x96"} <= set(given)


def test_what_is_installed_can_be_asked_for(monkeypatch):
    monkeypatch.setattr(contestants, "is_installed", {"torch", "onnxruntime"}.__contains__)
    read = _names_of([*CONTESTANTS])
    assert read(None, None, "installed") == ("onnxruntime", "torch", "torch-compile")
    assert read(None, None, "cuda,installed")[0] == "cuda"

"""What judges ``parity train-step`` in ``benchmarks`` can itself be relied on."""

import json

import pytest

from benchmarks.records import read_records, run_left
from benchmarks.train_clean_runs import run_job
from benchmarks.train_mutations import mistakes, rows, run_faults

FAULTS = ["", "not clipped", "a norm detached", "a frozen tensor that moves"]


@pytest.mark.long
def test_faults_are_caught_and_named(tmp_path):
    file = tmp_path / "records.jsonl"
    run_left([("v2", "torch", FAULTS[:2]), ("v2", "torch", FAULTS[2:])], file, 1e9, run_faults)
    records = read_records(file)
    assert [each["fault"] for each in records] == FAULTS
    assert mistakes(records) == []
    assert rows(records)[-1] == {"fault": "all", "cases": 3, "caught": 3, "first tensor": 3}
    norm = records[2]["begins"]
    assert norm == [1, "gradient", "block4.0.norm2.bias"]
    missed = {**records[2], "caught": False, "named": None}
    assert len(mistakes([missed])) == 1 and rows([missed])[-1]["caught"] == 0


@pytest.mark.long
def test_a_clean_run_is_no_alarm():
    records = run_job("v2", "demo", 3)
    assert [each["twin"] for each in records] == ["mindspore", "torch"]
    for each in records:
        assert each["alarm"] == "" and 0 < each["worst"] < 1 and each["figures"] > 1000
    json.dumps(records)

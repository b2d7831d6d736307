"""What a program that uses pvt_ms as a library gets of the set-up that the commands get."""

import os

import numpy as np
import pytest

import pvt_packages
from pvt_ms import prepare_environment
from tests.support.messages import tells
from tests.support.models import SMALL, golden_file, random_images
from tests.support.processes import run_python

SETTINGS = ("GLOG_v", "ONEDNN_MAX_CPU_ISA")

PROGRAM = """
import os, sys
import pvt_ms
print([os.environ.get(name) for name in {names}], "mindspore" in sys.modules)
pvt_ms.list_models()
print([os.environ.get(name) for name in {names}], "mindspore" in sys.modules)
{asked}
print([os.environ.get(name) for name in {names}], "mindspore" in sys.modules)
"""


@pytest.mark.sampled
@pytest.mark.parametrize("asked", ["pvt_ms.create_model", "from pvt_ms import run_taps"])
def test_the_first_export_that_needs_mindspore_sets_it_up_and_the_import_alone_does_not(asked):
    bare = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    program = PROGRAM.format(names=SETTINGS, asked=asked)
    imported, listed, used = run_python("-c", program, env=bare).stdout.splitlines()
    assert imported == listed == "[None, None] False"
    assert used.startswith("['3', ") and used.endswith(" True")


THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import pvt_ms
images = np.load(sys.argv[2])

def answer(_):
    return forward(images)["logits"]

forward, _ = pvt_ms.load_forward(sys.argv[1])
first = answer(0)
with ThreadPoolExecutor(4) as pool:
    print(all(np.array_equal(each, first) for each in pool.map(answer, range(8))))
"""


def test_threads_share_a_forward_pass(tmp_path):
    """It ended the process: MindSpore is not made for several at once."""
    np.save(tmp_path / "x.npy", random_images(SMALL["v1"]))
    done = run_python("-c", THREADS, golden_file("official_v1_small"), tmp_path / "x.npy")
    assert done.stdout.split()[-1] == "True"


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("GLOG_v", "1")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")
    prepare_environment()
    assert [os.environ[name] for name in SETTINGS] == ["1", "ALL"]


def test_without_mindspore_both_the_user_and_a_program_are_told(monkeypatch):
    monkeypatch.setattr(pvt_packages, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install") as refused:
        prepare_environment()
    assert isinstance(refused.value, pvt_packages.LibraryMissing)
    assert tells(str(refused.value), "mindspore", "pvt-twins[mindspore]")

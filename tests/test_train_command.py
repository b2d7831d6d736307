"""``pvt-ms train``: what it prints and writes, and what it refuses."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from convert import load_model
from pvt_ms.command_line import main
from pvt_spec import make_config, tensor_specs
from pvt_train.digits import write_digits


@pytest.fixture(scope="module")
def few_digits(tmp_path_factory) -> Path:
    """Sixty digits to train on and twenty to validate with."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    for split, count in (("train", 6), ("val", 2)):
        for digit in range(10):
            for path in sorted((folder / split / str(digit)).iterdir())[count:]:
                path.unlink()
    return folder


RECIPE = (
    "--config", "configs/demo/pvt_nano_digits.yaml", "--epoch-size", "2", "--batch-size", "20",
    "--warmup-epochs", "0",
)  # fmt: skip


def run_command(data: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a user starts it."""
    command = [sys.executable, "-m", "pvt_ms", "train", *RECIPE, "--data-dir", str(data)]
    return subprocess.run(
        [*command, "--output", str(output), *more], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def finished(few_digits, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    output = tmp_path_factory.mktemp("run") / "new" / "folder"
    return output, run_command(few_digits, output)


class TestCommand:
    def test_it_reports_each_epoch_and_the_best(self, finished):
        output, done = finished
        assert done.returncode == 0, done.stderr
        first, second, best = done.stdout.splitlines()
        losses = [float(re.search(r"loss (\S+)", line)[1]) for line in (first, second)]
        assert losses[1] < losses[0]
        assert re.fullmatch(rf"best: epoch [12], Top-1 \d+\.\d\d %: {output}/best.ckpt", best)

    def test_nothing_else_is_printed(self, finished):
        first, second = finished[1].stderr.splitlines()
        assert first == (
            "pvt_nano (official): 60 images of 10 classes, 20 to validate; "
            "2 epochs of 3 steps of 20 images"
        )
        assert re.fullmatch(r"mindspore 2\.\S+ on CPU, compiling the step", second)

    def test_the_checkpoints_are_whole_models(self, finished):
        output, _ = finished
        assert sorted(path.name for path in output.iterdir()) == ["best.ckpt", "last.ckpt"]
        weights, info = load_model(output / "last.ckpt")
        assert list(weights) == [spec.name for spec in tensor_specs(info.config)]
        assert info.config == make_config("pvt_nano", drop_path_rate=0.1)
        assert info.labels == tuple("0123456789")
        assert info.preprocessing.crop_pct == 1.0
        assert info.provenance["epoch"] == "2"
        assert info.provenance["trained with"].startswith("mindspore 2.")

    def test_the_same_seed_gives_the_same_bits(self, finished, few_digits, tmp_path):
        output, _ = finished
        run_command(few_digits, tmp_path / "again")
        assert (tmp_path / "again/last.ckpt").read_bytes() == (output / "last.ckpt").read_bytes()

    def test_the_model_that_was_trained_is_the_one_that_is_loaded(self, finished, few_digits):
        output, done = finished
        reported = re.search(r"best: .* Top-1 (\S+) %", done.stdout)[1]
        arguments = [str(output / "best.ckpt"), "--data-dir", str(few_digits / "val")]
        result = CliRunner().invoke(main, ["validate", *arguments])
        assert result.output.startswith(f"Top-1 {reported} %")
        arguments = [str(output / "best.ckpt"), str(few_digits / "val/3"), "--top-k", "2"]
        assert CliRunner().invoke(main, ["predict", *arguments]).output.count("%") == 4


def refused(data: Path, output: Path, *more: str) -> Result:
    """A run that must end before MindSpore is started, or with the first image."""
    result = CliRunner().invoke(
        main, ["train", *RECIPE, "--data-dir", str(data), "--output", str(output), *more]
    )
    assert result.exit_code == 1
    assert result.output.count("Error: ") == 1
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def data(tmp_path, few_digits) -> Path:
    """A folder of images that a test may damage."""
    shutil.copytree(few_digits, tmp_path / "data")
    return tmp_path / "data"


class TestRefusals:
    def test_no_train_folder(self, tmp_path):
        result = refused(tmp_path, tmp_path / "run")
        assert f"{tmp_path}/train: no such folder" in result.output
        assert not (tmp_path / "run").exists()

    def test_no_val_folder(self, data, tmp_path):
        shutil.rmtree(data / "val")
        assert f"{data}/val: no such folder" in refused(data, tmp_path / "run").output
        assert not (tmp_path / "run").exists()

    def test_a_class_without_images(self, data, tmp_path):
        (data / "train/x").mkdir()
        assert f"{data}/train/x: holds no image" in refused(data, tmp_path / "run").output
        assert not (tmp_path / "run").exists()

    def test_a_class_that_is_only_in_val(self, data, tmp_path):
        (data / "val/3").rename(data / "val/x")
        assert "do not fit a model of 10 classes" in refused(data, tmp_path / "run").output

    def test_an_image_that_cannot_be_read(self, data, tmp_path):
        broken = sorted((data / "train/4").iterdir())[0]
        broken.write_bytes(broken.read_bytes()[:60])
        result = refused(data, tmp_path / "deep/run", "--batch-size", "60")
        assert f"{broken}: cannot be read as an image" in result.output
        assert not (tmp_path / "deep").exists()

    def test_an_unknown_recipe_key(self, data, tmp_path):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text("model: pvt_nano\nepochs: 3\n")
        result = refused(data, tmp_path / "run", "--config", str(recipe))
        assert "epochs is not a known key (the nearest is epoch_size)" in result.output

    @pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
    def test_checkpoints_that_are_there(self, data, tmp_path, name):
        (tmp_path / name).write_text("mine")
        result = refused(data, tmp_path)
        assert f"{tmp_path / name} exists" in result.output and "--force" in result.output
        assert (tmp_path / name).read_text() == "mine"

    def test_a_file_where_the_folder_should_be(self, data, tmp_path):
        (tmp_path / "file").write_text("mine")
        for output in (tmp_path / "file", tmp_path / "file/run"):
            assert f"{output}: cannot be made" in refused(data, output).output

    def test_a_device_that_is_not_there(self, data, tmp_path):
        result = refused(data, tmp_path / "run", "--device-target", "Ascend")
        assert "--device-target Ascend: Unsupported device target Ascend" in result.output
        assert not (tmp_path / "run").exists()


def test_help_imports_no_framework_and_no_numpy():
    code = (
        "import sys, pvt_ms.command_line as c\n"
        "assert not {'mindspore', 'torch', 'numpy', 'PIL', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""One small model, certified once."""

from pathlib import Path

import pytest

from convert import save_model
from parity.command_line import main
from tests.support.commands import invoke
from tests.support.models import SMALL, info_of, random_weights


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model with labels in a ``.safetensors``, and its certificate."""
    folder = tmp_path_factory.mktemp("certified")
    model, certificate = folder / "small.safetensors", folder / "port.json"
    labels = [f"class {index}" for index in range(SMALL["v2"].num_classes)]
    save_model(model, random_weights(SMALL["v2"]), info_of(SMALL["v2"], "official", *labels))
    run = ("--runtime", "onnxruntime", "--taps", "stages")
    done = invoke(main, "certify", model, "-o", certificate, *run)
    assert done.exit_code == 0, done.output
    return model, certificate

"""``pvt-onnx``: answers and accuracy of an ONNX model in any engine."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pvt_data.answers.commands import Engines, Size
from pvt_data.answers.predict_command import add_predict
from pvt_data.answers.validate_command import add_validate
from pvt_data.benchmark.command import add_benchmark
from pvt_data.benchmark.contestants import GEMM
from pvt_data.command_line import Commands
from pvt_data.description import apart
from pvt_onnx.engines.options import EngineOptions
from pvt_onnx.engines.table import ENGINES
from pvt_onnx.quantize.command_line import add_quantize
from pvt_onnx.repository.command_line import add_repository
from pvt_onnx.serve.command_line import add_serve

if TYPE_CHECKING:
    from pvt_data.answers.accuracy import Opened


@click.group(cls=Commands)
def main() -> None:
    """Run a PVT in onnxruntime or OpenVINO, with the preprocessing and classes of its file."""


def _open(
    path: Path, tell: Callable[[str], None], chosen: Mapping[str, Any], size: Size = None
) -> "Opened":
    from pvt_onnx.engines.session import open_model

    said, engine = apart(chosen)
    return open_model(path, tell, EngineOptions(**engine).beside_decoding(), size, said)


def _open_contestant(
    path: Path, tell: Callable[[str], None], chosen: Mapping[str, Any]
) -> "Opened":
    from pvt_onnx.engines.session import open_model

    said, engine = apart(chosen)
    if engine["engine"] != GEMM:
        return open_model(path, tell, EngineOptions(**engine), said=said)
    from pvt_onnx.products import open_products

    return open_products(path, engine["threads"], said)


RUNS = Engines(ENGINES, _open, describes=True)
add_predict(main, RUNS)
add_validate(main, RUNS)
add_benchmark(main, "pvt_onnx", _open_contestant)
add_quantize(main)
add_serve(main, RUNS)
add_repository(main)

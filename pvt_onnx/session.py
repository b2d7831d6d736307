"""Running a model file of ours in onnxruntime.

May import onnx, onnxruntime, numpy and pvt_spec.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import onnxruntime
from google.protobuf.message import DecodeError

from pvt_onnx.model import INPUT
from pvt_spec import METADATA_KEY, ModelInfo, PvtError, output_name, tap_names
from pvt_spec.arrays import Array
from pvt_spec.evaluation import Forward

PROVIDERS = ["CPUExecutionProvider"]


class OnnxFileError(PvtError):
    """A file that is not an ONNX model, or not one that says what it is."""


def open_session(model: Path | bytes, name: str) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU.

    Args:
        model: A file, or a serialized model.
        name: What to call the model in an error.

    Raises:
        OnnxFileError: onnxruntime cannot load it.
    """
    if isinstance(model, Path) and not model.is_file():
        raise OnnxFileError(f"{model}: no such file")
    try:
        source = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(source, providers=PROVIDERS)
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise OnnxFileError(
            f"{name}: onnxruntime cannot load it as an ONNX model ({str(error).strip()}); "
            "write it again with convert"
        ) from error


def read_info(metadata: Mapping[str, str], name: str) -> ModelInfo:
    """What travelled with the weights, from a model's metadata.

    Raises:
        OnnxFileError: The model was not written by ``convert``.
    """
    if METADATA_KEY not in metadata:
        raise OnnxFileError(
            f"{name}: no {METADATA_KEY} in its metadata, so its preprocessing and classes are not "
            "known; make the model with convert ckpt-to-onnx or pth-to-onnx"
        )
    return ModelInfo.from_json(metadata[METADATA_KEY])


def load_forward(path: Path) -> tuple[Forward, ModelInfo]:
    """Opens a model file: its forward pass, and what travelled with the weights.

    Args:
        path: An ``.onnx`` file written by ``convert``.

    Returns:
        A function from float32 (B, in_chans, H, W), normalised, to float32 (B, num_classes);
        the model's description.

    Raises:
        OnnxFileError: The file cannot be used.
    """
    session = open_session(path, str(path))
    info = read_info(session.get_modelmeta().custom_metadata_map, str(path))
    output = output_name(info.config)

    def forward(images: Array) -> Array:
        logits: Array = session.run([output], {INPUT: images})[0]
        return logits

    return forward, info


def load_proto(path: Path) -> onnx.ModelProto:
    """An ONNX model as it is in a file.

    Raises:
        OnnxFileError: The file cannot be read.
    """
    try:
        return onnx.load(path)
    except (DecodeError, OSError) as error:
        raise OnnxFileError(f"{path}: cannot be read as an ONNX model ({error})") from error


def open_taps(model: onnx.ModelProto, name: str) -> Callable[[Array], dict[str, Array]]:
    """A forward pass of onnxruntime that gives every intermediate result.

    More outputs can change which nodes onnxruntime fuses, and so the last digits; the model's
    own output therefore comes from a second session of the model as it is.

    Args:
        model: From :func:`pvt_onnx.build` or :func:`load_proto`.
        name: What to call it in an error.

    Returns:
        A function from float32 (B, in_chans, H, W), normalised, to float32 arrays under
        :func:`pvt_spec.tap_names`, in forward order.

    Raises:
        OnnxFileError: onnxruntime cannot load the model, or it lacks a tap.
    """
    names = tap_names(read_info({e.key: e.value for e in model.metadata_props}, name).config)
    values = {output for node in model.graph.node for output in node.output}
    missing = [tap for tap in names if tap not in values]
    if missing:
        raise OnnxFileError(
            f"{name}: the graph has no value named {', '.join(missing)}: it was changed after "
            "convert wrote it (by an optimiser, say); write it again with convert"
        )
    plain = open_session(model.SerializeToString(), name)
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    tapped.graph.output.extend(onnx.ValueInfoProto(name=tap) for tap in names[:-1])
    session = open_session(tapped.SerializeToString(), name)

    def run(images: Array) -> dict[str, Array]:
        taps = session.run(names[:-1], {INPUT: images}) + plain.run(names[-1:], {INPUT: images})
        return dict(zip(names, taps, strict=True))

    return run
